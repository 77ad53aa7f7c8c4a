//! What a bad authority may answer, in the CA's process and over the wire: the rotation waits and says why, the old root
//! continues to sign, and when the rotation is given up nothing has changed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::{OsRandomness, SystemClock};
use integration_tests::mesh::{LiveMesh, MeshPlan, SOON, TRUST_DOMAIN};
use plugin_remote::PluginService;
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{AuthorityDeps, AuthorityPlugin as _, Registry};
use proto::banyan::admin::v1::{StartRotationRequest, Verb};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use trust::TrustDomain;

use crate::liar::{LiarPlugin, Misbehavior, SECRET_PART};

const LONG: u64 = 2 * 3_600;

/// How the authority is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    InProcess,
    Remote,
}

/// Longest time of all lies, one rotation each, on a machine that is busy.
const LONGEST: Duration = Duration::from_secs(600);

/// A lie, the authority that tells it, and what operators read.
struct Case {
    misbehavior: Misbehavior,
    authority: &'static str,
    words: &'static str,
    /// Over the wire, if that is something else.
    words_remote: Option<&'static str>,
}

const fn case(misbehavior: Misbehavior, authority: &'static str, words: &'static str) -> Case {
    Case { misbehavior, authority, words, words_remote: None }
}

const CASES: &[Case] = &[
    case(Misbehavior::RootIsNoCa, "liar", "PluginInvalid{NOT_A_CA}"),
    case(Misbehavior::RootIsExpired, "liar", "PluginInvalid{ENDS_TOO_EARLY}"),
    case(Misbehavior::RootHasNoRoom, "liar", "PluginInvalid{PATH_LENGTH}"),
    case(Misbehavior::RootOfOtherDomain, "liar", "PluginInvalid{OTHER_TRUST_DOMAIN}"),
    case(Misbehavior::RootIsNoCertificate, "liar", "PluginInvalid{CERTIFICATE_MALFORMED}"),
    // The wire takes no message of that length, so there is nothing to measure.
    Case {
        misbehavior: Misbehavior::Huge,
        authority: "liar",
        words: "PluginInvalid{ANSWER_TOO_LARGE}",
        words_remote: Some("PluginInvalid{ANSWER_MALFORMED}"),
    },
    case(Misbehavior::EndlessChain, "liar", "PluginInvalid{CHAIN_LENGTH}"),
    case(Misbehavior::EmptySet, "imported", "PluginInvalid{ROOTS_GONE}"),
    case(Misbehavior::SigningIsNotAnnounced, "imported", "PluginInvalid{SIGNING_ROOT_UNKNOWN}"),
    case(Misbehavior::IssuerForOtherKey, "liar", "PluginInvalid{KEY_NOT_OF_CSR}"),
    case(Misbehavior::IssuerOfOtherRoot, "liar", "PluginInvalid{ROOT_UNKNOWN}"),
    case(Misbehavior::Hangs, "liar", "has no answer yet"),
    case(Misbehavior::CrashesWhileItSigns, "liar", "getting an issuer signed failed"),
    case(Misbehavior::TellsItsKey, "liar", "(private key hidden)"),
];

struct WithLiar(LiarPlugin);

impl ca_server::Embedding for WithLiar {
    fn plugins(&self, registry: &mut Registry) {
        registry.add_authority(self.0.clone());
    }
}

/// Serves the liar on a socket.
fn served(plugin: &LiarPlugin, stages: bool, socket: &Path) -> anyhow::Result<JoinHandle<()>> {
    let (keys, state) = (Arc::new(MemoryKeys::new()) as _, Arc::new(MemoryState::new()) as _);
    let (clock, randomness) = (Arc::new(SystemClock) as _, Arc::new(OsRandomness::new()) as _);
    let deps =
        AuthorityDeps::new(TrustDomain::parse(TRUST_DOMAIN)?, keys, state, clock, randomness)
            .named("liar");
    let mut settings = toml::Table::new();
    settings.insert("stages".to_owned(), stages.into());
    let authority =
        plugin.open(&settings, deps).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let sockets = UnixListenerStream::new(UnixListener::bind(socket)?);
    let service = PluginService::server(authority).max_encoding_message_size(usize::MAX);
    let server = Server::builder().add_service(service);
    Ok(tokio::spawn(async move { drop(server.serve_with_incoming(sockets).await) }))
}

fn sections(way: Way, home: &Path) -> String {
    let section = |name: &str, stages: bool| match way {
        Way::InProcess => format!("[authority.{name}]\nplugin = \"liar\"\nstages = {stages}\n"),
        Way::Remote => {
            let capabilities = if stages { "\"stage\"" } else { "" };
            let socket = home.join(format!("{name}.sock"));
            format!(
                "[authority.{name}]\nplugin = \"remote\"\nendpoint = \"unix://{}\"\ncapabilities = [{capabilities}]\n",
                socket.display()
            )
        }
    };
    let own = "[authority.main]\nplugin = \"self-signed\"\n";
    format!("{own}{}{}", section("liar", true), section("imported", false))
}

async fn start(mesh: &LiveMesh, authority: &str, request_id: &str) -> anyhow::Result<()> {
    let (request_id, authority) = (request_id.to_owned(), authority.to_owned());
    let request = StartRotationRequest { request_id, authority, ..StartRotationRequest::default() };
    mesh.ca.rotations().start_rotation(request).await?;
    Ok(())
}

async fn lies_are_refused(way: Way) -> anyhow::Result<()> {
    let (home, plugin) = (tempfile::tempdir()?, LiarPlugin::new());
    let serving = [
        served(&plugin, true, &home.path().join("liar.sock"))?,
        served(&plugin, false, &home.path().join("imported.sock"))?,
    ];
    let plan = MeshPlan {
        life: LONG,
        agents: 2,
        sections: sections(way, home.path()),
        ..MeshPlan::default()
    };
    let mesh = LiveMesh::of(&plan, &WithLiar(plugin.clone())).await?;
    let old = mesh.ca.running().bundle();
    for (number, Case { misbehavior, authority, words, words_remote }) in CASES.iter().enumerate() {
        let words = words_remote.filter(|_| way == Way::Remote).unwrap_or(words);
        let request_id = format!("misbehavior-{number}");
        plugin.tell(*misbehavior);
        start(&mesh, authority, &request_id).await?;
        let what = format!("{misbehavior:?} {way:?}: {words}");
        let told = |rotation: &proto::banyan::admin::v1::Rotation| {
            rotation.troubles.iter().any(|trouble| trouble.contains(words))
        };
        let stuck = mesh.ca.until_rotation(&what, SOON, told).await?;
        assert_eq!(stuck.phase, "staging", "{what}: {stuck:?}");
        let status = mesh.ca.status().await?;
        let said = format!("{:?} {:?}", status.conditions, stuck.troubles);
        assert!(!said.contains(SECRET_PART), "{what}: {said}");
        if words.starts_with("PluginInvalid") {
            assert!(status.conditions.iter().any(|text| text.contains(words)), "{what}: {said}");
        }
        // Leaves are issued meanwhile, by the old root.
        mesh.ca.workload_leaf(&format!("late-{number}"), &LiveMesh::identity(7)).await?;
        assert_eq!(mesh.ca.running().bundle(), old, "{what}");
        mesh.ca.decide(&format!("give-up-{number}"), Verb::Abort).await?;
        plugin.tell(Misbehavior::None);
        mesh.over(&request_id).await?;
        assert_eq!(mesh.ca.running().bundle(), old, "{what}: nothing has changed");
    }
    // One that crashed and hung serves when it is honest. The leaves from before have no agent that would acknowledge, so the
    // rotation ends when they do: it is enough that its root is out.
    start(&mesh, "liar", "honest").await?;
    let published =
        |rotation: &proto::banyan::admin::v1::Rotation| rotation.phase == "distributing";
    mesh.ca.until_rotation("the new root is published", SOON, published).await?;
    integration_tests::mesh::eventually("both roots are trusted", || async {
        mesh.proxies.iter().all(|proxy| proxy.holding().trusted().len() == 2)
    })
    .await?;
    let talk = mesh.stop().await?;
    assert!(talk.handshakes > 20, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
    for serving in serving {
        serving.abort();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_an_authority_that_lies_in_this_process() -> anyhow::Result<()> {
    tokio::time::timeout(LONGEST, lies_are_refused(Way::InProcess)).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_an_authority_that_lies_over_the_wire() -> anyhow::Result<()> {
    tokio::time::timeout(LONGEST, lies_are_refused(Way::Remote)).await?
}
