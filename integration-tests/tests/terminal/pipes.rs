use std::process::{Command, Output, Stdio};

use super::BANYAN;

/// Runs `banyan` with a standard output that nobody reads.
fn unread(words: &[&str]) -> anyhow::Result<Output> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let child = Command::new(BANYAN).args(words).stdout(writer).stderr(Stdio::piped()).spawn()?;
    Ok(child.wait_with_output()?)
}

#[test]
fn output_that_nobody_reads_ends_the_program_without_a_word() -> anyhow::Result<()> {
    let envoy = unread(&["agent", "envoy-config", "--socket", "agent.sock"])?;
    assert_eq!((envoy.status.code(), envoy.stderr.as_slice()), (Some(141), b"".as_slice()));
    for shell in ["bash", "zsh", "fish"] {
        let script = unread(&["completions", shell])?;
        assert_eq!(
            (script.status.code(), script.stderr.as_slice()),
            (Some(141), b"".as_slice()),
            "{shell}"
        );
    }
    let help = unread(&["rotate", "start", "--help"])?;
    assert_eq!((help.status.code(), help.stderr.as_slice()), (Some(0), b"".as_slice()));
    Ok(())
}

#[test]
fn with_json_a_failure_is_one_object_on_standard_error() -> anyhow::Result<()> {
    for (words, code, exit) in [
        (["status", "--json", "--socket", "/nowhere/admin.sock"].as_slice(), "unreachable", 3),
        (&["root", "show", "--json"], "usage", 2),
        (&["config", "check", "--json", "/nowhere/banyan.toml"], "configuration", 5),
    ] {
        let output = Command::new(BANYAN).args(words).output()?;
        assert_eq!(output.status.code(), Some(exit), "{words:?}");
        let told: serde_json::Value = serde_json::from_slice(&output.stderr)?;
        assert_eq!(told["error"]["code"], code, "{told}");
        assert!(told["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{told}");
        assert!(
            told["error"].as_object().is_some_and(|error| error.contains_key("advice")),
            "{told}"
        );
    }
    Ok(())
}
