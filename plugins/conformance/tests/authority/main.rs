//! The authority suite passes an honest authority in memory, and finds each lie.

mod misbehaviors;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use misbehaviors::{MISBEHAVIORS, Misbehavior};
use plugins::ca_certificate::{CaSigner, IssuerProfile, RootProfile, build_root, sign_issuer};
use plugins::memory::MemoryKeys;
use plugins::{
    CallContext, CrossSign, CrossSignRequest, CrossSigner, Description, Health, IssuerChain,
    IssuerRequest, KeyBackend, KeyId, KeySpec, Outcome, PluginError, RequestId, RetireRoots,
    RootAuthority, RootDer, RootSet, StageRequest, StageRoots, Ticket,
};
use plugins_conformance::authority::{Subject, run};
use trust::csr::ParsedCsr;
use trust::der::Reader;
use trust::{
    ManualClock, PublicKey, Root, RootId, SeededRandomness, Serial, Timestamp, TrustDomain,
    Validity,
};

const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);

#[derive(Debug, Default)]
struct Made {
    roots: BTreeMap<RequestId, (StageRequest, KeyId, Root)>,
    retired: Vec<RootId>,
    issuers: BTreeMap<RequestId, (IssuerRequest, IssuerChain)>,
    signing: Option<RootId>,
    generation: u64,
    busy: Vec<RequestId>,
    last_asked: Option<IssuerRequest>,
    further: Option<Root>,
    refused: Vec<RequestId>,
    calls: u64,
    crosses: BTreeMap<RequestId, (CrossSignRequest, Vec<u8>)>,
}

/// An authority in memory that keeps the contract, except for one lie. One test's calls never run in parallel, since
/// its keys and certificates are made without waiting.
#[derive(Debug)]
struct Model {
    misbehavior: Misbehavior,
    keys: Arc<MemoryKeys>,
    randomness: Arc<SeededRandomness>,
    made: Arc<Mutex<Made>>,
}

fn denied<T>() -> Result<T, PluginError> {
    Err(PluginError::Denied { reason: "no".to_owned() })
}

impl Model {
    fn made<T>(&self, look: impl FnOnce(&mut Made) -> T) -> T {
        look(&mut self.made.lock().expect("lock"))
    }

    fn validity(&self, ttl: Duration) -> Validity {
        Validity::new(NOW.minus(Duration::from_secs(60)), NOW.plus(ttl)).expect("validity")
    }

    /// A root of others, made once.
    async fn further(&self) -> Result<RootDer, PluginError> {
        if let Some(root) = self.made(|made| made.further.clone()) {
            return Ok(root.der().to_vec());
        }
        let keys = MemoryKeys::new();
        let key = keys.generate(&RequestId::parse("other").expect("id"), KeySpec::P256).await?;
        let profile = RootProfile {
            trust_domain: TrustDomain::parse("example.org").expect("domain"),
            serial: Serial::random(self.randomness.as_ref()),
            validity: self.validity(Duration::from_secs(86_400)),
        };
        let root = build_root(&keys, &key, &profile).await?;
        Ok(self.made(|made| made.further.get_or_insert(root).der().to_vec()))
    }

    fn root(&self, id: &RootId) -> Option<(StageRequest, KeyId, Root)> {
        self.made(|made| {
            let gone = made.retired.contains(id);
            let mut roots = made.roots.values();
            let further = made.further.as_ref().is_some_and(|root| root.id() == *id);
            if self.misbehavior == Misbehavior::AnyRoot
                || self.misbehavior == Misbehavior::SignsUnderAFurtherRoot && further
            {
                return roots.next().cloned();
            }
            roots.find(|(_, _, root)| root.id() == *id && !gone).cloned()
        })
    }
}

#[async_trait]
impl RootAuthority for Model {
    fn describe(&self) -> Description {
        let version = self.made(|made| {
            made.calls += u64::from(self.misbehavior == Misbehavior::ChangesItsVersion);
            made.calls.to_string()
        });
        Description::new("model", "model", version)
    }

    async fn check(&self, _: &CallContext) -> Health {
        if self.misbehavior == Misbehavior::IsDown { Health::down("asleep") } else { Health::ok() }
    }

    async fn roots(&self, _: &CallContext) -> Result<RootSet, PluginError> {
        let (misbehavior, hidden) =
            (self.misbehavior, self.misbehavior == Misbehavior::AnnouncesNothing);
        let further = self.further().await?;
        Ok(self.made(|made| {
            let live = |root: &Root| {
                misbehavior == Misbehavior::AnnouncesTheRetired
                    || !made.retired.contains(&root.id())
            };
            let roots =
                made.roots.values().map(|(_, _, root)| root).filter(|root| !hidden && live(root));
            let roots = roots.map(|root| root.der().to_vec()).collect();
            let own = made.roots.values().next().map(|(_, _, root)| root.der().to_vec());
            let named =
                own.filter(|_| misbehavior == Misbehavior::NamesItsOwnAsFurther).unwrap_or(further);
            RootSet::new(roots, made.signing.filter(|_| !hidden), made.generation)
                .with_further(vec![named])
        }))
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let id = &context.request_id;
        if self.made(|made| made.refused.contains(id)) {
            return denied();
        }
        let signed = self.signed(id, request).await;
        if signed.is_err() && self.misbehavior == Misbehavior::RemembersRefusals {
            self.made(|made| made.refused.push(id.clone()));
        }
        signed
    }

    async fn poll(
        &self,
        _: &CallContext,
        ticket: &Ticket,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        match self.misbehavior {
            Misbehavior::AnyTicket => Ok(Outcome::Pending {
                ticket: ticket.clone(),
                retry_after: Duration::from_secs(60),
            }),
            _ => denied(),
        }
    }

    fn staging(&self) -> Option<&dyn StageRoots> {
        Some(self)
    }

    fn retiring(&self) -> Option<&dyn RetireRoots> {
        Some(self)
    }

    fn cross_signing(&self) -> Option<&dyn CrossSign> {
        Some(self)
    }
}

#[async_trait]
impl CrossSign for Model {
    async fn cross_sign(
        &self,
        context: &CallContext,
        request: &CrossSignRequest,
    ) -> Result<Outcome<Vec<u8>>, PluginError> {
        let id = &context.request_id;
        let known = self.made(|made| made.crosses.get(id).cloned());
        if let Some((asked, der)) =
            known.filter(|_| self.misbehavior != Misbehavior::SecondCrossForARequest)
        {
            let same = asked == *request || self.misbehavior == Misbehavior::TakesAnyContents;
            return if same { Ok(Outcome::Ready(der)) } else { denied() };
        }
        let Some((_, key_id, root)) = self.root(&request.signer) else { return denied() };
        let mut ttl = request.ttl;
        if self.misbehavior == Misbehavior::CrossesForTooLong {
            ttl *= 2;
        }
        if self.misbehavior == Misbehavior::ShortensToTheRoot {
            ttl = ttl.min(root.certificate().validity().not_after().since(NOW));
        }
        let (keys, certificate) = (self.keys.as_ref(), root.certificate());
        let signer = CrossSigner {
            signer: CaSigner { keys, key_id: &key_id, certificate },
            root: &root,
            trust_domain: &TrustDomain::parse("example.org").expect("domain"),
            now: NOW,
            randomness: self.randomness.as_ref(),
        };
        let made = CrossSignRequest::new(root.id(), request.other_root.clone(), ttl);
        let der = signer.sign(&made).await?.der().to_vec();
        self.made(|made| made.crosses.insert(id.clone(), (request.clone(), der.clone())));
        Ok(Outcome::Ready(der))
    }
}

impl Model {
    async fn signed(
        &self,
        id: &RequestId,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let mut request = request.clone();
        if self.misbehavior == Misbehavior::NewTicketAfterARestart {
            let ticket = self.made(|made| {
                made.calls += 1;
                Ticket::new(made.calls.to_string())
            });
            return Ok(Outcome::Pending { ticket, retry_after: Duration::from_secs(60) });
        }
        if self.misbehavior == Misbehavior::StaysBusyAfterADrop {
            if self.made(|made| made.busy.contains(id)) {
                return Err(PluginError::Transient { detail: "busy".to_owned() });
            }
            self.made(|made| made.busy.push(id.clone()));
            tokio::task::yield_now().await;
            self.made(|made| made.busy.retain(|busy| busy != id));
        }
        if self.misbehavior == Misbehavior::MixesUpCallers {
            self.made(|made| made.last_asked = Some(request.clone()));
            tokio::task::yield_now().await;
            request = self.made(|made| made.last_asked.clone()).unwrap_or(request);
        }
        let request = &request;
        let known = self.made(|made| made.issuers.get(id).cloned());
        if let Some((asked, chain)) =
            known.filter(|_| self.misbehavior != Misbehavior::SecondIssuerForARequest)
        {
            let same = asked == *request || self.misbehavior == Misbehavior::TakesAnyContents;
            return if same { Ok(Outcome::Ready(chain)) } else { denied() };
        }
        let Some((staged, key_id, root)) = self.root(&request.root) else { return denied() };
        let mut path_len = request.path_len;
        let mut key = match ParsedCsr::from_der(&request.csr_der) {
            Ok(csr) => {
                let key = csr.public_key().clone();
                if self.misbehavior != Misbehavior::TrustsAnyCsr && csr.verify().is_err() {
                    return denied();
                }
                key
            }
            Err(_) if self.misbehavior == Misbehavior::CopiesTheCsr => {
                path_len = 5;
                let Some(key) = key_of(&request.csr_der) else { return denied() };
                key
            }
            Err(_) if self.misbehavior == Misbehavior::NonsenseIsTransient => {
                return Err(PluginError::Transient { detail: "what was that?".to_owned() });
            }
            Err(_) => return denied(),
        };
        if self.misbehavior == Misbehavior::WrongIssuerKey {
            key = self.keys.public(&key_id).await?;
        }
        let mut validity = self.validity(request.ttl);
        if self.misbehavior == Misbehavior::IssuerShorterThanAsked {
            validity = self.validity(request.ttl / 2);
        }
        let root_ends = root.certificate().validity().not_after();
        if validity.not_after() > root_ends {
            if self.misbehavior != Misbehavior::ShortensToTheRoot {
                return denied();
            }
            validity = Validity::new(validity.not_before(), root_ends).expect("validity");
        }
        if staged.trust_domain != request.trust_domain
            && self.misbehavior != Misbehavior::AnyTrustDomain
        {
            return denied();
        }
        let profile = IssuerProfile {
            trust_domain: request.trust_domain.clone(),
            serial: Serial::random(self.randomness.as_ref()),
            validity,
            path_len,
        };
        let signer =
            CaSigner { keys: self.keys.as_ref(), key_id: &key_id, certificate: root.certificate() };
        let issuer = sign_issuer(&signer, &key, &profile).await?;
        let chain = IssuerChain::new(vec![issuer.der().to_vec()]);
        self.made(|made| made.issuers.insert(id.clone(), (request.clone(), chain.clone())));
        Ok(Outcome::Ready(chain))
    }
}

#[async_trait]
impl StageRoots for Model {
    async fn stage(
        &self,
        context: &CallContext,
        request: &StageRequest,
    ) -> Result<Outcome<RootDer>, PluginError> {
        let id = &context.request_id;
        let known = self.made(|made| made.roots.get(id).cloned());
        if let Some((asked, _, root)) =
            known.filter(|_| self.misbehavior != Misbehavior::SecondRootForARequest)
        {
            let retired = self.made(|made| made.retired.contains(&root.id()));
            let same = asked == *request || self.misbehavior == Misbehavior::TakesAnyContents;
            return if same && !retired {
                Ok(Outcome::Ready(root.der().to_vec()))
            } else {
                denied()
            };
        }
        let key = self.keys.generate(id, KeySpec::P256).await?;
        let profile = RootProfile {
            trust_domain: request.trust_domain.clone(),
            serial: Serial::random(self.randomness.as_ref()),
            validity: self.validity(request.lifetime),
        };
        let root = build_root(self.keys.as_ref(), &key, &profile).await?;
        let der = root.der().to_vec();
        self.made(|made| {
            if self.misbehavior == Misbehavior::ActivatesWhatItStages {
                made.signing = Some(root.id());
            }
            made.roots.insert(id.clone(), (request.clone(), key.id, root));
            made.generation += 1;
        });
        Ok(Outcome::Ready(der))
    }

    async fn activate(&self, _: &CallContext, root: &RootId) -> Result<(), PluginError> {
        match self.misbehavior {
            Misbehavior::ActivateDoesNothing => return Ok(()),
            Misbehavior::ActivatesTheUnknown => {}
            _ if self.root(root).is_none() => return denied(),
            _ => {}
        }
        self.made(|made| {
            if made.signing != Some(*root) {
                made.signing = Some(*root);
                made.generation += 1;
            }
        });
        Ok(())
    }
}

#[async_trait]
impl RetireRoots for Model {
    async fn retire(&self, _: &CallContext, root: &RootId) -> Result<(), PluginError> {
        let misbehavior = self.misbehavior;
        self.made(|made| {
            if made.signing == Some(*root) && misbehavior != Misbehavior::RetiresTheSigningRoot {
                return denied();
            }
            if !made.retired.contains(root) {
                made.retired.push(*root);
                made.generation += 1;
            }
            Ok(())
        })
    }
}

/// The key in a CSR that the strict reader refuses.
fn key_of(csr: &[u8]) -> Option<PublicKey> {
    let mut info = Reader::new(csr).sequence().ok()?.sequence().ok()?;
    let (_version, _subject) = (info.element().ok()?, info.element().ok()?);
    PublicKey::parse(info.element().ok()?.raw).ok()
}

fn subject(misbehavior: Misbehavior) -> Subject {
    let made = Arc::new(Mutex::new(Made::default()));
    let (keys, randomness) = (Arc::new(MemoryKeys::new()), Arc::new(SeededRandomness::new(1)));
    let open = move || {
        let made = if misbehavior == Misbehavior::ForgetsOverARestart {
            Arc::default()
        } else {
            made.clone()
        };
        let (keys, randomness) = (keys.clone(), randomness.clone());
        Arc::new(Model { misbehavior, keys, randomness, made }) as Arc<dyn RootAuthority>
    };
    let domain = TrustDomain::parse("example.org").expect("domain");
    Subject::new(open, domain, Arc::new(ManualClock::at(NOW)))
}

#[tokio::test]
async fn the_honest_model_conforms() {
    let report = run(&subject(Misbehavior::None)).await;
    assert!(report.failed().is_empty(), "{report}");
    assert!(report.skipped().is_empty(), "{report}");
}

#[tokio::test]
async fn each_lie_is_found_by_the_rule_about_it() {
    for (misbehavior, rule) in MISBEHAVIORS.iter().copied() {
        let report = run(&subject(misbehavior)).await;
        assert!(report.failed().contains(&rule), "{misbehavior:?} should fail {rule}\n{report}");
    }
}

#[tokio::test]
async fn every_rule_has_a_plugin_that_breaks_it() {
    let report = run(&subject(Misbehavior::None)).await;
    let told = |rule: &str| MISBEHAVIORS.iter().any(|(_, told)| *told == rule);
    let rules: Vec<_> = report.verdicts().map(|(rule, _)| rule).collect();
    let never_broken: Vec<_> = rules.iter().filter(|rule| !told(rule)).collect();
    assert!(never_broken.is_empty(), "add a misbehavior for each of {never_broken:?}");
    assert!(
        MISBEHAVIORS.iter().all(|(_, rule)| rules.contains(rule)),
        "a misbehavior is about a rule that is gone"
    );
}

#[tokio::test]
async fn every_rule_is_explained() {
    let page = include_str!("../../../../docs/plugins/conformance.md");
    for (rule, _) in run(&subject(Misbehavior::None)).await.verdicts() {
        assert!(
            page.contains(&format!("`{rule}`")),
            "docs/plugins/conformance.md does not tell of {rule}"
        );
    }
}
