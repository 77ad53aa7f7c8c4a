//! Who administers the machine that an agent runs on.

/// The user that this agent runs as.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this user may ask an agent that runs as `own` how it is.
pub(crate) const fn administers(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}
