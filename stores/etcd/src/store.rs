//! Reading and writing.

use std::sync::Arc;

use async_trait::async_trait;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    TxnResponse, request_op, response_op,
};
use stores::{
    Entry, Hints, Key, Page, ReadError, SharedStore, Space, VALUE_BYTES_MAX, Version, Versioned,
    WriteError,
};
use tonic::{Code, Status};

use crate::member::{Member, Members};
use crate::settings::Settings;
use crate::{names, watch};

/// Largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Keys asked for at once; and where these are too much for one answer.
const KEYS_AT_ONCE: usize = 1_000;
const LARGE_KEYS_AT_ONCE: usize = ANSWER_BYTES_MAX / VALUE_BYTES_MAX / 2;

/// State below a prefix of an etcd. Clones share the connection.
#[derive(Debug, Clone)]
pub struct EtcdStore {
    members: Arc<Members>,
}

impl EtcdStore {
    /// Speaks to nobody yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { members: Arc::new(Members::new(settings)) }
    }

    fn prefix(&self) -> &str {
        &self.members.settings().prefix
    }

    /// Reads a range; where a member fails the next is asked, each endpoint once, within one deadline.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, RangeFailed> {
        let within = self.members.settings().call_timeout;
        let mut last = None;
        let asking = async {
            let mut failed = RangeFailed::other("no endpoint is set".to_owned());
            for _ in 0..=self.members.settings().endpoints.len() {
                let member = self.members.one().await.map_err(RangeFailed::other)?;
                last = Some(member.clone());
                let status = match client(&member).range(member.request(request.clone())).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(status) => status,
                };
                let too_large = matches!(status.code(), Code::OutOfRange);
                failed = RangeFailed { too_large, reason: member.said(&status) };
                match after(&status) {
                    After::SignIn => self.members.sign_out(&member).await,
                    After::Leave => self.members.leave(&member).await,
                    After::Refused | After::Unsure => return Err(failed),
                }
            }
            Err(failed)
        };
        let asked = tokio::time::timeout(within, asking).await;
        if let (Err(_), Some(member)) = (&asked, &last) {
            self.members.leave(member).await;
        }
        let late = |_| {
            RangeFailed::other(format!("etcd gave no answer within {} s", within.as_secs_f32()))
        };
        asked.map_err(late).flatten()
    }

    async fn write(
        &self,
        key: &Key,
        expected: i64,
        operation: request_op::Request,
    ) -> Result<TxnResponse, WriteError> {
        let within = self.members.settings().call_timeout;
        let request = transaction(names::of(self.prefix(), key), expected, operation);
        // Whoever signs in anew was refused before anything was done; so one further try is safe.
        for _ in 0..2 {
            let opened = tokio::time::timeout(within, self.members.one()).await;
            let late = |_| format!("no connection to etcd within {} s", within.as_secs_f32());
            let member =
                opened.map_err(late).flatten().map_err(|reason| WriteError::failed(key, reason))?;
            let calling = async { client(&member).txn(member.request(request.clone())).await };
            let status = match tokio::time::timeout(within, calling).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => {
                    self.members.leave(&member).await;
                    let late = Status::deadline_exceeded("no answer in time");
                    return Err(WriteError::unknown(key, member.said(&late)));
                }
            };
            match after(&status) {
                After::SignIn => self.members.sign_out(&member).await,
                After::Refused => return Err(WriteError::failed(key, member.said(&status))),
                After::Unsure => return Err(WriteError::unknown(key, member.said(&status))),
                After::Leave => {
                    self.members.leave(&member).await;
                    return Err(WriteError::unknown(key, member.said(&status)));
                }
            }
        }
        Err(WriteError::failed(key, "etcd refuses the user's tokens as soon as they are made"))
    }

    async fn put_at(&self, key: &Key, value: &[u8], expected: i64) -> Result<Version, WriteError> {
        if value.len() > VALUE_BYTES_MAX {
            let (bytes, most) = (value.len(), VALUE_BYTES_MAX);
            let reason = format!("its value has {bytes} bytes, at most {most} are allowed");
            return Err(WriteError::failed(key, reason));
        }
        let (place, value) = (names::of(self.prefix(), key), value.to_vec());
        let put = request_op::Request::RequestPut(PutRequest { key: place, value, lease: 0 });
        let answer = self.write(key, expected, put).await?;
        done(key, &answer)?;
        let header = answer
            .header
            .ok_or_else(|| WriteError::unknown(key, "etcd's answer has no header".to_owned()))?;
        Ok(version(header.revision))
    }
}

struct RangeFailed {
    too_large: bool,
    reason: String,
}

impl RangeFailed {
    const fn other(reason: String) -> Self {
        Self { too_large: false, reason }
    }
}

impl From<RangeFailed> for ReadError {
    fn from(failed: RangeFailed) -> Self {
        Self::Failed { reason: failed.reason }
    }
}

/// What a failed call means for the connection, and for a write.
enum After {
    /// The token is over; nothing was done.
    SignIn,
    /// It was refused; nothing was done.
    Refused,
    /// It was refused by a member that serves on, and a write may be done.
    Unsure,
    /// The member may be gone or alone; a write may be done.
    Leave,
}

fn after(status: &Status) -> After {
    let message = status.message();
    match status.code() {
        Code::Unauthenticated => After::SignIn,
        Code::InvalidArgument if message.contains("revision in auth store is old") => After::SignIn,
        // It looks at its size before a write and once more after it: the write that crosses the quota is done, and refused.
        Code::ResourceExhausted if message.contains("space exceeded") => After::Unsure,
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::NotFound
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::ResourceExhausted => After::Refused,
        _ => After::Leave,
    }
}

fn client(member: &Member) -> KvClient<tonic::transport::Channel> {
    KvClient::new(member.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn version(revision: i64) -> Version {
    Version::new(revision.to_string())
}

/// The revision that a version names. One of another engine names none, and conflicts with everything.
fn revision(version: &Version) -> i64 {
    version.as_str().parse().ok().filter(|revision| *revision > 0).unwrap_or(i64::MAX)
}

/// The operation, if the key was last written at this revision (0: is not there); else what is there, without its value.
fn transaction(key: Vec<u8>, expected: i64, operation: request_op::Request) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(expected)),
    };
    let look = RangeRequest { key, keys_only: true, ..RangeRequest::default() };
    let alone = |request| vec![RequestOp { request: Some(request) }];
    let failure = alone(request_op::Request::RequestRange(look));
    TxnRequest { compare: vec![compare], success: alone(operation), failure }
}

/// That the comparison held; else the conflict.
fn done(key: &Key, answer: &TxnResponse) -> Result<(), WriteError> {
    if answer.succeeded {
        return Ok(());
    }
    let looked = answer.responses.iter().find_map(|one| match &one.response {
        Some(response_op::Response::ResponseRange(range)) => Some(range),
        _ => None,
    });
    let found = looked.and_then(|range| range.kvs.first()).map(|kv| version(kv.mod_revision));
    Err(WriteError::conflict(key, found))
}

#[async_trait]
impl SharedStore for EtcdStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        let place = names::of(self.prefix(), key);
        let answer = self.range(RangeRequest { key: place, ..RangeRequest::default() }).await?;
        let found = answer.kvs.into_iter().next();
        Ok(found.map(|kv| Versioned { value: kv.value, version: version(kv.mod_revision) }))
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        self.put_at(key, value, 0).await
    }

    async fn put(
        &self,
        key: &Key,
        value: &[u8],
        expected: &Version,
    ) -> Result<Version, WriteError> {
        self.put_at(key, value, revision(expected)).await
    }

    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        let place = names::of(self.prefix(), key);
        let delete = DeleteRangeRequest { key: place, ..DeleteRangeRequest::default() };
        let delete = request_op::Request::RequestDeleteRange(delete);
        done(key, &self.write(key, revision(expected), delete).await?)
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let mut range = names::range(self.prefix(), space, from.unwrap_or_default());
        let mut page = Page { entries: Vec::new(), more: true };
        let mut at_once = KEYS_AT_ONCE;
        while page.more && page.entries.len() < limit {
            let wanted = at_once.min(limit - page.entries.len());
            let request = RangeRequest {
                key: range.first.clone(),
                range_end: range.end.clone(),
                limit: i64::try_from(wanted).unwrap_or(i64::MAX),
                ..RangeRequest::default()
            };
            let answer = match self.range(request).await {
                Err(failed) if failed.too_large && at_once > LARGE_KEYS_AT_ONCE => {
                    at_once = LARGE_KEYS_AT_ONCE;
                    continue;
                }
                answer => answer?,
            };
            page.more = answer.more;
            if let Some(last) = answer.kvs.last() {
                range.first = [last.key.as_slice(), &[0]].concat();
            }
            for kv in answer.kvs {
                let id = names::id(self.prefix(), space, &kv.key)?;
                let (value, version) = (kv.value, version(kv.mod_revision));
                page.entries.push(Entry { id, value, version });
            }
        }
        Ok(page)
    }

    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        watch::begin(Arc::clone(&self.members), space).await
    }
}
