//! From a connection to who may have what: of an agent of a node, the Pod that the calling process runs in.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::socket::PeerInfo;
use crate::hub::{Peer, Refusal, Why};
use crate::pods::{KnownPod, Place, PodUid, View};
use crate::secret_name::NameRefused;

/// A Pod that is not known yet is waited for so long: the API server tells of it before its containers start, but not at once.
const POD_WITHIN: Duration = Duration::from_secs(10);

/// Says who calls.
#[derive(Clone, Debug)]
pub(crate) enum Attestor {
    /// By the user id.
    Users,
    /// By the Pod, of this node.
    Pods {
        /// The node.
        node: String,
        /// Its Pods.
        pods: watch::Receiver<Arc<View>>,
    },
}

impl Attestor {
    /// Who is at the other end of a connection.
    pub(crate) async fn peer(&self, info: Option<&PeerInfo>) -> Result<Peer, Refusal> {
        let denied = |text: String| Refusal::new(Why::NotPermitted, text);
        let seen = info.and_then(|info| Some((info, info.peer.as_ref()?)));
        let (info, seen) =
            seen.ok_or_else(|| denied("the kernel does not say who is calling".to_owned()))?;
        let Self::Pods { node, pods } = self else {
            // Refused here, so that it costs the hub nothing.
            return match info.untrusted {
                true => Err(denied(NameRefused::Nobody.to_string())),
                false => Ok(Peer { pid: seen.pid, uid: seen.uid, process: None, pod: None }),
            };
        };
        let (pid, uid) = (seen.pid.unwrap_or_default(), seen.uid);
        let Some(caught) = &seen.caught else {
            return Err(Refusal::new(Why::NotPossible, seen.told()));
        };
        let pod = match &caught.place {
            Place::Pod(uid) => known(node, pods.clone(), uid, POD_WITHIN).await?,
            Place::Outside => {
                return Err(denied(format!(
                    "process {pid} (user id {uid}) runs in no Pod of node {node}, and this agent serves Pods alone: give it an agent \
                     of its own, or set cgroup_root if the kubelet has a --cgroup-root"
                )));
            }
            Place::Own => {
                return Err(denied(format!(
                    "process {pid} (user id {uid}) runs in the agent's own container, which gets no secret"
                )));
            }
            Place::Unclear(what) => {
                return Err(denied(format!(
                    "the cgroups of process {pid} (user id {uid}) contradict each other: they name {what}"
                )));
            }
        };
        Ok(Peer { pid: seen.pid, uid, process: Some(caught.process), pod: Some(pod) })
    }
}

/// Waits until a Pod is known.
async fn known(
    node: &str,
    mut pods: watch::Receiver<Arc<View>>,
    uid: &PodUid,
    within: Duration,
) -> Result<Arc<KnownPod>, Refusal> {
    let found = |view: &Arc<View>| view.pods.get(uid).cloned();
    let there = pods.wait_for(|view| found(view).is_some());
    if let Ok(Ok(view)) = tokio::time::timeout(within, there).await
        && let Some(pod) = found(&view)
    {
        return Ok(pod);
    }
    let view = Arc::clone(&pods.borrow());
    let why = match (&view.trouble, view.listed) {
        (Some(trouble), _) => trouble.clone(),
        (None, false) => format!("no list of the Pods of node {node} has come yet"),
        (None, true) => format!(
            "it is none of the {} Pods of node {node} that the API server tells of; it may have been deleted, or `node` is not the \
             name of this machine",
            view.pods.len()
        ),
    };
    let within = trust::plain::span(within);
    Err(Refusal::not_now(format!("Pod {uid} is not known after {within}: {why}; try again")))
}

#[cfg(test)]
mod tests {
    use trust::SpiffeId;

    use super::*;
    use crate::pods::Caught;
    use crate::process::ProcessId;
    use crate::sds::socket::Seen;

    const SOON: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    fn uid() -> PodUid {
        PodUid::parse("0f7c9a52").unwrap()
    }

    fn view(listed: bool, trouble: Option<&str>, pods: &[&str]) -> Arc<View> {
        let pod = |name: &&str| {
            let identity = SpiffeId::parse("spiffe://example.org/ns/shop/sa/cart").unwrap();
            let (namespace, name) = ("shop".to_owned(), (*name).to_owned());
            let uid = PodUid::parse(&name).unwrap();
            (uid.clone(), Arc::new(KnownPod { uid, namespace, name, identity }))
        };
        let (pods, trouble) = (pods.iter().map(pod).collect(), trouble.map(str::to_owned));
        Arc::new(View { pods, listed, trouble })
    }

    #[tokio::test]
    async fn a_pod_that_the_api_server_tells_of_late_is_waited_for() {
        let (to, pods) = watch::channel(view(true, None, &["other"]));
        let waiting = tokio::spawn(async move { known("n", pods, &uid(), SOON).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        to.send_replace(view(true, None, &["other", "0f7c9a52"]));
        assert_eq!(waiting.await.unwrap().unwrap().name, "0f7c9a52");
    }

    #[tokio::test]
    async fn a_pod_that_stays_unknown_is_told_why_and_to_try_again() {
        for (view, words) in [
            (view(false, None, &[]), "no list of the Pods of node n has come yet"),
            (view(true, None, &["other"]), "none of the 1 Pods of node n"),
            (view(true, Some("it is away"), &["other"]), "it is away"),
        ] {
            let (_to, pods) = watch::channel(view);
            let refused = known("n", pods, &uid(), SHORT).await.unwrap_err();
            assert_eq!(refused.why, Why::NotNow);
            assert!(
                refused.text.contains(words) && refused.text.contains("0f7c9a52"),
                "{refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn who_is_in_no_pod_gets_nothing_and_is_told_so_by_name() {
        let (_to, pods) = watch::channel(view(true, None, &["0f7c9a52"]));
        let attestor = Attestor::Pods { node: "n".to_owned(), pods };
        let process = ProcessId { pid: 7, start: 9 };
        let ask = async |place: Place| {
            let caught = Some(Caught { process, place });
            let peer = Seen { pid: Some(7), uid: 5, caught, trouble: None };
            let info = PeerInfo { peer: Some(peer), untrusted: false, administers: true };
            attestor.peer(Some(&info)).await
        };
        let peer = ask(Place::Pod(uid())).await.unwrap();
        assert_eq!((peer.process, peer.pod.unwrap().uid.clone()), (Some(process), uid()));
        for (place, words) in [
            (Place::Outside, "process 7 (user id 5) runs in no Pod of node n"),
            (Place::Own, "the agent's own container"),
            (Place::Unclear("Pods a and b".to_owned()), "they name Pods a and b"),
        ] {
            let refused = ask(place).await.unwrap_err();
            assert_eq!(refused.why, Why::NotPermitted);
            assert!(refused.text.contains(words), "{refused:?}");
        }
        let unseen = Seen { pid: Some(0), uid: 5, ..Seen::default() };
        let info = PeerInfo { peer: Some(unseen), untrusted: true, administers: false };
        let refused = attestor.peer(Some(&info)).await.unwrap_err();
        assert!(refused.text.contains("set hostPID"), "{refused:?}");
    }
}
