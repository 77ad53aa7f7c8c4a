//! What an operator says of roots: that one is distrusted, or by mistake was; that a standby root signs, or goes.

use rotation::{Event, Mode};

use crate::mesh::{Distrusts, Setting, Without, World};
use crate::replica::{Question, asked};
use crate::words::root;

const WORDS: [&str; 2] = ["distrust A", "distrust B"];
const BACK: [&str; 2] = ["trust A again", "trust B again"];
const OF_STANDBY: [&str; 2] = ["promote B", "drop B"];
const CUTS: [&str; 2] = ["cut A", "cut B"];

/// The worlds after each word that changes something; a request id is carried out once.
pub(crate) fn said(world: &World, setting: &Setting) -> Vec<(&'static str, World)> {
    let mut words = Vec::new();
    if setting.distrusts != Distrusts::No {
        words.extend(WORDS);
    }
    if setting.takes_back {
        words.extend(BACK);
    }
    if setting.distrusts == Distrusts::WithStandby {
        words.extend(OF_STANDBY);
    }
    if setting.without == Without::GoesByItsGate {
        words.extend(CUTS);
    }
    let after = words.into_iter().filter_map(|word| {
        let record =
            asked(world, setting, Question::Word(word), || world.take(&event(word), setting))?;
        Some((word, World { record, ..world.clone() }))
    });
    after.collect()
}

fn event(word: &str) -> Event {
    let request_id = word.replace(' ', "-").parse().unwrap();
    let (by, reason) = ("ann".to_owned(), "a test".to_owned());
    let root = root(if word.contains('A') { "A" } else { "B" });
    match word {
        "distrust A" | "distrust B" => {
            let authority = "main".parse().unwrap();
            Event::RootDistrusted { request_id, root, authority, by, reason }
        }
        "trust A again" | "trust B again" => {
            Event::RootTrustedAgain { request_id, root, by, reason }
        }
        "promote B" => Event::StandbyPromoted { request_id, root, mode: Mode::Auto },
        "drop B" => Event::StandbyDropped { request_id, root },
        _ => Event::DistrustedRootCut { request_id, root, by, reason },
    }
}
