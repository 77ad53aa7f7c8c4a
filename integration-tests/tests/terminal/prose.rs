use std::collections::BTreeSet;
use std::process::Command;

use integration_tests::mesh::{MeshCa, SOON, TestAgent};
use integration_tests::pty::Terminal;

use super::{BANYAN, banyan};

/// Columns of the terminal, and rows that everything below fits on.
const SCREEN: (u16, u16) = (80, 100);

/// Words without digits: times and ids differ from one call to the next.
fn words(text: &str) -> BTreeSet<String> {
    let plain = |word: &&str| !word.chars().any(|char| char.is_ascii_digit());
    text.split_whitespace().filter(plain).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentence_breaks_between_words_on_a_terminal_and_nowhere_in_a_pipe() -> anyhow::Result<()>
{
    let ca = MeshCa::start("", "").await?;
    let agent = TestAgent::of(ca.gate().address())?
        .with_token(&ca.token("host-1", &["spiffe://example.org/web"]).await?)?
        .joined()
        .await?;
    let (server, own) =
        (ca.running().admin_socket.display().to_string(), agent.socket().display().to_string());
    let server = ["--socket", server.as_str()];
    for (verb, socket, sentences) in [
        (["agent", "status"].as_slice(), ["--socket", own.as_str()], 1),
        (&["status"], server, 0),
        (&["rotate", "start", "--dry-run"], server, 1),
        (&["rotate", "abort"], server, 0),
        (&["rotate", "rollback"], server, 0),
        (&["token", "revoke", "ff"], server, 0),
    ] {
        let line: Vec<&str> = verb.iter().copied().chain(socket).collect();
        let piped = Command::new(BANYAN).args(&line).current_dir(ca.directory()).output()?;
        let piped = format!(
            "{}{}",
            String::from_utf8_lossy(&piped.stdout),
            String::from_utf8_lossy(&piped.stderr)
        );
        let mut terminal = Terminal::run(banyan(ca.directory(), &line), SCREEN.0, SCREEN.1)?;
        terminal.ended(SOON).await?;
        let broken = &words(&terminal.text()) - &words(&piped);
        assert_eq!(broken, BTreeSet::new(), "{verb:?}: {:#?}", terminal.rows());
        let long = piped.lines().filter(|line| line.len() > usize::from(SCREEN.0)).count();
        assert!(long >= sentences, "{verb:?} in a pipe: {piped}");
    }
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_from_a_terminal_is_not_broken() -> anyhow::Result<()> {
    let ca = MeshCa::start("", "").await?;
    let socket = ca.running().admin_socket.display().to_string();
    let make = [
        "token",
        "create",
        "--agent",
        "node-1",
        "--identity",
        "spiffe://example.org/web",
        "--socket",
        &socket,
    ];
    let mut terminal = Terminal::run(banyan(ca.directory(), &make), SCREEN.0, SCREEN.1)?;
    assert_eq!(terminal.ended(SOON).await?, 0);
    let rows = terminal.rows();
    let token: Vec<_> =
        rows.iter().map(|row| row.trim_end()).filter(|row| !row.is_empty()).collect();
    assert!(token.len() > 1, "it is longer than a row: {token:?}");
    assert!(
        token.iter().all(|row| !row.starts_with(' ')),
        "the terminal alone breaks it: {token:?}"
    );
    ca.stop().await
}
