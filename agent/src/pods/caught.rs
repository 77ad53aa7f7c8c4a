//! The process at the other end of a connection, held by the kernel while it is looked at.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::cgroup::{Accounts, Layout, Place};
use crate::process::{KernelProcesses, ProcessId, Processes as _};

/// Who connected, and where that process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caught {
    pub(crate) process: ProcessId,
    pub(crate) place: Place,
}

/// Looks at the process that connected; `None` if it has ended. A pid may be given again while it is looked at, so the process is
/// held, and must be there still when all was read.
///
/// # Errors
/// If it cannot be looked at.
pub(crate) fn caught(
    connection: impl AsFd,
    pid: i32,
    layout: &Layout,
) -> io::Result<Option<Caught>> {
    let Some(held) = hold(connection, pid)? else { return Ok(None) };
    let Some(process) = KernelProcesses.find(pid)? else { return Ok(None) };
    let account = match fs::read_to_string(format!("/proc/{pid}/cgroup")) {
        Ok(account) => account,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (own, first) = (account_of("self")?, account_of("1")?);
    let place = layout.place(&Accounts { process: &account, own: &own, first: &first });
    Ok(is_there(&held, pid)?.then_some(Caught { process, place }))
}

/// Where this process itself runs.
///
/// # Errors
/// If that cannot be read.
pub(crate) fn own_place(layout: &Layout) -> io::Result<Place> {
    let (own, first) = (account_of("self")?, account_of("1")?);
    Ok(layout.place(&Accounts { process: &own, own: &own, first: &first }))
}

/// A handle of the process. Since Linux 6.5 the kernel gives that of who connected; before, of who has its pid a moment later.
fn hold(connection: impl AsFd, pid: i32) -> io::Result<Option<OwnedFd>> {
    match getsockopt(&connection, PeerPidfd) {
        Ok(held) => return Ok(Some(held)),
        Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => {}
        // It has ended, and its parent has taken note.
        Err(Errno::ESRCH | Errno::EINVAL | Errno::ENODATA) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(held) => Ok(Some(held)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the process that is held is still there, under this pid.
fn is_there(held: &OwnedFd, pid: i32) -> io::Result<bool> {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", held.as_raw_fd()))?;
    let has = told.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
    Ok(has.and_then(|has| has.parse().ok()) == Some(pid))
}

fn account_of(who: &str) -> io::Result<String> {
    let path = format!("/proc/{who}/cgroup");
    fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_process_that_connected_is_found_and_one_that_has_ended_is_not() {
        let (near, _far) = UnixStream::pair().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let found = caught(&near, own, &Layout::default()).unwrap().unwrap();
        assert_eq!(found.process, KernelProcesses.find(own).unwrap().unwrap());
        // A pid that is not the one of who connected says nothing.
        assert_eq!(caught(&near, 1, &Layout::default()).unwrap(), None);
    }

    #[test]
    fn a_connection_outlives_who_made_it_and_then_it_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        // It hands its connection to a child, and ends.
        let script = "import os, socket, sys, time\n\
                      s = socket.socket(socket.AF_UNIX)\n\
                      s.connect(sys.argv[1])\n\
                      if os.fork() == 0:\n    sys.stdin.read()\n    os._exit(0)\n";
        let mut maker = Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("python3 hands its connection on: install python3");
        let (connection, _) = listener.accept().unwrap();
        let pid = i32::try_from(maker.id()).unwrap();
        let stdin = maker.stdin.take();
        maker.wait().unwrap();
        connection.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let waits = std::io::Read::read(&mut &connection, &mut [0]).unwrap_err();
        assert_eq!(waits.kind(), io::ErrorKind::WouldBlock, "the child holds it open");
        assert_eq!(caught(&connection, pid, &Layout::default()).unwrap(), None);
        drop(stdin);
    }
}
