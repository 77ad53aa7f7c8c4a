//! The rehearsal of a cross certificate: leaves with it shake hands with peers that trust the old root alone, the new one alone, and
//! both. What fails here is never sent.

use std::sync::Arc;

use issuance::{Snapshot, SnapshotCell};
use rehearsal::Scene;
use rotation_driver::EffectError;
use trust::{RootId, Timestamp};

use crate::rehearsing::{Cast, NotRehearsed, RehearsalPolicy, Rehearsing, all};

/// What is said where nothing is rehearsed.
const LEFT_OUT: &str = "not rehearsed, since rotation.rehearse is \"never\"";

impl Rehearsing {
    /// Rehearses leaves of a snapshot that sends a cross certificate by the root `old`; answers in words.
    pub(crate) async fn rehearse_cross(
        &self,
        snapshot: Snapshot,
        old: RootId,
        now: Timestamp,
    ) -> Result<String, NotRehearsed> {
        if self.policy == RehearsalPolicy::Never {
            return Ok(LEFT_OUT.to_owned());
        }
        let (verifiers, left_out) = self.verifiers().await?;
        let new = snapshot.signer().root();
        let roots = snapshot.bundle().roots();
        let wanted = roots.iter().filter(|root| [old, new].contains(&root.id()));
        let ders: Vec<_> = wanted.map(|root| (root.id(), root.der().to_vec())).collect();
        let mut cast = Cast::new(self.stage()?);
        let snapshot = SnapshotCell::new(snapshot).load();
        let name = format!("the new root {} with its cross certificate", new.short());
        let actors = cast.actors(&name, snapshot).await;
        cast.leave().await;
        let actors = actors.map_err(|error| error.judged(&new))?;
        let mut scenes = Vec::new();
        for trusted in [vec![old], vec![new], vec![old, new]] {
            let of = ders.iter().filter(|(id, _)| trusted.contains(id));
            let bundle = Arc::new(of.map(|(_, der)| der.clone()).collect::<Vec<_>>());
            let names: Vec<_> = trusted.iter().map(RootId::short).collect();
            scenes.extend(actors.iter().map(|actor| Scene {
                phase: "draining",
                bundle: Arc::clone(&bundle),
                roots: names.join(", "),
                client: Arc::clone(actor),
                server: Arc::clone(actor),
            }));
        }
        let shaken = tokio::task::spawn_blocking(move || all(&scenes, &verifiers, now)).await;
        let shaken =
            shaken.map_err(|error| EffectError::Unavailable { reason: error.to_string() })?;
        Ok(self.concluded(shaken, left_out)?.in_words())
    }
}
