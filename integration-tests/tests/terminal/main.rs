//! What the command line shows in a real terminal, read back by a terminal emulator; and where nobody reads.

mod bench;
mod check;
mod demo;
mod emergency;
mod issuer;
mod keys;
mod pipes;
mod prose;
mod said;
mod simulate;
mod watch;

use std::path::Path;

use portable_pty::CommandBuilder;

/// The program.
const BANYAN: &str = env!("CARGO_BIN_EXE_banyan_under_test");
/// A narrow terminal and a wide one.
const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];

/// A command line of `banyan` in this directory.
fn banyan(directory: &Path, words: &[&str]) -> CommandBuilder {
    let mut command = CommandBuilder::new(BANYAN);
    command.args(words);
    command.cwd(directory);
    command
}
