//! Programs that come from the operating system's packages.

use std::process::Command;

use anyhow::bail;

use crate::process;

/// A Debian package and how to see that what it brings is there, on Debian or anywhere else.
#[derive(Debug)]
pub(crate) struct Package {
    /// Name in Debian's archive.
    pub(crate) name: &'static str,
    /// A command that ends well if and only if the package's part is there.
    pub(crate) proof: &'static [&'static str],
}

pub(crate) const OPENSSL: Package = Package { name: "openssl", proof: &["openssl", "version"] };
pub(crate) const CURL: Package = Package { name: "curl", proof: &["curl", "--version"] };
/// What Go calls for packages that are written in C.
pub(crate) const C_COMPILER: Package =
    Package { name: "build-essential", proof: &["cc", "--version"] };
/// What gives a test a network of its own.
pub(crate) const IPROUTE: Package = Package { name: "iproute2", proof: &["ip", "-Version"] };
/// Debian keeps `ensurepip`, without which no virtual environment gets a `pip`, in a package of its own.
pub(crate) const PYTHON_VENV: Package =
    Package { name: "python3-venv", proof: &["python3", "-c", "import venv, ensurepip"] };

/// Installs what is missing.
///
/// # Errors
/// If something is missing and this user may not install packages: the text says which command to run.
pub(crate) fn ensure(packages: &[&Package]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|package| !present(package)).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if process::output(Command::new("id").arg("-u")).as_deref() != Some("0") {
        bail!(
            "missing {names}: run `sudo apt-get install {names}`, or install the same from your system's packages"
        );
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args([
            "-qq",
            "-o",
            "DPkg::Lock::Timeout=300",
        ]);
        command
    };
    process::run(apt().arg("update"))?;
    process::run(apt().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
}

fn present(package: &Package) -> bool {
    let [program, arguments @ ..] = package.proof else { return false };
    process::succeeds(Command::new(program).args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_is_what_the_proof_says() {
        assert!(present(&Package { name: "there", proof: &["sh", "-c", "true"] }));
        assert!(!present(&Package { name: "broken", proof: &["sh", "-c", "false"] }));
        assert!(!present(&Package { name: "absent", proof: &["no-such-program-here"] }));
    }
}
