//! Follows a rotation until it is over: redrawn in place on a terminal, plain lines elsewhere.

use std::time::Duration;

use console::exit::{Failure, Told};
use console::output;
use console::rotation as words;
use console::terminal::{self, Live, Size};
use proto::banyan::admin::v1::{Progress, Rotation, WatchRotationRequest};
use tonic::Streaming;

use crate::admin_client;
use crate::args::AdminTarget;

/// Wait before a server that went away is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// Columns of a bar.
const BAR: usize = 30;
/// Most holders that are named at once.
const HOLDERS_MAX: usize = 8;

/// Follows until no rotation is under way. With the id of a request, the request must have been carried out to its end.
///
/// # Errors
/// [`Failure::Interrupted`] on Ctrl-C, which leaves the rotation running; [`Failure::Failed`] if the rotation that was
/// followed was given up or taken back, or nobody can tell; others if the server refuses.
pub async fn follow(
    target: &AdminTarget,
    json: bool,
    request: Option<&str>,
) -> Result<(), Failure> {
    tokio::select! {
        outcome = until_over(target, json, request) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted(
            Told::new("the rotation continues on the server")
                .advising("`banyan rotate watch` follows it again, and `banyan rotate hold` pauses it"),
        )),
    }
}

async fn until_over(
    target: &AdminTarget,
    json: bool,
    request: Option<&str>,
) -> Result<(), Failure> {
    let mut screen = Screen::new(json);
    let mut seen: Option<Rotation> = None;
    loop {
        let ended = match open(target).await {
            Ok(mut stream) => screen.show_all(&mut stream, &mut seen).await?,
            // A wrong command line or a refusal does not get better by waiting.
            Err(error @ (Failure::Usage(_) | Failure::Configuration(_) | Failure::Refused(_))) => {
                return Err(error);
            }
            Err(error) => {
                screen.say(&format!("{error}; trying again"))?;
                None
            }
        };
        if let Some(last) = ended {
            let came_to = outcome(seen.as_ref(), &last, request);
            return match (came_to, json) {
                (Outcome::GivenUp(text), _) => Err(Failure::Failed(anyhow::anyhow!(text))),
                (Outcome::Over(_), true) => Ok(()),
                (Outcome::Over(text), false) => output::line(&text),
            };
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn open(target: &AdminTarget) -> Result<Streaming<Rotation>, Failure> {
    let mut client = admin_client::rotations(target).await?;
    let answer = client.watch_rotation(WatchRotationRequest {}).await;
    Ok(answer.map_err(|status| console::exit::from_status(&status))?.into_inner())
}

/// What a rotation that is over came to, in a sentence.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It came to what it was asked for, or none was under way.
    Over(String),
    /// It did not, or that cannot be told.
    GivenUp(String),
}

/// By what the server says of the last rotation: what was seen before may be older than the connection that broke off.
fn outcome(before: Option<&Rotation>, last: &Rotation, request: Option<&str>) -> Outcome {
    let signs = words::root(&last.from_root);
    let Some(id) = request.or(before.map(|before| before.request_id.as_str())) else {
        return Outcome::Over(words::status(last));
    };
    match last.last_ending.as_str() {
        "completed" if last.last_request_id == id => {
            let gone =
                before.map(|before| &before.from_root).filter(|root| **root != last.from_root);
            let gone = gone
                .filter(|root| !root.is_empty())
                .map(|root| format!(", and root {} is no longer trusted", words::root(root)));
            Outcome::Over(format!(
                "the rotation is complete: root {signs} signs{}, bundle {}",
                gone.unwrap_or_default(),
                last.sequence
            ))
        }
        ending if last.last_request_id == id && !ending.is_empty() => Outcome::GivenUp(format!(
            "the rotation was {ending}: root {signs} still signs, bundle {}; `banyan journal show` says who did it",
            last.sequence
        )),
        _ => Outcome::GivenUp(format!(
            "rotation {id} is over and not the last one: root {signs} signs, bundle {}; `banyan journal show` says what it \
             came to",
            last.sequence
        )),
    }
}

/// Where changes are shown.
struct Screen {
    json: bool,
    live: Live,
    last: String,
    /// What was shown last as JSON, but for the server's clock.
    shown: Option<Rotation>,
}

impl Screen {
    fn new(json: bool) -> Self {
        Self { json, live: Live::default(), last: String::new(), shown: None }
    }

    /// Shows changes until the rotation is over, and answers with the last; `None` when the stream broke off before.
    async fn show_all(
        &mut self,
        stream: &mut Streaming<Rotation>,
        seen: &mut Option<Rotation>,
    ) -> Result<Option<Rotation>, Failure> {
        while let Ok(Some(rotation)) = stream.message().await {
            let over = rotation.phase == words::STEADY;
            // The sentence at the end says all that there is to say of a rotation that nobody saw.
            if !over || seen.is_some() || self.json {
                self.show(&rotation)?;
            }
            if over {
                return Ok(Some(rotation));
            }
            *seen = Some(rotation);
        }
        self.say("the connection to the server broke off; trying again")?;
        Ok(None)
    }

    /// Whether anything but the server's clock differs from what was shown last.
    fn is_news(&mut self, rotation: &Rotation) -> bool {
        let mut timeless = rotation.clone();
        if let Some(gate) = &mut timeless.gate {
            gate.at = 0;
        }
        let changed = self.shown.as_ref() != Some(&timeless);
        self.shown = Some(timeless);
        changed
    }

    fn show(&mut self, rotation: &Rotation) -> Result<(), Failure> {
        if self.json {
            return match self.is_news(rotation) {
                true => output::json(&words::json(rotation)),
                false => Ok(()),
            };
        }
        if let Some(size) = terminal::size(std::io::stdout()) {
            return output::write(&self.live.draw(&picture(rotation, size), size));
        }
        let shape = shape(rotation);
        if shape == self.last {
            return Ok(());
        }
        output::line(&line(rotation))?;
        self.last = shape;
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        self.last.clear();
        match terminal::size(std::io::stdout()) {
            Some(size) => output::write(&self.live.say(text, size)),
            None => output::line(text),
        }
    }
}

/// Some lines: phases, two bars, the gate, troubles, and as many holders as the screen has rows for.
fn picture(rotation: &Rotation, size: Size) -> String {
    let mark = |phase: &&str| {
        if *phase == rotation.phase {
            format!("[{}]", words::phase(rotation))
        } else {
            format!(" {phase} ")
        }
    };
    let phases: Vec<_> = words::phases(rotation).iter().map(mark).collect();
    let mut text = format!(
        "{}\ntrust      {}\nnew leaves {}",
        phases.join(">"),
        bar(rotation.trust.unwrap_or_default()),
        bar(rotation.leaves.unwrap_or_default())
    );
    if rotation.held_since != 0 {
        text.push_str(&format!("\non hold since {}", output::time(rotation.held_since)));
    }
    if let Some(gate) = rotation.gate.as_ref().filter(|gate| !gate.summary.is_empty()) {
        text.push_str(&format!("\n{}", gate.summary));
    }
    for trouble in &rotation.troubles {
        text.push_str(&format!("\n! {trouble}"));
    }
    let Some(gate) = &rotation.gate else { return text };
    // One row for the cursor, one for how many are left out.
    let mut free = size.rows.saturating_sub(terminal::wrap(&text, size.columns).len() + 2);
    let mut named = 0;
    for holder in gate.holders.iter().take(HOLDERS_MAX) {
        let line = format!("  {}", holder.text);
        let rows = terminal::wrap(&line, size.columns).len();
        if rows > free {
            break;
        }
        free -= rows;
        named += 1;
        text.push_str(&format!("\n{line}"));
    }
    let further = gate.holders_total.saturating_sub(named);
    if further > 0 {
        text.push_str(&format!("\n  and {further} more; `banyan rotate explain` lists them"));
    }
    text
}

/// What a further line must differ in: seconds that pass are no news where nothing is redrawn.
fn shape(rotation: &Rotation) -> String {
    let summary = rotation.gate.as_ref().map(|gate| gate.summary.as_str()).unwrap_or_default();
    let summary: String = summary.chars().filter(|character| !character.is_ascii_digit()).collect();
    let without_gate = Rotation { gate: None, ..rotation.clone() };
    format!("{}{summary}", line(&without_gate))
}

/// The same in one line.
fn line(rotation: &Rotation) -> String {
    let (trust, leaves) = (rotation.trust.unwrap_or_default(), rotation.leaves.unwrap_or_default());
    let gate = rotation.gate.as_ref().map(|gate| format!(": {}", gate.summary)).unwrap_or_default();
    let held = if rotation.held_since == 0 { "" } else { " (on hold)" };
    format!(
        "{}{held}, trust {}/{}, new leaves {}/{}{gate}",
        words::phase(rotation),
        trust.done,
        trust.total,
        leaves.done,
        leaves.total
    )
}

fn bar(progress: Progress) -> String {
    let total = usize::try_from(progress.total).unwrap_or(usize::MAX);
    let done = usize::try_from(progress.done).unwrap_or(usize::MAX).min(total);
    let filled = (BAR * done).checked_div(total).unwrap_or(BAR);
    format!(
        "{}{} {}/{}",
        "#".repeat(filled),
        ".".repeat(BAR - filled),
        progress.done,
        progress.total
    )
}

#[cfg(test)]
mod tests {
    use proto::banyan::admin::v1::{Gate, Holder};

    use super::*;

    const SIZE: Size = Size { columns: 80, rows: 24 };

    fn at(phase: &str) -> Rotation {
        Rotation {
            phase: phase.to_owned(),
            trust: Some(Progress { done: 1, total: 2 }),
            leaves: Some(Progress { done: 0, total: 0 }),
            ..Rotation::default()
        }
    }

    #[test]
    fn in_json_a_clock_that_goes_on_is_no_change() {
        let at = |at: i64, open: bool| Rotation {
            gate: Some(proto::banyan::admin::v1::Gate { at, open, ..Default::default() }),
            ..Rotation::default()
        };
        let mut screen = Screen::new(true);
        let news = [at(1, false), at(2, false), at(3, true), at(4, true)]
            .map(|rotation| screen.is_news(&rotation));
        assert_eq!(news, [true, false, true, false]);
    }

    #[test]
    fn a_picture_marks_the_phase_and_fills_the_bars() {
        let text = picture(&at("draining"), SIZE);
        assert!(
            text.starts_with(" steady > staging > distributing >[draining]> withdrawing \n"),
            "{text}"
        );
        assert!(text.contains("trust      ###############............... 1/2"), "{text}");
        assert!(text.contains(&format!("new leaves {} 0/0", "#".repeat(30))), "{text}");
    }

    #[test]
    fn a_picture_names_as_many_holders_as_the_screen_takes_and_counts_the_rest() {
        let holder = Holder {
            text: "spiffe://example.org/ns/shop/sa/cart waits ".repeat(3),
            ..Holder::default()
        };
        let gate = Gate { holders: vec![holder; 8], holders_total: 9, ..Gate::default() };
        let rotation = Rotation { gate: Some(gate), ..at("distributing") };
        for rows in [8, 12, 24] {
            let text = picture(&rotation, Size { columns: 80, rows });
            assert!(terminal::wrap(&text, 80).len() < rows, "{text}");
            assert!(text.ends_with("more; `banyan rotate explain` lists them"), "{text}");
        }
    }

    #[test]
    fn a_line_is_printed_for_what_changes_and_not_for_seconds_that_pass() {
        let waits = |summary: &str| {
            let gate = Gate { summary: summary.to_owned(), ..Gate::default() };
            shape(&Rotation { gate: Some(gate), ..at("distributing") })
        };
        assert_eq!(
            waits("handshakes in flight, for 5 s more"),
            waits("handshakes in flight, for 4 s more")
        );
        assert_ne!(waits("handshakes in flight, for 5 s more"), waits("1 leaf whose holder waits"));
        assert_ne!(shape(&at("distributing")), shape(&at("draining")));
        let more = Rotation { trust: Some(Progress { done: 2, total: 2 }), ..at("draining") };
        assert_ne!(shape(&more), shape(&at("draining")));
    }

    /// A rotation as it was seen last, and the server's word when it is over.
    fn ended(phase: Rotation, ending: &str, request: Option<&str>) -> Outcome {
        let before = Rotation { request_id: "mine".to_owned(), ..phase };
        let signs = if ending == "completed" { 2 } else { 1 };
        let last = Rotation {
            from_root: vec![signs; 4],
            sequence: 4,
            last_request_id: "mine".to_owned(),
            last_ending: ending.to_owned(),
            ..at("steady")
        };
        outcome(Some(&before), &last, request)
    }

    /// All that may be seen last before the end: the roots change their places when a rotation is given up.
    fn seen_last() -> Vec<Rotation> {
        let roots = |from: u8, to: u8| Rotation {
            from_root: vec![from; 4],
            to_root: vec![to; 4],
            ..at("")
        };
        let mut all = Vec::new();
        for phase in ["staging", "distributing", "draining", "withdrawing"] {
            for (from, to) in [(1, 2), (2, 1)] {
                for (ending, rolled_back) in
                    [("", false), ("aborted", false), ("rolled back", true)]
                {
                    let (phase, ending) = (phase.to_owned(), ending.to_owned());
                    all.push(Rotation { phase, ending, rolled_back, ..roots(from, to) });
                }
            }
        }
        all
    }

    #[test]
    fn a_rotation_that_was_given_up_or_taken_back_is_a_failure_whatever_was_seen_before() {
        for seen in seen_last() {
            for request in [Some("mine"), None] {
                for ending in ["aborted", "rolled back"] {
                    let Outcome::GivenUp(text) = ended(seen.clone(), ending, request) else {
                        panic!("{ending} is green after {seen:?}");
                    };
                    let wanted =
                        format!("the rotation was {ending}: root 01010101 still signs, bundle 4");
                    assert!(text.starts_with(&wanted), "{text}");
                }
                let Outcome::Over(text) = ended(seen.clone(), "completed", request) else {
                    panic!("it is complete after {seen:?}");
                };
                assert!(
                    text.starts_with("the rotation is complete: root 02020202 signs"),
                    "{text}"
                );
                assert!(!text.contains("02020202 is no longer"), "{text}");
            }
        }
    }

    #[test]
    fn the_last_sentence_says_what_came_of_it() {
        let before = Rotation { from_root: vec![1; 4], to_root: vec![2; 4], ..at("withdrawing") };
        assert_eq!(
            ended(before.clone(), "completed", None),
            Outcome::Over(
                "the rotation is complete: root 02020202 signs, and root 01010101 is no longer trusted, bundle 4".to_owned()
            )
        );
        let steady = Rotation { from_root: vec![1; 4], ..at("steady") };
        let Outcome::Over(text) = outcome(None, &steady, None) else {
            panic!("nothing was followed")
        };
        assert!(text.starts_with("no rotation is under way since"), "{text}");
        // Another one has ended since: nobody can tell from here, so it is not green.
        let other = Rotation {
            last_request_id: "other".to_owned(),
            last_ending: "completed".to_owned(),
            ..steady
        };
        assert!(matches!(outcome(None, &other, Some("mine")), Outcome::GivenUp(_)));
        assert!(matches!(outcome(Some(&before), &other, None), Outcome::GivenUp(_)));
    }
}
