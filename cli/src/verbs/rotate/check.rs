//! `banyan rotate check`: whether a rotation that starts now would end, asked of the running system without starting anything.
//!
//! It puts together what others answer: the status, the authorities, the roots, the relying parties, and what a rotation would wait
//! for. It is not green while anything is known that only somebody's word, or nobody, ends.

mod weight;

use console::exit::{Failure, from_status};
use console::{output, rotation as words};
use host::SystemClock;
use proto::banyan::admin::v1::{
    Authority, ListAuthoritiesRequest, ListRelyingPartiesRequest, Outlook, RelyingParty, Root,
    StartRotationRequest, StatusRequest, StatusResponse,
};
use serde_json::{Value, json};
use trust::Clock as _;
use trust::bundle::{BUNDLE_BYTES_MAX, BUNDLE_ROOTS_MAX};
use trust::plain::{about, counted};

use crate::admin_client;
use crate::args::{AdminTarget, RotateCheckOptions};
use crate::verbs::agent::registered;
use crate::verbs::request::request_id;
use crate::verbs::root::known;

use weight::Weight;

/// A bundle with more roots than this is told to be near its bound.
const ROOTS_NEAR: usize = BUNDLE_ROOTS_MAX * 3 / 4;
/// The same for its bytes.
const BYTES_NEAR: usize = BUNDLE_BYTES_MAX * 3 / 4;
/// What a sentence of the forecast begins with that is about what nobody can know.
const UNKNOWN: &str = "not known before: ";
/// What no server of a CA sees.
const UNSEEN: [&str; 3] = [
    "how soon it ends when everybody confirms: `banyan simulate --from-live` plans that",
    "how full the objects of a Kubernetes channel are: `banyan kubernetes` says so when it publishes",
    "connections that stay open: whoever pins trust when a connection opens shows it at the next one",
];

/// Everything that was asked.
#[derive(Debug, Default)]
struct Seen {
    status: StatusResponse,
    authorities: Vec<Authority>,
    roots: Vec<Root>,
    parties: Vec<RelyingParty>,
    /// What Envoys count, the heaviest identity first.
    weights: Vec<Weight>,
    obstacles: Vec<String>,
    forecast: Vec<String>,
    outlook: Outlook,
    /// Now, in seconds since the Unix epoch.
    now: i64,
}

/// What comes of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// Nothing ends this while it is so.
    stops: Vec<String>,
    /// Only somebody's word ends this.
    words: Vec<String>,
    /// It ends, and perhaps too late.
    late: Vec<String>,
    /// What is worth knowing and stops nothing.
    notes: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// [`Failure::Failed`] if a rotation would not end by itself, or may end too late; others if the server is away or refuses.
pub(crate) async fn run(options: &RotateCheckOptions) -> Result<(), Failure> {
    let target = &options.target;
    let status = status(target).await?;
    if status.phase != "steady" {
        return Err(Failure::Failed(anyhow::anyhow!(
            "a rotation is under way (it is {}), so none can start: `banyan rotate explain` says what it waits for",
            status.phase
        )));
    }
    let seen = look(options, status).await?;
    let verdict = judge(&seen);
    match options.json {
        true => output::json(&as_json(&seen, &verdict))?,
        false => output::line(&as_text(&seen, &verdict))?,
    }
    if verdict.is_green() {
        return Ok(());
    }
    let bad = verdict.stops.len() + verdict.words.len() + verdict.late.len();
    Err(Failure::Failed(anyhow::anyhow!(
        "a rotation that starts now would not end by itself in time: {} to mend first",
        counted(bad, "thing", "things")
    )))
}

async fn status(target: &AdminTarget) -> Result<StatusResponse, Failure> {
    let mut client = admin_client::connect(target).await?;
    let answer = client.status(StatusRequest {}).await;
    Ok(answer.map_err(|status| from_status(&status))?.into_inner())
}

async fn look(options: &RotateCheckOptions, status: StatusResponse) -> Result<Seen, Failure> {
    let target = &options.target;
    let failed = |status: tonic::Status| from_status(&status);
    let mut rotations = admin_client::rotations(target).await?;
    // Whether it signs by itself is asked apart from who lets it: `manual` waits for a word in any case.
    let request = StartRotationRequest {
        request_id: request_id(None, "check"),
        authority: options.authority.clone().unwrap_or_default(),
        mode: "auto".to_owned(),
        dry_run: true,
        ..StartRotationRequest::default()
    };
    let answer = rotations.start_rotation(request).await.map_err(failed)?.into_inner();
    let (mut parties, mut asked) = (Vec::new(), ListRelyingPartiesRequest::default());
    loop {
        let page = rotations.list_relying_parties(asked).await.map_err(failed)?.into_inner();
        parties.extend(page.relying_parties);
        if page.next.is_empty() {
            break;
        }
        asked = ListRelyingPartiesRequest { after: page.next, limit: 0 };
    }
    let mut authorities = admin_client::authorities(target).await?;
    let authorities = authorities.list_authorities(ListAuthoritiesRequest::default()).await;
    let agents = registered::agents(&mut admin_client::agents(target).await?).await?;
    let outlook = answer.outlook.unwrap_or_default();
    Ok(Seen {
        weights: weight::weights(&agents, &outlook),
        status,
        authorities: authorities.map_err(failed)?.into_inner().authorities,
        roots: known::fetch(target).await?,
        parties,
        obstacles: answer.obstacles,
        forecast: answer.forecast,
        outlook,
        now: SystemClock.now().as_secs(),
    })
}

fn judge(seen: &Seen) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.stops.extend(seen.obstacles.iter().cloned());
    verdict.stops.extend(
        seen.status
            .conditions
            .iter()
            .map(|condition| format!("the server is not healthy: {condition}")),
    );
    let trusted = seen.roots.iter().filter(|root| is_trusted(root)).count();
    match trusted + 1 {
        more if more > BUNDLE_ROOTS_MAX => verdict.stops.push(format!(
            "the bundle has {trusted} roots, as many as it may: `banyan root list`; drop standby and further roots first"
        )),
        more if more > ROOTS_NEAR => verdict.notes.push(format!(
            "the bundle has {trusted} roots of at most {BUNDLE_ROOTS_MAX}, and one more while a rotation is under way"
        )),
        _ => {}
    }
    sizes(seen, &mut verdict);
    let outlook = &seen.outlook;
    if seen.obstacles.is_empty() {
        for (never, bound) in [
            ("never signs by itself", outlook.signs_within_seconds),
            ("never leaves by itself", outlook.ends_within_seconds),
        ] {
            let said = seen.forecast.iter().filter(|line| line.contains(never));
            let said: Vec<_> = said.cloned().collect();
            if said.is_empty() && bound.is_none() && verdict.words.is_empty() {
                verdict.words.push(
                    "the server names no time at which the rotation ends by itself".to_owned(),
                );
            }
            verdict.words.extend(said);
        }
    }
    verdict.late.extend(late(seen));
    for authority in &seen.authorities {
        let concerned = authority.signs || authority.preferred;
        if concerned && authority.health != "ok" {
            let (name, health, detail) = (&authority.name, &authority.health, &authority.detail);
            verdict.notes.push(format!("authority {name} is {health}: {detail}"));
        }
        if !authority.drift.is_empty() {
            verdict.notes.push(format!("authority {}: {}", authority.name, authority.drift));
        }
    }
    verdict.notes.extend(seen.status.waiting.iter().cloned());
    verdict
}

/// A bundle that comes near its bound in bytes while both roots are in it. Channels carry it whole.
fn sizes(seen: &Seen, verdict: &mut Verdict) {
    let lengths = || seen.roots.iter().filter(|root| is_trusted(root)).map(|root| root.der.len());
    let now: usize = lengths().sum();
    // The new root is taken to be no longer than the longest of these.
    let during = now + lengths().max().unwrap_or_default();
    let text = format!(
        "the bundle has {now} bytes, about {during} while a rotation is under way, of at most {BUNDLE_BYTES_MAX}; as PEM about {} of the \
         1048576 that a ConfigMap or Secret may have: drop standby and further roots that nobody needs",
        during * 4 / 3 + 64 * (lengths().count() + 1)
    );
    match during {
        more if more > BUNDLE_BYTES_MAX => verdict.stops.push(text),
        more if more > BYTES_NEAR => verdict.notes.push(text),
        _ => {}
    }
}

/// A rotation that may last longer than what it replaces.
fn late(seen: &Seen) -> Option<String> {
    let signs = seen.roots.iter().find(|root| root.state == "active")?;
    let within = seen.outlook.ends_within_seconds?;
    (seen.now.saturating_add(within) > signs.not_after).then(|| {
        format!(
            "the root that signs ends at {}, and a rotation in which nobody confirms anything takes up to {}: start at once, and see to it \
             that agents are connected",
            output::time(signs.not_after),
            about(std::time::Duration::from_secs(u64::try_from(within).unwrap_or_default()))
        )
    })
}

fn is_trusted(root: &Root) -> bool {
    ["published", "active", "draining"].contains(&root.state.as_str())
}

impl Verdict {
    fn is_green(&self) -> bool {
        self.stops.is_empty() && self.words.is_empty() && self.late.is_empty()
    }
}

fn unseen(seen: &Seen) -> Vec<String> {
    let unknown = seen.outlook.unknown.iter().cloned();
    let weightless = seen.weights.is_empty().then(|| {
        "how much traffic rests on whom: no agent reads the counters of an Envoy (`envoy_admin` of agent.toml)".to_owned()
    });
    unknown.chain(weightless).chain(UNSEEN.map(str::to_owned)).collect()
}

fn as_text(seen: &Seen, verdict: &Verdict) -> String {
    let mut lines = Vec::new();
    let mut section = |title: &str, of: Vec<String>| {
        if !of.is_empty() {
            lines.push(format!("{title}:"));
            lines.extend(of.into_iter().map(|line| format!("  {line}")));
        }
    };
    section("would stop it", verdict.stops.clone());
    section("waits for somebody's word", verdict.words.clone());
    section("may be too late", verdict.late.clone());
    let is_said = |line: &&String| !line.starts_with(UNKNOWN) && !verdict.words.contains(line);
    section(
        "who proves trust, and who is waited for",
        seen.forecast.iter().filter(is_said).cloned().collect(),
    );
    section(
        "how much traffic rests on them, as their Envoys counted it",
        weight::said(&seen.weights),
    );
    section("to be told of it", seen.parties.iter().map(told).collect());
    section("worth knowing", verdict.notes.clone());
    section("not seen from here", unseen(seen));
    lines.push(match verdict.is_green() {
        true => "nothing that is known from here would stop a rotation".to_owned(),
        false => "NOT READY for a rotation".to_owned(),
    });
    lines.join("\n")
}

fn told(party: &RelyingParty) -> String {
    let RelyingParty { name, staleness_seconds, .. } = party;
    match *staleness_seconds {
        0 => {
            format!("{name}, twice: its word alone counts (`banyan relying-party confirm {name}`)")
        }
        bound => {
            let bound = std::time::Duration::from_secs(u64::try_from(bound).unwrap_or_default());
            format!("{name}, twice: without its word it is waited for {}", about(bound))
        }
    }
}

fn as_json(seen: &Seen, verdict: &Verdict) -> Value {
    let parties = seen.parties.iter().map(|party| {
        json!({
            "name": party.name,
            "staleness_seconds": (party.staleness_seconds > 0).then_some(party.staleness_seconds),
        })
    });
    let authorities = seen.authorities.iter().map(|authority| {
        json!({
            "name": authority.name,
            "health": authority.health,
            "signs": authority.signs,
            "preferred": authority.preferred,
            "drift": (!authority.drift.is_empty()).then_some(&authority.drift),
        })
    });
    json!({
        "ready": verdict.is_green(),
        "stops": verdict.stops,
        "words": verdict.words,
        "late": verdict.late,
        "notes": verdict.notes,
        "not_seen": unseen(seen),
        "forecast": seen.forecast,
        "outlook": words::outlook_json(&seen.outlook),
        "relying_parties": parties.collect::<Vec<_>>(),
        "authorities": authorities.collect::<Vec<_>>(),
        "agents": {
            "registered": seen.status.agents_total,
            "connected": seen.status.agents_connected,
            "behind": seen.status.agents_behind,
        },
        "handshakes": seen.weights.iter().map(weight::as_json).collect::<Vec<_>>(),
        "roots_trusted": seen.roots.iter().filter(|root| is_trusted(root)).count(),
        "roots_max": BUNDLE_ROOTS_MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Seen {
        let root =
            |state: &str| Root { state: state.to_owned(), not_after: 10_000, ..Root::default() };
        let outlook = Outlook {
            signs_within_seconds: Some(60),
            ends_within_seconds: Some(600),
            ..Outlook::default()
        };
        let roots = vec![root("active"), root("retired")];
        Seen { roots, outlook, now: 1_000, ..Seen::default() }
    }

    #[test]
    fn it_is_green_only_while_nothing_is_known_that_stops_it_or_makes_it_late() {
        assert_eq!(judge(&well()), Verdict::default());
        let obstacle = Seen { obstacles: vec!["the vault is sealed".to_owned()], ..well() };
        assert_eq!(judge(&obstacle).stops, ["the vault is sealed"]);
        let mut ill = well();
        ill.status.conditions.push("the disk is full".to_owned());
        assert_eq!(judge(&ill).stops, ["the server is not healthy: the disk is full"]);
        let never = "the new root never signs by itself: the trust gate stays closed until a partner confirms";
        let mut waits = Seen { forecast: vec![never.to_owned()], ..well() };
        (waits.outlook.signs_within_seconds, waits.outlook.ends_within_seconds) = (None, None);
        assert_eq!(judge(&waits).words, [never]);
        waits.forecast.clear();
        assert_eq!(
            judge(&waits).words.len(),
            1,
            "a server that names no time is not taken for one that does"
        );
        let late = judge(&Seen { now: 9_500, ..well() }).late;
        assert!(late[0].contains("start at once"), "{late:?}");
        for seen in [obstacle, ill, waits, Seen { now: 9_500, ..well() }] {
            let verdict = judge(&seen);
            assert!(!verdict.is_green());
            assert!(as_text(&seen, &verdict).ends_with("NOT READY for a rotation"));
            assert_eq!(as_json(&seen, &verdict)["ready"], false);
        }
    }

    #[test]
    fn a_bundle_near_its_bound_is_told_and_a_full_one_stops_it() {
        let with = |trusted: usize| {
            let published = Root { state: "published".to_owned(), ..Root::default() };
            let mut seen = well();
            seen.roots.extend(std::iter::repeat_n(published, trusted - 1));
            judge(&seen)
        };
        assert_eq!(with(ROOTS_NEAR - 1), Verdict::default());
        assert!(with(ROOTS_NEAR).is_green() && with(ROOTS_NEAR).notes.len() == 1);
        assert!(with(BUNDLE_ROOTS_MAX - 1).is_green());
        assert!(with(BUNDLE_ROOTS_MAX).stops[0].contains("as many as it may"));
    }

    #[test]
    fn a_bundle_of_long_roots_is_told_before_a_channel_refuses_it() {
        let with = |bytes: usize| {
            let mut seen = well();
            seen.roots[0].der = vec![0; bytes];
            judge(&seen)
        };
        assert_eq!(with(BYTES_NEAR / 2), Verdict::default());
        assert!(with(BYTES_NEAR / 2 + 1).is_green() && with(BYTES_NEAR / 2 + 1).notes.len() == 1);
        assert!(with(BUNDLE_BYTES_MAX / 2 + 1).stops[0].contains("ConfigMap"));
    }

    #[test]
    fn what_it_cannot_see_is_always_said() {
        let seen = well();
        let text = as_text(&seen, &judge(&seen));
        for unseen in UNSEEN {
            assert!(text.contains(unseen), "{text}");
        }
        assert!(text.ends_with("nothing that is known from here would stop a rotation"), "{text}");
    }
}
