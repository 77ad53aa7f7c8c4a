//! Certificates of a PEM file, strictly: what is no whole certificate is told with its line, never passed over.

use trust::{Certificate, Root};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// A certificate and the line at which its block begins.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) line: usize,
    pub(crate) certificate: Certificate,
}

impl Block {
    /// What an operator finds it by.
    pub(crate) fn told(&self) -> String {
        format!("line {}: \"{}\"", self.line, self.certificate.subject_text())
    }

    /// The certificate as a root.
    pub(crate) fn root(&self) -> Result<Root, String> {
        Root::from_certificate(self.certificate.clone())
            .map_err(|error| format!("{} cannot be a root: {error}", self.told()))
    }
}

/// Reads every block. Text between blocks is passed over, as tools write comments there.
pub(crate) fn certificates(bytes: &[u8]) -> Result<Vec<Block>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        "is not PEM: it holds bytes that are no text; convert it with openssl x509".to_owned()
    })?;
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().map(|(place, line)| (place + 1, line.trim()));
    while let Some((line, first)) = lines.next() {
        let Some(label) = first.strip_prefix(BEGIN) else {
            if first.starts_with(END) {
                return Err(format!("line {line}: a block ends here that did not begin"));
            }
            continue;
        };
        let label = label.strip_suffix(DASHES).ok_or_else(|| format!("line {line}: is damaged"))?;
        fits(line, label)?;
        let mut body = String::new();
        loop {
            match lines.next() {
                Some((_, last)) if last.strip_prefix(END).is_some() => break,
                Some((_, inner)) if !inner.starts_with(BEGIN) => body.push_str(inner),
                _ => {
                    return Err(format!(
                        "line {line}: the certificate that begins here is cut off; write it again"
                    ));
                }
            }
        }
        blocks.push(Block { line, certificate: read(line, label, &body)? });
    }
    Ok(blocks)
}

/// A block of another kind is an error, even beside good ones: whoever put it there meant something by it.
fn fits(line: usize, label: &str) -> Result<(), String> {
    match label {
        "CERTIFICATE" => Ok(()),
        label if label.contains("PRIVATE KEY") => Err(format!(
            "line {line}: a private key ({label}) lies beside the certificates; remove it, it belongs into the key's file alone"
        )),
        label => Err(format!(
            "line {line}: a block {label} is not read; write it as CERTIFICATE (openssl x509 -in FILE prints it so), or \
             remove it"
        )),
    }
}

fn read(line: usize, label: &str, body: &str) -> Result<Certificate, String> {
    let bad = |error: String| {
        format!("line {line}: the certificate that begins here cannot be read: {error}")
    };
    let pem = format!("{BEGIN}{label}{DASHES}\n{body}\n{END}{label}{DASHES}\n");
    let block = pem::parse(pem).map_err(|error| bad(error.to_string()))?;
    Certificate::parse(block.contents()).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().expect("key");
        rcgen::CertificateParams::default().self_signed(&key).expect("certificate").pem()
    }

    #[test]
    fn whatever_is_no_whole_certificate_is_told_with_its_line() {
        let (one, two) = (certificate(), certificate());
        let lines = one.lines().count() + 1;
        let read = certificates(format!("# the first\n{one}\n# the second\n{two}").as_bytes())
            .expect("reads");
        assert_eq!(read.len(), 2);
        assert_eq!(read.first().map(|block| block.line), Some(2));
        let cut = two.get(..200).expect("longer");
        for (wrong, word) in [
            (two.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), "TRUSTED CERTIFICATE"),
            (two.replace("CERTIFICATE", "X509 CERTIFICATE"), "X509 CERTIFICATE"),
            (two.replace("CERTIFICATE", "EC PRIVATE KEY"), "private key"),
            (cut.to_owned(), "cut off"),
            (format!("{cut}\n{one}"), "cut off"),
            (two.replace("MII", "!!!"), "cannot be read"),
            ("-----END CERTIFICATE-----".to_owned(), "did not begin"),
        ] {
            let problem = certificates(format!("{one}{wrong}").as_bytes()).expect_err(word);
            assert!(
                problem.contains(word) && problem.starts_with(&format!("line {lines}:")),
                "{problem}"
            );
        }
    }
}
