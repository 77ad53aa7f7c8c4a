//! The calls, each with a token that is good: read, made by a login, renewed before it ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use plugin_http::{Answer, Call, Server, StatusCode};
use plugins::PluginError;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use trust::{Clock, Timestamp};
use zeroize::Zeroizing;

use crate::config::Settings;
use crate::credentials::{Credentials, Login};
use crate::reply::{Ask, judge, unfit, words};

/// What makes calls. Its `Debug` shows no token.
pub(crate) struct Session {
    server: Server,
    namespace: Option<String>,
    credentials: Credentials,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Held>>,
}

/// A token, and how long it lasts; nothing is known of the life of one that may not look itself up.
#[derive(Clone)]
struct Held {
    token: Zeroizing<String>,
    lease: Option<Lease>,
}

/// The life of a token, in the clock's uptime.
#[derive(Clone, Copy)]
struct Lease {
    renewable: bool,
    /// How long it lasted when it was new.
    first: Duration,
    ends: Duration,
    /// When to try to renew it.
    due: Duration,
}

/// The end of a token that nobody renews by itself.
pub(crate) struct TokenEnd {
    pub(crate) at: Timestamp,
    /// Whether less than half of its life is left.
    pub(crate) soon: bool,
}

impl Session {
    pub(crate) fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        Self {
            server: settings.server.clone(),
            namespace: settings.namespace.clone(),
            credentials: settings.credentials.clone(),
            clock,
            held: Mutex::default(),
        }
    }

    /// Makes a call. A token that is refused is made anew once, where a login makes it.
    pub(crate) async fn call(&self, ask: &Ask, within: Duration) -> Result<Value, PluginError> {
        let (token, new) = self.admitted(None, within).await?;
        let answer = self.send(ask, Some(&token), within).await?;
        if answer.status != StatusCode::FORBIDDEN {
            return judge(ask, &answer);
        }
        if matches!(self.credentials, Credentials::Token(_)) || new {
            return Err(self.explained(ask, &token, within).await);
        }
        let (token, _) = self.admitted(Some(&token), within).await?;
        let answer = self.send(ask, Some(&token), within).await?;
        if answer.status == StatusCode::FORBIDDEN {
            return Err(self.explained(ask, &token, within).await);
        }
        judge(ask, &answer)
    }

    /// Why the server does not serve, if it says so. Needs no token.
    pub(crate) async fn unfit(&self, within: Duration) -> Result<Option<String>, PluginError> {
        let health = Call::get("/v1/sys/health?standbyok=true&perfstandbyok=true");
        Ok(unfit(&self.server.call(&health, within).await?))
    }

    /// When the present token ends, unless it is renewed or made anew.
    pub(crate) async fn token_end(&self) -> Option<TokenEnd> {
        let lease = self.held.lock().await.as_ref()?.lease?;
        if lease.renewable || !matches!(self.credentials, Credentials::Token(_)) {
            return None;
        }
        let left = lease.ends.saturating_sub(self.clock.uptime());
        Some(TokenEnd { at: self.clock.now().plus(left), soon: left < lease.first / 2 })
    }

    /// Where the secret is that lets this in.
    pub(crate) fn place(&self) -> String {
        self.credentials.place()
    }

    async fn send(
        &self,
        ask: &Ask,
        token: Option<&str>,
        within: Duration,
    ) -> Result<Answer, PluginError> {
        let path = format!("/v1/{}", ask.path);
        let call = match &ask.body {
            Some(body) => Call::post(path, body.clone()),
            None => Call::new(ask.method.clone(), path),
        };
        let mut call = call.with_secret("x-vault-request", "true")?;
        if let Some(namespace) = &self.namespace {
            call = call.with_secret("x-vault-namespace", namespace)?;
        }
        if let Some(token) = token {
            call = call.with_secret("x-vault-token", token)?;
        }
        self.server.call(&call, within).await
    }

    /// A token, and whether it was made just now. One that equals `refused` is not used again.
    async fn admitted(
        &self,
        refused: Option<&str>,
        within: Duration,
    ) -> Result<(Zeroizing<String>, bool), PluginError> {
        let mut held = self.held.lock().await;
        let login = match self.read().await? {
            Ok(token) => {
                self.keep(&mut held, token.clone(), within).await?;
                return Ok((token, false));
            }
            Err(login) => login,
        };
        let now = self.clock.uptime();
        let good = |held: &Held| {
            Some(held.token.as_str()) != refused && held.lease.is_none_or(|l| l.ends > now)
        };
        let Some(present) = held.as_mut().filter(|held| good(held)) else {
            let made = self.login(&login, within).await?;
            let token = made.token.clone();
            *held = Some(made);
            return Ok((token, true));
        };
        if present.lease.is_none_or(|lease| lease.due > now) {
            return Ok((present.token.clone(), false));
        }
        self.renew(present, within).await;
        if present.lease.is_some_and(|lease| lease.ends.saturating_sub(now) < lease.first / 2) {
            // At the end of what renewals give; the old token lasts while the login fails.
            if let Ok(made) = self.login(&login, within).await {
                *present = made;
            }
        }
        Ok((present.token.clone(), false))
    }

    /// Reads the secret where it may block.
    async fn read(&self) -> Result<Result<Zeroizing<String>, Login>, PluginError> {
        let credentials = self.credentials.clone();
        let read = tokio::task::spawn_blocking(move || credentials.read()).await;
        read.map_err(|error| PluginError::Transient { detail: error.to_string() })?
    }

    /// Takes notice of a token that somebody else made, and renews it when half of its life is over.
    async fn keep(
        &self,
        held: &mut Option<Held>,
        token: Zeroizing<String>,
        within: Duration,
    ) -> Result<(), PluginError> {
        let same = held.as_mut().filter(|held| held.token == token);
        let present = match same {
            Some(present) => present,
            None => {
                let lease = self.look_up(&token, within).await?;
                held.insert(Held { token, lease })
            }
        };
        if present.lease.is_some_and(|lease| lease.renewable && lease.due <= self.clock.uptime()) {
            self.renew(present, within).await;
        }
        Ok(())
    }

    async fn look_up(&self, token: &str, within: Duration) -> Result<Option<Lease>, PluginError> {
        let answer = self.send(&Ask::read("auth/token/lookup-self"), Some(token), within).await?;
        let Some(data) = answer.body.get("data").filter(|_| answer.status.is_success()) else {
            return Ok(None);
        };
        let secs = |field: &str| {
            Duration::from_secs(data.get(field).and_then(Value::as_u64).unwrap_or_default())
        };
        let (life, first) = (secs("ttl"), secs("creation_ttl"));
        if life.is_zero() {
            return Ok(None);
        }
        let renewable = data.get("renewable").and_then(Value::as_bool).unwrap_or(false);
        let now = self.clock.uptime();
        let due = now + life.saturating_sub(first / 2);
        Ok(Some(Lease { renewable, first: first.max(life), ends: now + life, due }))
    }

    async fn login(&self, login: &Login, within: Duration) -> Result<Held, PluginError> {
        let ask = Ask::write(login.path.clone(), login.body.clone());
        let answer = self.send(&ask, None, within).await?;
        if [StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN].contains(&answer.status) {
            return Err(PluginError::denied(format!(
                "the login at {} failed ({}); check {}, the role there, and that the method is enabled at this path",
                login.path,
                words(&answer.body),
                self.place()
            )));
        }
        judge(&ask, &answer)?;
        let auth = answer.body.get("auth").unwrap_or(&Value::Null);
        let token =
            auth.get("client_token").and_then(Value::as_str).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| {
            PluginError::denied(format!(
                "the login at {} gave no token; does the role ask for more than one step?",
                login.path
            ))
        })?;
        Ok(Held { token: Zeroizing::new(token.to_owned()), lease: self.granted(auth, None) })
    }

    /// Renews a token. One that is not renewed lasts as long as it did before, and is tried again later.
    async fn renew(&self, held: &mut Held, within: Duration) {
        let Some(lease) = held.lease.as_mut() else { return };
        let now = self.clock.uptime();
        lease.due = now + (lease.ends.saturating_sub(now) / 2).max(Duration::from_secs(1));
        if !lease.renewable {
            return;
        }
        let ask = Ask::write("auth/token/renew-self", json!({}));
        let Ok(answer) = self.send(&ask, Some(&held.token), within).await else { return };
        if answer.status.is_success()
            && let Some(auth) = answer.body.get("auth")
        {
            held.lease = self.granted(auth, held.lease);
        }
    }

    fn granted(&self, auth: &Value, before: Option<Lease>) -> Option<Lease> {
        let life = Duration::from_secs(
            auth.get("lease_duration").and_then(Value::as_u64).unwrap_or_default(),
        );
        if life.is_zero() {
            return None;
        }
        let now = self.clock.uptime();
        let renewable = auth.get("renewable").and_then(Value::as_bool).unwrap_or(false);
        let first = before.map_or(life, |before| before.first);
        Some(Lease { renewable, first, ends: now + life, due: now + life / 2 })
    }

    /// Why a call was forbidden: the token, or its policy.
    async fn explained(&self, ask: &Ask, token: &str, within: Duration) -> PluginError {
        let place = self.place();
        let known = self.send(&Ask::read("auth/token/lookup-self"), Some(token), within).await;
        let gone = known.is_ok_and(|answer| answer.status == StatusCode::FORBIDDEN);
        if gone && matches!(self.credentials, Credentials::Token(_)) {
            return PluginError::denied(format!(
                "{place} is not valid (it ended or was revoked) or lacks the policy `default`; \
                 put a new one there, it is read again at each call"
            ));
        }
        let path = ask.path.split('?').next().unwrap_or_default();
        PluginError::denied(format!(
            "{} {path} is not permitted to {place}; add to its policy: {}",
            ask.method,
            ask.policy()
        ))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}
