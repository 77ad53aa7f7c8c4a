//! What the documents say of this server is what it does.

use std::path::Path;

use auth::refusal::Reason;

#[test]
fn the_api_document_lists_every_reason_with_its_code_and_no_other() {
    let document = include_str!("../../docs/istio-csr-api.md");
    let (_, errors) = document.split_once("\n## Errors\n").unwrap();
    let rows = errors.lines().filter(|line| line.starts_with("| `"));
    let mut found: Vec<_> =
        rows.map(|row| row.split('`').skip(1).step_by(2).take(2).collect::<Vec<_>>()).collect();
    found.sort_unstable();
    let codes: Vec<_> = Reason::ALL.iter().map(|reason| format!("{:?}", reason.code())).collect();
    let mut expected: Vec<_> = Reason::ALL
        .iter()
        .zip(&codes)
        .map(|(reason, code)| vec![reason.as_str(), code.as_str()])
        .collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn the_example_with_every_key_is_a_configuration_with_the_defaults() {
    let document = include_str!("../../docs/configuration.md");
    let block = |document: &str| {
        document.split("```toml\n").nth(1)?.split("\n```").next().map(str::to_owned)
    };
    let example = block(document).unwrap();
    let read = |text: &str| ca_server::Config::parse(text, Path::new("/etc/banyan")).unwrap();
    let sparse = "trust_domain = \"example.org\"\ndata_dir = \"/var/lib/banyan\"\n\
                  [keys]\npassphrase_file = \"passphrase\"\n[[jwt]]\nidentity = \"kubernetes\"\n\
                  issuer = \"https://kubernetes.default.svc.cluster.local\"\njwks_file = \"jwks.json\"\n";
    assert_eq!(format!("{:?}", read(&example)), format!("{:?}", read(sparse)));
}
