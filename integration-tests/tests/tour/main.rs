//! The tour of `README.md`, typed block by block as it stands there, and what it says that is answered.

mod page;
mod shells;

use std::path::{Path, PathBuf};
use std::time::Duration;

use page::Block;
use shells::Shells;

/// Longest time of one block on a machine that is busy; the longest has a rotation in it.
const BLOCK_MAX: Duration = Duration::from_secs(300);

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_block_of_the_tour_does_what_the_page_says() -> anyhow::Result<()> {
    let page = std::fs::read_to_string(checkout().join("README.md"))?;
    let blocks = page::tour(&page);
    assert!(
        blocks.iter().any(|block| block.typed.contains("banyan rotate start --wait")),
        "a rotation is in it"
    );
    let shells = Shells::open()?;
    for Block { terminal, typed, answered } in &blocks {
        match terminal {
            // Typed in each, before anything else.
            None => (1..=shells::TERMINALS)
                .try_for_each(|number| shells.type_in(number, typed, &[], BLOCK_MAX))?,
            Some(number) => shells.type_in(*number, typed, answered, BLOCK_MAX)?,
        }
    }
    Ok(())
}
