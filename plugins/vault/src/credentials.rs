//! What lets the plugin in: tokens and secrets, read again at each use, and the logins they are for.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use plugins::PluginError;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Longest secret that is read.
const SECRET_MAX: u64 = 64 * 1024;
/// Permission bits that no file of secrets has: writing by the group, and anything by others.
const TOO_OPEN: u32 = 0o027;

/// How to be let in. Nothing secret is in here, only where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A token that somebody else made.
    Token(Source),
    /// A role's id, and a secret id in a file.
    AppRole { path: String, role_id: String, secret_id: PathBuf },
    /// A role, and the token of a service account in a file.
    Kubernetes { path: String, role: String, jwt: PathBuf },
    /// A client certificate; the role says which of several it is for.
    Certificate { path: String, role: Option<String>, cert: PathBuf, key: PathBuf },
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Environment(String),
}

/// A login: where to, and with what. Its body is secret.
pub(crate) struct Login {
    pub(crate) path: String,
    pub(crate) body: Value,
}

impl Credentials {
    /// The certificate and key that are shown in handshakes.
    pub(crate) fn identity(&self) -> Option<(PathBuf, PathBuf)> {
        match self {
            Self::Certificate { cert, key, .. } => Some((cert.clone(), key.clone())),
            _ => None,
        }
    }

    /// Where the secret is, for people to look there.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Token(Source::File(path)) => format!("the token in {}", path.display()),
            Self::Token(Source::Environment(name)) => format!("the token in ${name}"),
            Self::AppRole { secret_id, .. } => format!("the secret id in {}", secret_id.display()),
            Self::Kubernetes { jwt, .. } => {
                format!("the service account's token in {}", jwt.display())
            }
            Self::Certificate { cert, .. } => format!("the certificate in {}", cert.display()),
        }
    }

    /// The token that somebody else made, or the login that makes one.
    pub(crate) fn read(&self) -> Result<Result<Zeroizing<String>, Login>, PluginError> {
        let login = |path: &str, body| Ok(Err(Login { path: format!("auth/{path}/login"), body }));
        match self {
            Self::Token(Source::File(path)) => secret("auth.token_file", path, true).map(Ok),
            Self::Token(Source::Environment(name)) => variable(name).map(Ok),
            Self::AppRole { path, role_id, secret_id } => {
                let secret = secret("auth.secret_id_file", secret_id, true)?;
                login(path, json!({ "role_id": role_id, "secret_id": secret.as_str() }))
            }
            Self::Kubernetes { path, role, jwt } => {
                // The kubelet decides the mode of this one.
                let jwt = secret("auth.token_file", jwt, false)?;
                login(path, json!({ "role": role, "jwt": jwt.as_str() }))
            }
            Self::Certificate { path, role, key, .. } => {
                closed("auth.key_file", key)?;
                login(path, role.as_ref().map_or_else(|| json!({}), |role| json!({ "name": role })))
            }
        }
    }
}

fn variable(name: &str) -> Result<Zeroizing<String>, PluginError> {
    let found = std::env::var(name).map(Zeroizing::new).ok().filter(|text| !text.trim().is_empty());
    let text = found.ok_or_else(|| PluginError::Misconfigured {
        field: "auth.token_env".to_owned(),
        detail: format!(
            "the environment variable {name} is not set; put the token in it, or name a token_file"
        ),
    })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// A file with one line.
fn secret(field: &str, path: &Path, own: bool) -> Result<Zeroizing<String>, PluginError> {
    if own {
        closed(field, path)?;
    }
    let unreadable = |problem: String| wrong(field, path, &problem);
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(SECRET_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(error.to_string()))?;
    let line = text.trim();
    if line.is_empty() || line.contains(char::is_whitespace) || text.len() as u64 > SECRET_MAX {
        return Err(wrong(
            field,
            path,
            "does not hold one line without spaces; write the secret alone into it",
        ));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn closed(field: &str, path: &Path) -> Result<(), PluginError> {
    let mode = fs::metadata(path)
        .map_err(|error| wrong(field, path, &error.to_string()))?
        .permissions()
        .mode();
    if mode & TOO_OPEN != 0 {
        let problem =
            format!("has mode {:04o}, and others may use it; run chmod 0600 on it", mode & 0o7777);
        return Err(wrong(field, path, &problem));
    }
    Ok(())
}

fn wrong(field: &str, path: &Path, problem: &str) -> PluginError {
    PluginError::Misconfigured {
        field: field.to_owned(),
        detail: format!("{}: {problem}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(home: &Path, text: &str, mode: u32) -> Credentials {
        let path = home.join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Credentials::Token(Source::File(path))
    }

    #[test]
    fn a_token_is_read_again_at_each_use() {
        let home = tempfile::tempdir().unwrap();
        for text in ["s.one\n", "s.two", "  s.three \n"] {
            let read = file(home.path(), text, 0o600).read().unwrap();
            assert_eq!(read.ok().unwrap().as_str(), text.trim());
        }
    }

    #[test]
    fn a_file_that_others_may_use_is_refused_without_its_contents() {
        let home = tempfile::tempdir().unwrap();
        for (text, mode) in
            [("s.secret", 0o644), ("s.secret", 0o620), ("s.secret\ns.more", 0o600), ("", 0o600)]
        {
            let refused = file(home.path(), text, mode).read().err().unwrap().to_string();
            assert!(
                refused.contains("auth.token_file") && !refused.contains("s.secret"),
                "{refused}"
            );
        }
        assert!(file(home.path(), "s.secret", 0o640).read().is_ok(), "a group may read");
        let gone = Credentials::Token(Source::File(home.path().join("none")));
        assert!(gone.read().err().unwrap().to_string().contains("none"));
        let unset =
            Credentials::Token(Source::Environment("BANYAN_TEST_NO_SUCH_VARIABLE".to_owned()));
        assert!(unset.read().err().unwrap().to_string().contains("is not set"));
    }
}
