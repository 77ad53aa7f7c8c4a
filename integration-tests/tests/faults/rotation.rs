//! `kill -9` in each phase of a rotation: the next server goes on with it, and the journal shows every step.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use integration_tests::faults::{CaDir, ChildCa, Member, SOON};
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, ConfirmRelyingPartyRequest, GetRotationRequest, ReadJournalRequest,
    Rotation, StartRotationRequest,
};
use rotation::State;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Short lives and limits; the wait at the end of a rotation lasts until somebody confirms.
const LIMITS: &str = "[leaf]\nttl_default = \"10s\"\nttl_max = \"10s\"\nttl_min = \"5s\"\nbackdate = \"1s\"\nskew = \"1s\"\n\
                      [rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1h\"\n";
/// Each gate may wait for a leaf of 10 s, the horizon's step and twice the skew.
const ROTATION_MAX: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(10);

fn admin(ca_dir: &CaDir) -> anyhow::Result<RotationServiceClient<Channel>> {
    let path = ca_dir.config()?.listen().admin_socket().to_owned();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let endpoint = Endpoint::from_static("http://admin").timeout(SOON);
    Ok(RotationServiceClient::new(endpoint.connect_with_connector_lazy(connect)))
}

async fn until(
    client: &mut RotationServiceClient<Channel>,
    what: &str,
    holds: impl Fn(&Rotation) -> bool,
) -> anyhow::Result<Rotation> {
    let mut last = Rotation::default();
    let poll = async {
        loop {
            last = client.get_rotation(GetRotationRequest {}).await?.into_inner();
            if holds(&last) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let found = tokio::time::timeout(ROTATION_MAX, poll).await;
    found.with_context(|| format!("{what}: {last:#?}"))??;
    Ok(last)
}

/// The record, once the journal has led to it.
async fn verified(client: &mut RotationServiceClient<Channel>) -> anyhow::Result<State> {
    let mut entries = Vec::new();
    loop {
        let from = entries.last().map_or(0, |(index, _)| *index + 1);
        let page = client.read_journal(ReadJournalRequest { from, limit: 0 }).await?.into_inner();
        entries.extend(page.entries.into_iter().map(|entry| (entry.index, entry.entry)));
        if page.more {
            continue;
        }
        let record: State = serde_json::from_slice(&page.record)?;
        let replayed = rotation_driver::replay(record.trust_domain.clone(), &entries)?;
        // What came while it was read is in the entries and not in the record.
        if replayed.state.generation == record.generation {
            assert_eq!(replayed.state, record);
            return Ok(record);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_goes_on_after_a_kill_in_any_phase() -> anyhow::Result<()> {
    let ca_dir = CaDir::new(LIMITS)?;
    let program = Path::new(env!("CARGO_BIN_EXE_ca_under_test"));
    let mut ca = ChildCa::spawn(program, &ca_dir)?;
    let door = ca.door().await?;
    let mut member = Member::join(&door, "agent-1").await?;
    member.issue().await?;
    let name = || "mount".to_owned();
    admin(&ca_dir)?
        .add_relying_party(AddRelyingPartyRequest { name: name(), ..Default::default() })
        .await?;
    for (turn, phase) in
        ["staging", "distributing", "draining", "withdrawing"].into_iter().enumerate()
    {
        let mut client = admin(&ca_dir)?;
        let request_id = format!("kill-while-{phase}");
        let request = StartRotationRequest {
            request_id: request_id.clone(),
            ..StartRotationRequest::default()
        };
        client.start_rotation(request).await?;
        let word = |sequence| ConfirmRelyingPartyRequest {
            name: name(),
            sequence,
            by: String::new(),
            ..Default::default()
        };
        if turn > 1 {
            until(&mut client, "distributing", |rotation| rotation.phase == "distributing").await?;
            client.confirm_relying_party(word(0)).await?;
        }
        if turn > 0 {
            until(&mut client, phase, |rotation| rotation.phase == phase).await?;
        }
        ca.kill().await?;
        ca = ChildCa::spawn(program, &ca_dir)?;
        ca.door().await?;
        let mut client = admin(&ca_dir)?;
        if turn <= 1 {
            until(&mut client, "distributing again", |rotation| rotation.phase == "distributing")
                .await?;
            client.confirm_relying_party(word(0)).await?;
        }
        until(&mut client, "the last gate", |rotation| rotation.phase == "withdrawing").await?;
        client.confirm_relying_party(word(0)).await?;
        let over =
            |rotation: &Rotation| rotation.phase == "steady" && rotation.done.contains(&request_id);
        until(&mut client, "it goes on by itself", over).await?;
        let record = verified(&mut client).await?;
        assert_eq!(record.roots.len(), turn + 2, "no root is made twice");
        assert_eq!(ca_dir.roots_made().await?, turn + 2, "nor at the authority");
    }
    ca.kill().await
}
