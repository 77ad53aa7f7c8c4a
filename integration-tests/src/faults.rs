//! CAs that crash and disks that fail: what tests of faults stand on.
//!
//! [`Site`] is a data directory whose server is started again and again, in this process or as a [`ChildCa`] that can be
//! killed. [`Outfit`] puts faults into a server in this process. [`Member`] asks for leaves as an agent does, and
//! [`Durable`] reads what a server that is gone left on the disk.

mod ahead;
mod authority;
mod child;
mod durable;
mod member;
mod outfit;
mod record;
mod site;

pub use ahead::AheadClock;
pub use authority::{AuthorityMode, AuthoritySwitch};
pub use child::ChildCa;
pub use durable::Durable;
pub use member::{Door, Leaf, Member, reason};
pub use outfit::{Fitted, Outfit};
pub use record::RecordFaults;
pub use site::Site;

use std::time::Duration;

/// Longest wait for something that should happen soon.
pub const SOON: Duration = Duration::from_secs(15);

/// Waits until a condition holds, asking every few milliseconds.
///
/// # Errors
/// When it does not hold in time; the error names it.
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut holds: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, poll).await.map_err(|_| anyhow::anyhow!("not in time: {what}"))
}
