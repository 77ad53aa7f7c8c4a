//! Clients and verifiers that share no code with the CA: grpcurl, Python's gRPC and `cryptography`, OpenSSL's command
//! line, and rustls without any of our own checks. They know the published `.proto` file and nothing else.
#![forbid(unsafe_code)]

mod grpcurl;
mod health;
mod openssl;
mod python;
mod rustls_peer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use integration_tests::mesh::{MeshCa, Tool, run};
use integration_tests::tokens::TokenIssuer;

/// What the token's service account becomes.
const CART: &str = "spiffe://example.org/ns/shop/sa/cart";
/// The method that Istio's data planes call.
const CREATE: &str = "istio.v1.auth.IstioCertificateService/CreateCertificate";

/// A CA, and what a new client is given to use it: its roots, a token, and the published file.
struct Desk {
    ca: MeshCa,
    roots: PathBuf,
    token: String,
    /// A directory with the one published file in it.
    protos: PathBuf,
}

/// A chain in PEM, as the reply has it.
struct Chain {
    leaf: String,
    intermediates: String,
    roots: String,
}

impl Desk {
    async fn open(listen: &str) -> anyhow::Result<Self> {
        let issuer = TokenIssuer::of_mesh();
        let key_set = issuer.key_set();
        let files = [(TokenIssuer::KEY_SET_FILE, key_set.as_str())];
        let clock = Arc::new(host::SystemClock);
        let ca = MeshCa::start_with(listen, TokenIssuer::SECTION, &files, clock).await?;
        let (roots, token) = (ca.write_roots()?, issuer.of_account("shop", "cart"));
        let published =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/protos/istio/v1/auth/ca.proto");
        let protos = ca.directory().join("published");
        std::fs::create_dir(&protos)?;
        std::fs::copy(published, protos.join("ca.proto"))?;
        Ok(Self { ca, roots, token, protos })
    }

    fn address(&self) -> String {
        self.ca.running().grpc_addr.to_string()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.ca.directory().join(name)
    }

    /// A P-256 key in a file and a CSR for it, both made by OpenSSL.
    async fn csr(&self) -> anyhow::Result<String> {
        let (key, csr) = (self.file("client.key"), self.file("client.csr"));
        let mut openssl = Tool::Openssl.command()?;
        openssl.args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]);
        openssl.args(["-subj", "/", "-keyout"]).arg(key).arg("-out").arg(&csr);
        let (made, said) = run(&mut openssl).await?;
        anyhow::ensure!(made, "{said}");
        Ok(std::fs::read_to_string(csr)?)
    }
}

impl Chain {
    /// The parts of `certChain` in a reply as JSON.
    fn from_json(reply: &str) -> anyhow::Result<Self> {
        let reply: serde_json::Value =
            serde_json::from_str(reply).with_context(|| reply.to_owned())?;
        let parts =
            reply.get("certChain").and_then(|parts| parts.as_array()).context("no certChain")?;
        let parts: Vec<&str> = parts.iter().filter_map(serde_json::Value::as_str).collect();
        let [leaf, intermediates @ .., roots] = parts.as_slice() else {
            anyhow::bail!("{parts:?}")
        };
        anyhow::ensure!(!intermediates.is_empty(), "there is no intermediate");
        Ok(Self {
            leaf: (*leaf).to_owned(),
            intermediates: intermediates.concat(),
            roots: (*roots).to_owned(),
        })
    }
}
