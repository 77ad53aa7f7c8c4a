//! The Pod that a process runs in, by the names of its cgroups. Pure.
//!
//! A kubelet gives each Pod a cgroup below its own, in one of two ways of writing:
//!
//! | driver | path |
//! |---|---|
//! | systemd | `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f_1.slice/cri-containerd-C.scope` |
//! | cgroupfs | `/kubepods/burstable/pod0f-1/C` |
//!
//! (guaranteed Pods are one level higher). What is below the Pod's own cgroup is the container's: it may make cgroups there
//! and name them as it likes. So every component counts at its own depth only, from the top, and nothing is searched for.
//!
//! A process in a cgroup namespace sees paths from where that begins: `/../../kubepods-podX.slice/...` is two levels up from
//! there. How deep it begins says the account of the first process of the machine, which is not below any Pod.

use std::collections::BTreeSet;
use std::fmt;

/// Longest UID that is taken for one.
const UID_LEN_MAX: usize = 64;

/// UID of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PodUid(String);

/// Where a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a Pod.
    Pod(PodUid),
    /// In the agent's own container.
    Own,
    /// In no Pod.
    Outside,
    /// Its cgroups contradict each other; what they say.
    Unclear(String),
}

/// Where the kubelet's cgroups are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    /// What a kubelet has as `--cgroup-root`, in parts.
    root: Vec<String>,
}

/// Texts of `/proc/PID/cgroup`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accounts<'a> {
    /// Of the process that is asked about.
    pub(crate) process: &'a str,
    /// Of the agent.
    pub(crate) own: &'a str,
    /// Of the first process of the machine.
    pub(crate) first: &'a str,
}

impl PodUid {
    /// A UID as the API server has it, or as a cgroup is named for it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let good = (1..=UID_LEN_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        good.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Layout {
    /// The layout below a cgroup, `/` for the usual one.
    pub(crate) fn below(root: &str) -> Option<Self> {
        let parts: Vec<String> = root
            .strip_prefix('/')?
            .split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        let good = |part: &String| {
            !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte))
        };
        parts.iter().all(good).then_some(Self { root: parts })
    }

    /// Where a process runs. Each hierarchy of cgroups has a line; those that say something say the same.
    pub(crate) fn place(&self, accounts: &Accounts<'_>) -> Place {
        let (mut pods, mut own, mut elsewhere) = (BTreeSet::new(), false, false);
        for (controllers, path) in lines(accounts.process) {
            let of = |account: &str| {
                lines(account)
                    .find(|(other, _)| *other == controllers)
                    .map(|(_, path)| path.to_owned())
            };
            let depth = of(accounts.first).map_or(0, |first| Path::of(&first).up);
            let (path, ours) = (Path::of(path), of(accounts.own).unwrap_or_default());
            match self.found(&path, depth) {
                Found::Pod(uid) => drop(pods.insert(uid)),
                // Below where the agent's own namespace begins, and that is not the top of everything.
                Found::Below => own = true,
                Found::Elsewhere => elsewhere |= Path::of(&ours) != path,
            }
        }
        let mut named = pods.into_iter();
        match (named.next(), named.next()) {
            (Some(uid), None) => Place::Pod(uid),
            (None, _) if own && !elsewhere => Place::Own,
            (None, _) => Place::Outside,
            (Some(one), Some(other)) => Place::Unclear(format!("Pods {one} and {other}")),
        }
    }

    fn found(&self, path: &Path<'_>, depth: usize) -> Found {
        if path.up == 0 && depth > 0 {
            return Found::Below;
        }
        // Seen from the top, the path is below so many levels that it shares with the agent.
        let Some(shared) = depth.checked_sub(path.up) else { return Found::Elsewhere };
        for (at, part) in (shared..).zip(&path.parts) {
            match self.step(at, part) {
                Step::Pod(uid) => return Found::Pod(uid),
                Step::Goes => {}
                Step::Ends => return Found::Elsewhere,
            }
        }
        Found::Elsewhere
    }

    /// What a component is at its depth, the top being 0.
    fn step(&self, at: usize, part: &str) -> Step {
        let top = self.root.len();
        if at < top {
            let slice = format!("{}.slice", self.root.get(..=at).unwrap_or_default().join("-"));
            let known = self.root.get(at).is_some_and(|root| root == part) || slice == part;
            return if known { Step::Goes } else { Step::Ends };
        }
        let prefix: String = self.root.iter().map(|part| format!("{part}-")).collect();
        let sliced =
            part.strip_suffix(".slice").and_then(|name| name.strip_prefix(prefix.as_str()));
        match at - top {
            0 if part == "kubepods" || sliced == Some("kubepods") => Step::Goes,
            1 if ["burstable", "besteffort"].contains(&part) => Step::Goes,
            1 if [Some("kubepods-burstable"), Some("kubepods-besteffort")].contains(&sliced) => {
                Step::Goes
            }
            1 | 2 => {
                let uid = match sliced {
                    Some(name) => of_slice(name, at - top),
                    None => part.strip_prefix("pod").and_then(PodUid::parse),
                };
                uid.map_or(Step::Ends, Step::Pod)
            }
            _ => Step::Ends,
        }
    }
}

/// The UID in the name of a slice: in it `_` stands for `-`.
fn of_slice(name: &str, level: usize) -> Option<PodUid> {
    let classes: &[&str] = match level {
        1 => &["kubepods-pod"],
        _ => &["kubepods-burstable-pod", "kubepods-besteffort-pod"],
    };
    let uid = classes.iter().find_map(|class| name.strip_prefix(class))?;
    (!uid.contains('-')).then(|| PodUid::parse(&uid.replace('_', "-"))).flatten()
}

enum Step {
    Pod(PodUid),
    /// A level that the kubelet has above Pods.
    Goes,
    /// Something else: whatever is below it was not made by the kubelet.
    Ends,
}

enum Found {
    Pod(PodUid),
    Below,
    Elsewhere,
}

/// A path as the agent sees it.
#[derive(Debug, PartialEq, Eq)]
struct Path<'a> {
    /// Levels up from where the agent's namespace begins.
    up: usize,
    parts: Vec<&'a str>,
}

impl<'a> Path<'a> {
    fn of(text: &'a str) -> Self {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        let up = parts.iter().take_while(|part| **part == "..").count();
        Self { up, parts: parts.into_iter().skip(up).collect() }
    }
}

/// Controllers and path of each line.
fn lines(account: &str) -> impl Iterator<Item = (&str, &str)> {
    account.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        Some((controllers, path))
    })
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
