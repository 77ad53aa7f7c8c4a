//! `also` of a channel: certificates of CAs that stand in its objects beside the bundle.
//!
//! Nobody's certificates are judged by them here: they are for readers of these objects alone, such as proxies that find
//! the control plane by the same file.

use trust::Root;

use super::problems::Problems;

/// Reads the certificates, in their order, each once.
pub(super) fn read(key: &str, text: &str, problems: &mut Problems) -> Vec<Root> {
    let mut roots: Vec<Root> = Vec::new();
    let blocks = match pem::parse_many(text) {
        Ok(blocks) => blocks,
        Err(error) => {
            problems.add(key, format_args!("is no PEM: {error}"));
            return roots;
        }
    };
    if blocks.is_empty() {
        problems
            .add(key, "has no certificate: write blocks of PEM that begin with -----BEGIN CERTIFICATE-----, or leave it out");
    }
    for (at, block) in (1..).zip(blocks) {
        if block.tag() != "CERTIFICATE" {
            problems.add(
                key,
                format_args!("block {at} is a {}: write certificates of CAs alone", block.tag()),
            );
            continue;
        }
        match Root::parse(block.contents()) {
            Ok(root) if roots.iter().any(|known| known.id() == root.id()) => {}
            Ok(root) => roots.push(root),
            Err(error) => problems.add(
                key,
                format_args!("block {at} is no certificate of a CA that can be trusted: {error}"),
            ),
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca(is_ca: bool) -> String {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        if is_ca {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        }
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn certificates_of_cas_are_taken_once_each_and_what_is_none_is_told() {
        let mut problems = Problems::default();
        let (one, other) = (ca(true), ca(true));
        assert_eq!(read("k", &format!("{one}{other}{one}"), &mut problems).len(), 2);
        assert!(problems.0.is_empty(), "{:?}", problems.0);
        for (text, told) in [
            (String::new(), "has no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAA==\n-----END KEY-----\n".to_owned(), "is no PEM"),
            (rcgen::KeyPair::generate().unwrap().serialize_pem(), "block 1 is a PRIVATE KEY"),
            (format!("{one}{}", ca(false)), "block 2 is no certificate of a CA"),
        ] {
            let mut problems = Problems::default();
            read("k", &text, &mut problems);
            assert!(problems.0.iter().any(|one| one.contains(told)), "{text}: {:?}", problems.0);
        }
    }
}
