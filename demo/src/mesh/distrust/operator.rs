//! The acts of the operator on the day, each a verb of `banyan` over the admin socket.

use std::path::PathBuf;

use anyhow::Context;
use console::admin_socket;
use console::journal;
use proto::banyan::admin::v1::waiver_service_client::WaiverServiceClient;
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, AddWaiverRequest, ConfirmRelyingPartyRequest, Exposure,
    ForgetLeavesRequest, GetRotationRequest, ListLeavesRequest, ListRootsRequest,
    RemoveWaiverRequest, RootVerb, Rotation, RuleRootRequest, RuleRootResponse,
    StartRotationRequest,
};
use trust::{RootId, Serial};

/// Who acts.
const BY: &str = "demo";
/// Why.
const REASON: &str = "its key was seen elsewhere";
/// Name of the waiver for who cannot be reached.
const WAIVER: &str = "out-of-reach";
/// How long the waiver stands.
const WAIVER_SECS: i64 = 600;

/// States in which a root stands in the bundle.
const IN_BUNDLE: [&str; 3] = ["published", "active", "draining"];

/// What a file of roots is written from.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Its sequence.
    pub sequence: u64,
    /// Its roots, in DER.
    pub roots: Vec<Vec<u8>>,
}

/// Somebody at the admin socket.
#[derive(Debug, Clone)]
pub struct Operator {
    socket: PathBuf,
}

impl Operator {
    /// At this socket.
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Where the rotation stands.
    ///
    /// # Errors
    /// If the CA does not answer.
    pub async fn rotation(&self) -> anyhow::Result<Rotation> {
        let mut client = admin_socket::rotations(&self.socket).await?;
        Ok(client.get_rotation(GetRotationRequest {}).await?.into_inner())
    }

    /// `banyan root list --pem`: the roots of the bundle, with its sequence.
    ///
    /// # Errors
    /// If the CA does not answer, or the bundle changed meanwhile.
    pub async fn bundle(&self) -> anyhow::Result<Bundle> {
        let sequence = self.rotation().await?.sequence;
        let mut client = admin_socket::connect(&self.socket).await?;
        let roots = client.list_roots(ListRootsRequest::default()).await?.into_inner().roots;
        anyhow::ensure!(self.rotation().await?.sequence == sequence, "the bundle changes");
        let believed = roots.into_iter().filter(|root| IN_BUNDLE.contains(&root.state.as_str()));
        Ok(Bundle { sequence, roots: believed.map(|root| root.der).collect() })
    }

    /// The root that signs.
    ///
    /// # Errors
    /// If the CA does not answer, or none does.
    pub async fn signing(&self) -> anyhow::Result<RootId> {
        let mut client = admin_socket::connect(&self.socket).await?;
        let roots = client.list_roots(ListRootsRequest::default()).await?.into_inner().roots;
        let active = roots.iter().find(|root| root.state == "active").context("no root signs")?;
        Ok(RootId::of(&active.der))
    }

    /// `banyan root standby prepare`.
    ///
    /// # Errors
    /// If the CA refuses.
    pub async fn prepare_standby(&self, request_id: &str) -> anyhow::Result<()> {
        let request = StartRotationRequest {
            request_id: request_id.to_owned(),
            mode: "standby".to_owned(),
            by: BY.to_owned(),
            ..StartRotationRequest::default()
        };
        let mut client = admin_socket::rotations(&self.socket).await?;
        client.start_rotation(request).await.context("no standby root")?;
        Ok(())
    }

    /// `banyan root distrust ROOT --dry-run`: who has leaves of it.
    ///
    /// # Errors
    /// If the CA does not answer.
    pub async fn preview(&self, root: RootId) -> anyhow::Result<Exposure> {
        let request = RuleRootRequest { dry_run: true, ..word(root, RootVerb::Distrust) };
        self.rule(request).await?.exposure.context("the preview has no numbers")
    }

    /// `banyan root cut ROOT --dry-run`: who breaks if it goes now. Refused while it may not go.
    ///
    /// # Errors
    /// If the CA refuses or does not answer.
    pub async fn preview_of_cut(&self, root: RootId) -> anyhow::Result<Exposure> {
        let request = RuleRootRequest { dry_run: true, ..word(root, RootVerb::Cut) };
        self.rule(request).await?.exposure.context("the preview has no numbers")
    }

    /// `banyan root distrust ROOT`. Answers the rotation that comes of it.
    ///
    /// # Errors
    /// If the CA refuses.
    pub async fn distrust(&self, root: RootId) -> anyhow::Result<Rotation> {
        let said = self.rule(word(root, RootVerb::Distrust)).await?;
        said.rotation.context("no rotation comes of the word")
    }

    /// `banyan root cut ROOT --confirm FINGERPRINT`.
    ///
    /// # Errors
    /// If the CA refuses.
    pub async fn cut(&self, root: RootId) -> anyhow::Result<()> {
        let request = RuleRootRequest { confirm: root.to_string(), ..word(root, RootVerb::Cut) };
        self.rule(request).await?;
        Ok(())
    }

    /// `banyan waiver add`: the trust gate does not wait for these.
    ///
    /// # Errors
    /// If the CA refuses.
    pub async fn waive(&self, covers: Vec<String>) -> anyhow::Result<()> {
        let request = AddWaiverRequest {
            name: WAIVER.to_owned(),
            covers,
            lasts_seconds: WAIVER_SECS,
            by: BY.to_owned(),
            reason: REASON.to_owned(),
            ..AddWaiverRequest::default()
        };
        let mut client = WaiverServiceClient::new(admin_socket::channel(&self.socket).await?);
        client.add_waiver(request).await.context("the CA refuses the waiver")?;
        Ok(())
    }

    /// `banyan waiver remove`.
    ///
    /// # Errors
    /// If the CA refuses.
    pub async fn unwaive(&self) -> anyhow::Result<()> {
        let (name, by) = (WAIVER.to_owned(), BY.to_owned());
        let request = RemoveWaiverRequest { name, by, ..RemoveWaiverRequest::default() };
        let mut client = WaiverServiceClient::new(admin_socket::channel(&self.socket).await?);
        client.remove_waiver(request).await.context("the CA keeps the waiver")?;
        Ok(())
    }

    /// Leaves of this identity that count, but for the one that it holds.
    ///
    /// # Errors
    /// If the CA does not answer.
    pub async fn former_leaves(
        &self,
        identity: &str,
        held: Option<Serial>,
    ) -> anyhow::Result<Vec<Vec<u8>>> {
        let asked =
            ListLeavesRequest { identity: identity.to_owned(), ..ListLeavesRequest::default() };
        let mut client = admin_socket::leaves(&self.socket).await?;
        let leaves = client.list_leaves(asked).await?.into_inner().leaves;
        let serials = leaves.into_iter().map(|leaf| leaf.serial);
        Ok(serials.filter(|serial| Serial::from_bytes(serial) != held).collect())
    }

    /// `banyan leaf forget`: nobody holds these any more.
    ///
    /// # Errors
    /// If the CA refuses.
    pub async fn forget(&self, serials: Vec<Vec<u8>>) -> anyhow::Result<()> {
        let request = ForgetLeavesRequest {
            serials,
            by: BY.to_owned(),
            reason: "its holder was restarted and has a newer one".to_owned(),
            ..ForgetLeavesRequest::default()
        };
        let mut client = admin_socket::leaves(&self.socket).await?;
        client.forget_leaves(request).await.context("the CA does not forget a leaf")?;
        Ok(())
    }

    /// `banyan relying-party add`, for holders who have their roots from a file.
    ///
    /// # Errors
    /// If the CA refuses.
    pub async fn add_relying_party(&self, name: &str, covers: Vec<String>) -> anyhow::Result<()> {
        let request = AddRelyingPartyRequest {
            name: name.to_owned(),
            covers,
            by: BY.to_owned(),
            ..AddRelyingPartyRequest::default()
        };
        let mut client = admin_socket::rotations(&self.socket).await?;
        client.add_relying_party(request).await.context("the CA takes no relying party")?;
        Ok(())
    }

    /// `banyan relying-party confirm`: it has the bundle of this sequence.
    ///
    /// # Errors
    /// If the CA refuses.
    pub async fn confirm(&self, name: &str, sequence: u64) -> anyhow::Result<()> {
        let request = ConfirmRelyingPartyRequest {
            name: name.to_owned(),
            sequence,
            by: BY.to_owned(),
            ..ConfirmRelyingPartyRequest::default()
        };
        let mut client = admin_socket::rotations(&self.socket).await?;
        client.confirm_relying_party(request).await?;
        Ok(())
    }

    /// `banyan journal verify`: how many transitions were replayed.
    ///
    /// # Errors
    /// If an entry does not hold.
    pub async fn verify_journal(&self) -> anyhow::Result<u64> {
        let mut client = admin_socket::rotations(&self.socket).await?;
        Ok(journal::verified(&mut client).await?.transitions)
    }

    async fn rule(&self, request: RuleRootRequest) -> anyhow::Result<RuleRootResponse> {
        let mut client = admin_socket::rotations(&self.socket).await?;
        Ok(client.rule_root(request).await?.into_inner())
    }
}

fn word(root: RootId, verb: RootVerb) -> RuleRootRequest {
    RuleRootRequest {
        request_id: format!("demo-{}", verb.as_str_name()),
        root: root.as_bytes().to_vec(),
        verb: verb.into(),
        by: BY.to_owned(),
        reason: REASON.to_owned(),
        ..RuleRootRequest::default()
    }
}
