//! Processes as the kernel tells of them: who they are for as long as they live, and when they are gone.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures::future::BoxFuture;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often a process is looked at where the kernel gives no pidfd for it.
const POLL: Duration = Duration::from_secs(5);

/// One process of this boot: a pid may be given again, but not with the same start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks after boot (`/proc/<pid>/stat`, field 22).
    pub(crate) start: u64,
}

/// What the agent asks the kernel.
pub(crate) trait Processes: Send + Sync + fmt::Debug {
    /// The process that has this pid now; `None` if there is none that we can see.
    ///
    /// # Errors
    /// If it could not be looked for, such as for want of a file descriptor.
    fn find(&self, pid: i32) -> io::Result<Option<ProcessId>>;

    /// Completes when the process is gone.
    fn gone(&self, process: ProcessId) -> BoxFuture<'static, ()>;

    /// Tells one boot of the machine from another.
    fn boot(&self) -> String;
}

/// The kernel's own account, through `/proc` and pidfds.
#[derive(Debug)]
pub(crate) struct KernelProcesses;

impl Processes for KernelProcesses {
    fn find(&self, pid: i32) -> io::Result<Option<ProcessId>> {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => Ok(start_of(&stat).map(|start| ProcessId { pid, start })),
            // It may end between the opening and the reading.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn gone(&self, process: ProcessId) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            match open(process) {
                Opened::Gone => {}
                Opened::Watch(pidfd) => {
                    // A pidfd becomes readable when its process exits. An error means that it cannot be watched.
                    if pidfd.readable().await.is_err() {
                        poll(process).await;
                    }
                }
                Opened::Unwatchable => poll(process).await,
            }
        })
    }

    fn boot(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| String::new(), |id| id.trim().to_owned())
    }
}

enum Opened {
    Gone,
    Watch(AsyncFd<OwnedFd>),
    Unwatchable,
}

fn open(process: ProcessId) -> Opened {
    let Some(pid) = Pid::from_raw(process.pid) else { return Opened::Gone };
    match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        // Looked at after the pidfd is held: if it is still the same process, the pidfd is that process's.
        Ok(_) if is_gone(process) => Opened::Gone,
        Ok(pidfd) => watched(pidfd).map_or(Opened::Unwatchable, Opened::Watch),
        Err(Errno::SRCH) => Opened::Gone,
        Err(_) => Opened::Unwatchable,
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, which this crate forbids; an OwnedFd is open for as long as it is owned"
)]
fn watched(pidfd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE).ok()
}

async fn poll(process: ProcessId) {
    while !is_gone(process) {
        tokio::time::sleep(POLL).await;
    }
}

/// A process that cannot be looked at is not one that has gone.
fn is_gone(process: ProcessId) -> bool {
    KernelProcesses.find(process.pid).is_ok_and(|found| found != Some(process))
}

/// Field 22. The second field is the program's name in parentheses and may itself hold spaces and parentheses.
fn start_of(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    // A zombie runs no more and holds no key, though its pid is not given again yet.
    (state != "Z").then_some(())?;
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_full_of_parentheses_does_not_confuse() {
        let numbers: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) S (b) R {}", numbers.join(" "));
        assert_eq!(start_of(&stat), Some(22));
        assert_eq!(start_of("7 (a) Z 1"), None);
        assert_eq!(start_of(""), None);
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_seen_and_not_before() {
        let mut child = tokio::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        let process = KernelProcesses.find(pid).unwrap().unwrap();
        let mut gone = KernelProcesses.gone(process);
        assert!(futures::poll!(gone.as_mut()).is_pending());
        child.kill().await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
        assert_ne!(KernelProcesses.find(pid).unwrap(), Some(process));
    }

    #[tokio::test]
    async fn another_process_with_the_same_pid_is_not_the_one_that_was() {
        let me = KernelProcesses.find(i32::try_from(std::process::id()).unwrap()).unwrap().unwrap();
        let before = ProcessId { start: me.start.wrapping_add(1), ..me };
        tokio::time::timeout(Duration::from_secs(20), KernelProcesses.gone(before)).await.unwrap();
    }
}
