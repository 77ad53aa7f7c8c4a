//! Section `[bundle_endpoint]`: where other trust domains read the bundle of this CA.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugins::ConfigProblem;

use super::reader::Section;

/// Section `[bundle_endpoint]`.
#[derive(Debug, Clone)]
pub struct BundleEndpointConfig {
    listen: Option<SocketAddr>,
    host: Option<HostCertificate>,
    refresh_hint: Duration,
}

/// A certificate of a host, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCertificate {
    /// Chain, the leaf first.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// Who is shown to readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Spiffe,
    Web,
}

impl BundleEndpointConfig {
    /// Where the bundle is served over HTTPS; `None` without the section.
    pub const fn listen(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// The certificate that readers are shown with `profile = "https_web"`; with `"https_spiffe"`, the default, it is the CA's own.
    pub const fn host(&self) -> Option<&HostCertificate> {
        self.host.as_ref()
    }

    /// How often others shall read it. Default `5m`, `5s` to `1h`; it counts without the section too, for those who read the bundle
    /// elsewhere.
    pub const fn refresh_hint(&self) -> Duration {
        self.refresh_hint
    }
}

pub(super) fn bundle_endpoint(
    table: Option<&toml::Table>,
    directory: &Path,
    problems: &mut Vec<ConfigProblem>,
) -> Option<BundleEndpointConfig> {
    let Some(table) = table else {
        let refresh_hint = federation::REFRESH_HINT;
        return Some(BundleEndpointConfig { listen: None, host: None, refresh_hint });
    };
    let mut section = Section::open("bundle_endpoint", table, problems);
    let listen =
        section.parsed("listen", "an address and port, such as \"0.0.0.0:8443\"", |text| {
            text.parse::<SocketAddr>()
        });
    let words = [("https_spiffe", Profile::Spiffe), ("https_web", Profile::Web)];
    let profile = section.choice("profile", Profile::Spiffe, &words);
    let certificate: Option<PathBuf> = section.optional("certificate_file", "the path of a file");
    let key: Option<PathBuf> = section.optional("key_file", "the path of a file");
    let host = match (profile, certificate, key) {
        (Some(Profile::Web), Some(certificate), Some(key)) => Some(HostCertificate {
            certificate_file: directory.join(certificate),
            key_file: directory.join(key),
        }),
        (Some(Profile::Web), certificate, _) => {
            let missing = if certificate.is_none() { "certificate_file" } else { "key_file" };
            section.problem(
                missing,
                "is missing; with profile = \"https_web\" write the path of a PEM file",
            );
            None
        }
        (Some(Profile::Spiffe), None, None) | (None, ..) => None,
        (Some(Profile::Spiffe), certificate, _) => {
            let surplus = if certificate.is_some() { "certificate_file" } else { "key_file" };
            section.problem(
                surplus,
                "is for profile = \"https_web\"; with \"https_spiffe\" the CA shows its own certificate: leave it out",
            );
            None
        }
    };
    let refresh_hint = section.duration("refresh_hint", "5m", ["5s", "1h"]);
    section.close();
    Some(BundleEndpointConfig { listen: Some(listen?), host, refresh_hint: refresh_hint? })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn read(lines: &str) -> Result<Config, String> {
        let text = format!(
            "trust_domain = \"example.org\"\ndata_dir = \"/d\"\n[keys]\npassphrase_env = \"P\"\n{lines}"
        );
        Config::parse(&text, Path::new("/etc/banyan")).map_err(|error| error.to_string())
    }

    #[test]
    fn without_the_section_nothing_is_served_and_the_hint_counts_all_the_same() {
        let none = read("").unwrap();
        let none = none.bundle_endpoint();
        assert_eq!((none.listen(), none.refresh_hint().as_secs()), (None, 300));
        let own = read("[bundle_endpoint]\nlisten = \"[::]:8443\"\nrefresh_hint = \"1m\"").unwrap();
        let own = own.bundle_endpoint();
        assert_eq!((own.host(), own.refresh_hint().as_secs()), (None, 60));
        let web = read(
            "[bundle_endpoint]\nlisten = \"[::]:8443\"\nprofile = \"https_web\"\ncertificate_file = \"c.pem\"\nkey_file = \"k.pem\"",
        );
        let web = web.unwrap();
        let host = web.bundle_endpoint().host().unwrap();
        assert_eq!(host.certificate_file, Path::new("/etc/banyan/c.pem"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let at = "[bundle_endpoint]\nlisten = \"[::]:8443\"\n";
        for (lines, told) in [
            ("[bundle_endpoint]".to_owned(), "bundle_endpoint.listen"),
            ("bundle_endpoint = 1".to_owned(), "bundle_endpoint"),
            (format!("{at}profile = \"http\""), "bundle_endpoint.profile"),
            (format!("{at}profile = \"https_web\""), "bundle_endpoint.certificate_file"),
            (
                format!("{at}profile = \"https_web\"\ncertificate_file = \"c\""),
                "bundle_endpoint.key_file",
            ),
            (format!("{at}key_file = \"k\""), "bundle_endpoint.key_file"),
            (format!("{at}refresh_hint = \"1s\""), "bundle_endpoint.refresh_hint"),
            (format!("{at}port = 1"), "bundle_endpoint.port"),
        ] {
            // Top-level keys come before tables.
            let error = match lines.strip_prefix("bundle_endpoint = ") {
                Some(value) => {
                    let text = format!(
                        "bundle_endpoint = {value}\ntrust_domain = \"example.org\"\ndata_dir = \"/d\"\n[keys]\npassphrase_env = \"P\""
                    );
                    Config::parse(&text, Path::new("/")).unwrap_err().to_string()
                }
                None => read(&lines).unwrap_err(),
            };
            assert!(error.contains(told), "{lines}: {error}");
        }
    }
}
