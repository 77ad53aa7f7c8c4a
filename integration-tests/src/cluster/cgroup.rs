//! Cgroups of Pods: real ones, named by this fake as a kubelet with the systemd driver names them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::volumes::text;

/// What has to be done where cgroups cannot be made.
const NEEDS: &str = "run the tests as root, with the second version of cgroups mounted: mount -t cgroup2 none /sys/fs/cgroup/unified";

/// The cgroup of a Pod. Dropping it kills what is left in it.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup of a Pod.
    pub(super) fn of(pod: &Value) -> anyhow::Result<Self> {
        let uid = text(pod, "/metadata/uid")?.replace('-', "_");
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        let asks = |one: &Value| one.pointer("/resources/requests").is_some();
        let class = match containers.into_iter().flatten().any(asks) {
            true => "kubepods-burstable",
            false => "kubepods-besteffort",
        };
        let path = root()?
            .join("kubepods.slice")
            .join(format!("{class}.slice"))
            .join(format!("{class}-pod{uid}.slice"));
        fs::create_dir_all(&path).with_context(|| format!("{}: {NEEDS}", path.display()))?;
        Ok(Self { path })
    }

    /// What stands before a program that runs in a container of it.
    pub(super) fn before(&self, container: &str) -> anyhow::Result<Vec<String>> {
        let at = self.path.join(format!("cri-containerd-{container}.scope"));
        fs::create_dir_all(&at).with_context(|| format!("{}: {NEEDS}", at.display()))?;
        let script = "echo $$ > \"$0/cgroup.procs\"; exec unshare --cgroup -- \"$@\"";
        let words = ["sh", "-euc", script, &at.display().to_string()];
        Ok(words.map(str::to_owned).into())
    }

    /// Its folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What cannot be removed is empty, and no other Pod is called so.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        for _ in 0..100 {
            if remove(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// Where the second version of cgroups is mounted.
fn root() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = mounts.find(|fields| fields.get(2) == Some(&"cgroup2"));
    let root = found.and_then(|fields| fields.get(1).map(PathBuf::from)).context(NEEDS)?;
    ensure!(root.is_dir(), "{} is no folder: {NEEDS}", root.display());
    Ok(root)
}
