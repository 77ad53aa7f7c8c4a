//! A forecast for people.

use std::time::Duration;

use console::output;
use planner::Forecast;
use trust::plain::{counted, span};

pub(super) fn of(forecast: &Forecast) -> String {
    let Forecast { question, answer, csr, bundles, old_root, .. } = forecast;
    let mut text = format!(
        "{}, {} that live {}, {} early renewals a second, settle {}, skew {}",
        counted(question.agents, "member", "members"),
        counted(question.leaves, "leaf", "leaves"),
        secs(question.leaf_ttl_seconds),
        question.budget_per_second,
        secs(question.settle_seconds),
        secs(question.skew_seconds),
    );
    if let (Some(csr_only), Some(offline)) = (&question.csr_only, &question.offline) {
        text.push_str(&format!(
            "\n{csr_only} ask for themselves, {offline} cannot be reached at the begin"
        ));
    }
    text.push_str(&format!("\n\n{}", phases(forecast)));
    text.push_str(&format!("\n\n{}", verdict(forecast)));
    text.push_str(&format!(
        "\n\nCSRs: usually {} a second; in the rotation {} on the mean, {} at most (in second {}); {} in all",
        csr.usual_per_second, csr.mean_per_second, csr.peak_per_second, csr.peak_at, csr.total
    ));
    if csr.refused > 0 {
        text.push_str(&format!(", and {} refused for want of life left in the root", csr.refused));
    }
    text.push_str(&format!(
        "\nbundles: {} pushed to agents ({}), acknowledged {} times; {} with leaves of clients that ask for themselves ({})",
        bundles.pushes,
        bytes(bundles.push_bytes),
        bundles.acknowledgements,
        bundles.with_leaves,
        bytes(bundles.with_leaves_bytes),
    ));
    if let Some(last) = old_root.last_leaf_ends {
        text.push_str(&format!(
            "\nthe last leaf of the old root ends {} after the begin",
            after(last)
        ));
    }
    if let Some(horizon) = old_root.horizon {
        text.push_str(&format!("; none can end later than {}", after(horizon)));
    }
    let gates = gates(forecast);
    if !gates.is_empty() {
        text.push_str(&format!("\n\n{gates}"));
    }
    text.push_str(&format!(
        "\n\nif nobody ever confirms anything it takes {} at most: {} before the root's end is early enough even then",
        secs(answer.at_most_seconds),
        secs(answer.begin_before_end_seconds)
    ));
    text
}

fn phases(forecast: &Forecast) -> String {
    let mut table = output::table(&["PHASE", "BEGINS AFTER", "LASTS"]);
    for phase in &forecast.phases {
        table.add_row([
            phase.phase.to_owned(),
            length(phase.from),
            phase.seconds.map_or_else(|| "does not end".to_owned(), length),
        ]);
    }
    table.to_string()
}

fn verdict(forecast: &Forecast) -> String {
    let answer = &forecast.answer;
    let Some(seconds) = answer.seconds else {
        let waits = answer.waits_for.iter().map(|what| format!("\n  {what}"));
        return format!("NO: it does not end by itself. It waits for{}", waits.collect::<String>());
    };
    let took = length(seconds);
    match (answer.before_root_ends, answer.margin_seconds) {
        (Some(true), Some(margin)) => {
            format!("yes: it takes {took}, and the root lives for another {}", after(margin))
        }
        (Some(_), Some(margin)) if margin < 0 => format!(
            "NO: it takes {took}, and the root ends {} earlier: begin sooner",
            after(margin.saturating_neg())
        ),
        (Some(_), _) => format!(
            "NO: it takes {took}, and meanwhile the root has too little life left for leaves: begin sooner"
        ),
        (None, _) => {
            format!("it takes {took}; with --root-left it is compared with the root's end")
        }
    }
}

fn gates(forecast: &Forecast) -> String {
    let mut table = output::table(&["GATE", "HELD BY", "LEAVES", "UNTIL"]);
    for gate in &forecast.gates {
        for (kind, holders) in &gate.holders {
            table.add_row([
                gate.gate.clone(),
                (*kind).to_owned(),
                format!("at most {}", holders.most),
                after(holders.until),
            ]);
        }
        if let (Some(last), Some(until)) = (&gate.held_last, gate.held_until) {
            table.add_row([
                gate.gate.clone(),
                format!("last: {last}"),
                String::new(),
                after(until),
            ]);
        }
    }
    if forecast.gates.iter().all(|gate| gate.held_last.is_none()) {
        return String::new();
    }
    table.to_string()
}

fn secs(seconds: u64) -> String {
    span(Duration::from_secs(seconds))
}

fn after(seconds: i64) -> String {
    secs(u64::try_from(seconds).unwrap_or(0))
}

/// With tenths while it is short.
fn length(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(length) if seconds >= 120.0 => span(length),
        _ => format!("{seconds:.1}s"),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
