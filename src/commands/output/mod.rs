//! What the commands print: data on stdout, talk on stderr.
//!
//! Owns: the one writer of stdout, whether there are colours and how wide a terminal is, and how foreign text becomes safe to show.
//! Invariant: a reader that has seen enough and closes the pipe ends the command with exit 0 and no word.

mod color;
mod progress;
mod screen;
mod table;
mod text;

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

pub use crate::runtime::units::{ago, criterion, duration, money, number, short, utc};
pub use color::{ColorChoice, Tone};
pub use progress::Progress;
pub use screen::Screen;
pub use table::Table;
pub use text::{fit, json_safe, term_safe, width};

use super::exit::{CommandError, Exit};
use crate::config::Environment;

/// How often it is looked whether the reader of stdout is gone.
const READER_EVERY: Duration = Duration::from_millis(250);

/// Where the commands print. Shared by reference; lines of different tasks do not mix.
pub struct Output {
    stdout: Mutex<BufWriter<Box<dyn Write + Send>>>,
    width: Option<usize>,
    is_terminal: bool,
    is_lively: bool,
    stdout_colored: bool,
    stderr_colored: bool,
    has_bars: bool,
    escapes_allowed: bool,
}

impl Output {
    /// The process's own streams.
    #[must_use]
    pub fn new(choice: ColorChoice, environment: &Environment, escapes_allowed: bool) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let of_terminal = || stdout.is_terminal().then(crossterm::terminal::size)?.ok().map(|(columns, _)| usize::from(columns));
        let asked = || environment.get("COLUMNS")?.parse().ok().filter(|columns| *columns > 0);
        Self {
            width: of_terminal().or_else(asked),
            is_terminal: stdout.is_terminal(),
            is_lively: environment.get("TERM") != Some("dumb"),
            stdout_colored: choice.decide(environment, stdout.is_terminal()),
            stderr_colored: choice.decide(environment, stderr.is_terminal()),
            has_bars: stderr.is_terminal() && color::is_lively(environment),
            escapes_allowed,
            stdout: Mutex::new(BufWriter::new(Box::new(stdout))),
        }
    }

    /// Writes one line of data. Foreign text in it has to be safe already: [`Self::text`]. It is buffered until [`Self::flush`] or
    /// the end; a command that follows something flushes with every batch.
    ///
    /// # Errors
    /// Silent and with exit 0 where the reader is gone.
    pub fn line(&self, line: impl Display) -> Result<(), CommandError> {
        writeln!(self.stdout(), "{line}").map_err(|error| stdout_error(&error))
    }

    /// Writes a value as one line of JSON in which nothing can disturb a terminal.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn json_line<T: Serialize>(&self, value: &T) -> Result<(), CommandError> {
        let json = serde_json::to_string(value).map_err(|error| CommandError::of(Exit::BadData, &error))?;
        self.line(json_safe(&json))
    }

    /// Writes one line of JSON as it is stored; safe like the rest, unless `--allow-escape-sequences` wants it as it came.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn stored(&self, json: &str) -> Result<(), CommandError> {
        if self.escapes_allowed { self.line(json) } else { self.line(json_safe(json)) }
    }

    /// Writes a value as indented JSON in which nothing can disturb a terminal.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn json<T: Serialize>(&self, value: &T) -> Result<(), CommandError> {
        let json = serde_json::to_string_pretty(value).map_err(|error| CommandError::of(Exit::BadData, &error))?;
        self.line(json_safe(&json))
    }

    /// A table for stdout, as wide as the terminal, or as wide as it needs to be where there is none.
    #[must_use]
    pub fn table(&self, headings: &[&str]) -> Table {
        self.table_within(headings, self.width)
    }

    /// The same for so many columns, where they are not those of the start: somebody changed the terminal's size.
    #[must_use]
    pub fn table_within(&self, headings: &[&str], width: Option<usize>) -> Table {
        Table::new(headings, width, self.stdout_colored, self.escapes_allowed)
    }

    /// Takes the whole terminal behind stdout, to draw on it again and again; `None` where there is none, or one that cannot move its cursor.
    #[must_use]
    pub fn screen(&self) -> Option<Screen<'_>> {
        (self.is_terminal && self.is_lively).then(|| Screen::enter(self))
    }

    /// Writes a table.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn print(&self, table: &Table) -> Result<(), CommandError> {
        table.lines().try_for_each(|line| self.line(line))
    }

    /// Writes bytes as they are: completions, a file.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), CommandError> {
        self.stdout().write_all(bytes).map_err(|error| stdout_error(&error))
    }

    /// Hands everything to the reader.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn flush(&self) -> Result<(), CommandError> {
        self.stdout().flush().map_err(|error| stdout_error(&error))
    }

    /// Waits until the reader of stdout has closed it, as `head` does after its lines; for ever where stdout is a file or a terminal.
    /// So a command that follows something ends with its reader, and not only when it has something to write again.
    pub async fn reader_gone(&self) {
        // Tokio has no sound way to watch a descriptor that somebody else owns, so it is asked now and then.
        while !is_closed(&io::stdout()) {
            tokio::time::sleep(READER_EVERY).await;
        }
    }

    /// Says something on stderr: what is being done, what to do next. Foreign text in it has to be safe already.
    pub fn note(&self, note: impl Display) {
        // Nobody listens: no reason to stop.
        let _ = writeln!(io::stderr(), "{note}");
    }

    /// Asks something on stderr; the answer stands on the same line.
    pub fn ask(&self, question: impl Display) {
        let mut stderr = io::stderr();
        // Who cannot see the question gives no answer.
        let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
    }

    /// Foreign text as one safe line, or as it came where `--allow-escape-sequences` says so.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.escapes_allowed { Cow::Borrowed(text) } else { term_safe(text) }
    }

    /// Text in a tone, for a line on stdout; without colours the text alone.
    #[must_use]
    pub fn tone(&self, tone: Tone, text: &str) -> String {
        paint(self.stdout_colored, tone, text)
    }

    /// Text in a tone, for a line on stderr.
    #[must_use]
    pub fn note_tone(&self, tone: Tone, text: &str) -> String {
        paint(self.stderr_colored, tone, text)
    }

    /// Columns to fit into: those of the terminal behind stdout, or else what COLUMNS says; `None` for lines as long as they are.
    #[must_use]
    pub const fn width(&self) -> Option<usize> {
        self.width
    }

    /// Progress of long work, on stderr.
    #[must_use]
    pub fn progress(&self, what: &'static str, unit: &'static str, total: Option<u64>) -> Progress {
        Progress::new(what, unit, total, self.has_bars)
    }

    fn stdout(&self) -> MutexGuard<'_, BufWriter<Box<dyn Write + Send>>> {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the other end of a pipe or a socket is closed.
fn is_closed(stream: &impl AsFd) -> bool {
    // Nothing is asked for: errors are reported anyway.
    let mut watched = [PollFd::new(stream, PollFlags::empty())];
    matches!(poll(&mut watched, Some(&Timespec::default())), Ok(1)) && watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

fn paint(is_colored: bool, tone: Tone, text: &str) -> String {
    let style = tone.style();
    if is_colored { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

fn stdout_error(error: &io::Error) -> CommandError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CommandError::reader_gone(),
        _ => CommandError::new(Exit::TryLater, "cannot write to standard output").caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing.
    struct Full(io::ErrorKind);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(stdout: Box<dyn Write + Send>) -> Output {
        let environment = Environment::default();
        Output { stdout: Mutex::new(BufWriter::new(stdout)), ..Output::new(ColorChoice::Never, &environment, false) }
    }

    #[test]
    fn a_reader_that_is_gone_is_noticed() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(!is_closed(&writer) && !is_closed(&tempfile::tempfile().unwrap()));
        drop(reader);
        assert!(is_closed(&writer));
    }

    #[test]
    fn a_closed_pipe_is_a_clean_end_and_a_full_disk_is_not() {
        for (kind, exit) in [(io::ErrorKind::BrokenPipe, Exit::Done), (io::ErrorKind::StorageFull, Exit::TryLater)] {
            let output = output(Box::new(Full(kind)));
            output.line("short lines wait in the buffer").unwrap();
            assert_eq!(output.flush().unwrap_err().exit(), exit, "{kind:?}");
            assert_eq!(output.bytes(&[b'x'; 1 << 16]).unwrap_err().exit(), exit, "{kind:?}");
        }
    }
}
