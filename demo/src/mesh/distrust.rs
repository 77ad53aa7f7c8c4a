//! `banyan demo --distrust`: the root that signs is stolen, in a mixed mesh; once with a standby root, once without. Who breaks is
//! compared, pair by pair, with what the preview said.

pub mod emergency;
pub mod finding;
pub mod keeper;
pub mod mixed;
pub mod observer;
pub mod operator;

use std::path::Path;

use console::exit::Failure;
use console::output;
use serde_json::json;

use self::emergency::Scene;
use self::finding::Finding;
use self::mixed::Cast;
use super::stage::Stage;
use super::view::View;
use crate::options::DemoOptions;

/// What both runs came to.
#[derive(Debug)]
pub struct Outcome {
    with: Finding,
    without: Finding,
}

/// Plays both, each in a mesh of its own.
///
/// # Errors
/// If a mesh does not come up, or something that must come does not.
pub async fn scenario(
    options: &DemoOptions,
    directory: &Path,
    stage: &mut Stage,
) -> anyhow::Result<Outcome> {
    let cast = Cast::of(options);
    let mut view = View::new(options.json);
    let [home, other] = ["with-standby", "without-standby"].map(|name| directory.join(name));
    let scene = Scene { cast, standby: true, directory: &home, stage, view: &mut view };
    let with = emergency::play(scene).await?;
    stage.clear().await;
    let scene = Scene { cast, standby: false, directory: &other, stage, view: &mut view };
    let without = emergency::play(scene).await?;
    Ok(Outcome { with, without })
}

impl Outcome {
    /// Whether both came to what was predicted.
    ///
    /// # Errors
    /// Names the run and the pairs for which it did not.
    pub fn verdict(&self) -> anyhow::Result<()> {
        self.with.verdict().map_err(|error| error.context("with a standby root"))?;
        self.without.verdict().map_err(|error| error.context("without a standby root"))
    }

    /// Prints the outcome; with `json`, one object as the last line.
    ///
    /// # Errors
    /// [`Failure`] if standard output is closed.
    pub fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            return output::json(&json!({
                "with_standby": self.with.as_json(),
                "without_standby": self.without.as_json(),
                "as_predicted": self.verdict().is_ok(),
            }));
        }
        output::line(&self.with.as_text())?;
        output::line(&self.without.as_text())?;
        output::line(
            "next: `banyan root distrust ROOT --dry-run` with a CA of your own, and docs/rotation.md",
        )?;
        output::line(&match self.verdict() {
            Ok(()) => "the demo succeeded: who broke was who the preview named, and nobody behind an agent that is connected".to_owned(),
            Err(why) => format!("the demo failed: {why:#}"),
        })
    }
}
