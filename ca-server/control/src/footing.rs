//! Whether the files that a running server stands on are still there.
//!
//! A file that is deleted while it is open takes writes without an error, and loses all of them. So paths are looked at
//! again and again: what is written through must be the same file as at the start, what is only read by the next start
//! must exist.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::paths::Paths;

/// The places, as they were at the start.
#[derive(Debug, Clone)]
pub struct Footing {
    places: Vec<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    /// The file or folder itself; `None` where another one does as well. It is kept open: while it is, no other one
    /// gets its number.
    same: Option<Arc<File>>,
    ground: bool,
    consequence: &'static str,
}

/// Where the state is that all servers of a CA share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// In the data directory.
    Here,
    /// On other machines.
    Elsewhere,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// What is written now may be lost.
    pub ground: Vec<String>,
    /// What the next start will miss.
    pub files: Vec<String>,
}

const STOP: &str = "stop this server and restore the latest backup of the data directory";
const PUT_BACK: &str = "put it back from the latest backup of the data directory";

impl Footing {
    /// Notes the places of a server that has opened all of them.
    pub fn of(paths: &Paths, segment: &str, state: Where) -> io::Result<Self> {
        let written = [
            (paths.state(), "what is decided about roots is not kept"),
            (
                paths.ledger(),
                "leaves that are issued have no row, so that no rotation waits for them",
            ),
            (
                paths.ledger().join(segment),
                "leaves that are issued have no row, so that no rotation waits for them",
            ),
        ];
        let mut places = Vec::new();
        for (path, consequence) in written {
            if path == paths.state() && state == Where::Elsewhere {
                continue;
            }
            places.push(Place {
                same: Some(Arc::new(File::open(&path)?)),
                path,
                ground: true,
                consequence,
            });
        }
        if paths.keys().try_exists()? {
            let consequence = "the next start cannot open the keys";
            places.push(Place { path: paths.keys(), same: None, ground: false, consequence });
        }
        Ok(Self { places })
    }

    /// Looks at all of them.
    pub fn look(&self) -> Missing {
        let mut missing = Missing::default();
        for place in &self.places {
            let Some(text) = place.look() else { continue };
            if place.ground { missing.ground.push(text) } else { missing.files.push(text) }
        }
        missing
    }
}

impl Place {
    fn look(&self) -> Option<String> {
        let found = std::fs::metadata(&self.path).map(|found| number(&found));
        let same = self.same.as_ref().map(|same| same.metadata().map(|same| number(&same)));
        let what = match (&found, same) {
            (Ok(found), Some(Ok(same))) if *found != same => {
                "was replaced while this server runs".to_owned()
            }
            (Ok(_), _) => return None,
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
                "was deleted while this server runs".to_owned()
            }
            (Err(error), _) => format!("cannot be looked at ({error})"),
        };
        let remedy = if self.same.is_some() { STOP } else { PUT_BACK };
        Some(format!("{} {what}: {}; {remedy}", self.path.display(), self.consequence))
    }
}

/// Device and number of a file.
pub fn number(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid_out() -> (tempfile::TempDir, Paths, Footing) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path().to_owned());
        for made in [paths.ledger().join("seg"), paths.keys()] {
            std::fs::create_dir_all(made).unwrap();
        }
        std::fs::write(paths.state(), b"r").unwrap();
        let footing = Footing::of(&paths, "seg", Where::Here).unwrap();
        (dir, paths, footing)
    }

    #[test]
    fn what_is_written_through_must_be_the_same_file_and_the_rest_must_be_there() {
        let (_dir, paths, footing) = laid_out();
        assert_eq!(footing.look(), Missing::default());
        std::fs::remove_dir_all(paths.keys()).unwrap();
        let missing = footing.look();
        assert!(missing.ground.is_empty());
        assert_eq!(missing.files.len(), 1, "{:?}", missing.files);
        assert!(missing.files[0].contains("keys") && missing.files[0].contains("latest backup"));
        std::fs::create_dir(paths.keys()).unwrap();
        assert_eq!(footing.look(), Missing::default(), "one that was put back will do");
    }

    #[test]
    fn a_ledger_or_state_that_is_gone_leaves_no_ground_even_when_another_stands_in_its_place() {
        let (_dir, paths, footing) = laid_out();
        std::fs::remove_dir_all(paths.ledger()).unwrap();
        assert_eq!(footing.look().ground.len(), 2, "the folder and the segment");
        std::fs::create_dir_all(paths.ledger().join("seg")).unwrap();
        assert_eq!(footing.look().ground.len(), 2, "rows go to the files that were deleted");
        let (_dir, paths, footing) = laid_out();
        std::fs::rename(paths.state(), paths.state().with_extension("away")).unwrap();
        std::fs::write(paths.state(), b"r").unwrap();
        assert!(footing.look().ground[0].contains("was replaced while this server runs"));
    }
}
