//! A proxy that acknowledges the bundle and cannot verify the new root: whether the gate finds it, and what comes of it.

use std::time::Duration;

use proto::banyan::admin::v1::{Holder, Rotation};
use serde_json::json;
use tokio::time::Instant;

use super::load::Load;
use super::tls::Verifies;
use super::view::View;
use crate::options::{DemoOptions, Fault};

/// How long the gate is to name the proxy before somebody upgrades it.
const NAMED_FOR: Duration = Duration::from_secs(8);
/// How long the new root signs before it counts as said that no gate named the proxy.
const UNNAMED_FOR: Duration = Duration::from_secs(5);

/// The story of that proxy.
#[derive(Debug, Default)]
pub struct Unable {
    /// Which one it is; none where the fault was not asked for.
    proxy: Option<String>,
    /// Since when the gate names it, and what it says.
    named: Option<(Instant, String)>,
    /// Others that the gate named as unable.
    others: Vec<String>,
    /// Since when the new root signs although nothing was named.
    signs: Option<Instant>,
    /// How long it was named before it was upgraded.
    upgraded_after: Option<Duration>,
    is_over: bool,
}

impl Unable {
    /// Makes the last workload one that verifies P-256 alone, if that was asked for.
    ///
    /// # Errors
    /// If it is asked for without another algorithm, or of a real Envoy.
    pub fn begin(options: &DemoOptions, load: &Load) -> anyhow::Result<Self> {
        if !options.fault.contains(&Fault::UnableProxy) {
            return Ok(Self { is_over: true, ..Self::default() });
        }
        let brings =
            options.algorithm.is_some_and(|algorithm| algorithm.keys() != ["p256", "p256"]);
        anyhow::ensure!(
            brings && options.rotations > 0,
            "an unable proxy shows in a rotation to another algorithm: --algorithm p384"
        );
        let proxy = Some(load.last_becomes(Verifies::P256)?);
        Ok(Self { proxy, ..Self::default() })
    }

    /// Whether nothing is to come of it any more.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Looks at what the CA says of its rotation.
    ///
    /// # Errors
    /// If the proxy cannot be upgraded.
    pub fn look(
        &mut self,
        rotation: Option<&Rotation>,
        load: &Load,
        view: &mut View,
    ) -> anyhow::Result<()> {
        let (Some(rotation), Some(proxy), false) = (rotation, self.proxy.clone(), self.is_over)
        else {
            return Ok(());
        };
        let now = Instant::now();
        if rotation.phase != "distributing" {
            // A rotation of a small mesh may be over before the time is.
            let signs = matches!(rotation.phase.as_str(), "draining" | "withdrawing");
            if signs || self.signs.is_some() {
                let since = *self.signs.get_or_insert(now);
                self.is_over = now >= since + UNNAMED_FOR;
            }
            return Ok(());
        }
        let holders = rotation.gate.iter().flat_map(|gate| &gate.holders);
        for holder in holders.filter(|holder| holder.unable) {
            self.note(holder, &proxy, now, view);
        }
        if let Some((since, _)) = &self.named
            && now >= *since + NAMED_FOR
        {
            load.last_becomes(Verifies::All)?;
            self.upgraded_after = Some(now.duration_since(*since));
            self.is_over = true;
            view.say(&format!("{proxy} is upgraded to a version that verifies the new algorithm"));
        }
        Ok(())
    }

    fn note(&mut self, holder: &Holder, proxy: &str, now: Instant, view: &mut View) {
        if holder.identity != proxy {
            if !self.others.contains(&holder.identity) {
                self.others.push(holder.identity.clone());
            }
        } else if self.named.is_none() {
            view.say(&format!("the gate names it: {}", holder.text));
            self.named = Some((now, holder.text.clone()));
        }
    }

    /// Why this did not show what it was to show.
    pub fn wrong(&self) -> Option<String> {
        let proxy = self.proxy.as_ref()?;
        if !self.others.is_empty() {
            return Some(format!("the gate named {} as unable too", self.others.join(", ")));
        }
        self.named.is_none().then(|| format!("the gate did not name {proxy}, which cannot verify"))
    }

    /// What came of it, for programs.
    pub fn as_json(&self) -> serde_json::Value {
        let Some(proxy) = &self.proxy else { return serde_json::Value::Null };
        json!({
            "proxy": proxy,
            "named": self.named.is_some(),
            "named_seconds": self.upgraded_after.map(|after| after.as_secs()),
            "says": self.named.as_ref().map(|(_, text)| text),
            "others_named": self.others,
            "ended": match self.upgraded_after {
                Some(_) => "upgraded",
                None => "unnoticed",
            },
        })
    }

    /// The same for people.
    pub fn as_text(&self) -> String {
        match (&self.proxy, &self.upgraded_after) {
            (None, _) => String::new(),
            (Some(proxy), Some(after)) => format!(
                "one proxy could not verify the new root: the gate named {proxy} for {} s, the others were seen to verify it; then it \
                 was upgraded, and the rotation went on by itself\n",
                after.as_secs()
            ),
            (Some(proxy), None) => {
                format!("no gate named {proxy}, which cannot verify the new root\n")
            }
        }
    }
}
