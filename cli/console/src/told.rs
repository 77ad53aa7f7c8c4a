//! What is told of the root that comes, in the server's words.

use proto::banyan::admin::v1::Rotation;

/// What was rehearsed of it, and what there is of the second net; each on a line of its own.
pub(crate) fn of_new_root(rotation: &Rotation) -> String {
    let titled = |title: &str, all: &[String]| -> String {
        all.iter().map(|what| format!("\n  {title}: {what}")).collect()
    };
    titled("before it was published", &rotation.rehearsed)
        + &titled("second net", &rotation.second_net)
}
