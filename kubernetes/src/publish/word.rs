//! The word of a channel: what it is to the CA, a relying party.

use std::collections::BTreeSet;

use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, ConfirmRelyingPartyRequest, ListRelyingPartiesRequest, RelyingParty,
};

use crate::ca::{self, Ca};
use crate::config::ChannelConfig;

/// Who says so, in the CA's journal.
const BY: &str = "banyan kubernetes";

/// Gives the word of one channel.
#[derive(Clone)]
pub(crate) struct Word {
    ca: Ca,
    name: String,
    covers: Vec<String>,
}

impl Word {
    pub(crate) fn new(ca: Ca, channel: &ChannelConfig) -> Self {
        let covers = channel.covers.iter().map(ToString::to_string).collect();
        Self { ca, name: format!("kubernetes/{}", channel.name), covers }
    }

    /// Has the CA know the channel, and answers with the sequence that it has confirmed so far.
    ///
    /// No bound is given to the CA: nothing but the word of the channel proves anything about it, and its readers' delay is over
    /// before the word is given.
    pub(crate) async fn known(&self) -> Result<u64, String> {
        let party = match self.look().await? {
            Some(party) if party.staleness_seconds == 0 && self.is_covered(&party) => party,
            _ => self.add().await?,
        };
        Ok(party.confirmed)
    }

    /// Says that the channel has a bundle.
    pub(crate) async fn confirm(&self, sequence: u64, objects: usize) -> Result<u64, String> {
        let request = ConfirmRelyingPartyRequest {
            name: self.name.clone(),
            sequence,
            by: BY.to_owned(),
            reason: format!(
                "read back from {}",
                trust::plain::counted(objects, "object", "objects")
            ),
        };
        let confirmed = self.ca.rotations().confirm_relying_party(request).await;
        Ok(confirmed.map_err(|status| ca::told(&status))?.into_inner().confirmed)
    }

    fn is_covered(&self, party: &RelyingParty) -> bool {
        let sorted = |covers: &[String]| covers.iter().cloned().collect::<BTreeSet<_>>();
        sorted(&self.covers) == sorted(&party.covers)
    }

    async fn look(&self) -> Result<Option<RelyingParty>, String> {
        let mut after = String::new();
        loop {
            let request = ListRelyingPartiesRequest { after, limit: 0 };
            let page = self.ca.rotations().list_relying_parties(request).await;
            let page = page.map_err(|status| ca::told(&status))?.into_inner();
            let found = page.relying_parties.into_iter().find(|party| party.name == self.name);
            if found.is_some() || page.next.is_empty() {
                return Ok(found);
            }
            after = page.next;
        }
    }

    async fn add(&self) -> Result<RelyingParty, String> {
        let request = AddRelyingPartyRequest {
            name: self.name.clone(),
            staleness_seconds: 0,
            covers: self.covers.clone(),
            covers_nobody: self.covers.is_empty(),
            by: BY.to_owned(),
            reason: "it is configured as a channel in the cluster".to_owned(),
        };
        let added = self.ca.rotations().add_relying_party(request).await;
        Ok(added.map_err(|status| ca::told(&status))?.into_inner())
    }
}
