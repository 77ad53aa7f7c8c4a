//! What a neighbor is told, what is kept of what it said, and what is refused.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use plugins::{CallContext, PluginError, RootSet, UpstreamCa};
use rotation::evidence::Tally;
use rotation::{Event, FurtherRoot, RootState};
use trust::{Root, Timestamp};

use super::line::{Heard, listen, send};
use super::*;
use crate::drift::Whose;
use crate::further::compare;
use crate::further::tests::{NOW, bootstrapped, roots, taken};

const EAST: Whose<'static> = Whose { name: "neighbor.east", place: "ca.east:15012" };

fn of(neighbor: &str) -> AuthorityName {
    AuthorityName::of_neighbor(neighbor).unwrap()
}

/// The neighbor's bundle of these roots; the last of them signs.
fn bundle(sequence: u64, roots: &[&Root]) -> UpstreamState {
    let der = roots.iter().map(|root| root.der().to_vec()).collect();
    let signing = roots.last().map_or_else(|| RootId::of(&[]), |root| root.id());
    UpstreamState::new(sequence, der, signing, sequence * 10)
}

/// Published here: roots that a neighbor names.
fn trusting(state: State, neighbor: &str, named: &[&Root]) -> State {
    published(added(state, neighbor, named))
}

fn added(state: State, neighbor: &str, named: &[&Root]) -> State {
    let roots: Vec<_> = named.iter().map(|root| FurtherRoot::of(root)).collect();
    let named = roots.iter().map(|root| root.id).collect();
    taken(state, &Event::FurtherRootsAdded { authority: of(neighbor), roots, named })
}

fn published(state: State) -> State {
    let sequence = state.sequence;
    taken(state, &Event::BundlePublished { sequence })
}

/// Nobody is here who could lack a root.
fn nobody(state: &State) -> Evidence {
    Evidence::of_nothing(NOW, state.sequence)
}

fn told(state: &State, theirs: &UpstreamState) -> DownstreamReport {
    told_by(state, theirs, Ok(nobody(state)), &[])
}

fn told_by(
    state: &State,
    theirs: &UpstreamState,
    evidence: Result<Evidence, String>,
    waits: &[String],
) -> DownstreamReport {
    Look { state, theirs, name: "east", policy: &Policy::default() }.word(evidence, waits)
}

/// Nothing is said to be applied, and this is why.
fn waits(report: &DownstreamReport) -> String {
    assert_eq!(report.applied_sequence, 0, "{report:?}");
    assert!(!report.waits_for.is_empty(), "{report:?}");
    report.waits_for.join("; ")
}

#[tokio::test]
async fn a_bundle_is_told_to_be_applied_once_exactly_its_roots_are_in_the_published_one_here() {
    let [own, one, two] = roots([("a", 900), ("bb", 900), ("ccc", 900)]).await;
    let state = bootstrapped(&own);
    let first = bundle(5, &[&one]);
    assert!(waits(&told(&state, &first)).contains("0 of its roots are in the bundle there, 1 in"));
    let decided = added(state, "east", &[&one]);
    waits(&told(&decided, &first));
    let state = published(decided);
    let report = told(&state, &first);
    assert_eq!((report.applied_sequence, report.seen_generation), (5, 50));
    assert!(report.waits_for.is_empty());

    // It has another one, and then lets the first go.
    let both = bundle(6, &[&one, &two]);
    assert!(waits(&told(&state, &both)).contains("1 of its roots are in the bundle there, 2 in"));
    let state = trusting(state, "east", &[&two]);
    assert_eq!(told(&state, &both).applied_sequence, 6);
    let last = bundle(7, &[&two]);
    assert!(waits(&told(&state, &last)).contains("2 of its roots are in the bundle there, 1 in"));
    let gone = Event::FurtherRootsRemoved { authority: of("east"), roots: [one.id()].into() };
    let state = published(taken(state, &gone));
    assert_eq!(told(&state, &last).applied_sequence, 7);
    // While it distributes, those of it that are trusted besides do not matter.
    let state = trusting(state, "east", &[&one]);
    let [three] = roots([("dddd", 900)]).await;
    let state = trusting(state, "east", &[&three]);
    assert_eq!(told(&state, &bundle(8, &[&two, &three])).applied_sequence, 8);
}

#[tokio::test]
async fn the_word_waits_for_everybody_here_and_for_evidence_of_the_present_bundle() {
    let [own, one] = roots([("a", 900), ("bb", 900)]).await;
    let state = trusting(bootstrapped(&own), "east", &[&one]);
    let theirs = bundle(5, &[&one]);
    let with = |change: fn(&mut Evidence)| {
        let mut evidence = nobody(&state);
        change(&mut evidence);
        told_by(&state, &theirs, Ok(evidence), &[])
    };
    assert_eq!(with(|_| {}).applied_sequence, 5);
    const ENDS: Option<Timestamp> = Some(Timestamp::from_secs(NOW.as_secs() + 60));
    waits(&with(|evidence| evidence.unproven = Tally { count: 1, latest: ENDS }));
    waits(&with(|evidence| evidence.own_trust = Tally { count: 1, latest: None }));
    waits(&with(|evidence| evidence.relying_parties.unbounded = 1));
    waits(&with(|evidence| {
        evidence.relying_parties.bounded = Tally { count: 1, latest: ENDS };
    }));
    // What has ended, by everybody's clock, needs no trust.
    const ENDED: Option<Timestamp> = Some(Timestamp::from_secs(NOW.as_secs() - 3_600));
    let over = with(|evidence| evidence.unproven = Tally { count: 1, latest: ENDED });
    assert_eq!(over.applied_sequence, 5);
    let other = with(|evidence| evidence.sequence = evidence.sequence.next());
    assert!(waits(&other).contains("the evidence there is of another bundle"));

    let unknown = Err("the ledger cannot be read".to_owned());
    let report = told_by(&state, &theirs, unknown, &[]);
    assert_eq!(waits(&report), "the ledger cannot be read");
    let why = ["its root is refused here".to_owned()];
    let before = bootstrapped(&own);
    let report = told_by(&before, &theirs, Ok(nobody(&before)), &why);
    assert!(waits(&report).ends_with("its root is refused here"));
}

#[tokio::test]
async fn what_another_neighbor_named_is_not_its_own_and_one_that_signs_here_is_trusted_already() {
    let [own, one] = roots([("a", 900), ("bb", 900)]).await;
    let state = trusting(bootstrapped(&own), "west", &[&one]);
    waits(&told(&state, &bundle(5, &[&one])));
    // Both began on one root: it needs no change of the bundle, and so no time since when it is trusted.
    let sequence = state.sequence;
    let mut state = added(state, "east", &[&own]);
    assert_eq!(state.sequence, sequence);
    let theirs = bundle(5, &[&own]);
    assert_eq!(told(&state, &theirs).applied_sequence, 5);
    state.further.get_mut(&own.id()).unwrap().decided = None;
    assert_eq!(told(&state, &theirs).applied_sequence, 5);
    // Of a former release's record nothing may be concluded for any other.
    let mut state = trusting(state, "east", &[&one]);
    state.further.get_mut(&one.id()).unwrap().decided = None;
    let report = told(&state, &bundle(6, &[&own, &one]));
    assert!(waits(&report).contains("not known since when"));
}

#[tokio::test]
async fn garbage_and_what_is_compromised_are_refused_and_a_shared_root_that_was_withdrawn_is_taken()
{
    let [own, one, two] = roots([("a", 900), ("bb", 900), ("ccc", 900)]).await;
    let state = trusting(bootstrapped(&own), "east", &[&one]);
    let set = |further: Vec<Vec<u8>>| RootSet::new(Vec::new(), None, 1).with_further(further);
    let signs = |root: &Root| [root.id()].into();
    for garbage in [b"no certificate".to_vec(), vec![0x30; 40]] {
        let beside = set(vec![one.der().to_vec(), garbage]);
        let seen = compare(&state, &EAST, &beside, &BTreeSet::new(), NOW);
        assert!(seen.to_add.is_empty() && seen.gone.is_empty(), "{seen:?}");
        assert_eq!(seen.refused.len(), 1, "{seen:?}");
        assert!(seen.refused[0].contains("ca.east:15012"), "{seen:?}");
    }
    let mut state = state;
    let mut entry = state.roots[&own.id()].clone();
    (entry.state, entry.horizon) = (RootState::Retired, Some(NOW));
    entry.der = rotation::Der::from(two.der());
    state.roots.insert(two.id(), entry);
    let named = || set(vec![one.der().to_vec(), two.der().to_vec()]);
    assert_eq!(compare(&state, &EAST, &named(), &signs(&two), NOW).to_add.len(), 1);
    state.roots.get_mut(&two.id()).unwrap().tainted = true;
    let never = compare(&state, &EAST, &named(), &signs(&two), NOW);
    assert!(never.to_add.is_empty() && never.refused[0].contains("compromised"), "{never:?}");
}

/// A fake of a neighbor: it answers by a script, and then no more.
#[derive(Default)]
struct FakeNeighbor {
    answers: Mutex<VecDeque<Result<UpstreamState, PluginError>>>,
    asked: Mutex<Vec<Option<u64>>>,
    takes: Option<Result<(), PluginError>>,
}

#[async_trait]
impl UpstreamCa for FakeNeighbor {
    async fn state(&self, seen: Option<u64>) -> Result<UpstreamState, PluginError> {
        self.asked.lock().unwrap().push(seen);
        let next = self.answers.lock().unwrap().pop_front();
        match next {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn report(&self, _: &CallContext, _: &DownstreamReport) -> Result<(), PluginError> {
        match self.takes.clone() {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// What is heard after so many answers.
async fn heard(answers: Vec<Result<UpstreamState, PluginError>>) -> (Heard, Vec<Option<u64>>) {
    let all = answers.len() + 1;
    let neighbor = FakeNeighbor { answers: Mutex::new(answers.into()), ..FakeNeighbor::default() };
    let (told, last) = watch::channel(Heard::default());
    let until_all_are_asked = async {
        while neighbor.asked.lock().unwrap().len() < all {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = listen(&neighbor, &told) => unreachable!("it listens without end"),
        () = until_all_are_asked => {}
    }
    let asked = neighbor.asked.lock().unwrap().clone();
    (last.borrow().clone(), asked)
}

#[tokio::test(start_paused = true)]
async fn what_it_said_last_stays_while_it_is_away_says_garbage_goes_back_or_names_nothing() {
    let [one] = roots([("bb", 900)]).await;
    let good = || Ok(bundle(5, &[&one]));
    let wrong = [
        PluginError::AuthorityDown { detail: "cannot connect".to_owned() },
        PluginError::Permanent {
            detail: "the upstream CA went back from bundle 5 to 4".to_owned(),
        },
        PluginError::Denied { reason: "of another trust domain".to_owned() },
    ];
    for wrong in wrong {
        let (heard, asked) = heard(vec![good(), Err(wrong.clone())]).await;
        assert_eq!(heard.state, good().ok());
        assert_eq!(heard.trouble, Some(wrong.to_string()));
        // What it says next is heard whether it is news or not.
        assert_eq!(asked, [None, Some(50), None]);
    }
    let (nothing, asked) = heard(vec![good(), Ok(bundle(6, &[]))]).await;
    assert_eq!((nothing.state, asked), (good().ok(), vec![None, Some(50), None]));
    assert!(nothing.trouble.unwrap().contains("names no root"));
    let away = PluginError::AuthorityDown { detail: "away".to_owned() };
    let (back, _) = heard(vec![good(), Err(away), Ok(bundle(6, &[&one]))]).await;
    assert_eq!((back.state.map(|state| state.sequence), back.trouble), (Some(6), None));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_away_for_long_is_asked_every_five_seconds_and_not_oftener() {
    let away = || Err(PluginError::AuthorityDown { detail: "away".to_owned() });
    let began = tokio::time::Instant::now();
    heard((0..20).map(|_| away()).collect()).await;
    let lasted = began.elapsed();
    // 0.25 + 0.5 + 1 + 2 + 4, and 15 times 5.
    assert!((Duration::from_secs(82)..Duration::from_secs(84)).contains(&lasted), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_not_taken_says_why() {
    let report = DownstreamReport::about(1).applied(1);
    let sent = async |takes| {
        let neighbor = FakeNeighbor { takes, ..FakeNeighbor::default() };
        send(&neighbor, &report).await
    };
    assert_eq!(sent(Some(Ok(()))).await, Ok(()));
    let refused = PluginError::Misconfigured {
        field: "token_file".to_owned(),
        detail: "the token is not known".to_owned(),
    };
    let why = sent(Some(Err(refused))).await.unwrap_err();
    assert!(why.contains("token_file") && why.contains("the token is not known"), "{why}");
    assert_eq!(sent(None).await, Err("no answer within 5 s".to_owned()));
}

#[test]
fn what_is_wrong_with_one_stands_until_it_is_well_and_touches_no_other() {
    let (troubles, seen) = watch::channel(NeighborTroubles::new());
    let mut seen_news = seen.clone();
    let mut tells = |name: &str, said: &[&str]| {
        tell(&troubles, name, said.iter().map(ToString::to_string).collect());
        let news = seen_news.has_changed().unwrap();
        seen_news.mark_unchanged();
        news
    };
    assert!(!tells("east", &[]), "all was well");
    assert!(tells("east", &["away for 3 s"]));
    assert!(!tells("east", &["away for 3 s"]));
    assert!(tells("east", &["away for 4 s"]));
    assert!(tells("west", &["garbled"]));
    assert!(tells("east", &[]));
    let wanted: NeighborTroubles = [("west".to_owned(), vec!["garbled".to_owned()])].into();
    assert_eq!(*seen.borrow(), wanted);
}
