//! The folder that is carried from, and the machine that is carried to.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use integration_tests::faults::CaDir;
use integration_tests::mesh::{SOON, Tool, eventually, run};
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{GetRotationRequest, Rotation, StartRotationRequest};
use tonic::transport::Channel;

/// The section of the authority, whose folder is `ceremonies` beside the configuration.
pub(crate) const OFFLINE: &str = "[authority.offline]\nplugin = \"manual\"\ndirectory = \"ceremonies\"\nexclusive = true\nlook_every_secs = 1\n";
pub(crate) const SELF_SIGNED: &str = "[authority.main]\nplugin = \"self-signed\"\n";

/// The offline machine, and the way to it.
#[derive(Debug)]
pub(crate) struct Offline {
    vault: tempfile::TempDir,
    folder: PathBuf,
}

impl Offline {
    pub(crate) fn of(ca_dir: &CaDir) -> anyhow::Result<Self> {
        Ok(Self { vault: tempfile::tempdir()?, folder: ca_dir.beside("ceremonies") })
    }

    /// Names of the ceremonies in the outbox.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder.join("outbox")) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let texts = paths.filter(|path| path.extension().is_some_and(|end| end == "txt"));
        texts.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
    }

    /// Waits for the one ceremony of this kind.
    pub(crate) async fn ceremony(&self, kind: &str) -> anyhow::Result<String> {
        let found = || self.waiting().iter().any(|name| name.starts_with(kind));
        eventually(&format!("a ceremony for {kind} goes out"), || std::future::ready(found()))
            .await?;
        match self.waiting().as_slice() {
            [one] => Ok(one.clone()),
            other => anyhow::bail!("one ceremony should wait, and these do: {other:?}"),
        }
    }

    /// Follows a ceremony's commands, changed as said; answers with the PEM.
    pub(crate) async fn follow(
        &self,
        name: &str,
        changed: impl Fn(String) -> String,
    ) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.folder.join("outbox").join(format!("{name}.txt")))?;
        std::fs::write(self.path(&format!("{name}.txt")), &text)?;
        let (_, after) = text.split_once("\nCommands:\n\n").context("no commands")?;
        let lines = after.lines().take_while(|line| line.starts_with("    ")).map(str::trim_start);
        let commands = changed(lines.collect::<Vec<_>>().join("\n"));
        Tool::Openssl.path()?;
        let mut shell = tokio::process::Command::new("sh");
        shell
            .args(["-euc", &commands])
            .current_dir(self.vault.path())
            .env("ROOT_PASS", "correct horse");
        let (done, said) = run(&mut shell).await?;
        anyhow::ensure!(done, "{commands}\n{said}");
        Ok(std::fs::read_to_string(self.path(&format!("{name}.pem")))?)
    }

    /// A file of the offline machine.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.vault.path().join(name)
    }

    /// Puts something into the inbox.
    pub(crate) fn bring(&self, name: &str, contents: &str) -> anyhow::Result<()> {
        let arriving = self.folder.join("inbox/arriving");
        std::fs::write(&arriving, contents)?;
        Ok(std::fs::rename(arriving, self.folder.join("inbox").join(format!("{name}.pem")))?)
    }
}

/// The operators' side of rotations.
pub(crate) struct Operator(RotationServiceClient<Channel>);

impl Operator {
    pub(crate) fn at(socket: &Path) -> Self {
        let path = socket.to_owned();
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(path).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://admin").timeout(SOON);
        Self(RotationServiceClient::new(endpoint.connect_with_connector_lazy(connect)))
    }

    pub(crate) async fn rotate(&self, request_id: &str, authority: &str) -> anyhow::Result<()> {
        let request = StartRotationRequest {
            request_id: request_id.to_owned(),
            authority: authority.to_owned(),
            mode: "auto".to_owned(),
            ..StartRotationRequest::default()
        };
        self.0.clone().start_rotation(request).await?;
        Ok(())
    }

    pub(crate) async fn rotation(&self) -> anyhow::Result<Rotation> {
        Ok(self.0.clone().get_rotation(GetRotationRequest {}).await?.into_inner())
    }

    /// Waits until the rotation's troubles have these words.
    pub(crate) async fn until_it_says(&self, words: &str) -> anyhow::Result<()> {
        let said = || async {
            let rotation = self.rotation().await;
            rotation.is_ok_and(|rotation| {
                rotation.troubles.iter().any(|trouble| trouble.contains(words))
            })
        };
        let told = eventually(&format!("the rotation says `{words}`"), said).await;
        let troubles = self.rotation().await?.troubles;
        told.with_context(|| format!("it says {troubles:?}"))
    }

    pub(crate) async fn is_over(&self, request_id: &str) -> bool {
        let over = |rotation: Rotation| {
            rotation.phase == "steady" && rotation.done.iter().any(|done| done == request_id)
        };
        self.rotation().await.is_ok_and(over)
    }
}
