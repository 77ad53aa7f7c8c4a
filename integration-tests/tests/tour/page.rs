//! What the page has typed, and what it says that is answered.

/// A block of commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// In which terminal; in each of them before the first one is named.
    pub(crate) terminal: Option<usize>,
    /// The commands.
    pub(crate) typed: String,
    /// Lines of the answer, where the page shows one.
    pub(crate) answered: Vec<String>,
}

/// The blocks of the tour in their order.
pub(crate) fn tour(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut terminal, mut fence, mut shown_after) = (None, None, None);
    let lines = page.lines().skip_while(|line| !line.starts_with("## A tour")).skip(1);
    for line in lines.take_while(|line| !line.starts_with("## ")) {
        match (fence, line) {
            (None, "```sh") => {
                fence = Some("sh");
                blocks.push(Block { terminal, typed: String::new(), answered: Vec::new() });
                shown_after = Some(blocks.len() - 1);
            }
            (None, "```") => fence = Some("answer"),
            (Some(kind), "```") => {
                // One answer for each block; what is shown after more prose was not typed here.
                if kind == "answer" {
                    shown_after = None;
                }
                fence = None;
            }
            (Some("sh"), line) => {
                if let Some(block) = blocks.last_mut() {
                    block.typed.push_str(line);
                    block.typed.push('\n');
                }
            }
            (Some(_), line) => {
                if let Some(block) = shown_after.and_then(|place| blocks.get_mut(place)) {
                    block.answered.push(line.to_owned());
                }
            }
            (None, line) => {
                let named =
                    line.strip_prefix("### Terminal ").and_then(|rest| rest.split(':').next());
                terminal = named.and_then(|number| number.parse().ok()).or(terminal);
            }
        }
    }
    blocks
}

/// Whether a line of an answer is as the page shows it: `…` is anything, spaces count once, and every number, month, time
/// and fingerprint stands for another one, but for the number 0.
pub(crate) fn is_shown(shown: &str, line: &str) -> bool {
    let (shown, line) = (plain(shown), plain(line));
    let (open_start, open_end) = (shown.starts_with('…'), shown.ends_with('…'));
    let parts: Vec<_> = shown.split('…').map(str::trim).filter(|part| !part.is_empty()).collect();
    let mut rest = line.as_str();
    for (place, part) in parts.iter().enumerate() {
        let Some(at) = rest.find(part) else { return false };
        if place == 0 && at > 0 && !open_start {
            return false;
        }
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    open_end || rest.is_empty()
}

/// As OpenSSL writes them.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn plain(text: &str) -> String {
    let month = |word: &str| {
        MONTHS
            .iter()
            .find_map(|month| word.strip_suffix(month).map(|before| format!("{before}MONTH")))
    };
    let words = text.split_whitespace().map(|word| month(word).unwrap_or_else(|| word.to_owned()));
    let text = words.collect::<Vec<_>>().join(" ");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let hex = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (token, used) = match (hex, digits) {
            (8.., _) => ("H", hex),
            (_, 1) if first == '0' => ("0", 1),
            (_, 1..) => ("N", digits),
            _ => ("", first.len_utf8()),
        };
        out.push_str(if token.is_empty() { rest.get(..used).unwrap_or_default() } else { token });
        rest = rest.get(used..).unwrap_or_default();
    }
    out
}

#[test]
fn a_line_is_compared_but_for_what_differs_each_time() {
    for (shown, line) in [
        (
            "… bundle in force sequence=1 digest=1c6eb5e4fb61afeb…",
            "INFO bundle in force sequence=2 digest=0d6eb5e4fb61afebcc",
        ),
        (" ROOT  STATE", "ROOT STATE"),
        ("root … signs, bundle 3", "root 0a1b2c3d signs, bundle 5"),
        ("until 2027-11-22T23:56:38Z", "until 2026-01-02T03:04:05Z"),
        ("notAfter=Nov 23 23:57:40 2026 GMT", "notAfter=Dec  1 03:32:35 2026 GMT"),
    ] {
        assert!(is_shown(shown, line), "{shown} / {line}");
    }
    for (shown, line) in [
        ("failed: 0", "failed: 1"),
        ("answer of web", "answer of website"),
        ("answer of web", "the answer of web"),
        ("alice.pem: OK", "alice.pem: expired"),
        ("notAfter=Nov 23 23:57:40 2026 GMT", "notAfter=never 23 23:57:40 2026 GMT"),
    ] {
        assert!(!is_shown(shown, line), "{shown} / {line}");
    }
}
