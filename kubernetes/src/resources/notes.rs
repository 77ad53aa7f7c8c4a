//! Events of the cluster about rotations, for `kubectl describe`.

use kube::Resource as _;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::types::RootRotation;
use crate::api::asked;
use crate::world::World;

const NAME: &str = "banyan-kubernetes";

/// Writes them.
pub(super) struct Notes(Recorder);

impl Notes {
    pub(super) fn of(world: &World) -> Self {
        let reporter = Reporter { controller: NAME.to_owned(), instance: None };
        Self(Recorder::new(world.client.clone(), reporter))
    }

    /// One that is not taken is only logged: the status says the same.
    pub(super) async fn note(
        &self,
        object: &RootRotation,
        type_: EventType,
        reason: &str,
        note: &str,
    ) {
        let mut note = note.to_owned();
        while note.len() > 1000 {
            note.pop();
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Rotate".to_owned(),
            secondary: None,
        };
        if let Err(error) = asked(self.0.publish(&event, &object.object_ref(&()))).await {
            tracing::info!(%error, reason, "an event was not taken");
        }
    }
}
