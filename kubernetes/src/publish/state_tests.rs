//! What a channel knows and does next, without a cluster.

use super::super::content::Print;
use super::super::seen::Mark;
use super::*;
use crate::config::ChannelConfig;

const CA: &str = "ca";

fn shape(kind: ChannelKind) -> Arc<Shape> {
    let (name, labels, covers) = ("c".to_owned(), BTreeMap::new(), Vec::new());
    let staleness = Duration::from_secs(1);
    Arc::new(Shape::new(ChannelConfig { name, kind, labels, staleness, covers, gateways: None }))
}

fn bundles() -> Arc<Shape> {
    let (signer, prefix) = ("a.b/c".to_owned(), "p-".to_owned());
    shape(ChannelKind::ClusterTrustBundle { signer, prefix })
}

fn plan(sequence: u64, names: &[&str]) -> Plan {
    let content = |name: &&str| {
        let print: Print = [u8::try_from(sequence).unwrap(); 32];
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        let body = serde_json::Map::new();
        ((*name).to_owned(), Content { labels, annotations, body, print })
    };
    let ours = Ours { ca: CA.to_owned(), sequence };
    Plan { ours, contents: names.iter().map(content).collect() }
}

fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn seen(version: u64, sequence: u64) -> Seen {
    let mark = Some(Mark { ca: CA.to_owned(), sequence });
    let print = [u8::try_from(sequence).unwrap(); 32];
    Seen { version: version.to_string(), uid: "u".to_owned(), print, mark }
}

fn nobody() -> BTreeSet<Key> {
    BTreeSet::new()
}

#[test]
fn a_former_root_is_deleted_only_when_every_present_one_is_there() {
    let cluster = BTreeSet::from([String::new()]);
    let mut known = Known::new(bundles(), Some(cluster), vec![None]);
    let (old, new) = (key("", "a.b:c:p-old"), key("", "a.b:c:p-new"));
    known.hear(News::Begins(0));
    known.hear(News::Object(0, old.clone(), seen(5, 6)));
    known.hear(News::Complete(0));
    assert!(known.is_complete());
    known.publish(plan(7, &["a.b:c:p-new"]));
    let first = known.next(&nobody(), Duration::ZERO);
    assert_eq!(first, Some((new.clone(), Act::Write(None))));
    let under_way = BTreeSet::from([new.clone()]);
    assert_eq!(known.next(&under_way, Duration::ZERO), None, "the new one is not there yet");
    known.failed(new.clone(), "refused".to_owned(), false, Duration::ZERO);
    assert_eq!(known.next(&nobody(), Duration::ZERO), None, "and it may never be");
    known.saw(new, seen(9, 7));
    assert_eq!(known.next(&nobody(), Duration::ZERO), Some((old.clone(), Act::Delete(seen(5, 6)))));
    assert!(!known.is_right());
    known.gone(&old);
    assert_eq!(known.next(&nobody(), Duration::ZERO), None);
    assert!(known.is_right());
}

fn config_maps(selected: bool) -> Known {
    use crate::config::ObjectKind;
    let (object, name) = (ObjectKind::ConfigMap, "bundle".to_owned());
    let namespaces = Namespaces::Selected(None);
    let keys = BTreeSet::from(["ca.crt".to_owned()]);
    let shape =
        shape(ChannelKind::PerNamespace { object, name, keys, namespaces, also: Vec::new() });
    let fixed = (!selected).then(|| BTreeSet::from(["one".to_owned()]));
    Known::new(shape, fixed, vec![None])
}

#[test]
fn a_namespace_gets_its_object_when_it_comes_and_one_that_ends_holds_nobody_up() {
    let mut known = config_maps(true);
    known.publish(plan(7, &["bundle"]));
    known.hear(News::NamespacesBegin);
    known.hear(News::NamespacesComplete);
    assert!(known.is_right(), "there is no namespace");
    known.hear(News::Namespace("one".to_owned(), true));
    let there = key("one", "bundle");
    let next = known.next(&nobody(), Duration::ZERO);
    assert_eq!(next, Some((there.clone(), Act::Write(None))));
    known.failed(there, "it is being terminated".to_owned(), true, Duration::ZERO);
    assert!(!known.is_right());
    known.hear(News::Namespace("one".to_owned(), false));
    assert_eq!(known.next(&nobody(), Duration::ZERO), None);
    assert!(known.is_right());
}

#[test]
fn one_in_a_namespace_that_is_new_makes_no_other_wait_and_is_old_for_the_next_bundle() {
    let mut known = config_maps(true);
    known.hear(News::NamespacesBegin);
    known.hear(News::Namespace("one".to_owned(), true));
    known.publish(plan(7, &["bundle"]));
    known.hear(News::NamespacesComplete);
    let (one, two) = (key("one", "bundle"), key("two", "bundle"));
    assert!(!known.is_right_but_for_newborns() && !known.is_newborn(&one));
    known.saw(one.clone(), seen(9, 7));
    assert_eq!(known.next(&nobody(), Duration::ZERO), None);
    known.hear(News::Namespace("two".to_owned(), true));
    assert!(known.is_newborn(&two) && !known.is_right() && known.is_right_but_for_newborns());
    known.gone(&one);
    assert!(!known.is_right_but_for_newborns(), "what an old one lacks counts");
    let (namespaces, objects) = (
        ["one", "two", "three"].map(str::to_owned).into(),
        [one, two.clone()].map(|key| (key, seen(10, 7))).into(),
    );
    known.looked(namespaces, objects);
    assert_eq!(
        known.next(&nobody(), Duration::ZERO),
        Some((key("three", "bundle"), Act::Write(None)))
    );
    assert!(known.is_newborn(&key("three", "bundle")));
    known.publish(plan(8, &["bundle"]));
    assert!(!known.is_newborn(&two) && !known.is_right_but_for_newborns());
}

#[test]
fn what_a_watch_tells_late_does_not_undo_what_was_seen_since() {
    let mut known = config_maps(false);
    known.publish(plan(7, &["bundle"]));
    let there = key("one", "bundle");
    known.saw(there.clone(), seen(9, 7));
    known.hear(News::Object(0, there.clone(), seen(8, 6)));
    known.hear(News::Gone(there.clone(), seen(8, 6)));
    assert_eq!(known.next(&nobody(), Duration::ZERO), None);
    assert!(known.is_right());
    known.hear(News::Gone(there.clone(), seen(10, 7)));
    assert_eq!(known.next(&nobody(), Duration::ZERO), Some((there, Act::Write(None))));
}

#[test]
fn an_object_that_a_new_list_lacks_is_gone() {
    let mut known = config_maps(false);
    known.publish(plan(7, &["bundle"]));
    let there = key("one", "bundle");
    known.saw(there.clone(), seen(9, 7));
    known.hear(News::Begins(0));
    known.hear(News::Complete(0));
    assert_eq!(known.next(&nobody(), Duration::ZERO), Some((there, Act::Write(None))));
}

#[test]
fn one_that_has_a_later_bundle_stops_the_channel_until_the_ca_has_it_too() {
    let mut known = config_maps(false);
    known.saw(key("one", "bundle"), seen(9, 8));
    known.publish(plan(7, &["bundle"]));
    assert_eq!(known.next(&nobody(), Duration::ZERO), None);
    let fault = known.faults().values().next().unwrap();
    assert!(fault.text.contains("bundle 8") && !fault.passing && !known.is_right());
    known.publish(plan(8, &["bundle"]));
    assert_eq!(known.next(&nobody(), Duration::ZERO), None);
    assert!(known.is_right());
}

#[test]
fn a_write_that_failed_is_tried_again_after_a_pause_that_grows() {
    let mut known = config_maps(false);
    known.publish(plan(7, &["bundle"]));
    let secs = Duration::from_secs;
    let (there, _) = known.next(&nobody(), secs(0)).unwrap();
    known.failed(there.clone(), "away".to_owned(), true, secs(0));
    assert_eq!(known.next(&nobody(), Duration::from_millis(900)), None);
    assert!(known.next(&nobody(), secs(1)).is_some());
    known.failed(there, "away".to_owned(), true, secs(1));
    assert_eq!(known.next(&nobody(), secs(2)), None);
    assert!(known.next(&nobody(), secs(3)).is_some());
}
