//! What callers may have, by the headings "CSR names", "CSR key" and "request".

use std::collections::HashMap;

use ledger::RowKind;
use rcgen::KeyPair;
use tonic::Code;
use trust::Serial;
use trust::csr::ParsedCsr;

use super::*;
use crate::authn::jwt::TokenClaims;
use crate::fixture::{CaMaterial, NOW, csr, csr_of, id, trust_domain};

const CART: &str = "/ns/shop/sa/cart";

/// Registered agents and keys in memory.
#[derive(Debug, Default)]
struct Memory {
    agents: HashMap<String, AgentRecord>,
    keys: HashMap<SpkiHash, KeyStanding>,
    unreadable: bool,
    banned: Vec<SpiffeId>,
    banned_keys: Vec<SpkiHash>,
    revoked: Vec<Serial>,
}

impl Agents for Memory {
    fn find(&self, name: &str) -> Result<Option<AgentRecord>, RegistryUnreadable> {
        if self.unreadable {
            return Err(RegistryUnreadable("torn".to_owned()));
        }
        Ok(self.agents.get(name).cloned())
    }

    fn saw(&self, _: &str) {}

    fn revoked_by(&self, serial: &Serial) -> Option<String> {
        self.revoked.contains(serial).then(|| "ann".to_owned())
    }

    fn ban_on(&self, identity: &SpiffeId, key: &SpkiHash) -> Option<StandingBan> {
        let of_key = self.banned_keys.contains(key);
        let of_identity = self.banned.contains(identity);
        (of_key || of_identity).then(|| StandingBan {
            is_of_key: of_key,
            of: if of_key { format!("key {key}") } else { format!("identity {identity}") },
            by: "ann".to_owned(),
            lifted_with: "`banyan ban remove`".to_owned(),
        })
    }
}

impl KeyPolicy for Memory {
    fn standing(&self, key: &SpkiHash) -> KeyStanding {
        self.keys.get(key).copied().unwrap_or(KeyStanding::Free)
    }
}

fn authorizer(memory: Memory, name_mismatch: NameMismatch) -> Authorizer {
    let memory = Arc::new(memory);
    Authorizer::new(trust_domain(), name_mismatch, memory.clone(), memory)
}

fn strict() -> Authorizer {
    authorizer(Memory::default(), NameMismatch::Refuse)
}

/// One agent `node-1` with this key, entitled to the cart.
fn with_agent(spki: SpkiHash, banned: bool) -> Memory {
    let record = AgentRecord { spki, identities: vec![id(CART)], banned };
    Memory { agents: HashMap::from([("node-1".to_owned(), record)]), ..Memory::default() }
}

fn jwt(path: &str) -> Caller {
    let (issuer, subject) = ("i".to_owned(), "s".to_owned());
    let claims = TokenClaims { identity: id(path), issuer, subject, pod: None, cluster: None };
    Caller::assumed(CallerKind::Jwt(claims))
}

fn agent(spki: SpkiHash) -> Caller {
    let serial = Serial::from_bytes(&[0x41; 16]).unwrap();
    Caller::assumed(CallerKind::Agent { name: "node-1".to_owned(), serial, spki })
}

fn join(used: Option<TokenUse>) -> Caller {
    let grant = JoinGrant { agent: "node-1".to_owned(), identities: vec![id(CART)], used };
    Caller::assumed(CallerKind::JoinToken { grant, secret_hash: [1; 32] })
}

fn reason<T: Debug>(result: Result<T, Refusal>) -> Option<Reason> {
    result.err().map(|refusal| refusal.reason())
}

/// A CSR that rcgen makes of these names.
fn csr_with(change: impl FnOnce(&mut rcgen::CertificateParams)) -> VerifiedCsr {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    let der = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    ParsedCsr::from_der(der.der()).unwrap().verify().unwrap()
}

#[test]
fn the_identity_is_the_callers_and_the_key_the_csrs() {
    let (snapshot, csr) = (CaMaterial::new().snapshot(1), csr());
    let key = csr.public_key().clone();
    let request = strict().workload(&jwt(CART), csr, requested_ttl(600), &snapshot).unwrap();
    assert_eq!((request.identity(), request.public_key()), (&id(CART), &key));
    assert_eq!((request.kind(), request.ttl()), (RowKind::CsrOnly, Some(Duration::from_secs(600))));
}

#[test]
fn names_in_a_csr_are_the_callers_or_none() {
    let snapshot = CaMaterial::new().snapshot(1);
    let key = KeyPair::generate().unwrap();
    let dns = rcgen::SanType::DnsName("cart.example.org".try_into().unwrap());
    let ip = rcgen::SanType::IpAddress("10.0.0.1".parse().unwrap());
    let email = rcgen::SanType::Rfc822Name("a@example.org".try_into().unwrap());
    let san = |san| csr_with(|params| params.subject_alt_names = vec![san]);
    let cn = csr_with(|params| params.distinguished_name.push(rcgen::DnType::CommonName, "cart"));
    let organization =
        csr_with(|params| params.distinguished_name.push(rcgen::DnType::OrganizationName, ""));
    let uri = |uri: &str| csr_of(&key, &[uri]);
    for (name, csr, expected) in [
        ("none", csr(), None),
        ("an empty organization, as pilot-agent sends", organization, None),
        ("its own", uri("spiffe://example.org/ns/shop/sa/cart"), None),
        ("another's", uri("spiffe://example.org/ns/shop/sa/x"), Some(Reason::CsrIdentityMismatch)),
        (
            "other domain",
            uri("spiffe://other.org/ns/shop/sa/cart"),
            Some(Reason::CsrTrustDomainForeign),
        ),
        ("the CA's", uri("spiffe://example.org/banyan/ca/ca-1"), Some(Reason::CsrIdentityMismatch)),
        ("DNS", san(dns), Some(Reason::CsrNameInvalid)),
        ("IP", san(ip), Some(Reason::CsrNameInvalid)),
        ("e-mail", san(email), Some(Reason::CsrNameInvalid)),
        ("common name", cn, Some(Reason::CsrNameInvalid)),
    ] {
        let lenient = authorizer(Memory::default(), NameMismatch::Ignore);
        let ignored = lenient.workload(&jwt(CART), csr.clone(), None, &snapshot);
        assert_eq!(ignored.map(|request| request.identity().clone()), Ok(id(CART)), "{name}");
        assert_eq!(reason(strict().workload(&jwt(CART), csr, None, &snapshot)), expected, "{name}");
    }
    assert_eq!(Reason::CsrIdentityMismatch.code(), Code::PermissionDenied);
    assert_eq!(Reason::CsrTrustDomainForeign.code(), Code::PermissionDenied);
    assert_eq!(Reason::CsrNameInvalid.code(), Code::InvalidArgument);
}

#[test]
fn a_signers_csr_names_its_identity_or_nothing_even_where_other_names_are_ignored() {
    let snapshot = CaMaterial::new().snapshot(1);
    let lenient = authorizer(Memory::default(), NameMismatch::Ignore);
    let key = KeyPair::generate().unwrap();
    let judged = |csr: VerifiedCsr, path: &str| {
        let names = AnsweredFor { identity: id(path), dns: Vec::new() };
        lenient.channel_trusted(names, Asked { csr, ttl: None }, &snapshot)
    };
    let request = judged(csr(), CART).unwrap();
    assert_eq!((request.identity(), request.kind()), (&id(CART), RowKind::ChannelTrusted));
    let other = csr_of(&key, &["spiffe://example.org/ns/shop/sa/x"]);
    assert_eq!(reason(judged(other, CART)), Some(Reason::CsrIdentityMismatch));
    for reserved in ["/banyan/agent/node-1", "/banyan/ca/ca-1"] {
        assert_eq!(reason(judged(csr(), reserved)), Some(Reason::IdentityReserved));
    }
}

#[test]
fn a_signers_csr_names_only_dns_names_that_are_answered_for_and_none_of_the_cas_own() {
    let snapshot = CaMaterial::new().snapshot(1);
    let ca = strict().with_own_names(vec!["ca.example.org".to_owned()]);
    let judged = |wanted: &[&str], named: &[&str]| {
        let san = |name: &&str| rcgen::SanType::DnsName((*name).try_into().unwrap());
        let csr = csr_with(|params| params.subject_alt_names = named.iter().map(san).collect());
        let dns = wanted.iter().map(|name| (*name).to_owned()).collect();
        let names = AnsweredFor { identity: id(CART), dns };
        ca.channel_trusted(names, Asked { csr, ttl: None }, &snapshot)
    };
    let cart = "cart.shop.svc";
    for named in [&[][..], &[cart]] {
        let request = judged(&[cart], named).unwrap();
        assert_eq!(
            (request.identity(), request.names().dns()),
            (&id(CART), &[cart.to_owned()][..])
        );
    }
    for (wanted, named) in [
        (&[][..], &[cart][..]),
        (&[cart], &["till.shop.svc"]),
        (&["CA.example.org"], &[]),
        (&["*.shop.svc"], &[]),
        (&[cart; 17], &[]),
    ] {
        assert_eq!(reason(judged(wanted, named)), Some(Reason::CsrNameInvalid), "{wanted:?}");
    }
}

#[test]
fn keys_of_the_ca_are_never_certified() {
    let snapshot = CaMaterial::new().snapshot(1);
    let of_ca = csr();
    let memory = Memory {
        keys: HashMap::from([(of_ca.public_key().hash(), KeyStanding::OfCa)]),
        ..Memory::default()
    };
    let judged =
        authorizer(memory, NameMismatch::Refuse).workload(&jwt(CART), of_ca, None, &snapshot);
    assert_eq!(reason(judged), Some(Reason::KeyOfCa));
    let of_issuer = snapshot.signer().public_key().hash();
    assert_eq!(reason(strict().key_is_free(&of_issuer, &snapshot)), Some(Reason::KeyOfCa));
    let of_root = snapshot.bundle().roots()[0].certificate().spki_hash();
    assert_eq!(reason(strict().key_is_free(&of_root, &snapshot)), Some(Reason::KeyOfCa));
}

#[test]
fn who_is_banned_gets_nothing_through_any_door() {
    let snapshot = CaMaterial::new().snapshot(1);
    let spki = csr().public_key().hash();
    let banned = || Memory { banned: vec![id(CART)], ..with_agent(spki, false) };
    let strict = |memory| authorizer(memory, NameMismatch::Refuse);
    let asked = || Asked { csr: csr(), ttl: None };
    let expected = Some(Reason::IdentityBanned);
    let judged = strict(banned());
    assert_eq!(reason(judged.workload(&jwt(CART), csr(), None, &snapshot)), expected);
    assert_eq!(reason(judged.register(&jwt(CART), csr(), NOW, &snapshot)), expected);
    let behind = judged.behind_agent(&agent(spki), id(CART), asked(), &snapshot);
    assert_eq!(reason(behind), expected);
    let names = AnsweredFor { identity: id(CART), dns: Vec::new() };
    assert_eq!(reason(judged.channel_trusted(names, asked(), &snapshot)), expected);
    assert!(judged.workload(&jwt("/ns/shop/sa/other"), csr(), None, &snapshot).is_ok());

    // A key is banned for whatever it is to certify, and for whoever shows it.
    let csr = csr();
    let key = csr.public_key().hash();
    let judged = strict(Memory { banned_keys: vec![key], ..with_agent(key, false) });
    let certified = judged.workload(&jwt(CART), csr.clone(), None, &snapshot);
    assert_eq!(reason(certified), Some(Reason::KeyBlocked));
    assert_eq!(reason(judged.not_banned(&agent(key))), Some(Reason::AgentBanned));
    assert_eq!(judged.not_banned(&agent(spki)), Ok(()));
    let serial = Serial::from_bytes(&[0x41; 16]).unwrap();
    let shown = CallerKind::Workload { identity: id(CART), serial, spki: key };
    assert_eq!(
        reason(judged.not_banned(&Caller::assumed(shown.clone()))),
        Some(Reason::KeyBlocked)
    );
    // A leaf that was revoked speaks for nobody, whatever its key.
    let judged = strict(Memory { revoked: vec![serial], ..Memory::default() });
    let refused = reason(judged.not_banned(&Caller::assumed(shown)));
    assert_eq!(refused, Some(Reason::CertificateRevoked));
}

#[test]
fn each_call_is_for_its_kind_of_caller() {
    let snapshot = CaMaterial::new().snapshot(1);
    let spki = csr().public_key().hash();
    let with_agent = || authorizer(with_agent(spki, false), NameMismatch::Refuse);
    let not_allowed = Some(Reason::CallerNotAllowed);
    for caller in [agent(spki), join(None)] {
        assert_eq!(reason(with_agent().workload(&caller, csr(), None, &snapshot)), not_allowed);
    }
    for caller in [jwt(CART), join(None)] {
        let behind = with_agent().behind_agent(
            &caller,
            id(CART),
            Asked { csr: csr(), ttl: None },
            &snapshot,
        );
        assert_eq!(reason(behind), not_allowed);
        assert_eq!(reason(with_agent().renew_agent(&caller, csr(), &snapshot)), not_allowed);
    }
    assert_eq!(reason(with_agent().register(&agent(spki), csr(), NOW, &snapshot)), not_allowed);
}

#[test]
fn an_agent_gets_only_what_it_is_entitled_to() {
    let snapshot = CaMaterial::new().snapshot(1);
    let spki = csr().public_key().hash();
    let asks = |memory, identity: &SpiffeId| {
        let authorizer = authorizer(memory, NameMismatch::Refuse);
        authorizer.behind_agent(
            &agent(spki),
            identity.clone(),
            Asked { csr: csr(), ttl: None },
            &snapshot,
        )
    };
    let request = asks(with_agent(spki, false), &id(CART)).unwrap();
    assert_eq!((request.kind(), request.agent()), (RowKind::AgentHeld, Some("node-1")));
    let foreign = SpiffeId::parse("spiffe://other.org/ns/shop/sa/cart").unwrap();
    for other in
        [id("/ns/shop/sa/other"), id("/banyan/agent/node-1"), id("/banyan/ca/ca-1"), foreign]
    {
        assert_eq!(
            reason(asks(with_agent(spki, false), &other)),
            Some(Reason::IdentityNotEntitled),
            "{other}"
        );
    }
    assert_eq!(reason(asks(Memory::default(), &id(CART))), Some(Reason::AgentUnknown));
    assert_eq!(reason(asks(with_agent(spki, true), &id(CART))), Some(Reason::AgentBanned));
    let other_key = with_agent(SpkiHash::of(b"other"), false);
    assert_eq!(reason(asks(other_key, &id(CART))), Some(Reason::AgentUnknown));
    let unreadable = Memory { unreadable: true, ..with_agent(spki, false) };
    assert_eq!(reason(asks(unreadable, &id(CART))), Some(Reason::RegistryUnavailable));
}

#[test]
fn reserved_identities_are_never_issued_to_workloads_even_if_entitled() {
    let snapshot = CaMaterial::new().snapshot(1);
    let spki = csr().public_key().hash();
    for reserved in [id("/banyan/ca/ca-1"), id("/banyan/agent/node-2"), id("/banyan/x")] {
        let mut memory = with_agent(spki, false);
        memory.agents.get_mut("node-1").unwrap().identities.push(reserved.clone());
        let authorizer = authorizer(memory, NameMismatch::Refuse);
        let asked = authorizer.behind_agent(
            &agent(spki),
            reserved.clone(),
            Asked { csr: csr(), ttl: None },
            &snapshot,
        );
        assert_eq!(reason(asked), Some(Reason::IdentityReserved), "{reserved}");
        let workload = strict().workload(&jwt(reserved.path()), csr(), None, &snapshot);
        assert_eq!(reason(workload), Some(Reason::IdentityReserved), "{reserved}");
    }
}

#[test]
fn an_agent_renews_only_with_its_registered_key() {
    let (snapshot, own) = (CaMaterial::new().snapshot(1), csr());
    let spki = own.public_key().hash();
    let authorizer = authorizer(with_agent(spki, false), NameMismatch::Refuse);
    let request = authorizer.renew_agent(&agent(spki), own, &snapshot).unwrap();
    assert_eq!(request.identity(), &id("/banyan/agent/node-1"));
    assert_eq!(request.kind(), RowKind::AgentIdentity);
    assert_eq!(
        reason(authorizer.renew_agent(&agent(spki), csr(), &snapshot)),
        Some(Reason::AgentUnknown)
    );
}

#[test]
fn a_used_join_token_serves_only_the_same_key_for_five_minutes() {
    let (snapshot, own) = (CaMaterial::new().snapshot(1), csr());
    let spki = own.public_key().hash();
    let register = |used, now| reason(strict().register(&join(used), own.clone(), now, &snapshot));
    let by = |spki| Some(TokenUse { spki, at: NOW });
    assert_eq!(register(None, NOW), None);
    assert_eq!(register(by(spki), NOW.plus(JOIN_TOKEN_RETRY)), None);
    let late = NOW.plus(JOIN_TOKEN_RETRY + Duration::from_secs(1));
    assert_eq!(register(by(spki), late), Some(Reason::JoinTokenUsed));
    assert_eq!(register(by(SpkiHash::of(b"other")), NOW), Some(Reason::JoinTokenUsed));
}

#[test]
fn first_contact_grants_what_the_credential_says() {
    let snapshot = CaMaterial::new().snapshot(1);
    let joined = strict().register(&join(None), csr(), NOW, &snapshot).unwrap();
    assert_eq!((joined.agent.as_str(), joined.token), ("node-1", Some([1; 32])));
    assert_eq!(joined.identities, [id(CART)]);
    assert_eq!(joined.request.identity(), &id("/banyan/agent/node-1"));
    let (first, second) = (csr(), csr());
    let by_jwt = |csr| strict().register(&jwt(CART), csr, NOW, &snapshot).unwrap();
    let (first, second) = (by_jwt(first), by_jwt(second));
    assert!(first.agent.starts_with("ns/shop/sa/cart/"));
    assert_ne!(first.agent, second.agent, "two members of one account are two agents");
    assert_eq!((first.identities, first.token), (vec![id(CART)], None));
    let banned = authorizer(with_agent(SpkiHash::of(b"x"), true), NameMismatch::Refuse);
    assert_eq!(
        reason(banned.register(&join(None), csr(), NOW, &snapshot)),
        Some(Reason::AgentBanned)
    );
}

#[test]
fn a_ttl_of_zero_or_less_is_the_default() {
    assert_eq!([0, -1, i64::MIN].map(requested_ttl), [None; 3]);
    assert_eq!(requested_ttl(i64::MAX), Some(Duration::from_secs(9_223_372_036_854_775_807)));
}
