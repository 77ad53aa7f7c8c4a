//! The member that is spoken with: one of the endpoints, until it fails.

use std::error::Error as _;
use std::fs;
use std::str::FromStr as _;

use proto::etcdserverpb::AuthenticateRequest;
use proto::etcdserverpb::auth_client::AuthClient;
use tokio::sync::Mutex;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::connection::{cause, connect};
use crate::noted::Ended;
use crate::settings::{Settings, User};

/// An open connection, with what goes before each request.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) channel: Channel,
    pub(crate) shown: String,
    token: Option<AsciiMetadataValue>,
    ended: Ended,
    /// Tells it from those that were open before.
    number: u64,
}

#[derive(Debug)]
pub(crate) struct Members {
    settings: Settings,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    member: Option<Member>,
    /// Which endpoint is tried next.
    next: usize,
    number: u64,
}

impl Member {
    /// A request that only a member with a leader answers, by the user that is set.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        decorate(request.metadata_mut(), self.token.as_ref());
        request
    }

    /// What failed, with who said so.
    pub(crate) fn said(&self, status: &Status) -> String {
        // A status with a source is of this side, not of the member; what it is about is deeper down, or known to the
        // connection alone.
        let message = match status.source() {
            Some(source) => self.ended.why().unwrap_or_else(|| cause(source)),
            None => status.message().to_owned(),
        };
        let advice = match message.contains("received fatal alert") {
            true => "; it does not accept the certificate of cert_file",
            false => advice(status),
        };
        format!("etcd at {}: {message}{advice}", self.shown)
    }
}

fn decorate(metadata: &mut MetadataMap, token: Option<&AsciiMetadataValue>) {
    metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
    if let Some(token) = token {
        metadata.insert("token", token.clone());
    }
}

/// What an operator can do about it.
fn advice(status: &Status) -> &'static str {
    let message = status.message();
    match status.code() {
        Code::PermissionDenied => {
            "; grant its user readwrite on the prefix (`etcdctl role grant-permission ROLE readwrite PREFIX --prefix=true`)"
        }
        Code::ResourceExhausted if message.contains("space") => {
            "; compact and defragment etcd, raise --quota-backend-bytes, then `etcdctl alarm disarm`"
        }
        _ if message.contains("no leader") => "; check that most of its members are up",
        _ => "",
    }
}

impl Members {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, current: Mutex::default() }
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A member to speak with; tries each endpoint once. The error names what each said.
    pub(crate) async fn one(&self) -> Result<Member, String> {
        let mut current = self.current.lock().await;
        if let Some(member) = &current.member {
            return Ok(member.clone());
        }
        let endpoints = &self.settings.endpoints;
        let mut said = Vec::new();
        for step in 0..endpoints.len() {
            let place = (current.next + step) % endpoints.len();
            let Some(endpoint) = endpoints.get(place) else { continue };
            let opened = match connect(endpoint, self.settings.tls.as_ref()).await {
                Ok((channel, ended)) => {
                    let shown = endpoint.to_string();
                    let member = Member { channel, shown, token: None, ended, number: 0 };
                    self.signed_in(member).await
                }
                Err(error) => Err(error),
            };
            match opened {
                Ok(member) => {
                    (current.next, current.number) = (place, current.number + 1);
                    let member = Member { number: current.number, ..member };
                    current.member = Some(member.clone());
                    return Ok(member);
                }
                Err(error) => said.push(error),
            }
        }
        Err(format!("no endpoint of etcd can be used: {}", said.join("; ")))
    }

    async fn signed_in(&self, mut member: Member) -> Result<Member, String> {
        if let Some(user) = &self.settings.user {
            let request = member.request(credentials(user)?);
            let answer = AuthClient::new(member.channel.clone()).authenticate(request).await;
            let token = answer.map_err(|status| member.said(&status))?.into_inner().token;
            let token = AsciiMetadataValue::from_str(&token)
                .map_err(|_| format!("etcd at {} gave an odd token", member.shown))?;
            member.token = Some(token);
        }
        Ok(member)
    }

    /// Has the next call open a connection anew, at the next endpoint, unless that was done meanwhile.
    pub(crate) async fn leave(&self, member: &Member) {
        self.close(member, 1).await;
    }

    /// Has the next call sign in anew, at the same endpoint.
    pub(crate) async fn sign_out(&self, member: &Member) {
        self.close(member, 0).await;
    }

    async fn close(&self, member: &Member, step: usize) {
        let mut current = self.current.lock().await;
        if current.member.as_ref().is_some_and(|now| now.number == member.number) {
            current.member = None;
            current.next = (current.next + step) % self.settings.endpoints.len().max(1);
        }
    }
}

fn credentials(user: &User) -> Result<AuthenticateRequest, String> {
    let path = user.password_file.display();
    let text =
        fs::read_to_string(&user.password_file).map_err(|error| format!("{path}: {error}"))?;
    let password = text.trim_end_matches(['\r', '\n']).to_owned();
    Ok(AuthenticateRequest { name: user.name.clone(), password })
}
