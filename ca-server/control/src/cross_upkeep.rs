//! Gets cross certificates, and has them sent from when they are there to when they are not to be sent any more.
//!
//! A task of its own asks: an authority that hangs keeps nothing else waiting. The upkeep shows.

use std::sync::Arc;
use std::time::Duration;

use issuance::CrossCertificate;
use plugins::call::shown;
use plugins::checks::{CrossExpectation, check_cross_answer};
use plugins::{CallContext, CrossSignRequest, Outcome, PluginError, RequestId};
use rotation::{RootEntry, State};
use trust::{Certificate, Root, RootId, Timestamp};

use crate::ca::Ca;
use crate::cross_net::{Kept, Pair, REQUESTS, pair};
use crate::levels::Level;
use crate::probing;
use crate::rehearsing::NotRehearsed;
use crate::snapshots::Snapshots;
use crate::upkeep::Upkeep;

/// How long the authority may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);
/// Between two looks at one that is there.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Pause after a first failure; doubled after each further one.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Time between the end of a cross certificate and that of the root above it, so that clocks and delays never cross them.
const MARGIN: Duration = Duration::from_secs(60);

/// The path length that a root needs for another one and its issuer below it.
const PATH_LEN_MIN: u32 = 2;

/// What the task works with.
pub struct CrossUpkeep {
    /// The CA.
    pub ca: Arc<Ca>,
    /// What makes the leaves that are rehearsed with.
    pub snapshots: Snapshots,
}

/// A pair that could not be brought about, and when it is tried again.
struct Failing {
    pair: Pair,
    attempts: u32,
    again: Duration,
}

impl CrossUpkeep {
    /// Works until it is dropped.
    pub async fn run(self) {
        let mut changes = self.ca.driver.changes();
        let mut failing: Option<Failing> = None;
        loop {
            let state = changes.borrow_and_update().clone();
            let pause = self.look(&state, &mut failing).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Brings about what is due in this state; answers how long there is nothing to do.
    async fn look(&self, state: &State, failing: &mut Option<Failing>) -> Duration {
        let net = &self.ca.cross;
        let Ok(now) = self.ca.clock.agreed() else { return PAUSE };
        let pair = pair(state).filter(|_| net.is_wanted());
        let uptime = self.ca.clock.uptime();
        let Some(pair) = pair else {
            *failing = None;
            net.told(None);
            let _ = net.read().await;
            net.tidy(now.wall).await;
            return LOOK_EVERY;
        };
        if let Some(failed) = failing.as_ref().filter(|failed| failed.pair == pair)
            && uptime < failed.again
        {
            return failed.again.saturating_sub(uptime);
        }
        match self.bring(state, pair, now.wall).await {
            Ok(()) => {
                *failing = None;
                net.told(None);
                LOOK_EVERY
            }
            Err(why) => {
                let attempts = failing.as_ref().filter(|failed| failed.pair == pair);
                let attempts = attempts.map_or(0, |failed| failed.attempts);
                // Several servers ask at once, and one of them may be told to come again: that is no trouble.
                if attempts > 0 {
                    net.told(Some(missing(net.kept(&pair).as_ref(), pair, &why)));
                }
                let pause = PAUSE.saturating_mul(2_u32.saturating_pow(attempts)).min(PAUSE_MAX);
                let (attempts, again) = (attempts.saturating_add(1), uptime.saturating_add(pause));
                *failing = Some(Failing { pair, attempts, again });
                pause
            }
        }
    }

    /// Has a cross certificate for this pair, which lasts; asks for one if there is none.
    async fn bring(&self, state: &State, pair: Pair, now: Timestamp) -> Result<(), String> {
        let net = &self.ca.cross;
        net.read().await.map_err(|error| error.to_string())?;
        let life = self.life(state, pair, now);
        if let Some(kept) = net.kept(&pair) {
            let ends = kept.certificate.validity().not_after();
            let half = net.wanted_life() / 2;
            let later = life.as_ref().is_ok_and(|life| now.plus(*life) > ends.plus(net.useful()));
            if ends > now.plus(half) || (net.lasts(&kept, now) && !later) {
                return Ok(());
            }
        }
        let certificate = self.asked(state, pair, life?, now).await?;
        let rehearsed = self.rehearsed(state, pair, certificate.clone()).await?;
        let former = net.former(&pair.new);
        let ends = certificate.validity().not_after();
        let kept = Kept { by: pair.old, certificate, rehearsed, version: None };
        net.keep(pair.new, kept, former.as_ref()).await?;
        tracing::info!(root = %pair.new.short(), by = %pair.old.short(), %ends, "the new root is cross-signed");
        Ok(())
    }

    /// For how long it is asked for: what both roots leave, in steps, so that a repetition asks for the same.
    fn life(&self, state: &State, pair: Pair, now: Timestamp) -> Result<Duration, String> {
        let net = &self.ca.cross;
        let end = |id: &RootId| state.roots.get(id).map_or(now, |entry| entry.not_after);
        let (first, ends) = match (end(&pair.old), end(&pair.new)) {
            (old, new) if old <= new => (pair.old, old),
            (_, new) => (pair.new, new),
        };
        let left = ends.since(now.plus(MARGIN));
        let wanted = net.wanted_life();
        let step = (wanted.as_secs() / 24).max(1);
        let life = match left >= wanted {
            true => wanted,
            false => Duration::from_secs(left.as_secs() / step * step),
        };
        match life > net.useful() {
            true => Ok(life),
            false => Err(format!(
                "root {} ends at {ends}, too soon for a cross certificate to be of use",
                first.short()
            )),
        }
    }

    /// Asks the authority of the old root, and checks its answer.
    async fn asked(
        &self,
        state: &State,
        pair: Pair,
        life: Duration,
        now: Timestamp,
    ) -> Result<Certificate, String> {
        let [new, old] = [pair.new, pair.old].map(|id| known(state, &id));
        let ((entry, new), (signer, old)) = (new?, old?);
        let name = signer.authority.as_str();
        let authority = self.ca.authorities.get(name).ok_or_else(|| {
            format!("there is no section [authority.{name}] in the configuration; put it back")
        })?;
        let Some(signs) = authority.cross_signing() else {
            return Err(format!(
                "authority {name}, which has root {}, cannot cross-sign; set rotation.cross_sign to false to be told no more",
                pair.old.short()
            ));
        };
        // The same for half of a leaf's life, so that a repetition after a crash gets the same bytes.
        let turn =
            now.as_secs() / i64::try_from(self.ca.cross.useful().as_secs()).unwrap_or(1).max(1);
        let id = format!(
            "{REQUESTS}{}.{}.{}s.{turn}",
            pair.new.short(),
            pair.old.short(),
            life.as_secs()
        );
        let id = RequestId::parse(&id).map_err(|error| error.to_string())?;
        let request = CrossSignRequest::new(pair.old, new.der().to_vec(), life);
        let context = CallContext::new(id, ANSWER_WITHIN);
        let answered =
            tokio::time::timeout(ANSWER_WITHIN, signs.cross_sign(&context, &request)).await;
        let late =
            || format!("authority {name} gave no answer within {} s", ANSWER_WITHIN.as_secs());
        let der = match answered.map_err(|_| late())? {
            Ok(Outcome::Ready(der)) => der,
            Ok(Outcome::Pending { .. }) => {
                return Err(format!("authority {name} has not answered yet: people may have to"));
            }
            Err(error) => return Err(refusal(name, &error)),
        };
        let depth = entry.issuers.values().map(|issuer| issuer.chain.len()).max();
        let now = self.ca.clock.now();
        let expected = CrossExpectation {
            other: &new,
            signer: &old,
            trust_domain: &state.trust_domain,
            path_len: u8::try_from(depth.unwrap_or(1).max(1)).unwrap_or(u8::MAX),
            now,
            least: now.plus(self.ca.cross.useful()),
            most: now.plus(life + MARGIN),
        };
        let checked = check_cross_answer(&der, &expected);
        checked.map_err(|fault| refusal(name, &PluginError::from(fault)))
    }

    async fn rehearsed(
        &self,
        state: &State,
        pair: Pair,
        certificate: Certificate,
    ) -> Result<String, String> {
        let now = self.ca.clock.now();
        let until = now.plus(probing::life(self.ca.issuer.profile()));
        let snapshot = self.snapshots.probing(state, pair.new, until, now).await;
        let snapshot = snapshot.map_err(|error| error.to_string())?;
        let (signer, bundle) = (snapshot.signer(), snapshot.bundle());
        let cross = CrossCertificate::verify(certificate, signer, pair.old, bundle, now);
        let cross = cross.map_err(|error| error.to_string())?;
        let snapshot = snapshot.with_cross(Some(Arc::new(cross)));
        match self.ca.rehearsing.rehearse_cross(snapshot, pair.old, now).await {
            Ok(words) => Ok(words),
            Err(NotRehearsed::Effect(error)) => Err(error.to_string()),
            Err(NotRehearsed::Failed(failure)) => Err(format!("the rehearsal failed: {failure}")),
        }
    }
}

/// What a rotation that begins now would have of it, where it is wanted.
pub fn forecast(ca: &Ca, state: &State) -> Option<String> {
    let (id, entry) = state.signing_root().and_then(|id| Some((id, state.roots.get(&id)?)))?;
    if !ca.cross.is_wanted() {
        return None;
    }
    let (root, name) = (id.short(), entry.authority.as_str());
    let can = ca.authorities.get(name).is_some_and(|authority| authority.cross_signing().is_some());
    let narrow = Root::parse(entry.der.as_bytes()).ok().and_then(|root| {
        let constraints = root.certificate().extensions().basic_constraints?;
        constraints.path_len.filter(|most| *most < PATH_LEN_MIN)
    });
    Some(match (can, narrow) {
        (false, _) => format!(
            "there would be no second net, although rotation.cross_sign asks for it: authority {name}, which has root {root}, cannot \
             cross-sign"
        ),
        (true, Some(found)) => format!(
            "there would be no second net, although rotation.cross_sign asks for it: root {root} has path length {found}, which leaves \
             no room for another root and its issuer"
        ),
        (true, None) => format!(
            "the new root would be cross-signed by root {root}, as a second net for those who trust that alone"
        ),
    })
}

/// A failure of the authority; a wrong answer by the word that operators and alarms find it by.
fn refusal(name: &str, error: &PluginError) -> String {
    let said = shown(&error.to_string());
    match error {
        PluginError::Unsafe(fault) => {
            format!("authority {name}: PluginInvalid{{{}}}: {said}", fault.reason())
        }
        _ => format!("authority {name}: {said}"),
    }
}

/// What the record knows of a root.
fn known<'s>(state: &'s State, id: &RootId) -> Result<(&'s RootEntry, Root), String> {
    let entry = state.roots.get(id).ok_or_else(|| format!("root {} is not known", id.short()))?;
    let root = Root::parse(entry.der.as_bytes());
    Ok((entry, root.map_err(|error| format!("root {}: {error}", id.short()))?))
}

/// What is missing, why, and what follows.
fn missing(kept: Option<&Kept>, pair: Pair, why: &str) -> String {
    let (new, old) = (pair.new.short(), pair.old.short());
    match kept {
        None => format!(
            "root {new} is not cross-signed by root {old}, as rotation.cross_sign asks for: {why}. The rotation goes on without this second \
             net, its gates as strict as ever: whoever trusts root {old} alone refuses leaves of root {new}. It is tried again by itself"
        ),
        Some(kept) => format!(
            "the cross certificate of root {new} by root {old} ends at {}, and no later one could be had: {why}. It is tried again by itself",
            kept.certificate.validity().not_after()
        ),
    }
}

impl Upkeep {
    /// Shows what is sent behind the chains: it comes and goes without a change of the record.
    pub(crate) async fn show_cross(&mut self) {
        let (state, now) = (self.driver.state(), self.ca.clock.now());
        let wanted = self.ca.cross.sent(&state, now).map(|(_, kept)| kept.certificate.id());
        let served = self.ca.cell.load();
        // A newer state is shown with it.
        if served.generation() != state.generation || served.sent_cross() == wanted {
            return;
        }
        drop(served);
        match self.snapshots.of(&state, now).await {
            Ok(next) => {
                if let Err(error) = self.ca.cell.swap(next) {
                    tracing::debug!(%error, "a newer state is shown already");
                }
            }
            Err(error) => {
                self.ca.levels.failed(Level::Shown, &error, self.ca.clock.as_ref());
            }
        }
    }
}
