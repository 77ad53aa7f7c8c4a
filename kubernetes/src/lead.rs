//! Which of several processes works, by a Lease.
//!
//! It is a hint that saves work, and no lock: one that was paused may believe for a moment that it still leads, so every write to
//! the cluster is conditional all the same, and every request to the CA may be repeated.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trust::{Clock, Timestamp};

use crate::api::{ApiError, asked};
use crate::board::Part;
use crate::config::LeadConfig;

/// Whether this process works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// There is no Lease: it works.
    Alone,
    /// It has the Lease: it works.
    Leads,
    /// Another one has it.
    Follows(String),
    /// Nobody can be asked, so it does not begin, and stops soon after it could not renew.
    Unsure,
}

/// Whether this process works, at every change.
#[derive(Clone, Debug)]
pub struct Leading(watch::Receiver<Role>);

impl Leading {
    /// Whether it works now.
    #[must_use]
    pub fn works(&self) -> bool {
        matches!(*self.0.borrow(), Role::Alone | Role::Leads)
    }

    /// What it is now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.0.borrow().clone()
    }

    /// Why it does not work now, as a part that waits for its turn says it.
    #[must_use]
    pub fn waiting(&self) -> String {
        match self.role() {
            Role::Alone | Role::Leads => "works".to_owned(),
            Role::Follows(holder) => format!("waits: {holder} has the Lease and works"),
            Role::Unsure => "waits for the Lease".to_owned(),
        }
    }

    /// Waits for a change. Never returns once there can be none.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until it works.
    pub async fn until_it_works(&mut self) {
        while !self.works() {
            self.changed().await;
        }
    }

    /// Works always.
    #[must_use]
    pub fn alone() -> Self {
        Self(watch::channel(Role::Alone).1)
    }
}

/// What holds or wants the Lease.
pub(crate) struct Elector {
    leases: Api<DynamicObject>,
    config: LeadConfig,
    identity: String,
    clock: Arc<dyn Clock>,
    part: Part,
    role: watch::Sender<Role>,
    /// The Lease as it was read or written last, and when it changed, by this machine's time.
    seen: Option<(DynamicObject, Duration)>,
    /// Whether it was never read: who has it then may be a former process in this place, which is dead.
    begins: bool,
}

impl Elector {
    pub(crate) fn new(
        client: Client,
        config: LeadConfig,
        identity: String,
        clock: Arc<dyn Clock>,
        part: Part,
    ) -> (Self, Leading) {
        let kind = GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease");
        let kind = ApiResource::from_gvk(&kind);
        let leases = Api::namespaced_with(client, &config.namespace, &kind);
        let (role, leading) = watch::channel(Role::Unsure);
        (
            Self { leases, config, identity, clock, part, role, seen: None, begins: true },
            Leading(leading),
        )
    }

    /// Holds or wants it until it is stopped, and gives it back then.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (renew, look) = (self.config.duration / 3, self.config.duration / 15);
        while !stop.is_cancelled() {
            match self.turn().await {
                Ok(role) => {
                    self.part.ready(match &role {
                        Role::Follows(holder) => format!("{holder} has the Lease"),
                        _ => format!("has the Lease, as {}", self.identity),
                    });
                    self.be(role);
                }
                // The next turn reads it again.
                Err(ApiError::Changed(_)) => self.seen = None,
                Err(error) => {
                    let place = format!("{}/{}", self.config.namespace, self.config.lease);
                    self.part.stuck(format!("Lease {place}: {error}"));
                    self.doubt();
                }
            }
            // Whoever waits for it looks more often than its holder renews: it may be given back at any time.
            let holds = *self.role.borrow() == Role::Leads && self.seen.is_some();
            let pause = if holds { renew } else { look };
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        if *self.role.borrow() == Role::Leads
            && let Some((lease, _)) = self.seen.take()
        {
            let lease = self.written(lease, "");
            let name = self.config.lease.clone();
            // Another one waits until it ends if this is not heard.
            let _ = asked(self.leases.replace(&name, &PostParams::default(), &lease)).await;
        }
        self.be(Role::Unsure);
    }

    fn be(&self, role: Role) {
        self.role.send_if_modified(|now| {
            let changed = *now != role;
            if changed {
                tracing::info!(?role, lease = self.config.lease, "lead");
                *now = role;
            }
            changed
        });
    }

    /// Who could not renew for most of the time stops, since another one begins when all of it is over.
    fn doubt(&self) {
        let renewed = self.seen.as_ref().map_or(Duration::ZERO, |(_, at)| *at);
        if self.clock.uptime().saturating_sub(renewed) > self.config.duration * 2 / 3 {
            self.be(Role::Unsure);
        }
    }

    /// Renews it, takes it, or looks who has it.
    async fn turn(&mut self) -> Result<Role, ApiError> {
        let (name, options) = (self.config.lease.clone(), PostParams::default());
        let leads = *self.role.borrow() == Role::Leads;
        let known = match &self.seen {
            Some((lease, _)) if leads => Some(lease.clone()),
            _ => asked(self.leases.get_opt(&name)).await?,
        };
        let Some(known) = known else {
            let kind =
                ApiResource::from_gvk(&GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease"));
            let lease = self.written(DynamicObject::new(&name, &kind), &self.identity);
            let lease = asked(self.leases.create(&options, &lease)).await?;
            self.seen = Some((lease, self.clock.uptime()));
            return Ok(Role::Leads);
        };
        let holder = text(&known, "/spec/holderIdentity").to_owned();
        let was_here =
            std::mem::take(&mut self.begins) && is_of_same_place(&holder, &self.identity);
        let is_free = holder == self.identity || holder.is_empty() || was_here;
        if !is_free && !self.is_over(&known) {
            return Ok(Role::Follows(holder));
        }
        // Before it is asked: a renewal counts from then.
        let now = self.clock.uptime();
        let lease = self.written(known, &self.identity);
        let lease = asked(self.leases.replace(&name, &options, &lease)).await?;
        self.seen = Some((lease, now));
        Ok(Role::Leads)
    }

    /// Whether it did not change for as long as its holder is believed, by this machine's time alone.
    fn is_over(&mut self, lease: &DynamicObject) -> bool {
        let now = self.clock.uptime();
        let version = &lease.metadata.resource_version;
        match &self.seen {
            Some((seen, at)) if seen.metadata.resource_version == *version => {
                let secs = lease.data.pointer("/spec/leaseDurationSeconds").and_then(Value::as_u64);
                let believed = secs.map_or(self.config.duration, Duration::from_secs);
                now.saturating_sub(*at) > believed.max(self.config.duration)
            }
            _ => {
                self.seen = Some((lease.clone(), now));
                false
            }
        }
    }

    fn written(&self, mut lease: DynamicObject, holder: &str) -> DynamicObject {
        let now = micro(&*self.clock);
        let taken = text(&lease, "/spec/holderIdentity") != holder;
        let times = lease.data.pointer("/spec/leaseTransitions").and_then(Value::as_u64);
        let since = text(&lease, "/spec/acquireTime").to_owned();
        lease.data = json!({ "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": self.config.duration.as_secs(),
            "acquireTime": if taken || since.is_empty() { &now } else { &since },
            "renewTime": now,
            "leaseTransitions": times.unwrap_or(0) + u64::from(taken),
        } });
        lease
    }
}

/// Whether both are names of processes of one Pod, of which a container was started anew: `POD_NUMBER`.
fn is_of_same_place(one: &str, other: &str) -> bool {
    let place = |name: &str| name.rsplit_once('_').map(|(place, _)| place.to_owned());
    place(one).is_some_and(|one| !one.is_empty() && place(other) == Some(one))
}

fn text<'a>(lease: &'a DynamicObject, pointer: &str) -> &'a str {
    lease.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A time as a Lease has it.
fn micro(clock: &dyn Clock) -> String {
    let millis = clock.now_millis();
    let civil = Timestamp::from_millis(millis).civil();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}000Z",
        civil.year,
        civil.month,
        civil.day,
        civil.hour,
        civil.minute,
        civil.second,
        millis.rem_euclid(1_000)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_process_of_the_same_pod_is_told_from_others() {
        for (one, other, same) in [
            ("banyan-0_5f3a9c01", "banyan-0_00000001", true),
            ("banyan-0_5f3a9c01", "banyan-1_5f3a9c01", false),
            ("my_pod_1", "my_pod_2", true),
            ("first", "second", false),
            ("_1", "_2", false),
            ("", "banyan-0_1", false),
        ] {
            assert_eq!(is_of_same_place(one, other), same, "{one} {other}");
        }
    }
}
