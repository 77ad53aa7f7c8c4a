//! What a terminal asks for: its size, text that fits it, and a block of lines that is redrawn in place.
//!
//! [`Live`] does not write, it says what to write, so that tests read it.

use std::io::{self, Write as _};
use std::os::fd::AsFd;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Size of a terminal that does not know its own.
const USUAL: Size = Size { columns: 80, rows: 24 };
/// Columns by which what goes on in the next line is moved in.
const INDENT: usize = 2;

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row.
    pub columns: usize,
    /// Rows on the screen.
    pub rows: usize,
}

/// The size of the terminal behind a file; `None` if there is no terminal.
pub fn size(file: impl AsFd) -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(file).ok()?;
    let known = |value: u16, usual: usize| if value == 0 { usual } else { usize::from(value) };
    Some(Size { columns: known(size.ws_col, USUAL.columns), rows: known(size.ws_row, USUAL.rows) })
}

/// Writes to standard error. Who closed it does not want to read it, which stops nothing.
pub fn error_text(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes text for people to standard error with an end of line, broken between words where that is a terminal.
pub fn error_line(text: &str) {
    match size(io::stderr()) {
        Some(size) => error_text(&format!("{}\n", wrap(text, size.columns).join("\n"))),
        None => error_text(&format!("{text}\n")),
    }
}

/// Breaks text between words into lines of at most so many columns. What goes on is indented a little more than its line;
/// a word that is longer than a line is broken, and nothing is left out.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    text.lines().flat_map(|line| wrap_line(line, columns)).collect()
}

fn wrap_line(line: &str, columns: usize) -> Vec<String> {
    if line.width() <= columns {
        return vec![line.to_owned()];
    }
    let indent = line.len() - line.trim_start().len();
    let (first, next) = (" ".repeat(indent), " ".repeat((indent + INDENT).min(columns / 2)));
    let (mut lines, mut current) = (Vec::new(), first);
    let mut empty = true;
    for word in line.split_whitespace() {
        let gap = usize::from(!empty);
        if !empty && current.width() + gap + word.width() > columns {
            lines.push(std::mem::replace(&mut current, next.clone()));
            empty = true;
        }
        if !empty {
            current.push(' ');
        }
        for character in word.chars() {
            if current.width() + character.width().unwrap_or(0) > columns {
                lines.push(std::mem::replace(&mut current, next.clone()));
            }
            current.push(character);
        }
        empty = false;
    }
    lines.push(current);
    lines
}

/// Rows that lines take on a terminal of so many columns.
fn rows(lines: &[String], columns: usize) -> usize {
    lines.iter().map(|line| line.width().div_ceil(columns.max(1)).max(1)).sum()
}

/// Lines at the end of the output that are redrawn in place.
#[derive(Debug, Default)]
pub struct Live {
    drawn: Vec<String>,
}

impl Live {
    /// What to write so that this text stands where the last one stood. Text that is longer than the screen loses its end,
    /// since a row that has left the screen cannot be redrawn.
    pub fn draw(&mut self, text: &str, size: Size) -> String {
        let most = size.rows.saturating_sub(1).max(1);
        let mut lines = wrap(text, size.columns);
        if lines.len() > most {
            lines.truncate(most.saturating_sub(1));
            lines.push("…".to_owned());
        }
        if lines == self.drawn {
            return String::new();
        }
        let mut out = self.erase(size);
        for line in &lines {
            out.push_str(line);
            out.push('\n');
        }
        self.drawn = lines;
        out
    }

    /// What to write so that this text stands above the lines that are redrawn, which the next [`draw`](Self::draw) puts
    /// below it.
    pub fn say(&mut self, text: &str, size: Size) -> String {
        let mut out = self.erase(size);
        for line in wrap(text, size.columns) {
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    /// Counted anew each time: a terminal that has become narrower breaks the lines that stand on it.
    fn erase(&mut self, size: Size) -> String {
        let rows =
            rows(&std::mem::take(&mut self.drawn), size.columns).min(size.rows.saturating_sub(1));
        if rows == 0 { String::new() } else { format!("\r\x1b[{rows}A\x1b[J") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: Size = Size { columns: 10, rows: 5 };

    #[test]
    fn text_is_broken_between_words_and_keeps_its_indent() {
        assert_eq!(wrap("  one two three", 10), ["  one two", "    three"]);
        assert_eq!(wrap("fits\n\nhere", 10), ["fits", "", "here"]);
    }

    #[test]
    fn a_word_longer_than_a_line_is_broken_and_not_cut() {
        let lines = wrap("see spiffe://example.org/web", 10);
        assert!(lines.iter().all(|line| line.width() <= 10), "{lines:?}");
        let all: String = lines.iter().map(|line| line.trim()).collect();
        assert_eq!(all, "seespiffe://example.org/web");
    }

    #[test]
    fn as_many_rows_are_erased_as_the_last_text_takes() {
        let mut live = Live::default();
        assert_eq!(live.draw("a\nb", NARROW), "a\nb\n");
        assert_eq!(live.draw("a\nb", NARROW), "", "nothing changed");
        assert_eq!(live.draw("one two three", NARROW), "\r\x1b[2A\x1b[Jone two\n  three\n");
        assert_eq!(
            live.draw("c", Size { columns: 4, ..NARROW }),
            "\r\x1b[4A\x1b[Jc\n",
            "the terminal became narrow"
        );
        assert_eq!(live.say("said", NARROW), "\r\x1b[1A\x1b[Jsaid\n");
        assert_eq!(live.draw("d", NARROW), "d\n");
    }

    #[test]
    fn text_longer_than_the_screen_ends_on_it() {
        let mut live = Live::default();
        assert_eq!(live.draw("1\n2\n3\n4\n5\n6", NARROW), "1\n2\n3\n…\n");
    }
}
