//! The word of a channel: what it is to the CA, a relying party.

use std::collections::BTreeSet;

use proto::banyan::admin::v1::{AddRelyingPartyRequest, ConfirmRelyingPartyRequest, RelyingParty};

use crate::ca::{self, Ca};
use crate::config::{ChannelConfig, ChannelKind};

/// Who says so, in the CA's journal.
const BY: &str = "banyan kubernetes";

/// Gives the word of one channel.
#[derive(Clone)]
pub(crate) struct Word {
    ca: Ca,
    name: String,
    covers: Vec<String>,
    /// Path of an identity beside these, in whatever trust domain the CA has.
    holder: Option<String>,
}

impl Word {
    pub(crate) fn new(ca: Ca, channel: &ChannelConfig) -> Self {
        let covers = channel.covers.iter().map(ToString::to_string).collect();
        let holder = match &channel.kind {
            ChannelKind::Webhook { holder, .. } => Some(holder.clone()),
            ChannelKind::PerNamespace { .. } | ChannelKind::ClusterTrustBundle { .. } => None,
        };
        Self { ca, name: format!("{}{}", ca::CHANNELS, channel.name), covers, holder }
    }

    fn covers(&self) -> Vec<String> {
        let domain = self.ca.trust().map(|trust| trust.trust_domain.clone());
        let holder = self.holder.as_ref().zip(domain);
        let holder = holder.map(|(path, domain)| format!("spiffe://{domain}{path}"));
        self.covers.iter().cloned().chain(holder).collect()
    }

    /// Has the CA know the channel, and answers with the sequence that it has confirmed so far.
    ///
    /// No bound is given to the CA: nothing but the word of the channel proves anything about it, and its readers' delay is over
    /// before the word is given.
    pub(crate) async fn known(&self) -> Result<u64, String> {
        let known = ca::channels(&self.ca.channel()).await?;
        let party = match known.into_iter().find(|party| self.is_said_by(party)) {
            Some(party) => party,
            None => self.add().await?,
        };
        Ok(party.confirmed)
    }

    /// Whether the CA, as it was looked at last, knows the channel as it shall. Somebody may have removed or changed it by hand.
    pub(crate) fn is_known(&self, channels: &[RelyingParty]) -> bool {
        channels.iter().any(|party| self.is_said_by(party))
    }

    fn is_said_by(&self, party: &RelyingParty) -> bool {
        party.name == self.name && party.staleness_seconds == 0 && self.is_covered(party)
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
        sorted(&self.covers()) == sorted(&party.covers)
    }

    async fn add(&self) -> Result<RelyingParty, String> {
        let request = AddRelyingPartyRequest {
            name: self.name.clone(),
            staleness_seconds: 0,
            covers_nobody: self.covers().is_empty(),
            covers: self.covers(),
            by: BY.to_owned(),
            reason: "it is configured as a channel in the cluster".to_owned(),
        };
        let added = self.ca.rotations().add_relying_party(request).await;
        Ok(added.map_err(|status| ca::told(&status))?.into_inner())
    }
}
