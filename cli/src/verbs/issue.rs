//! `banyan issue`: a certificate for a test, over the same API as any client that only sends CSRs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use console::exit::{Failure, Told, from_status, in_full};
use console::{output, tls_channel};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use trust::plain::span;
use trust::{Certificate, Clock as _, Timestamp};

use crate::args::IssueOptions;

/// Longest token that is read, in bytes.
const TOKEN_BYTES_MAX: u64 = 64 << 10;
/// A certificate that lives so much shorter than was asked for has been shortened.
const SHORTENED_BY: Duration = Duration::from_secs(60);
/// The files that are written: key, chain, roots.
const FILES: [&str; 3] = ["key.pem", "cert-chain.pem", "root-cert.pem"];

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the CA is away or refuses, or a file is there already.
pub async fn run(options: &IssueOptions) -> Result<(), Failure> {
    // Before a certificate is made that could not be kept.
    let made = prepare(&options.out)?;
    let issued = issue(options).await;
    if issued.is_err() {
        made.undo();
    }
    let (chain, asked_at) = issued?;
    tell(options, &chain, asked_at)
}

/// Directories that were made for the answer, the deepest first.
#[derive(Debug)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Takes them away again, as far as nothing is in them.
    fn undo(self) {
        for directory in self.0 {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

/// Asks for a certificate and writes it down; answers with its chain, and when it was asked for.
async fn issue(options: &IssueOptions) -> Result<(String, Timestamp), Failure> {
    let token = token(&options.token)?;
    let key = KeyPair::generate().context("cannot make a key")?;
    let csr = csr(&key, options.identity.as_deref())?;
    let roots = fs::read(&options.trust_bundle)
        .with_context(|| format!("cannot read {}", options.trust_bundle.display()))?;
    let roots = tls_channel::roots_from_pem(&roots)
        .with_context(|| format!("{} is no trust bundle", options.trust_bundle.display()))?;
    let channel = tls_channel::connect(&options.server, tls_channel::client_config(roots, None)?);
    let channel = channel.await.map_err(|error| unreachable(&options.server, &error))?;
    let validity_duration =
        options.ttl.map_or(0, |ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    let asked_at = host::SystemClock.now();
    let mut request =
        tonic::Request::new(IstioCertificateRequest { csr, validity_duration, metadata: None });
    let bearer = format!("Bearer {token}").parse().map_err(|_| {
        Failure::Usage(
            Told::new("the token has characters that no JWT has")
                .advising("name the file that holds it alone"),
        )
    })?;
    request.metadata_mut().insert("authorization", bearer);
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await;
    let strings = answer.map_err(|status| from_status(&status))?.into_inner().cert_chain;
    let (roots, chain) = strings.split_last().context("the CA answered with nothing")?;
    let chain = chain.concat();
    let contents = [key.serialize_pem(), chain.clone(), roots.clone()];
    for (name, content) in FILES.iter().zip(&contents) {
        write_new(&options.out.join(name), content)?;
    }
    Ok((chain, asked_at))
}

/// The directory is there, and none of the files.
fn prepare(out: &Path) -> Result<Made, Failure> {
    if let Some(taken) = FILES.iter().map(|name| out.join(name)).find(|file| file.exists()) {
        let told = Told::new(format!("{} exists and is not overwritten", taken.display()));
        return Err(Failure::Usage(told.advising("name a new directory with --out")));
    }
    let missing = out.ancestors().filter(|path| !path.as_os_str().is_empty() && !path.exists());
    let missing = Made(missing.map(Path::to_owned).collect());
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(out);
    made.with_context(|| format!("cannot make the directory {}", out.display()))?;
    Ok(missing)
}

fn token(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().lock().take(TOKEN_BYTES_MAX).read_to_string(&mut text),
        false => fs::File::open(file)
            .and_then(|open| open.take(TOKEN_BYTES_MAX).read_to_string(&mut text)),
    };
    read.with_context(|| format!("cannot read the token from {}", file.display()))?;
    match text.trim() {
        "" => Err(Failure::Usage(format!("there is no token in {}", file.display()).into())),
        token => Ok(token.to_owned()),
    }
}

/// A CSR that names the identity that is wanted, if one is: the CA refuses another one than the token's.
fn csr(key: &KeyPair, identity: Option<&str>) -> anyhow::Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(identity) = identity {
        let name = identity.try_into().context("the identity is no SPIFFE id")?;
        params.subject_alt_names.push(SanType::URI(name));
    }
    Ok(params.serialize_request(key)?.pem()?)
}

fn write_new(file: &Path, content: &str) -> anyhow::Result<()> {
    let mut open = fs::OpenOptions::new();
    let opened = open.write(true).create_new(true).mode(0o600).open(file);
    opened
        .and_then(|mut open| open.write_all(content.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn unreachable(server: &str, error: &anyhow::Error) -> Failure {
    let told = Told::new(format!("cannot reach the CA at {server}: {}", in_full(error)));
    Failure::Unreachable(
        told.advising("check the address, and that --trust-bundle holds its roots"),
    )
}

/// What to say of a certificate that lives shorter than was asked for.
fn shortened(asked: Option<Duration>, asked_at: Timestamp, until: Timestamp) -> Option<String> {
    let asked = asked.filter(|asked| until.plus(SHORTENED_BY) < asked_at.plus(*asked))?;
    Some(format!(
        "it lives for {} and not for {}, as was asked for: leaf.ttl_max of the CA, or what is left of its issuer, allows no more",
        span(until.since(asked_at)),
        span(asked)
    ))
}

fn tell(options: &IssueOptions, chain: &str, asked_at: Timestamp) -> Result<(), Failure> {
    let leaf =
        CertificateDer::from_pem_slice(chain.as_bytes()).context("the CA's chain is no PEM")?;
    let leaf = Certificate::parse(&leaf).context("the CA's certificate cannot be read")?;
    let identity =
        leaf.spiffe_id().map(|id| id.to_string()).context("the certificate has no SPIFFE id")?;
    let (serial, until) = (
        leaf.serial().map(|serial| serial.to_string()).unwrap_or_default(),
        leaf.validity().not_after(),
    );
    let shortened = shortened(options.ttl, asked_at, until);
    if options.json {
        return output::json(&json!({
            "identity": identity,
            "serial": serial,
            "not_after": until.to_string(),
            "shortened": shortened,
            "out": options.out,
            "files": FILES,
        }));
    }
    let shortened = shortened.map_or(String::new(), |why| format!("\n{why}"));
    output::line(&format!(
        "certificate of {identity}, valid until {until}, written to {} ({}){shortened}\na rotation may wait for it until then; when \
         nobody uses it any more: banyan leaf forget {serial} --reason \"a test\"",
        options.out.display(),
        FILES.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_private_and_none_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("new/web");
        prepare(&out).unwrap();
        write_new(&out.join("key.pem"), "secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&out), mode(&out.join("key.pem"))), (0o700, 0o600));
        let error = prepare(&out).unwrap_err();
        assert!(error.code() == 2 && error.to_string().contains("key.pem"), "{error}");
        assert!(write_new(&out.join("key.pem"), "other").is_err());
    }

    #[tokio::test]
    async fn what_failed_leaves_no_directory_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (token, out) = (dir.path().join("token"), dir.path().join("new/web"));
        fs::write(&token, "a.b.c").unwrap();
        let options = IssueOptions {
            server: "localhost:1".to_owned(),
            trust_bundle: "/no/such/file".into(),
            token,
            identity: None,
            ttl: None,
            out,
            json: false,
        };
        let error = run(&options).await.unwrap_err().to_string();
        assert!(error.contains("/no/such/file"), "{error}");
        assert!(!dir.path().join("new").exists(), "{error}");
        let kept = dir.path().join("kept");
        let made = prepare(&kept.join("below")).unwrap();
        fs::write(kept.join("other"), "").unwrap();
        made.undo();
        assert!(kept.exists() && !kept.join("below").exists(), "what others wrote stays");
    }

    #[test]
    fn a_certificate_that_lives_shorter_than_was_asked_for_is_said_to() {
        let (now, days) =
            (Timestamp::from_secs(1_800_000_000), |days: u64| Duration::from_secs(days * 86_400));
        let said = shortened(Some(days(100)), now, now.plus(days(1))).unwrap();
        assert!(said.starts_with("it lives for 24h and not for 100d"), "{said}");
        assert_eq!(shortened(Some(days(1)), now, now.plus(days(1))), None);
        assert_eq!(shortened(None, now, now.plus(days(1))), None);
    }

    #[test]
    fn a_token_is_taken_without_the_line_end_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "a.b.c\n").unwrap();
        assert_eq!(token(&file).unwrap(), "a.b.c");
        fs::write(&file, "\n").unwrap();
        assert_eq!(token(&file).unwrap_err().code(), 2);
    }
}
