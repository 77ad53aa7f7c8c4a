//! What the agent says of itself to whoever administers the machine: to root and to its own user, at the socket of secrets.

use std::sync::Arc;

use proto::banyan::agent::v1::local_service_server::LocalService;
use proto::banyan::agent::v1::{
    AgentStatus, GetStatusRequest, LocalCaAddress, LocalHolder, LocalListener, LocalWorkload,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status as Answer};
use trust::Timestamp;

use crate::admin::{administers, own_uid};
use crate::config::AgentConfig;
use crate::sds::socket::PeerInfo;
use crate::status::{CaAddressStatus, HolderStatus, ListenerStatus, Status, WorkloadStatus};

/// The service.
#[derive(Debug)]
pub(crate) struct Local {
    status: watch::Receiver<Arc<Status>>,
    config: Arc<AgentConfig>,
}

impl Local {
    pub(crate) const fn new(
        status: watch::Receiver<Arc<Status>>,
        config: Arc<AgentConfig>,
    ) -> Self {
        Self { status, config }
    }
}

#[tonic::async_trait]
impl LocalService for Local {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<AgentStatus>, Answer> {
        judge(request.extensions().get::<PeerInfo>(), own_uid())?;
        let status = Arc::clone(&self.status.borrow());
        Ok(Response::new(told(&status, &self.config)))
    }
}

fn judge(caller: Option<&PeerInfo>, own: u32) -> Result<(), Answer> {
    match caller.and_then(|info| Some((info.peer.as_ref()?.uid, info.administers))) {
        Some((_, true)) => Ok(()),
        Some((uid, false)) if administers(uid, own) => Err(Answer::permission_denied(
            "an agent of a node says how it is in its own Pod alone: ask with `kubectl exec` there",
        )),
        Some((uid, false)) => Err(Answer::permission_denied(format!(
            "user {uid} may not ask how this agent is: ask as root, or as the user that the agent runs as ({own})"
        ))),
        None => Err(Answer::permission_denied("the kernel does not say who is calling")),
    }
}

fn told(status: &Status, config: &AgentConfig) -> AgentStatus {
    let member = status.member.as_ref();
    let in_use = status.ca_addresses.iter().find(|address| address.in_use);
    let first = config.ca_addresses.first().map(|first| first.address.clone());
    AgentStatus {
        trust_domain: config.trust_domain.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ca_address: in_use.map(in_words).or(first).unwrap_or_default(),
        connected: status.connected,
        connection_since: status.connection_since.as_secs(),
        sequence: status.sequence,
        bundle_digest: status.digest.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
        roots: status.roots.iter().map(|root| root.as_bytes().to_vec()).collect(),
        id: member.map(|member| member.spiffe_id.clone()).unwrap_or_default(),
        serial: member.map(|member| member.serial.clone()).unwrap_or_default(),
        not_after: member.map_or(0, |member| member.not_after.as_secs()),
        workloads: status.workloads.iter().map(workload).collect(),
        holders: status.holders.iter().map(holder).collect(),
        nacks: status.nacks,
        conditions: status.conditions.clone(),
        waits: waits(status),
        ca_addresses: status.ca_addresses.iter().map(ca_address).collect(),
    }
}

/// An address as it is configured, and where that led if it is a name.
fn in_words(row: &CaAddressStatus) -> String {
    match row.at.as_ref().filter(|at| **at != row.address) {
        Some(at) => format!("{} ({at})", row.address),
        None => row.address.clone(),
    }
}

fn ca_address(row: &CaAddressStatus) -> LocalCaAddress {
    LocalCaAddress {
        address: row.address.clone(),
        at: row.at.clone().unwrap_or_default(),
        in_use: row.in_use,
        left_since: row.left_since.map_or(0, Timestamp::as_secs),
        left_because: row.left_because.clone().unwrap_or_default(),
    }
}

fn workload(workload: &WorkloadStatus) -> LocalWorkload {
    LocalWorkload {
        id: workload.spiffe_id.clone(),
        serial: workload.serial.clone().unwrap_or_default(),
        not_after: workload.not_after.map_or(0, Timestamp::as_secs),
        root: workload.root.map(|root| root.as_bytes().to_vec()).unwrap_or_default(),
        renewals: workload.renewals,
        last_error: workload.last_error.clone().unwrap_or_default(),
        listeners: workload.listeners.iter().map(listener).collect(),
    }
}

fn listener(listener: &ListenerStatus) -> LocalListener {
    LocalListener {
        address: listener.address.clone().unwrap_or_default(),
        learnt_from: listener.learnt_from.clone().unwrap_or_default(),
        why_none: listener.why_none.clone().unwrap_or_default(),
    }
}

fn holder(holder: &HolderStatus) -> LocalHolder {
    LocalHolder {
        pid: holder.pid,
        uid: holder.uid,
        pod: holder.pod.clone().unwrap_or_default(),
        connected: holder.connected,
        serials: holder.serials.clone(),
        acknowledged: holder.applied.unwrap_or(0),
    }
}

/// What must still happen before everybody behind this agent has the bundle in force, and a certificate.
fn waits(status: &Status) -> Vec<String> {
    if status.sequence == 0 {
        return vec![
            "the first bundle from the CA; nothing is served before it is here".to_owned(),
        ];
    }
    let wanted = status.sequence;
    let mut waits = Vec::new();
    for holder in status.holders.iter().filter(|holder| !holder.serials.is_empty()) {
        let (pid, uid) = (holder.pid, holder.uid);
        let of =
            holder.pod.as_ref().map_or_else(|| format!("user {uid}"), |pod| format!("Pod {pod}"));
        match holder.applied {
            Some(applied) if applied >= wanted => {}
            Some(applied) => waits.push(format!(
                "process {pid} ({of}) to acknowledge bundle {wanted}: it has acknowledged bundle {applied}"
            )),
            None => waits.push(format!(
                "process {pid} ({of}) to acknowledge bundle {wanted}: it has acknowledged none, or takes no validation secret"
            )),
        }
    }
    for workload in status.workloads.iter().filter(|workload| workload.serial.is_none()) {
        if let Some(error) = &workload.last_error {
            waits.push(format!("a certificate for {}: {error}", workload.spiffe_id));
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sds::socket::Seen;

    #[test]
    fn root_and_the_agents_own_user_may_ask_and_nobody_else() {
        let caller = |uid: u32, administers: bool| PeerInfo {
            peer: Some(Seen { uid, ..Seen::default() }),
            untrusted: false,
            administers,
        };
        assert!(judge(Some(&caller(0, true)), 7).is_ok());
        let refused = judge(Some(&caller(0, false)), 7).unwrap_err();
        assert!(refused.message().contains("kubectl exec"), "{refused}");
        let refused = judge(Some(&caller(8, false)), 7).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        assert!(
            refused.message().contains("user 8") && refused.message().contains("(7)"),
            "{refused}"
        );
        assert_eq!(judge(None, 7).unwrap_err().code(), tonic::Code::PermissionDenied);
    }

    #[test]
    fn who_lacks_the_bundle_in_force_is_waited_for_and_who_has_it_is_not() {
        let holder = |pid: i32, applied: Option<u64>, serials: &[&str]| HolderStatus {
            pid,
            uid: 5,
            pod: None,
            connected: true,
            serials: serials.iter().map(|&serial| serial.to_owned()).collect(),
            applied,
        };
        let mut status = Status {
            sequence: 4,
            holders: vec![
                holder(1, Some(4), &["a"]),
                holder(2, Some(3), &["b"]),
                holder(3, None, &["c"]),
                holder(4, None, &[]),
            ],
            ..Status::default()
        };
        let told = waits(&status);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("process 2") && told[0].contains("acknowledged bundle 3"),
            "{told:?}"
        );
        assert!(told[1].contains("process 3") && told[1].contains("acknowledged none"), "{told:?}");
        status.sequence = 0;
        assert!(waits(&status)[0].contains("first bundle"));
    }
}
