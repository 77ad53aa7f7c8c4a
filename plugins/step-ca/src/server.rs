//! Calls to a step-ca, and what its answers mean for the caller.

use std::time::Duration;

use plugin_http::{Answer, Call, Server, StatusCode, TlsFiles};
use plugins::PluginError;
use serde_json::{Value, json};
use trust::{Certificate, RootId, Timestamp};
use zeroize::Zeroizing;

use crate::config::Settings;
use crate::present::Present;

/// Wait if a step-ca, or what stands before it, asks for one and does not say how long.
const WAIT: Duration = Duration::from_secs(30);
/// Most characters of its words that are repeated.
const WORDS_MAX: usize = 256;

/// A step-ca.
#[derive(Clone, Debug)]
pub(crate) struct StepCa {
    server: Server,
    pinned: Option<Vec<RootId>>,
}

/// A request for a certificate.
pub(crate) struct SignRequest<'a> {
    pub(crate) csr_der: &'a [u8],
    pub(crate) token: Zeroizing<String>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl StepCa {
    pub(crate) fn of(settings: &Settings) -> Self {
        let tls = TlsFiles { ca: Some(settings.ca_file.clone()), identity: None };
        Self {
            server: Server { address: settings.address.clone(), tls },
            pinned: settings.pinned.clone(),
        }
    }

    /// The audience of tokens: its TLS address, whatever way the request takes.
    pub(crate) fn audience(&self) -> String {
        format!("{}/1.0/sign", self.server.address.to_string().replacen("http://", "https://", 1))
    }

    /// Whether it says that it is well.
    pub(crate) async fn health(&self, within: Duration) -> Result<(), PluginError> {
        let answer = self.asked(Call::get("/health"), within).await?;
        match answer.body.get("status").and_then(Value::as_str) {
            Some("ok") => Ok(()),
            _ => Err(self.no_step_ca("/health")),
        }
    }

    /// What it stands for now.
    pub(crate) async fn present(&self, within: Duration) -> Result<Present, PluginError> {
        let roots = self.certificates("/1.0/roots", within).await?;
        let intermediates = self.certificates("/1.0/intermediates", within).await?;
        Present::of(roots, &intermediates, self.pinned.as_deref())
    }

    /// Asks for a certificate: it comes first, then what signed it, each signed by the next.
    pub(crate) async fn sign(
        &self,
        request: &SignRequest<'_>,
        within: Duration,
    ) -> Result<Vec<Certificate>, PluginError> {
        let line_feeds = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let csr =
            pem::encode_config(&pem::Pem::new("CERTIFICATE REQUEST", request.csr_der), line_feeds);
        let body = json!({
            "csr": csr,
            "ott": request.token.as_str(),
            "notBefore": request.not_before.to_string(),
            "notAfter": request.not_after.to_string(),
        });
        let answer = self.asked(Call::post("/1.0/sign", body), within).await?;
        self.read(answer.body.get("certChain"), "/1.0/sign")
    }

    async fn certificates(
        &self,
        path: &str,
        within: Duration,
    ) -> Result<Vec<Certificate>, PluginError> {
        let answer = self.asked(Call::get(path), within).await?;
        self.read(answer.body.get("crts"), path)
    }

    async fn asked(&self, call: Call, within: Duration) -> Result<Answer, PluginError> {
        let answer = self.server.call(&call, within).await?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(self.refusal(&answer, call.path()))
        }
    }

    fn read(&self, texts: Option<&Value>, path: &str) -> Result<Vec<Certificate>, PluginError> {
        let texts = texts.and_then(Value::as_array).ok_or_else(|| self.no_step_ca(path))?;
        let read = |text: &Value| {
            let block =
                pem::parse(text.as_str()?).ok().filter(|block| block.tag() == "CERTIFICATE")?;
            Certificate::parse(block.contents()).ok()
        };
        let certificates: Option<Vec<_>> = texts.iter().map(read).collect();
        certificates.filter(|found| !found.is_empty()).ok_or_else(|| PluginError::Permanent {
            detail: format!(
                "{}{path} answers with certificates that cannot be read",
                self.server.address
            ),
        })
    }

    fn no_step_ca(&self, path: &str) -> PluginError {
        PluginError::AuthorityDown {
            detail: format!(
                "{}{path} does not answer as a step-ca does; what listens there?",
                self.server.address
            ),
        }
    }

    fn refusal(&self, answer: &Answer, path: &str) -> PluginError {
        let status = answer.status;
        let what = format!(
            "{}{path} answers {}{}",
            self.server.address,
            status.as_u16(),
            words(&answer.body)
        );
        match status {
            StatusCode::TOO_MANY_REQUESTS => {
                PluginError::RateLimited { retry_after: answer.retry_after.unwrap_or(WAIT) }
            }
            StatusCode::UNAUTHORIZED => PluginError::Denied {
                reason: format!(
                    "{what}: it does not take the token. Compare `provisioner`, `key_file` and `key_id` with the \
                     provisioner in its ca.json, the host in `address` with its dnsNames, and the clocks; its log says \
                     which of them it is"
                ),
            },
            StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => PluginError::Denied {
                reason: format!(
                    "{what}. Compare maxTLSCertDuration of the provisioner with root.issuer_lifetime here, and look at \
                     its policy and template"
                ),
            },
            StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => PluginError::Misconfigured {
                field: "address".to_owned(),
                detail: format!(
                    "{what}; write the address of a step-ca that has this path (0.30 does)"
                ),
            },
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => PluginError::AuthorityDown { detail: what },
            status if status.is_server_error() => PluginError::Transient {
                detail: format!("{what}; its log says why (a template that is no JSON, for one)"),
            },
            _ => PluginError::Permanent {
                detail: format!("{what}, which no step-ca is known to answer"),
            },
        }
    }
}

/// What it says of a refusal, in one short line.
fn words(body: &Value) -> String {
    let said = body.get("message").and_then(Value::as_str).unwrap_or_default();
    let said: String = said.chars().filter(|char| !char.is_control()).take(WORDS_MAX).collect();
    if said.is_empty() { said } else { format!(" (\"{said}\")") }
}
