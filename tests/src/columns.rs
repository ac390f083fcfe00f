//! A table of two columns on a screen, where Chinese letters take two places.

use std::io::Write;

/// Places of the first column.
const FIRST: usize = 46;
/// Places of the second.
const SECOND: usize = 14;

/// Writes what something is and its figure, a line each.
///
/// # Errors
/// Of the writer.
pub(crate) fn write(out: &mut impl Write, rows: &[(String, String)]) -> std::io::Result<()> {
    rows.iter().try_for_each(|(what, figure)| writeln!(out, "  {}{figure:>SECOND$}", pad(what, FIRST)))
}

/// An amount as people read it.
pub(crate) fn yuan(fen: i64) -> String {
    format!("{}{}.{:02}", if fen < 0 { "-" } else { "" }, fen.abs() / 100, fen.abs() % 100)
}

/// Pads to a width on the screen.
fn pad(text: &str, width: usize) -> String {
    let wide = |c: char| if ('\u{1100}'..).contains(&c) && c != '·' { 2 } else { 1 };
    let taken: usize = text.chars().map(wide).sum();
    format!("{text}{}", " ".repeat(width.saturating_sub(taken)))
}
