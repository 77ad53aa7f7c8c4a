//! What an authority would give now, compared with what signs here.
//!
//! An authority is somebody else's: files are replaced, a PKI engine gets another default issuer. Until this mesh followed,
//! issuers are renewed under something that is there no more. Each difference is told with what to do about it.

use plugins::RootSet;
use rotation::{ReplicaName, RequestId, RootEntry, State};
use trust::digest::sha256;
use trust::{Certificate, Root, RootId};

/// The authority that is told of.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// Its name in the configuration.
    pub name: &'a str,
    /// Where its certificates come from; may be empty.
    pub place: &'a str,
}

impl Whose<'_> {
    fn told(&self) -> String {
        match self.place {
            "" => format!("authority {}", self.name),
            place => format!("authority {} ({place})", self.name),
        }
    }
}

/// The difference between what the authority of the signing root would give now and what signs, in one sentence; none
/// while there is none, or while it is being followed.
pub fn of(
    state: &State,
    whose: &Whose<'_>,
    replica: &ReplicaName,
    set: &RootSet,
    follows: bool,
) -> Option<String> {
    let root = state.signing_root()?;
    let entry = state.roots.get(&root).filter(|entry| entry.authority.as_str() == whose.name)?;
    let signing = set.signing?;
    if signing != root {
        let der = set.roots.iter().find(|der| RootId::of(der) == signing).map(Vec::as_slice);
        let der = der.unwrap_or_default();
        return other_root(state, whose, &OtherRoot { signing, der, here: root, follows });
    }
    let above = other_chain(entry, replica, set)?;
    if follows && entry.renewal_for(replica).is_some() {
        return None;
    }
    Some(format!(
        "{} puts issuers below {above} now, and the issuer that signs stands below other certificates; `banyan issuer renew` \
         gets a new one",
        whose.told()
    ))
}

/// What would stand above an issuer that is signed now, if that is not what stands above
/// the one that this replica signs with.
pub fn other_chain(entry: &RootEntry, replica: &ReplicaName, set: &RootSet) -> Option<String> {
    let above = set.above.as_ref()?;
    let issuer = entry.issuers.get(&entry.signer_for(replica)?)?;
    let present = issuer.chain.iter().skip(1).map(|der| der.as_bytes());
    if present.eq(above.iter().map(Vec::as_slice)) {
        return None;
    }
    let first = above.first().and_then(|der| Certificate::parse(der).ok());
    Some(
        first.map_or_else(
            || "the root itself".to_owned(),
            |one| format!("\"{}\"", one.subject_text()),
        ),
    )
}

/// Names the request for an issuer below what stands above now: the same while both are the same.
pub fn chain_request(entry: &RootEntry, replica: &ReplicaName, set: &RootSet) -> Option<RequestId> {
    other_chain(entry, replica, set)?;
    let mut text = entry.signer_for(replica)?.to_string().into_bytes();
    set.above.iter().flatten().for_each(|der| text.extend_from_slice(&sha256(der)));
    let digest: String = sha256(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    RequestId::parse(&format!("chain-{digest}")).ok()
}

/// Names the request to follow an authority to another root.
pub fn follow_request(root: &RootId) -> Option<RequestId> {
    RequestId::parse(&format!("notice-{}", root.short())).ok()
}

/// Whether a root is the present signer's under another certificate: renewed with the same key and name.
pub fn renews_signer(state: &State, der: &[u8]) -> bool {
    let entry = state.signing_root().and_then(|root| state.roots.get(&root));
    entry.is_some_and(|entry| !entry.tainted && are_twins(entry.der.as_bytes(), der))
}

/// A known root with the key and the name of this one.
fn twin(state: &State, der: &[u8]) -> Option<RootId> {
    let twin = |entry: &RootEntry| !entry.may_return(false) && are_twins(entry.der.as_bytes(), der);
    state.roots.iter().find(|(_, entry)| twin(entry)).map(|(id, _)| *id)
}

fn are_twins(one: &[u8], other: &[u8]) -> bool {
    let (Ok(one), Ok(other)) = (Certificate::parse(one), Certificate::parse(other)) else {
        return false;
    };
    one.id() != other.id()
        && one.spki_der() == other.spki_der()
        && one.subject_der() == other.subject_der()
}

/// An authority that signs with another root than the one that signs here.
struct OtherRoot<'a> {
    /// The root that it signs with, and its certificate.
    signing: RootId,
    der: &'a [u8],
    /// The root that signs here.
    here: RootId,
    /// Whether its new roots are followed.
    follows: bool,
}

fn other_root(state: &State, whose: &Whose<'_>, other: &OtherRoot<'_>) -> Option<String> {
    let OtherRoot { signing, der, here, follows } = *other;
    let known = state.roots.get(&signing);
    if known.is_some_and(|entry| !entry.state.is_retired()) {
        // It is on its way in or out.
        return None;
    }
    let given_up = follow_request(&signing).is_some_and(|id| state.done.contains(&id));
    let may_be_followed = known.is_none_or(|entry| entry.may_return(false)) && !given_up;
    if follows && may_be_followed && state.phase.takes_over_new_roots() {
        return None;
    }
    let named = known.is_some_and(|entry| !entry.may_return(false)) || twin(state, der).is_some();
    let command = command(whose.name, named.then_some(signing));
    Some(format!(
        "{} signs with another root now, {}, than the one that signs here, {}: it does not renew this issuer. To move the mesh \
         to that root say {command}; to stay, give the authority the former root back",
        whose.told(),
        signing.short(),
        here.short()
    ))
}

fn command(name: &str, stage_again: Option<RootId>) -> String {
    match stage_again {
        None => format!("`banyan rotate start --to {name}`"),
        Some(root) => {
            format!("`banyan rotate start --to {name} --stage-again {} --by YOU`", root.short())
        }
    }
}

/// Why a root cannot take the place of the one that signs, with what to do; none if it may.
pub fn unfit(
    state: &State,
    whose: &Whose<'_>,
    der: &[u8],
    named: Option<RootId>,
) -> Option<String> {
    let id = RootId::of(der);
    let subject =
        Root::parse(der).map(|root| root.certificate().subject_text()).unwrap_or_default();
    let (told, short) = (whose.told(), id.short());
    match state.roots.get(&id) {
        Some(entry) if entry.may_return(false) || (named == Some(id) && entry.may_return(true)) => {
        }
        Some(entry) if entry.tainted => {
            return Some(format!(
                "{told} gives root {short} (\"{subject}\"), which is marked as compromised: it never returns"
            ));
        }
        Some(entry) if entry.state.is_retired() => {
            return Some(format!(
                "{told} gives root {short} (\"{subject}\"), which was withdrawn before; give it another root, or let this one \
                 return: {}{}",
                first(state),
                command(whose.name, Some(id))
            ));
        }
        Some(_) => {
            return Some(format!(
                "{told} has no new root: it gives root {short} (\"{subject}\"), which is already trusted here; put the new CA \
                 there, and this goes on by itself"
            ));
        }
        None => {}
    }
    if named == Some(id) {
        return None;
    }
    let twin = twin(state, der)?;
    Some(format!(
        "{told} gives root {short} (\"{subject}\"), a renewed certificate for the key and the name of root {}; if that is what you \
         want, say {}{}; else give it a root with another key",
        twin.short(),
        first(state),
        command(whose.name, Some(id))
    ))
}

/// What comes before a rotation can start.
fn first(state: &State) -> &'static str {
    if state.phase.rotation().is_some() { "`banyan rotate abort`, then " } else { "" }
}

/// The root that was named for its return is not the one that the authority gives.
pub fn not_that_root(whose: &Whose<'_>, named: RootId, signing: Option<RootId>) -> String {
    let signing = signing.map_or_else(|| "none".to_owned(), |root| root.short().to_string());
    format!(
        "{} does not sign under root {}, which was named for its return, but under {signing}; give it that root",
        whose.told(),
        named.short()
    )
}

/// What `--stage-again` means, for who says it.
pub fn meaning(state: &State, named: RootId) -> String {
    match state.roots.get(&named) {
        Some(entry) if entry.state.is_retired() => format!(
            "root {} was withdrawn; it becomes trusted again by everybody, and whatever was ever signed with its key is \
             trusted with it",
            named.short()
        ),
        _ => format!(
            "root {} may have the key and the name of a known root; nothing that its key signed loses its trust when the \
             former certificate leaves the bundle",
            named.short()
        ),
    }
}

#[cfg(test)]
mod tests;
