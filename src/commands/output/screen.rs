//! The whole terminal, drawn again and again, and given back as it was.
//!
//! Owns the alternate screen, the cursor and the echo of keys. Does not own what is drawn. Invariants: however the command ends, a panic included, the
//! terminal is as it was; a picture is one write, and never scrolls, whatever the terminal's size.

use std::io::Write as _;

use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{Output, Tone};
use crate::commands::CommandError;

/// Alternate screen, cursor hidden, and what is too wide is cut by the terminal: somebody may make it narrower while it is drawn on.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Size of a terminal that does not say: the smallest that anybody has.
const SIZE_DEFAULT: (usize, usize) = (80, 24);

/// The terminal while something is drawn on all of it. Dropped, it is what it was before.
pub struct Screen<'a> {
    output: &'a Output,
    /// How stdin's terminal echoed keys before.
    echo: Option<Termios>,
}

impl<'a> Screen<'a> {
    pub(super) fn enter(output: &'a Output) -> Self {
        let mut screen = Self { output, echo: None };
        screen.take();
        screen
    }

    /// Columns and rows now.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let told = crossterm::terminal::size().ok().filter(|(columns, rows)| *columns > 0 && *rows > 0);
        told.map_or(SIZE_DEFAULT, |(columns, rows)| (usize::from(columns), usize::from(rows)))
    }

    /// Shows these lines from the top; the last row says how many more there are. Each has to be safe; what is wider than the terminal is cut.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn draw(&self, lines: &[String]) -> Result<(), CommandError> {
        let (columns, rows) = self.size();
        self.output.bytes(picture(lines, columns, rows, |text| self.output.tone(Tone::Faint, text)).as_bytes())?;
        self.output.flush()
    }

    /// Gives the terminal back for a while, as to the shell behind Ctrl-Z; [`Screen::take`] takes it again.
    pub fn give_back(&mut self) {
        if let Some(echo) = self.echo.take() {
            // A terminal that is gone needs nothing back.
            let _ = tcsetattr(stdin(), OptionalActions::Now, &echo);
        }
        let mut stdout = self.output.stdout();
        let _ = stdout.write_all(LEAVE.as_bytes()).and_then(|()| stdout.flush());
    }

    /// Takes the terminal. Keys are not echoed into the picture; Ctrl-C and Ctrl-Z do what they do.
    pub fn take(&mut self) {
        self.echo = tcgetattr(stdin()).ok().filter(|before| {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
            tcsetattr(stdin(), OptionalActions::Now, &silent).is_ok()
        });
        let mut stdout = self.output.stdout();
        let _ = stdout.write_all(ENTER.as_bytes()).and_then(|()| stdout.flush());
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// What is written for a picture: each line over what stood there, the rest cleared. The last row gets no line break, which would scroll.
fn picture(lines: &[String], columns: usize, rows: usize, faint: impl Fn(&str) -> String) -> String {
    let mut text = String::from("\x1b[H");
    let is_cut = lines.len() > rows;
    let shown = if is_cut { rows.saturating_sub(1) } else { lines.len() };
    for (row, line) in lines[..shown].iter().enumerate() {
        text.push_str(if row == 0 { "" } else { "\r\n" });
        text.push_str(line);
        text.push_str("\x1b[K");
    }
    if is_cut {
        let more = format!("… {} more lines; a taller terminal shows them", lines.len() - shown);
        let more = super::fit(&more, columns);
        text.push_str(if shown == 0 { "" } else { "\r\n" });
        text.push_str(&faint(&more));
        text.push_str("\x1b[K");
    }
    text.push_str("\x1b[J");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_fits_and_overwrites_what_was_there() {
        let lines: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        for (columns, rows, expected) in [
            (80, 24, "\x1b[Ha\x1b[K\r\nb\x1b[K\r\nc\x1b[K\x1b[J"),
            (80, 3, "\x1b[Ha\x1b[K\r\nb\x1b[K\r\nc\x1b[K\x1b[J"),
            (80, 2, "\x1b[Ha\x1b[K\r\n… 2 more lines; a taller terminal shows them\x1b[K\x1b[J"),
            (8, 1, "\x1b[H… 3 mor…\x1b[K\x1b[J"),
        ] {
            assert_eq!(picture(&lines, columns, rows, str::to_owned), expected, "{columns}x{rows}");
        }
        assert_eq!(picture(&[], 80, 24, str::to_owned), "\x1b[H\x1b[J");
    }
}
