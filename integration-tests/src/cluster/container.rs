//! A container: a process with a file system of its own, which it may not write to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::cgroup::Cgroup;
use super::image::Images;
use super::volumes::{pointer, text};

/// Under this name its maker finds the Pod's address.
pub(super) const OWN_ADDRESS: &str = "FAKE_KUBELET_POD_IP";

/// What a kubelet waits for a container of the chart that was asked to end.
const GRACE: Duration = Duration::from_secs(45);

/// What a container is made of.
#[derive(Debug)]
pub(super) struct Made<'a> {
    pub(super) pod: &'a Value,
    /// Its specification.
    pub(super) spec: &'a Value,
    /// What stands for images.
    pub(super) images: &'a Images,
    /// Folder of the Pod.
    pub(super) home: &'a Path,
    /// Folders of the Pod's volumes, by name.
    pub(super) volumes: &'a BTreeMap<String, PathBuf>,
    /// What stands before a program that runs in the Pod's network.
    pub(super) before: &'a [String],
    /// The Pod's cgroup, if it has one of its own.
    pub(super) cgroup: Option<&'a Cgroup>,
    /// What every container has in its environment.
    pub(super) environment: &'a [(String, String)],
}

/// A running container. Dropping it kills it, with whatever its program has started.
#[derive(Debug)]
pub struct Container {
    name: String,
    log: PathBuf,
    child: Child,
    /// Its processes, until they were ended: a proxy that outlives the program which started it would be left over.
    group: Option<Pid>,
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill_rest();
    }
}

impl Container {
    pub(super) fn start(made: &Made<'_>) -> anyhow::Result<Self> {
        let name = text(made.spec, "/name")?.to_owned();
        let log = made.home.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let program = made.images.image_of(made.spec).programs().first();
        let program = program.with_context(|| format!("the image of {name} has no program"))?;
        let program = Value::from(format!("/{}", program.name));
        let arguments = [&program].into_iter().chain(list(&made.spec["args"]));
        let mut command = made.command(arguments)?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| format!("container {name}"))?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { name, log, child, group })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process, as long as it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// That it did not end by itself.
    ///
    /// # Errors
    /// With what it printed.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("container {} ended with {status}: {}", self.name, self.log()),
            None => Ok(()),
        }
    }

    /// Ends it without a word.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.kill_rest();
        Ok(self.child.kill().await?)
    }

    fn kill_rest(&mut self) {
        if let Some(group) = self.group.take() {
            // Nothing of it may be left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// The same for one that may have ended by itself.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn stop_if_it_runs(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            self.kill_rest();
            return Ok(());
        }
        let name = self.name.clone();
        let stopped = tokio::time::timeout(GRACE, self.stop()).await;
        stopped.with_context(|| format!("container {name} does not end when it is asked to"))?
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(id.context("it does not run")?, Signal::TERM)?;
        self.child.wait().await?;
        self.kill_rest();
        Ok(())
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Made<'_> {
    /// Makes the file system, and runs in it what follows. `ip netns exec` has given it mounts of its own already.
    fn script(&self, name: &str) -> anyhow::Result<String> {
        let root = self.home.join("root").join(name);
        fs::create_dir_all(&root)?;
        let at = root.display();
        let mut script = format!("mount -t tmpfs root {at}; cd {at}; mkdir usr proc dev etc tmp\n");
        script
            .push_str("for one in bin lib lib64 sbin; do [ ! -e /$one ] || cp -a /$one .; done\n");
        script.push_str("for one in usr proc dev; do mount --rbind /$one $one; done\n");
        writeln!(
            script,
            "cp {}/hosts etc/hosts; echo 'hosts: files' > etc/nsswitch.conf",
            self.home.display()
        )?;
        for program in self.images.image_of(self.spec).programs() {
            let (name, path) = (&program.name, program.path.display());
            writeln!(script, "touch {name}; mount --bind {path} {name}")?;
        }
        for mount in list(&self.spec["volumeMounts"]) {
            let volume = text(mount, "/name")?;
            let folder = self.volumes.get(volume);
            let folder = folder.with_context(|| format!("no volume is called {volume}"))?.display();
            let path = text(mount, "/mountPath")?;
            writeln!(script, "mkdir -p .{path}; mount --bind {folder} .{path}")?;
            if mount["readOnly"] == true {
                writeln!(script, "mount -o remount,bind,ro .{path}")?;
            }
        }
        writeln!(script, "mount -o remount,ro {at}; exec chroot {at} \"$@\"")?;
        Ok(script)
    }

    /// Runs what its startup probe says, beside it; answers whether that succeeded, and what it printed.
    pub(super) async fn probe(&self) -> anyhow::Result<(bool, String)> {
        let line = self.spec.pointer("/startupProbe/exec/command").context("it has no probe")?;
        self.exec(line).await
    }

    /// Runs a command beside it, as `kubectl exec` does; answers whether that succeeded, and what it printed.
    pub(super) async fn exec(&self, line: &Value) -> anyhow::Result<(bool, String)> {
        let output = self.command(list(line))?.output().await?;
        let printed = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&printed).into_owned()))
    }

    /// A command in its file system.
    fn command<'v>(&self, line: impl Iterator<Item = &'v Value>) -> anyhow::Result<Command> {
        let name = text(self.spec, "/name")?;
        let mut before = self.cgroup.map(|one| one.before(name)).transpose()?.unwrap_or_default();
        before.extend_from_slice(self.before);
        let mut before = before.iter();
        let mut command = Command::new(before.next().context("nothing stands before it")?);
        command.args(before).args(["sh", "-euc", &self.script(name)?, "sh"]);
        for argument in line {
            command.arg(argument.as_str().context("an argument is a text")?);
        }
        let path = std::env::var_os("PATH").context("PATH is not set")?;
        command.env_clear().env("PATH", path).envs(self.environment.iter().cloned());
        command.envs(self.variables()?).stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    fn variables(&self) -> anyhow::Result<Vec<(String, String)>> {
        let variables = list(&self.spec["env"]);
        variables
            .map(|variable| {
                let name = text(variable, "/name")?.to_owned();
                let field = variable.pointer("/valueFrom/fieldRef/fieldPath");
                let value = match field.and_then(Value::as_str) {
                    Some("status.podIP") => self.own_address()?,
                    Some(field) => text(self.pod, &pointer(field))?.to_owned(),
                    // The API server leaves out an empty one.
                    None => variable["value"].as_str().unwrap_or_default().to_owned(),
                };
                Ok((name, value))
            })
            .collect()
    }

    fn own_address(&self) -> anyhow::Result<String> {
        let own = self.environment.iter().find(|(name, _)| name == OWN_ADDRESS);
        Ok(own.context("the Pod has no address")?.1.clone())
    }
}
