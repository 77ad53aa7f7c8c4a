//! A state in one file: what is in it, how it is read from a store that is in use, and how it is written and read back.
//!
//! | module | what |
//! |---|---|
//! | `parts` | which spaces are in a backup, and which of them must be of one moment |
//! | `taking` | reads a store, and makes the bytes of the file as they are asked for |
//! | `header` | what stands at the beginning |
//! | `frames` | the form of the file: frames with checksums, each covering its place |
//! | `reading` | checks a whole file, and answers with what is in it |

mod error;
mod frames;
mod header;
mod parts;
mod reading;
mod taking;
#[cfg(test)]
mod tests;

pub use error::BackupError;
pub use header::{FORMAT as BACKUP_FORMAT, Header};
pub use reading::Backup;
pub use taking::{Choice, Taking};
