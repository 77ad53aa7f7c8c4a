//! What probes are told while a server starts: that it is there, that it is not ready, and what it waits for.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use transport::accept::{self, Stop};
use transport::crowd::Crowd;
use transport::plain::{self, PLAIN_CONNECTIONS_MAX, PROBE_WITHIN};
use transport::{Meter, Rules};

/// Answers probes until [`end`](Self::end), or until it is dropped.
#[derive(Debug)]
pub struct StartingProbes {
    tasks: TaskTracker,
    _stop: [DropGuard; 2],
}

/// Counts nothing: a server that starts has no counters yet.
#[derive(Debug)]
struct Uncounted;

impl Meter for Uncounted {
    fn connection_cut(&self, reason: &'static str) {
        tracing::debug!(reason, "a connection of a probe was cut");
    }

    fn unsent_bytes(&self, _: &'static str) -> Gauge {
        Gauge::default()
    }

    fn exposition(&self) -> String {
        "# EOF\n".to_owned()
    }
}

impl StartingProbes {
    /// Begins to answer. `waits_for` says what the start waits for, if it waits.
    pub(crate) async fn serve(
        listener: TcpListener,
        waits_for: impl Fn() -> Option<String> + Clone + Send + Sync + 'static,
    ) -> Self {
        let (health, service) = tonic_health::server::health_reporter();
        health.set_service_status("", ServingStatus::NotServing).await;
        let routes = plain::starting_routes(waits_for, Routes::new(service));
        let (stop, tasks) = (Stop::default(), TaskTracker::new());
        let rules = Rules::of_probes(PLAIN_CONNECTIONS_MAX, PROBE_WITHIN);
        let crowd = Crowd::new(rules, Arc::new(Uncounted), stop.gently.clone());
        let guards = [stop.gently.clone().drop_guard(), stop.now.clone().drop_guard()];
        let serve = move |stream, _, place| plain::serve(stream, place, routes.clone());
        tasks.spawn(accept::run(listener, crowd, stop, tasks.clone(), serve));
        Self { tasks, _stop: guards }
    }

    /// Answers nobody any more; the port is still taken.
    pub async fn end(self) {
        let Self { tasks, _stop } = self;
        drop(_stop);
        tasks.close();
        tasks.wait().await;
    }
}
