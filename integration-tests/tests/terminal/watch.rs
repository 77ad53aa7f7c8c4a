use integration_tests::mesh::{MeshCa, SOON};
use integration_tests::pty::Terminal;
use proto::banyan::admin::v1::{AddRelyingPartyRequest, ConfirmRelyingPartyRequest, Verb};

use super::{SIZES, banyan};

const LIMITS: &str = "[leaf]\nttl_default = \"60s\"\nttl_max = \"60s\"\nttl_min = \"5s\"\nbackdate = \"2s\"\nskew = \"2s\"\n\
                      [rotation]\nsettle = \"1s\"\nwithdrawal_max = \"2s\"\n";
/// Relying parties with names that do not fit into a row together with the rest of their line.
const PARTNERS: [&str; 2] = [
    "partner.example/trust-store-of-the-northern-load-balancer",
    "partner.example/trust-store-of-the-southern-load-balancer",
];

/// Rows of which each frame has exactly one.
fn frames(terminal: &Terminal) -> usize {
    terminal
        .rows()
        .iter()
        .filter(|row| row.contains("distributing") && row.contains("withdrawing"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn rotate_watch_leaves_no_old_frame_and_cuts_no_word() -> anyhow::Result<()> {
    let ca = MeshCa::start("", LIMITS).await?;
    let mut client = ca.rotations();
    for name in PARTNERS {
        client
            .add_relying_party(AddRelyingPartyRequest {
                name: name.to_owned(),
                ..Default::default()
            })
            .await?;
    }
    ca.rotate("one").await?;
    let socket = ca.running().admin_socket.display().to_string();
    let watch = ["rotate", "watch", "--socket", &socket];
    let mut terminals = Vec::new();
    for (columns, rows) in SIZES {
        terminals.push(Terminal::run(banyan(ca.directory(), &watch), columns, rows)?);
    }
    let mut terminals = terminals.iter_mut().collect::<Vec<_>>();
    let joined = |text: &str| text.split_whitespace().collect::<String>();
    for place in 0..=PARTNERS.len() {
        let waiting = PARTNERS.get(place..).unwrap_or_default();
        for terminal in &mut terminals {
            let named = |text: &str| waiting.iter().all(|name| joined(text).contains(name));
            terminal.until("who is waited for, in full", SOON, named).await?;
            assert!(frames(terminal) <= 1, "{:#?}", terminal.rows());
        }
        if let Some(name) = PARTNERS.get(place) {
            let (name, by) = ((*name).to_owned(), "ops on call".to_owned());
            client
                .confirm_relying_party(ConfirmRelyingPartyRequest {
                    name,
                    by,
                    ..Default::default()
                })
                .await?;
        }
    }
    for terminal in terminals {
        assert_eq!(terminal.ended(SOON).await?, 0);
        assert_eq!(frames(terminal), 1, "{:#?}", terminal.rows());
        let text = terminal.text();
        assert!(text.contains("the rotation is complete: root "), "{text}");
        assert!(text.contains(" is no longer trusted, bundle "), "{text}");
    }
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_watching_and_not_the_rotation() -> anyhow::Result<()> {
    let ca = MeshCa::start("", LIMITS).await?;
    let name = PARTNERS[0].to_owned();
    ca.rotations().add_relying_party(AddRelyingPartyRequest { name, ..Default::default() }).await?;
    ca.rotate("one").await?;
    let socket = ca.running().admin_socket.display().to_string();
    let words = ["rotate", "watch", "--socket", &socket];
    let (columns, rows) = SIZES[0];
    let mut terminal = Terminal::run(banyan(ca.directory(), &words), columns, rows)?;
    terminal.until("the phases", SOON, |text| text.contains("[distributing]")).await?;
    terminal.press("\x03")?;
    assert_eq!(terminal.ended(SOON).await?, 130);
    let text = terminal.text();
    assert!(
        text.contains(
            "the rotation continues on the server; `banyan rotate watch` follows it again"
        ),
        "{text}"
    );
    assert_eq!(ca.rotation().await?.request_id, "one");
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_rotation_that_somebody_aborts_is_told_so_and_fails()
-> anyhow::Result<()> {
    let ca = MeshCa::start("", LIMITS).await?;
    let socket = ca.running().admin_socket.display().to_string();
    let target = ["--socket", socket.as_str()];
    let start =
        ["rotate", "start", "--manual", "--wait"].into_iter().chain(target).collect::<Vec<_>>();
    let (columns, rows) = SIZES[1];
    let mut waiting = Terminal::run(banyan(ca.directory(), &start), columns, rows)?;
    waiting.until("the phases", SOON, |text| text.contains("[distributing]")).await?;
    let watch = ["rotate", "watch"].into_iter().chain(target).collect::<Vec<_>>();
    let mut watching = Terminal::run(banyan(ca.directory(), &watch), columns, rows)?;
    watching.until("the phases", SOON, |text| text.contains("[distributing]")).await?;
    ca.decide("stop", Verb::Abort).await?;
    for terminal in [&mut waiting, &mut watching] {
        assert_eq!(terminal.ended(SOON).await?, 1);
        let text = terminal.text();
        assert!(
            text.contains("the rotation was aborted: root ") && text.contains(" still signs"),
            "{text}"
        );
        assert!(!text.contains("the rotation is complete"), "{text}");
    }
    ca.stop().await
}
