//! Names, bounded waits and files.

use std::time::Duration;

/// The trust domain of every test.
pub const TRUST_DOMAIN: &str = "example.org";
/// Longest wait for something that should happen soon, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(120);

/// Waits until a condition holds, asking every few milliseconds.
///
/// # Errors
/// When it does not hold in time; the error names it.
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut holds: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, poll).await.map_err(|_| anyhow::anyhow!("not in time: {what}"))
}

/// Writes a file that only its owner may read.
///
/// # Errors
/// As the operating system says.
pub fn write_private(path: &std::path::Path, contents: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, contents)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}
