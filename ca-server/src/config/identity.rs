//! Sections `[[jwt]]` and `[admin]`: who is believed, and who may operate.

use std::path::{Path, PathBuf};

use auth::authn::jwt::IssuerSettings;
use auth::authn::subject::IdentityRule;
use plugins::ConfigProblem;
use trust::{SpiffeId, TrustDomain};

use super::reader::Section;

/// Section `[admin]`.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    uids: Vec<u32>,
    identities: Vec<SpiffeId>,
}

impl AdminConfig {
    /// Users who may use the admin socket besides the server's own and root. Default none.
    pub fn uids(&self) -> &[u32] {
        &self.uids
    }

    /// Identities that may use the admin API on the TLS port. Default none: then it is only on the socket.
    pub fn identities(&self) -> &[SpiffeId] {
        &self.identities
    }
}

/// Sections `[[jwt]]`: each an issuer of tokens that is believed. `issuer`, `jwks_file` and `identity` are required, and no
/// two sections share an issuer; `audiences` is `["istio-ca"]` by default and never empty, `token_life_max` is `24h`, `1m`
/// to `8760h`.
pub(super) fn jwt(
    tables: &[toml::Table],
    domain: Option<&TrustDomain>,
    directory: &Path,
    problems: &mut Vec<ConfigProblem>,
) -> Option<Vec<IssuerSettings>> {
    let mut issuers: Vec<IssuerSettings> = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let read = one_jwt(&format!("jwt[{at}]"), table, domain, directory, problems);
        let Some(read) = read else { continue };
        if issuers.iter().any(|other| other.issuer == read.issuer) {
            let problem =
                format!("{:?} has two sections; write one [[jwt]] for each issuer", read.issuer);
            problems.push(ConfigProblem::new(format!("jwt[{at}].issuer"), problem));
        }
        issuers.push(read);
    }
    Some(issuers)
}

fn one_jwt(
    path: &str,
    table: &toml::Table,
    domain: Option<&TrustDomain>,
    directory: &Path,
    problems: &mut Vec<ConfigProblem>,
) -> Option<IssuerSettings> {
    let mut section = Section::open(path, table, problems);
    let issuer: Option<String> = section.required("issuer", "the exact value of the claim \"iss\"");
    if issuer.as_deref() == Some("") {
        section.problem("issuer", "is empty; write the exact value of the claim \"iss\"");
    }
    let audiences: Vec<String> = section
        .optional("audiences", "a list such as [\"istio-ca\"]")
        .unwrap_or_else(|| vec!["istio-ca".to_owned()]);
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        section.problem("audiences", "is empty; write at least one, such as [\"istio-ca\"]");
    }
    let jwks_file: Option<PathBuf> =
        section.required("jwks_file", "the path of a JSON Web Key Set");
    let write = "\"kubernetes\", or a template such as \"spiffe://example.org/user/{sub}\"";
    let identity = section.parsed("identity", write, |text| identity_rule(text, domain));
    let token_life_max = section.duration("token_life_max", "24h", ["1m", "8760h"]);
    section.close();
    Some(IssuerSettings {
        issuer: issuer?,
        audiences,
        jwks_file: directory.join(jwks_file?),
        identity: identity?,
        token_life_max: token_life_max?,
    })
}

/// A template is checked with a plain word in place of each claim.
fn identity_rule(text: &str, domain: Option<&TrustDomain>) -> Result<IdentityRule, String> {
    if text == "kubernetes" {
        return Ok(IdentityRule::Kubernetes);
    }
    let mut plain = String::new();
    let mut rest = text;
    let mut claims = 0;
    while let Some((before, after)) = rest.split_once('{') {
        let (claim, after) = after.split_once('}').ok_or("a brace is not closed")?;
        let named = !claim.is_empty() && !claim.contains(['{', '/']);
        let whole_segment = before.ends_with('/') && (after.is_empty() || after.starts_with('/'));
        if !named || !whole_segment {
            return Err("a claim stands alone between slashes, as {claim}".to_owned());
        }
        claims += 1;
        plain.push_str(before);
        plain.push('x');
        rest = after;
    }
    plain.push_str(rest);
    if claims == 0 {
        return Err("no {claim} in it: every token would get the same identity".to_owned());
    }
    let id = SpiffeId::parse(&plain).map_err(|error| error.to_string())?;
    if id.is_reserved() {
        return Err("/banyan/ belongs to the CA itself".to_owned());
    }
    match domain {
        Some(domain) if id.trust_domain() != domain => Err(format!("it is not in {domain}")),
        _ => Ok(IdentityRule::Template(text.to_owned())),
    }
}

pub(super) fn admin(
    table: &toml::Table,
    domain: Option<&TrustDomain>,
    problems: &mut Vec<ConfigProblem>,
) -> Option<AdminConfig> {
    let mut section = Section::open("admin", table, problems);
    let uids = section.optional("uids", "a list of user ids such as [1000]").unwrap_or_default();
    let texts: Vec<String> =
        section.optional("identities", "a list of SPIFFE ids").unwrap_or_default();
    let mut identities = Vec::new();
    for text in texts {
        match SpiffeId::parse(&text) {
            Ok(id) if domain.is_some_and(|domain| domain != id.trust_domain()) => {
                section.problem("identities", format_args!("{text:?} is in another trust domain"));
            }
            Ok(id) if id.is_reserved() => {
                section.problem(
                    "identities",
                    format_args!("{text:?} is reserved; write a workload's id"),
                );
            }
            Ok(id) => identities.push(id),
            Err(error) => section.problem("identities", format_args!("{text:?}: {error}")),
        }
    }
    section.close();
    Some(AdminConfig { uids, identities })
}
