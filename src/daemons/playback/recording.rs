//! Recordings: JSON lines, plain or compressed, one frame a line; or one event a line, as reading commands print them.
//!
//! Owns: finding out how a file is compressed and what its lines are, line numbers, limits. A damaged line is an error with its place; the lines
//! before it were given.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::schema::EVENT_SCHEMA;
use crate::schema::event::Event;
use crate::schema::frame::RecordedFrame;
use crate::schema::time::Millis;

/// Longest line; a frame is at most 4 MiB, and what needs escaping doubles.
const LINE_MAX: usize = 16 << 20;

/// One recorded frame, or one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Milliseconds since the recording began.
    pub t_ms: u64,
    /// When the recording began, where its first line says so; an event always says when it was received.
    pub t0: Option<Millis>,
    /// The account whose socket it came from.
    pub account: String,
    /// The frame's text, or the event's JSON.
    pub text: String,
    /// Whether the text is an event's.
    pub is_event: bool,
}

/// A recording that cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be opened or read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A line is neither a recorded frame nor an event.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// From 1.
        column: usize,
        /// What is wrong, and what to do.
        message: String,
    },
}

/// The frames of one file, in order. After an error there are no more.
pub struct Recording {
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    line_no: u64,
    t0: Option<Millis>,
    /// What the line before was; the next one is most likely the same.
    holds_events: bool,
    gaps: u64,
    ended: bool,
}

/// What a line that is neither says of itself.
#[derive(Deserialize)]
struct Looks {
    t_ms: Option<IgnoredAny>,
    frame: Option<IgnoredAny>,
    schema: Option<IgnoredAny>,
    kind: Option<IgnoredAny>,
    level: Option<IgnoredAny>,
    reasons: Option<IgnoredAny>,
    gap: Option<IgnoredAny>,
}

const EXPECTED: &str =
    "expected a recorded frame, {\"t_ms\", \"account\", \"frame\"}, or an event as `inspect-fan --events -o jsonl` prints it";

impl Recording {
    /// Opens a file; `-` is standard input. Gzip and Zstandard are recognized by their first bytes, not by the name.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let input = open(path).map_err(|error| RecordingError::Io { path: path.to_owned(), error })?;
        Ok(Self { path: path.to_owned(), input, line: Vec::new(), line_no: 0, t0: None, holds_events: false, gaps: 0, ended: false })
    }

    /// Gap records passed over so far: a reading command prints one where it knows that events are missing.
    #[must_use]
    pub const fn gaps(&self) -> u64 {
        self.gaps
    }

    fn read(&mut self) -> Result<Option<Frame>, RecordingError> {
        loop {
            self.line.clear();
            let limit = u64::try_from(LINE_MAX + 1).unwrap_or(u64::MAX);
            let read = (&mut self.input).take(limit).read_until(b'\n', &mut self.line);
            self.line_no += 1;
            let length = match read {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(self.error(self.line.len() + 1, "the file ends in the middle of its compressed data; it was cut off"));
                }
                Err(error) => return Err(RecordingError::Io { path: self.path.clone(), error }),
            };
            if length == 0 {
                return Ok(None);
            }
            if length > LINE_MAX {
                return Err(self.error(LINE_MAX, "the line is longer than 16 MiB"));
            }
            let whole = self.line.last() == Some(&b'\n');
            if !self.line.trim_ascii().is_empty()
                && let Some(frame) = self.parse(whole)?
            {
                return Ok(Some(frame));
            }
        }
    }

    /// What stands in the line; `None` for a gap record.
    fn parse(&mut self, whole: bool) -> Result<Option<Frame>, RecordingError> {
        let line = std::mem::take(&mut self.line);
        let parsed = match std::str::from_utf8(&line) {
            Ok(text) => self.read_line(text, whole),
            Err(error) => Err(self.error(error.valid_up_to() + 1, &format!("the line is not UTF-8; {EXPECTED}"))),
        };
        self.line = line;
        parsed
    }

    fn read_line(&mut self, text: &str, whole: bool) -> Result<Option<Frame>, RecordingError> {
        let guess = self.holds_events;
        let error = match self.read_as(guess, text) {
            Ok(frame) => return Ok(Some(frame)),
            Err(error) => error,
        };
        let other = match self.read_as(!guess, text) {
            Ok(frame) => {
                self.holds_events = !guess;
                return Ok(Some(frame));
            }
            Err(error) => error,
        };
        let (frame, event) = if guess { (other, error) } else { (error, other) };
        let cut = if whole { "" } else { "; the last line was cut off, drop it or record again" };
        let looks = match serde_json::from_str::<Looks>(text) {
            Ok(looks) => looks,
            Err(error) if error.is_data() => return Err(self.error(1, &format!("neither a frame nor an event; {EXPECTED}"))),
            Err(error) => {
                return Err(self.error(error.column(), &format!("not JSON: {}; {EXPECTED}{cut}", without_place(&error))));
            }
        };
        let told = |what: &str, error: &serde_json::Error| self.error(error.column().max(1), &format!("{what}: {}", without_place(error)));
        Err(match looks {
            Looks { gap: Some(_), t_ms: None, schema: None, .. } => {
                self.gaps += 1;
                return Ok(None);
            }
            Looks { t_ms: Some(_), .. } | Looks { frame: Some(_), .. } => told("not a recorded frame", &frame),
            Looks { schema: Some(_), kind: Some(_), .. } => told("not an event", &event),
            Looks { level: Some(_), reasons: Some(_), .. } => {
                let instead = "`inspect-fan FAN --events -o jsonl` prints whole events";
                self.error(1, &format!("an entry of the priority feed, which names its event and does not hold it; {instead}"))
            }
            _ => self.error(1, &format!("neither a frame nor an event; {EXPECTED}")),
        })
    }

    fn read_as(&mut self, event: bool, text: &str) -> Result<Frame, serde_json::Error> {
        if event { self.event(text) } else { self.frame(text) }
    }

    fn frame(&mut self, text: &str) -> Result<Frame, serde_json::Error> {
        let recorded: RecordedFrame<'_> = serde_json::from_str(text)?;
        if recorded.t0.is_some() {
            self.t0 = recorded.t0;
        }
        let raw = recorded.frame.get();
        // A frame that was no JSON is recorded as a string with its text.
        let frame = if raw.starts_with('"') { serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned()) } else { raw.to_owned() };
        Ok(Frame { t_ms: recorded.t_ms, t0: self.t0, account: recorded.account.raw().to_owned(), text: frame, is_event: false })
    }

    /// An event lies as far behind the first one as it was received later.
    fn event(&mut self, text: &str) -> Result<Frame, serde_json::Error> {
        let event: Event<'_> = serde_json::from_str(text)?;
        if event.schema != EVENT_SCHEMA {
            return Err(serde::de::Error::custom(format_args!("its schema is {:?}, not {EVENT_SCHEMA}", event.schema)));
        }
        let at = event.received_at;
        let t_ms = at.since(*self.t0.get_or_insert(at)).max(0);
        let account = event.account_id.raw().to_owned();
        let t_ms_unsigned = u64::try_from(t_ms).unwrap_or(0);
        Ok(Frame { t_ms: t_ms_unsigned, t0: Some(at.plus(-t_ms)), account, text: text.trim().to_owned(), is_event: true })
    }

    fn error(&self, column: usize, message: &str) -> RecordingError {
        RecordingError::Line { path: self.path.clone(), line: self.line_no, column, message: message.to_owned() }
    }
}

impl Iterator for Recording {
    type Item = Result<Frame, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// What serde_json says, without the place within the line, which the error has already.
fn without_place(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some(place) = text.rfind(" at line ") {
        text.truncate(place);
    }
    text
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let raw: Box<dyn Read + Send> = if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut raw = BufReader::with_capacity(256 << 10, raw);
    let magic = raw.fill_buf()?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(256 << 10, flate2::bufread::MultiGzDecoder::new(raw))));
    }
    if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(Box::new(BufReader::with_capacity(256 << 10, zstd::Decoder::with_buffer(raw)?)));
    }
    Ok(Box::new(raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: &[u8]) -> Vec<Result<Frame, String>> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(bytes).expect("written");
        let recording = Recording::open(file.path()).expect("opened");
        let name = file.path().display().to_string();
        recording.map(|frame| frame.map_err(|error| error.to_string().replace(&name, "F"))).collect()
    }

    const TWO: &[u8] = br#"{"t_ms":0,"account":"1","frame":{"typing":{"id":2}},"t0":"2026-01-01T00:00:00.000Z"}

{"t_ms":5,"account":"1","frame":"{cut"}
"#;

    #[test]
    fn plain_gzip_and_zstd_read_the_same() {
        let plain = read(TWO);
        assert_eq!(plain.len(), 2);
        assert_eq!(plain[1].as_ref().map(|frame| frame.text.as_str()), Ok("{cut"));
        assert_eq!(plain[1].as_ref().ok().and_then(|frame| frame.t0), plain[0].as_ref().ok().and_then(|frame| frame.t0));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TWO).expect("compressed");
        assert_eq!(read(&gzip.finish().expect("compressed")), plain);
        assert_eq!(read(&zstd::encode_all(TWO, 1).expect("compressed")), plain);
    }

    #[test]
    fn damage_is_an_error_with_its_place() {
        let mut cut = TWO.to_vec();
        cut.truncate(TWO.len() - 6);
        let frames = read(&cut);
        assert!(frames[0].is_ok());
        let error = frames[1].as_ref().expect_err("cut off");
        assert!(error.starts_with("F:3:") && error.contains("cut off"), "{error}");
        assert_eq!(frames.len(), 2);

        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TWO).expect("compressed");
        let bytes = gzip.finish().expect("compressed");
        let error = read(&bytes[..bytes.len() - 12]).pop().expect("an item").expect_err("cut off");
        assert!(error.contains("cut off"), "{error}");
    }

    #[test]
    fn events_are_read_as_they_are_printed_and_what_is_neither_is_named() {
        let event = |number: u64, received_at: &str| {
            let at = Millis::parse(received_at).expect("a time");
            let mut event = Event::of_account(crate::schema::event::EventKind::TypingStarted, format!("e{number}"), "1", "c", at);
            event.frame_no = number;
            let json = serde_json::to_string(&event).expect("events serialize");
            format!("{},\"stream_id\":\"{number}-0\"}}\n", json.strip_suffix('}').expect("an object"))
        };
        let lines = [
            event(1, "2026-01-01T00:00:00.000Z"),
            r#"{"gap":{"account_id":"1","after":"1-0","next":null,"cause":"trimmed"}}"#.to_owned() + "\n",
            event(2, "2026-01-01T00:00:05.000Z"),
            // Streams of several accounts are merged about in order.
            event(3, "2025-12-31T23:59:59.000Z"),
        ];
        let frames: Vec<Frame> = read(lines.concat().as_bytes()).into_iter().map(|frame| frame.expect("an event")).collect();
        let times: Vec<(u64, i64)> = frames.iter().map(|f| (f.t_ms, f.t0.map_or(0, |t0| t0.0) + f.t_ms.cast_signed())).collect();
        let first = 1_767_225_600_000;
        assert_eq!(times, [(0, first), (5_000, first + 5_000), (0, first - 1_000)]);
        assert!(frames.iter().all(|frame| frame.is_event && frame.account == "1" && frame.text.contains("stream_id")));
        // A file may hold both.
        let both = [TWO, lines[0].as_bytes(), TWO].concat();
        let kinds: Vec<bool> = read(&both).into_iter().map(|frame| frame.expect("sound").is_event).collect();
        assert_eq!(kinds, [false, false, true, false, false]);

        let newer = lines[0].replace("convpipe.event.v1", "convpipe.event.v9");
        for (line, expected) in [
            (r#"{"t_ms":-5,"account":"1","frame":{}}"#, "F:1:10: not a recorded frame: invalid value"),
            (r#"{"t_ms":5,"frame":{}}"#, "F:1:21: not a recorded frame: missing field `account`"),
            (&newer, "not an event: its schema is \"convpipe.event.v9\", not convpipe.event.v1"),
            (r#"{"level":"high","reasons":["x"],"event":{"id":"e"}}"#, "F:1:1: an entry of the priority feed, which names its event"),
            (r#"{"unread":3}"#, "F:1:1: neither a frame nor an event; expected a recorded frame"),
            ("hello there", "F:1:1: not JSON: expected value; expected a recorded frame"),
            ("[1]\n", "F:1:1: neither a frame nor an event; "),
            ("\u{0}PNG", "F:1:1: not JSON: "),
        ] {
            let error = read(line.as_bytes()).pop().expect("an item").expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
        let error = read(b"\x89PNG").pop().expect("an item").expect_err("binary");
        assert!(error.starts_with("F:1:1: the line is not UTF-8; expected a recorded frame"), "{error}");
    }
}
