//! What the authorities say of an emergency that is thought of: before a root is distrusted its operator hears whom that needs.

use rotation::{AuthorityName, Policy, State};
use trust::Timestamp;

use crate::ca::Ca;

/// What the authorities say of an emergency that is thought of: the standby root that would sign, or who would make another one.
pub fn said(ca: &Ca, next: &State, policy: &Policy, now: Timestamp) -> Vec<String> {
    let troubles = ca.authority_troubles.borrow();
    let unwell =
        |name: &AuthorityName| troubles.get(name.as_str()).map(|trouble| trouble.text.clone());
    let others = |than: &AuthorityName| {
        let well = ca
            .authorities
            .keys()
            .filter(|name| *name != than.as_str() && !troubles.contains_key(*name));
        well.cloned().collect::<Vec<_>>()
    };
    let mut said = Vec::new();
    if let Some(rotation) = next.phase.rotation().filter(|_| next.phase.staging().is_some()) {
        for (id, entry) in next.standby().filter(|(_, entry)| !entry.tainted) {
            let ended = entry.signs_until().filter(|until| *until <= now);
            let why = match ended {
                Some(until) => format!("its issuers have ended at {until}"),
                None => "no server has an issuer below it".to_owned(),
            };
            let more = unwell(&entry.authority);
            let more = more.map(|text| {
                format!(", and its authority {} is unhealthy: {text}", entry.authority)
            });
            said.push(format!(
                "standby root {} cannot sign: {why}{}",
                id.short(),
                more.unwrap_or_default()
            ));
        }
        if let Some(text) = unwell(&rotation.authority) {
            let name = &rotation.authority;
            let way = match others(name).as_slice() {
                [] => format!(
                    "mend it first: there is no other authority that is well; `banyan authority check {name}`"
                ),
                others => format!(
                    "name another that is well: --authority {}",
                    others.join(" or --authority ")
                ),
            };
            said.push(format!(
                "authority {name}, which would make the new root, is unhealthy ({text}): {way}"
            ));
        }
        return said;
    }
    let to = next.phase.changes().map(|(_, to)| to);
    let Some(entry) = to.and_then(|to| next.roots.get(&to)) else { return said };
    let Some(text) = unwell(&entry.authority) else { return said };
    let until = entry.signs_until().unwrap_or(now);
    let short = if until.since(now) < policy.rotation_at_most() {
        let others = others(&entry.authority);
        let to = others.first().map(|name| format!(" --to {name}")).unwrap_or_default();
        format!(", which is soon: `banyan rotate start{to}` as soon as this is over")
    } else {
        String::new()
    };
    said.push(format!(
        "authority {} of the root that signs then is unhealthy ({text}): it is not needed for that, since the servers have issuers below \
         it, the last of which ends at {until}{short}",
        entry.authority
    ));
    said
}
