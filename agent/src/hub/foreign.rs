//! Other trust domains: what the CA says of them, on its way to the disk, and what holders ask for in vain.

use std::collections::BTreeSet;

use super::run::replace;
use super::state::Hub;
use crate::foreign::{Bundles, ForeignRefused};
use crate::secret_name::SecretKind;
use crate::status::Condition;

impl Hub {
    /// Notes what the CA said last; it is in force once it is durable.
    pub(super) fn heard_of_others(&mut self, offered: Result<Bundles, ForeignRefused>) {
        let refused = match offered {
            Ok(bundles) => {
                self.foreign_heard = Some(bundles);
                None
            }
            Err(refused) => Some(format!("{refused}; those that are here already stay")),
        };
        self.condition(Condition::ForeignRefused, refused);
    }

    /// Makes it durable, and only then tells holders; tried again until it is.
    pub(super) async fn store_foreign(&mut self) {
        let Some(heard) = self.foreign_heard.take() else { return };
        if heard != *self.parts.foreign.bundles() {
            let (disk, path, bytes) = self.parts.foreign.staged(&heard);
            if let Err(error) = replace(disk, path, bytes).await {
                let what = format!(
                    "the bundles of other trust domains cannot be stored: {error}; make room on the disk"
                );
                self.foreign_heard = Some(heard);
                return self.condition(Condition::ForeignNotStored, Some(what));
            }
            let domains: Vec<_> = heard.keys().map(ToString::to_string).collect();
            tracing::info!(domains = domains.join(", "), "bundles of other trust domains in force");
            self.parts.foreign.adopt(heard);
        }
        self.condition(Condition::ForeignNotStored, None);
    }

    /// Tells which trust domains holders ask for that nobody here believes.
    pub(super) fn look_for_missing(&mut self) {
        let known = self.parts.foreign.bundles();
        let asked = self.holders.values().flat_map(|holder| holder.subscriptions.values());
        let missing = asked.filter_map(|asked| match &asked.name.kind {
            SecretKind::Foreign(domain) if asked.stream.is_some() => Some(domain),
            _ => None,
        });
        let missing: BTreeSet<_> = missing.filter(|domain| !known.contains_key(*domain)).collect();
        let what = missing.first().map(|domain| {
            let further = match missing.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            format!(
                "the secret `spiffe://{domain}`{further} is asked for, and the CA is not federated with that trust domain: correct the name, \
                 or have the CA's operator say `banyan federation add {domain}`; until then nobody of it is believed"
            )
        });
        self.condition(Condition::NotFederated, what);
    }
}
