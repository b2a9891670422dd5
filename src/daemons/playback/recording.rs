//! Recordings: JSON lines, plain or compressed, one frame a line.
//!
//! Owns: finding out how a file is compressed, line numbers, limits. A damaged line is an error with its place; the lines before it were given.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::schema::frame::RecordedFrame;
use crate::schema::time::Millis;

/// Longest line; a frame is at most 4 MiB, and what needs escaping doubles.
const LINE_MAX: usize = 16 << 20;

/// One recorded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Milliseconds since the recording began.
    pub t_ms: u64,
    /// When the recording began, where its first line says so.
    pub t0: Option<Millis>,
    /// The account whose socket it came from.
    pub account: String,
    /// The frame's text.
    pub text: String,
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
    /// A line is no recorded frame.
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
    ended: bool,
}

impl Recording {
    /// Opens a file; `-` is standard input. Gzip and Zstandard are recognized by their first bytes, not by the name.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let input = open(path).map_err(|error| RecordingError::Io { path: path.to_owned(), error })?;
        Ok(Self { path: path.to_owned(), input, line: Vec::new(), line_no: 0, t0: None, ended: false })
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
            let text = self.line.trim_ascii();
            if !text.is_empty() {
                return self.parse(whole).map(Some);
            }
        }
    }

    fn parse(&mut self, whole: bool) -> Result<Frame, RecordingError> {
        let text = std::str::from_utf8(&self.line).map_err(|error| self.error(error.valid_up_to() + 1, "the line is not UTF-8"))?;
        let recorded: RecordedFrame<'_> = serde_json::from_str(text).map_err(|error| {
            let cut = if whole { "" } else { "; the last line was cut off, drop it or record again" };
            self.error(error.column(), &format!("not a recorded frame: {error}{cut}"))
        })?;
        if recorded.t0.is_some() {
            self.t0 = recorded.t0;
        }
        let raw = recorded.frame.get();
        // A frame that was no JSON is recorded as a string with its text.
        let frame = if raw.starts_with('"') { serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned()) } else { raw.to_owned() };
        Ok(Frame { t_ms: recorded.t_ms, t0: self.t0, account: recorded.account.raw().to_owned(), text: frame })
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
}
