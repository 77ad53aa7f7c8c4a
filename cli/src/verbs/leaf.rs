//! `banyan leaf list`, `banyan leaf forget` and `banyan leaf revoke`: certificates that may be in use, the word that nobody holds one,
//! and the end of one.

use console::exit::{Failure, Told, from_status};
use console::output;
use proto::banyan::admin::v1::{
    ForgetLeavesRequest, ForgetLeavesResponse, Leaf, ListLeavesRequest, RevokeLeavesRequest,
    RevokeLeavesResponse,
};
use serde_json::{Value, json};
use trust::plain::counted;

use super::root::known;
use crate::admin_client;
use crate::args::{LeafAction, LeafForgetOptions, LeafListOptions, LeafOptions, LeafRevokeOptions};

/// Leaves that an answer for people names.
const NAMED_MAX: usize = 20;

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn run(options: &LeafOptions) -> Result<(), Failure> {
    match &options.action {
        LeafAction::List(options) => list(options).await,
        LeafAction::Forget(options) => forget(options).await,
        LeafAction::Revoke(options) => revoke(options).await,
    }
}

async fn revoke(options: &LeafRevokeOptions) -> Result<(), Failure> {
    let serials = options.serials.iter().map(|text| serial(text)).collect::<Result<_, _>>()?;
    let request = RevokeLeavesRequest {
        serials,
        by: options.word.by(),
        reason: options.word.reason.clone(),
        dry_run: options.dry_run,
    };
    let mut client = admin_client::leaves(&options.target).await?;
    let answer =
        client.revoke_leaves(request).await.map_err(|status| from_status(&status))?.into_inner();
    match options.json {
        true => output::json(&revoked_json(&answer, options.dry_run)),
        false => output::line(&revoked(&answer, options.dry_run)),
    }
}

fn revoked(answer: &RevokeLeavesResponse, dry_run: bool) -> String {
    let verb = if dry_run { "would be revoked" } else { "is revoked" };
    let mut lines: Vec<_> = answer
        .leaves
        .iter()
        .take(NAMED_MAX)
        .map(|revoked| {
            let leaf = revoked.leaf.clone().unwrap_or_default();
            format!("{} {verb}: {}", output::hex(&leaf.serial), revoked.said)
        })
        .collect();
    let further = answer.leaves.len().saturating_sub(NAMED_MAX);
    if further > 0 {
        lines.push(format!("and {further} more"));
    }
    lines.join("\n")
}

fn revoked_json(answer: &RevokeLeavesResponse, dry_run: bool) -> Value {
    let one = |revoked: &proto::banyan::admin::v1::RevokedLeaf| {
        let former = Some(&revoked.former_by).filter(|former| !former.is_empty());
        json!({
            "leaf": revoked.leaf.as_ref().map(as_json),
            "revoked_before_by": former,
            "said": revoked.said,
        })
    };
    json!({ "dry_run": dry_run, "leaves": answer.leaves.iter().map(one).collect::<Vec<_>>() })
}

async fn list(options: &LeafListOptions) -> Result<(), Failure> {
    let (leaves, more) = fetch(options).await?;
    if options.json {
        return output::json(
            &json!({ "leaves": leaves.iter().map(as_json).collect::<Vec<_>>(), "more": more }),
        );
    }
    let mut table = output::table(&[
        "SERIAL",
        "IDENTITY",
        "KIND",
        "AGENT",
        "ROOT",
        "ENDS",
        "BORN",
        "HAS",
        "WAITED FOR BY",
    ]);
    for leaf in &leaves {
        table.add_row([
            output::hex(&leaf.serial),
            leaf.identity.clone(),
            leaf.kind.clone(),
            agent(leaf),
            output::hex(leaf.root.get(..4).unwrap_or_default()),
            output::time(leaf.not_after),
            leaf.born.to_string(),
            has(leaf),
            holds(leaf),
        ]);
    }
    output::line(&table.to_string())?;
    if more {
        let text = format!(
            "there are more: `--limit {}` shows up to that many",
            options.limit.saturating_mul(10)
        );
        output::line(&text)?;
    }
    Ok(())
}

/// Page by page, until there are as many as are wanted: a page may be empty and yet not the last.
async fn fetch(options: &LeafListOptions) -> Result<(Vec<Leaf>, bool), Failure> {
    let wanted = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let root = match &options.root {
        Some(root) => known::id_of(&options.target, root).await?,
        None => Vec::new(),
    };
    let mut client = admin_client::leaves(&options.target).await?;
    let mut asked = ListLeavesRequest {
        root,
        kind: options.kind.clone().unwrap_or_default(),
        agent: options.agent.clone().unwrap_or_default(),
        identity: options.identity.clone().unwrap_or_default(),
        holding: options.waited_for,
        forgotten: options.forgotten,
        after: Vec::new(),
        limit: 0,
        ended: false,
    };
    let mut leaves = Vec::new();
    loop {
        let page = client
            .list_leaves(asked.clone())
            .await
            .map_err(|status| from_status(&status))?
            .into_inner();
        leaves.extend(page.leaves);
        if page.next.is_empty() || leaves.len() > wanted {
            let more = leaves.len() > wanted;
            leaves.truncate(wanted);
            return Ok((leaves, more));
        }
        asked.after = page.next;
    }
}

async fn forget(options: &LeafForgetOptions) -> Result<(), Failure> {
    let serials = options.serials.iter().map(|text| serial(text)).collect::<Result<_, _>>()?;
    let request = ForgetLeavesRequest {
        serials,
        by: options.word.by(),
        reason: options.word.reason.clone(),
        force: options.force,
        dry_run: options.dry_run,
    };
    let mut client = admin_client::leaves(&options.target).await?;
    let answer =
        client.forget_leaves(request).await.map_err(|status| from_status(&status))?.into_inner();
    match options.json {
        true => output::json(&said_json(&answer, options.dry_run)),
        false => output::line(&said(&answer, options.dry_run)),
    }
}

/// A serial number in hexadecimal digits, as this program or `openssl` prints it.
fn serial(text: &str) -> Result<Vec<u8>, Failure> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    let whole = bytes.as_ref().is_some_and(|bytes| bytes.len() == trust::Serial::LEN);
    let serial = bytes.and_then(|bytes| trust::Serial::from_bytes(&bytes));
    serial.map(|serial| serial.as_bytes().to_vec()).ok_or_else(|| {
        let told = Told::new(format!("\"{text}\" is no serial number of this CA"));
        Failure::Usage(told.advising(match whole {
            true => "this CA never gives that one: `banyan leaf list` shows those that are alive",
            false => "write all 32 digits, as `banyan leaf list` prints them",
        }))
    })
}

fn said(answer: &ForgetLeavesResponse, dry_run: bool) -> String {
    let mut lines = Vec::new();
    for forgotten in answer.leaves.iter().take(NAMED_MAX) {
        let leaf = forgotten.leaf.clone().unwrap_or_default();
        let verb = match (dry_run, forgotten.held) {
            (true, true) => "would need --force",
            (true, false) => "would be forgotten",
            (false, _) => "forgotten",
        };
        lines.push(format!("{} {verb}: {}", output::hex(&leaf.serial), forgotten.risk));
    }
    let further = answer.leaves.len().saturating_sub(NAMED_MAX);
    if further > 0 {
        lines.push(format!("and {further} more"));
    }
    lines.push(match answer.gate.as_str() {
        "" => "no gate of a rotation waits for any of them now".to_owned(),
        gate => format!(
            "the {gate} gate {} for {} instead of {}",
            if dry_run { "would wait" } else { "waits" },
            counted(answer.holds_after, "leaf", "leaves"),
            answer.holds_before
        ),
    });
    lines.join("\n")
}

fn said_json(answer: &ForgetLeavesResponse, dry_run: bool) -> Value {
    let leaves: Vec<_> = answer
        .leaves
        .iter()
        .map(|forgotten| {
            let leaf = forgotten.leaf.as_ref().map(as_json);
            json!({ "leaf": leaf, "held": forgotten.held, "risk": forgotten.risk })
        })
        .collect();
    json!({
        "dry_run": dry_run,
        "leaves": leaves,
        "gate": some(&answer.gate),
        "waited_for_before": answer.holds_before,
        "waited_for_after": answer.holds_after,
    })
}

fn as_json(leaf: &Leaf) -> Value {
    json!({
        "serial": output::hex(&leaf.serial),
        "identity": leaf.identity,
        "kind": leaf.kind,
        "agent": some(&leaf.agent),
        "root": output::hex(&leaf.root),
        "issuer": output::hex(&leaf.issuer),
        "ends": output::time(leaf.not_after),
        "born": leaf.born,
        "applied": (leaf.applied > 0).then_some(leaf.applied),
        "evidence": some(&leaf.evidence),
        "waited_for_by": some(&leaf.holds),
        "agent_connected": leaf.agent_connected,
        "agent_last_seen": (leaf.agent_last_seen != 0).then(|| output::time(leaf.agent_last_seen)),
        "forgotten": some(&leaf.forgotten),
        "own_trust": leaf.own_trust,
    })
}

/// `null` for what there is none of.
fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn agent(leaf: &Leaf) -> String {
    match (leaf.agent.as_str(), leaf.agent_connected) {
        ("", _) => "-".to_owned(),
        (agent, true) => agent.to_owned(),
        (agent, false) => format!("{agent} (away)"),
    }
}

fn has(leaf: &Leaf) -> String {
    match leaf.applied {
        0 => "-".to_owned(),
        applied => format!("{applied} ({})", leaf.evidence),
    }
}

fn holds(leaf: &Leaf) -> String {
    match (leaf.holds.as_str(), leaf.forgotten.as_str()) {
        ("", "") => "-".to_owned(),
        ("", forgotten) => forgotten.to_owned(),
        (gate, "") => format!("{gate} gate"),
        (gate, forgotten) => format!("{gate} gate, {forgotten}"),
    }
}

#[cfg(test)]
mod tests {
    use proto::banyan::admin::v1::ForgottenLeaf;

    use super::*;

    #[test]
    fn a_preview_says_which_gate_it_frees_and_what_needs_force() {
        let leaf = Leaf { serial: vec![0x4a; 16], ..Leaf::default() };
        let one =
            |held| ForgottenLeaf { leaf: Some(leaf.clone()), held, risk: "who breaks".to_owned() };
        let answer = ForgetLeavesResponse {
            leaves: vec![one(true), one(false)],
            gate: "trust".to_owned(),
            holds_before: 3,
            holds_after: 1,
        };
        let text = said(&answer, true);
        for words in [
            "4a4a would need --force: who breaks",
            "4a4a would be forgotten",
            "would wait for 1 leaf instead of 3",
        ] {
            assert!(text.contains(words), "{words} is missing in: {text}");
        }
        assert!(said(&answer, false).contains("the trust gate waits for 1 leaf instead of 3"));
    }

    #[test]
    fn a_serial_is_written_in_full_and_what_is_absent_is_null() {
        assert!(serial("4a").is_err_and(|error| error.to_string().contains("32 digits")));
        let foreign = serial("00000000000000000000000000000001").unwrap_err().to_string();
        assert!(foreign.contains("never gives") && !foreign.contains("32 digits"), "{foreign}");
        for good in ["4a".repeat(16), vec!["4A"; 16].join(":")] {
            assert_eq!(serial(&good).unwrap(), [0x4a; 16]);
        }
        let shown = as_json(&Leaf::default());
        assert!(
            shown["agent"].is_null()
                && shown["waited_for_by"].is_null()
                && shown["applied"].is_null(),
            "{shown}"
        );
    }
}
