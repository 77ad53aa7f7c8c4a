//! How long issuers live, and how long they sign: settings of `[root]` that are bound by those of leaves.

use std::time::Duration;

use trust::plain::span;

use super::leaf::LeafConfig;
use super::reader::Section;

/// `issuer_lifetime_min`, whose default and bounds are those of leaves and issuers.
pub(super) fn issuer_min(
    section: &mut Section<'_>,
    table: &toml::Table,
    issuer: Option<Duration>,
    leaf: Option<&LeafConfig>,
) -> Option<Duration> {
    let given = table.contains_key("issuer_lifetime_min");
    let min = section.duration("issuer_lifetime_min", "2d", ["1m", "36500d"])?;
    let (issuer, leaf) = (issuer?, leaf?.ttl_max());
    if !given {
        return Some((leaf * 2).min(issuer));
    }
    if min < leaf || min > issuer {
        section.problem(
            "issuer_lifetime_min",
            format_args!(
                "is shorter than leaf.ttl_max or longer than root.issuer_lifetime; write {} to {}",
                span(leaf),
                span(issuer)
            ),
        );
    }
    Some(min)
}

/// `issuer_renew_every`, whose bounds are those of leaves and issuers.
pub(super) fn renew_every(
    section: &mut Section<'_>,
    table: &toml::Table,
    issuer: Option<Duration>,
    leaf: Option<&LeafConfig>,
) -> Option<Option<Duration>> {
    if !table.contains_key("issuer_renew_every") {
        return Some(section.optional::<String>("issuer_renew_every", "a duration").and(None));
    }
    let every = section.duration("issuer_renew_every", "30d", ["1m", "36500d"])?;
    let (least, most) = (leaf?.ttl_max() * 4, issuer? / 2);
    if every < least || every > most {
        section.problem(
            "issuer_renew_every",
            format_args!(
                "is shorter than four times leaf.ttl_max or longer than half of root.issuer_lifetime; write {} to {}",
                span(least),
                span(most)
            ),
        );
    }
    Some(Some(every))
}
