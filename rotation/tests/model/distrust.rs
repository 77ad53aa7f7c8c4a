//! What an operator says of roots: that one is distrusted, or by mistake was; that a standby root signs, or goes.

use rotation::{Event, Mode};

use crate::mesh::{Distrusts, Setting, Without, World};
use crate::replica::{Question, asked};
use crate::words::root;

const WORDS: [&str; 2] = ["distrust A", "distrust B"];
const BACK: [&str; 2] = ["trust A again", "trust B again"];
const OF_STANDBY: [&str; 2] = ["promote B", "drop B"];
const WITH_S: [&str; 4] = ["distrust S", "trust S again", "promote S", "drop S"];
const CUTS: [&str; 2] = ["cut A", "cut B"];

/// The worlds after each word that changes something; a request id is carried out once.
pub(crate) fn said(world: &World, setting: &Setting) -> Vec<(&'static str, World)> {
    let mut words = Vec::new();
    if matches!(setting.distrusts, Distrusts::InRotation | Distrusts::WithStandby) {
        words.extend(WORDS);
    }
    if setting.takes_back {
        words.extend(BACK);
    }
    if setting.distrusts == Distrusts::WithStandby {
        words.extend(OF_STANDBY);
    }
    if setting.standby && setting.distrusts != Distrusts::No {
        words.extend(
            WITH_S.into_iter().filter(|word| setting.takes_back || !word.contains("again")),
        );
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
    let root = root(["A", "B", "S"].into_iter().find(|name| word.contains(name)).unwrap());
    match word {
        "distrust A" | "distrust B" | "distrust S" => {
            let authority = "main".parse().unwrap();
            Event::RootDistrusted { request_id, root, authority, by, reason }
        }
        "trust A again" | "trust B again" | "trust S again" => {
            Event::RootTrustedAgain { request_id, root, by, reason }
        }
        "promote B" | "promote S" => Event::StandbyPromoted { request_id, root, mode: Mode::Auto },
        "drop B" | "drop S" => Event::StandbyDropped { request_id, root },
        _ => Event::DistrustedRootCut { request_id, root, by, reason },
    }
}
