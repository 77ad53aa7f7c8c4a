//! What every kind of test stands on: a place for servers ([`CaDir`]), a plan of faults ([`FaultPlan`]), a clock that can be put
//! wrong ([`TestClock`]), names, bounded waits, files.

mod authority;
mod ca_dir;
mod clock;
mod common;
mod fault_plan;
mod proof;
mod record;
mod window;

pub use authority::{AuthorityMode, AuthoritySwitch, Crossing};
pub use ca_dir::{CaDir, CaDirPlan, Keys};
pub use clock::TestClock;
pub use common::{SOON, TRUST_DOMAIN, eventually, write_private};
pub use fault_plan::FaultPlan;
pub use record::RecordFaults;
pub use window::Window;
