//! The settings of the plugin.

use std::path::{Path, PathBuf};

use plugin_http::{Address, Server, TlsFiles};
use plugins::{ConfigProblem, ConfigTable};

use crate::credentials::{Credentials, Source};

/// The mount that a PKI engine has unless it was given another one.
const MOUNT: &str = "pki";
/// Where Kubernetes puts the token of a pod's service account.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Which server, which mount there, and how to be let in.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `address`, `ca_file`, and the certificate of `auth.method = "cert"`.
    pub(crate) server: Server,
    /// `mount`: where the PKI engine is. Default `pki`.
    pub(crate) mount: String,
    /// `namespace`: the namespace of the mount and of the login. Default none.
    pub(crate) namespace: Option<String>,
    /// `issuer`: id or name of the issuer that signs. Default: the mount's default issuer.
    pub(crate) issuer: Option<String>,
    /// `exclusive`: whether nobody else issues under these roots. Default false.
    pub(crate) exclusive: bool,
    /// `mint_roots`: whether new roots are made in the mount. Default false.
    pub(crate) mint_roots: bool,
    /// `auth`: how to be let in. Required.
    pub(crate) credentials: Credentials,
}

impl Settings {
    pub(crate) fn read(table: &toml::Table, base: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(table);
        let address: Option<String> = fields.required("address");
        let ca_file = fields.optional::<PathBuf>("ca_file").map(|path| base.join(path));
        let mount = fields.optional("mount").unwrap_or_else(|| MOUNT.to_owned());
        let namespace: Option<String> = fields.optional("namespace");
        let issuer: Option<String> = fields.optional("issuer");
        let exclusive = fields.optional("exclusive").unwrap_or(false);
        let mint_roots = fields.optional("mint_roots").unwrap_or(false);
        let auth: Option<toml::Table> = fields.required("auth");

        let address = address.and_then(|text| kept(&mut fields, "address", Address::parse(&text)));
        if address.as_ref().is_some_and(Address::is_https) && ca_file.is_none() {
            fields.problem(
                "ca_file",
                "is missing: name the roots, in PEM, that the server's certificate chains to",
            );
        }
        let mount = kept(&mut fields, "mount", path("mount", &mount));
        let namespace =
            namespace.and_then(|text| kept(&mut fields, "namespace", path("namespace", &text)));
        let issuer = issuer.filter(|text| text != "default");
        let issuer = issuer.and_then(|text| kept(&mut fields, "issuer", segment("issuer", &text)));
        if mint_roots && issuer.is_some() {
            let problem = "stands beside issuer: a new root is made to sign by making it the mount's default issuer; \
                           remove one of the two";
            fields.problem("mint_roots", problem);
        }
        let credentials = auth.and_then(|table| match credentials(&table, base) {
            Ok(credentials) => Some(credentials),
            Err(problems) => {
                for problem in problems {
                    fields.problem(&format!("auth.{}", problem.field), problem.problem);
                }
                None
            }
        });
        let https = address.as_ref().is_some_and(Address::is_https);
        if !https && matches!(credentials, Some(Credentials::Certificate { .. })) {
            fields.problem(
                "address",
                "is reached without TLS, where no certificate is shown; write https://HOST:PORT",
            );
        }
        let all = address.zip(mount).zip(credentials);
        fields.finish(all.map(|((address, mount), credentials)| {
            let identity = credentials.identity();
            let server = Server { address, tls: TlsFiles { ca: ca_file, identity } };
            Self { server, mount, namespace, issuer, exclusive, mint_roots, credentials }
        }))
    }
}

fn credentials(table: &toml::Table, base: &Path) -> Result<Credentials, Vec<ConfigProblem>> {
    let mut fields = ConfigTable::new(table);
    let method: Option<String> = fields.required("method");
    let credentials = match method.as_deref() {
        Some("token") => token(&mut fields, base),
        Some("approle") => {
            let path = login_path(&mut fields, "approle");
            let role_id: Option<String> = fields.required("role_id");
            let secret_id =
                fields.required::<PathBuf>("secret_id_file").map(|path| base.join(path));
            path.zip(role_id).zip(secret_id).map(|((path, role_id), secret_id)| {
                Credentials::AppRole { path, role_id, secret_id }
            })
        }
        Some("kubernetes") => {
            let path = login_path(&mut fields, "kubernetes");
            let role: Option<String> = fields.required("role");
            let jwt = fields.optional("token_file").unwrap_or_else(|| PathBuf::from(POD_TOKEN));
            let jwt = base.join(jwt);
            path.zip(role).map(|(path, role)| Credentials::Kubernetes { path, role, jwt })
        }
        Some("cert") => {
            let path = login_path(&mut fields, "cert");
            let role: Option<String> = fields.optional("role");
            let cert = fields.required::<PathBuf>("cert_file").map(|path| base.join(path));
            let key = fields.required::<PathBuf>("key_file").map(|path| base.join(path));
            path.zip(cert).zip(key).map(|((path, cert), key)| Credentials::Certificate {
                path,
                role,
                cert,
                key,
            })
        }
        Some(other) => {
            let problem = format!("\"{other}\" is none; write token, approle, kubernetes or cert");
            return Err(vec![ConfigProblem::new("method", problem)]);
        }
        None => None,
    };
    fields.finish(credentials)
}

fn token(fields: &mut ConfigTable<'_>, base: &Path) -> Option<Credentials> {
    let file = fields.optional::<PathBuf>("token_file").map(|path| base.join(path));
    let variable: Option<String> = fields.optional("token_env");
    match (file, variable) {
        (Some(path), None) => Some(Credentials::Token(Source::File(path))),
        (None, Some(name)) => Some(Credentials::Token(Source::Environment(name))),
        (None, None) => {
            fields.problem(
                "token_file",
                "is missing; name a file here, or an environment variable as token_env",
            );
            None
        }
        (Some(_), Some(_)) => {
            fields.problem("token_env", "stands beside token_file; keep one of them");
            None
        }
    }
}

fn login_path(fields: &mut ConfigTable<'_>, usual: &str) -> Option<String> {
    let text: Option<String> = fields.optional("path");
    let text = text.unwrap_or_else(|| usual.to_owned());
    kept(fields, "path", path("path", &text))
}

fn kept<T>(fields: &mut ConfigTable<'_>, field: &str, read: Result<T, String>) -> Option<T> {
    read.map_err(|problem| fields.problem(field, problem)).ok()
}

/// A path of one or more segments, without slashes around it.
fn path(what: &str, text: &str) -> Result<String, String> {
    let trimmed = text.trim_matches('/');
    if trimmed.is_empty() || trimmed.split('/').any(|part| segment(what, part).is_err()) {
        return Err(format!(
            "is no {what}; write parts of A-Z, a-z, 0-9, '-', '_' and '.', with / between them"
        ));
    }
    Ok(trimmed.to_owned())
}

/// A segment that means itself in a URL.
fn segment(what: &str, text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.starts_with('.') || !text.bytes().all(plain) {
        return Err(format!("is no {what}; write characters of A-Z, a-z, 0-9, '-', '_' and '.'"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, Vec<ConfigProblem>> {
        Settings::read(&text.parse().expect("toml"), Path::new("/etc/banyan"))
    }

    fn problems(text: &str) -> Vec<String> {
        read(text).expect_err("problems").into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn what_is_not_said_is_the_weaker_right() {
        let text = "address = 'https://bao.example:8200'\nca_file = 'ca.pem'\n\
                    auth = { method = 'token', token_file = 'token' }";
        let settings = read(text).expect("reads");
        assert_eq!(
            (settings.mount.as_str(), &settings.namespace, &settings.issuer),
            ("pki", &None, &None)
        );
        assert!(!settings.exclusive && !settings.mint_roots);
        assert_eq!(settings.server.tls.ca, Some(PathBuf::from("/etc/banyan/ca.pem")));
        assert!(matches!(&settings.credentials, Credentials::Token(Source::File(path))
            if path == Path::new("/etc/banyan/token")));
    }

    #[test]
    fn each_method_of_login_is_read() {
        let with = |auth: &str| {
            read(&format!(
                "address = 'https://b:1'\nca_file = 'c'\nmount = '/a/b/'\nauth = {{ {auth} }}"
            ))
            .expect(auth)
        };
        assert!(matches!(with("method = 'token', token_env = 'T'").credentials,
            Credentials::Token(Source::Environment(name)) if name == "T"));
        assert!(
            matches!(with("method = 'approle', role_id = 'r', secret_id_file = 's'").credentials,
            Credentials::AppRole { path, .. } if path == "approle")
        );
        assert!(matches!(with("method = 'kubernetes', role = 'r', path = 'east/k8s'").credentials,
            Credentials::Kubernetes { path, jwt, .. } if path == "east/k8s" && jwt == Path::new(POD_TOKEN)));
        let cert = with("method = 'cert', cert_file = 'c.pem', key_file = 'k.pem'");
        let identity = (PathBuf::from("/etc/banyan/c.pem"), PathBuf::from("/etc/banyan/k.pem"));
        assert_eq!((cert.server.tls.identity, cert.mount.as_str()), (Some(identity), "a/b"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let found = problems(
            "address = 'http://10.0.0.1:8200'\nmount = 'a b'\nnamespace = '..'\nissuer = 'x/y'\nexclusive = 3\n\
             auth = { method = 'approle', path = '?', secret = 's' }\ntoken = 'hvs.x'",
        );
        assert_eq!(
            found,
            [
                "exclusive",
                "address",
                "mount",
                "namespace",
                "issuer",
                "auth.path",
                "auth.role_id",
                "auth.secret_id_file",
                "auth.secret",
                "token"
            ]
            .map(str::to_owned)
            .to_vec()
        );
        let auth = "auth = { method = 'token', token_env = 'T' }";
        assert_eq!(problems(&format!("address = 'https://b:1'\n{auth}")), ["ca_file"]);
        let both = format!("address = 'http://[::1]:1'\nmint_roots = true\nissuer = 'a'\n{auth}");
        assert_eq!(problems(&both), ["mint_roots"]);
        let clear = "address = 'http://[::1]:1'\nauth = { method = 'cert', cert_file = 'c', key_file = 'k' }";
        assert_eq!(problems(clear), ["address"]);
        for (auth, field) in [
            ("method = 'ldap'", "auth.method"),
            ("token_file = 't'", "auth.method"),
            ("method = 'token'", "auth.token_file"),
            ("method = 'token', token_file = 't', token_env = 'T'", "auth.token_env"),
        ] {
            let text = format!("address = 'http://[::1]:1'\nauth = {{ {auth} }}");
            assert!(problems(&text).contains(&field.to_owned()), "{auth}");
        }
    }
}
