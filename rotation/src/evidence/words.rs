//! Parts of the sentences in which holds are told.

use std::time::Duration;

use trust::Timestamp;

pub(super) const fn rounded_up(left: Duration) -> u64 {
    left.saturating_add(Duration::from_millis(999)).as_secs()
}

pub(super) fn holders(count: u64) -> String {
    match count {
        1 => "1 leaf whose holder has".to_owned(),
        count => format!("{count} leaves whose holders have"),
    }
}

pub(super) fn own_trust(count: u64) -> String {
    match count {
        1 => "1 leaf is held with trust of its holder's own".to_owned(),
        count => format!("{count} leaves are held with trust of their holders' own"),
    }
}

pub(super) fn unable(count: u64) -> String {
    match count {
        1 => {
            "1 leaf's holder has acknowledged the bundle and cannot verify the new root".to_owned()
        }
        count => format!(
            "the holders of {count} leaves have acknowledged the bundle and cannot verify the new root"
        ),
    }
}

pub(super) fn endless(until: Option<Timestamp>) -> String {
    until.map_or_else(|| ", and no time ends that".to_owned(), |_| limited(until))
}

pub(super) fn limited(until: Option<Timestamp>) -> String {
    until.map_or_else(String::new, |until| format!(", until {until}"))
}

pub(super) fn relying_parties(count: u64, [one, many]: [&str; 2]) -> String {
    match count {
        1 => format!("1 relying party {one}"),
        count => format!("{count} relying parties {many}"),
    }
}

pub(super) fn leaves(count: u64) -> String {
    match count {
        1 => "1 leaf is".to_owned(),
        count => format!("{count} leaves are"),
    }
}

pub(super) fn shown(until: Option<Timestamp>) -> String {
    until.map_or_else(
        || "somebody attests that the others have stopped".to_owned(),
        |until| until.to_string(),
    )
}
