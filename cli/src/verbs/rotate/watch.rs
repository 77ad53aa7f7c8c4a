//! Follows a rotation until it is over: redrawn in place on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use proto::banyan::admin::v1::{Progress, Rotation, WatchRotationRequest};
use tonic::Streaming;

use super::words;
use crate::args::AdminTarget;
use crate::exit::Failure;
use crate::{admin_client, output};

/// Wait before a server that went away is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// Columns of a bar.
const BAR: usize = 30;

/// Follows until no rotation is under way. With the id of a wish, the wish must have been carried out to its end.
///
/// # Errors
/// [`Failure::Interrupted`] on Ctrl-C, which leaves the rotation running; [`Failure::Failed`] if the rotation that was
/// wished for was given up or taken back; others if the server refuses.
pub async fn follow(target: &AdminTarget, json: bool, wish: Option<&str>) -> Result<(), Failure> {
    tokio::select! {
        outcome = until_over(target, json, wish) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted(
            "the rotation goes on on the server; `banyan rotate watch` shows it again, `banyan rotate hold` holds it"
                .to_owned(),
        )),
    }
}

async fn until_over(target: &AdminTarget, json: bool, wish: Option<&str>) -> Result<(), Failure> {
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
            return verdict(seen.as_ref(), &last, wish);
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn open(target: &AdminTarget) -> Result<Streaming<Rotation>, Failure> {
    let mut client = admin_client::rotations(target).await?;
    let answer = client.watch_rotation(WatchRotationRequest {}).await;
    Ok(answer.map_err(|status| crate::exit::from_status(&status))?.into_inner())
}

/// What a rotation that is over came to.
fn verdict(before: Option<&Rotation>, last: &Rotation, wish: Option<&str>) -> Result<(), Failure> {
    let (Some(before), Some(wish)) = (before, wish) else { return Ok(()) };
    let carried_out = last.done.iter().any(|done| done == wish);
    let stayed = !before.to_root.is_empty() && before.to_root == last.from_root && !before.rolled_back;
    match carried_out && stayed {
        true => Ok(()),
        false => Err(Failure::Failed(anyhow::anyhow!(
            "the rotation {wish} was given up or taken back: root {} signs; `banyan journal show` says who did it",
            words::root(&last.from_root)
        ))),
    }
}

/// Where changes are shown.
struct Screen {
    json: bool,
    terminal: bool,
    drawn_lines: usize,
    last: String,
}

impl Screen {
    fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { json, terminal: terminal && !json, drawn_lines: 0, last: String::new() }
    }

    /// Shows changes until the rotation is over, and answers with the last; `None` when the stream broke off before.
    async fn show_all(
        &mut self,
        stream: &mut Streaming<Rotation>,
        seen: &mut Option<Rotation>,
    ) -> Result<Option<Rotation>, Failure> {
        while let Ok(Some(rotation)) = stream.message().await {
            self.show(&rotation)?;
            if rotation.phase == "steady" {
                return Ok(Some(rotation));
            }
            *seen = Some(rotation);
        }
        self.say("the server went away; trying again")?;
        Ok(None)
    }

    fn show(&mut self, rotation: &Rotation) -> Result<(), Failure> {
        if self.json {
            return output::json(&words::json(rotation));
        }
        let text = if self.terminal { picture(rotation) } else { line(rotation) };
        if text == self.last {
            return Ok(());
        }
        if self.terminal && self.drawn_lines > 0 {
            self.write(&format!("\x1b[{}A\x1b[J", self.drawn_lines))?;
        }
        self.write(&format!("{text}\n"))?;
        self.drawn_lines = text.lines().count();
        self.last = text;
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.drawn_lines = 0;
        self.last.clear();
        if self.json { Ok(()) } else { self.write(&format!("{text}\n")) }
    }

    fn write(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Failure::Failed(error.into()))
    }
}

/// Some lines: phases, two bars, holders, the latest opening.
fn picture(rotation: &Rotation) -> String {
    let mark =
        |phase: &&str| if *phase == rotation.phase { format!("[{phase}]") } else { format!(" {phase} ") };
    let phases: Vec<_> = words::PHASES.iter().map(mark).collect();
    let mut text = format!(
        "{}\ntrust      {}\nnew leaves {}",
        phases.join(">"),
        bar(rotation.trust.unwrap_or_default()),
        bar(rotation.leaves.unwrap_or_default())
    );
    if let Some(gate) = &rotation.gate {
        text.push_str(&format!("\n{}", gate.summary));
        for holder in gate.holders.iter().take(8) {
            text.push_str(&format!("\n  {}", holder.text));
        }
    }
    for trouble in &rotation.troubles {
        text.push_str(&format!("\n! {trouble}"));
    }
    text
}

/// The same in one line.
fn line(rotation: &Rotation) -> String {
    let (trust, leaves) = (rotation.trust.unwrap_or_default(), rotation.leaves.unwrap_or_default());
    let gate = rotation.gate.as_ref().map(|gate| format!(": {}", gate.summary)).unwrap_or_default();
    let held = if rotation.held_since == 0 { "" } else { " (held)" };
    format!(
        "{}{held}, trust {}/{}, new leaves {}/{}{gate}",
        rotation.phase, trust.done, trust.total, leaves.done, leaves.total
    )
}

fn bar(progress: Progress) -> String {
    let total = usize::try_from(progress.total).unwrap_or(usize::MAX);
    let done = usize::try_from(progress.done).unwrap_or(usize::MAX).min(total);
    let filled = (BAR * done).checked_div(total).unwrap_or(BAR);
    format!("{}{} {}/{}", "#".repeat(filled), ".".repeat(BAR - filled), progress.done, progress.total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(phase: &str) -> Rotation {
        Rotation {
            phase: phase.to_owned(),
            trust: Some(Progress { done: 1, total: 2 }),
            leaves: Some(Progress { done: 0, total: 0 }),
            ..Rotation::default()
        }
    }

    #[test]
    fn a_picture_marks_the_phase_and_fills_the_bars() {
        let text = picture(&at("draining"));
        assert!(text.starts_with(" steady > staging > distributing >[draining]> withdrawing \n"), "{text}");
        assert!(text.contains("trust      ###############............... 1/2"), "{text}");
        assert!(text.contains(&format!("new leaves {} 0/0", "#".repeat(30))), "{text}");
    }

    #[test]
    fn a_wish_that_was_taken_back_is_a_failure() {
        let before = Rotation { to_root: vec![2], ..at("draining") };
        let over = |root: u8, done: &str| Rotation {
            from_root: vec![root],
            done: vec![done.to_owned()],
            ..at("steady")
        };
        assert!(verdict(Some(&before), &over(2, "wish"), Some("wish")).is_ok());
        assert!(
            verdict(Some(&before), &over(1, "wish"), Some("wish")).is_err(),
            "the former root signs again"
        );
        assert!(verdict(Some(&before), &over(1, "other"), Some("wish")).is_err());
        assert!(verdict(None, &over(1, "other"), None).is_ok(), "who only watches judges nothing");
    }
}
