//! The files of recordings: one after the other, each whole up to its last flush.
//!
//! Owns: the format of a line, names, rotation and what is deleted. Invariant: what a flush writes is a Zstandard frame of its own, so a killed process
//! leaves at most one torn frame at the end of its last file, behind everything that was flushed before.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use crate::config::RecordConfig;
use crate::schema::frame::RecordedFrame;
use crate::schema::time::Millis;

const BEGIN: &str = "convpipe-";
const ENDING: &str = ".jsonl.zst";
/// So much is compressed and written at once, whether a flush is due or not.
const CHUNK_BYTES: usize = 1 << 20;
/// Fast, and a fifth of the size for frames.
const LEVEL: i32 = 3;
/// Files that two processes may begin in one millisecond.
const NAMES_MAX: u32 = 100;
/// A disk that takes nothing is reported this often.
const REPORT_EVERY: Duration = Duration::from_secs(30);
/// Frames of several accounts are taken out of order by less than this, milliseconds; more is a clock that was set back.
const OUT_OF_ORDER_MS: i64 = 1_000;

pub(super) struct Files {
    dir: PathBuf,
    file_max: u64,
    file_age: Duration,
    size_max: u64,
    age_max: Duration,
    segment: Option<Segment>,
    /// When the newest file began: the next one is named after no earlier time.
    newest: Millis,
    /// Lines that are not in the file yet, and how many.
    lines: Vec<u8>,
    waiting: u64,
    reported: Option<Instant>,
}

/// The file that is being written; it comes into being with its first flush.
struct Segment {
    t0: Millis,
    t_ms: u64,
    began: Instant,
    file: Option<(File, PathBuf)>,
    size: u64,
}

impl Files {
    /// Makes the folder (0700) where there is none.
    pub(super) fn open(dir: &Path, config: &RecordConfig) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        fs::read_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            file_max: config.file_max_bytes,
            file_age: Duration::from_secs(config.file_max_s),
            size_max: config.size_max_bytes,
            age_max: Duration::from_secs(config.age_max_s),
            segment: None,
            newest: Millis(0),
            lines: Vec::new(),
            waiting: 0,
            reported: None,
        })
    }

    /// Appends a line. How many frames could not be recorded for it, and whether enough lines wait for a flush.
    pub(super) fn push(&mut self, account: &str, at: Millis, frame: &[u8]) -> (u64, bool) {
        let is_full = self.segment.as_ref().is_some_and(|now| now.size >= self.file_max || now.began.elapsed() >= self.file_age);
        let mut dropped = 0;
        if is_full {
            // What waits belongs to the old file.
            dropped += self.flush().1;
            self.segment = None;
        }
        let is_first = self.segment.is_none();
        let t0 = if (0..OUT_OF_ORDER_MS).contains(&self.newest.since(at)) { self.newest } else { at };
        if is_first {
            self.newest = t0;
        }
        let segment = self.segment.get_or_insert_with(|| Segment { t0, t_ms: 0, began: Instant::now(), file: None, size: 0 });
        // A clock that was set back makes no line earlier than the one before.
        segment.t_ms = segment.t_ms.max(u64::try_from(at.since(segment.t0)).unwrap_or(0));
        let before = self.lines.len();
        match line(&mut self.lines, segment.t_ms, is_first.then_some(segment.t0), account, frame) {
            Ok(()) => self.waiting += 1,
            Err(_) => {
                self.lines.truncate(before);
                dropped += 1;
            }
        }
        (dropped, self.lines.len() >= CHUNK_BYTES)
    }

    /// Writes what waits. How many frames were written, and how many could not be.
    pub(super) fn flush(&mut self) -> (u64, u64) {
        if self.lines.is_empty() {
            return (0, 0);
        }
        let written = self.write();
        let frames = std::mem::take(&mut self.waiting);
        self.lines.clear();
        match written {
            Ok(()) => {
                self.reported = None;
                (frames, 0)
            }
            Err(error) => {
                // The next frame begins a new file, perhaps on a disk with space again.
                self.segment = None;
                if self.reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
                    self.reported = Some(Instant::now());
                    tracing::error!(dir = ?self.dir, %error, "frames cannot be recorded");
                }
                (0, frames)
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let packed = zstd::encode_all(&self.lines[..], LEVEL)?;
        let is_new = self.segment.as_ref().is_some_and(|segment| segment.file.is_none());
        if is_new {
            self.sweep();
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        if segment.file.is_none() {
            segment.file = Some(create(&self.dir, segment.t0)?);
        }
        let Some((file, _)) = &mut segment.file else { return Ok(()) };
        let written = file.write_all(&packed);
        if written.is_err() {
            // Without the torn end the file can be played to its end. Where not even that works, it can be played up to there.
            let _ = file.set_len(segment.size);
        } else {
            segment.size += packed.len() as u64;
        }
        written
    }

    /// Deletes recordings that are too old, and the oldest while all of them leave no place for another file.
    pub(super) fn sweep(&self) {
        let current = self.segment.as_ref().and_then(|segment| segment.file.as_ref()).map(|(_, path)| path);
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut files: Vec<(PathBuf, u64, Duration)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                let age = metadata.modified().ok()?.elapsed().unwrap_or_default();
                let is_ours = name.starts_with(BEGIN) && name.ends_with(ENDING) && Some(&entry.path()) != current;
                is_ours.then(|| (entry.path(), metadata.len(), age))
            })
            .collect();
        files.sort_unstable();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (path, size, age) in files {
            let is_too_much = total.saturating_add(self.file_max) > self.size_max;
            if (age > self.age_max || is_too_much) && fs::remove_file(&path).is_ok() {
                total -= size;
                tracing::info!(file = ?path, "a recording is deleted");
            }
        }
    }
}

/// One line; a frame that is no JSON, or that would not stand on one line, as a string with its text.
fn line(lines: &mut Vec<u8>, t_ms: u64, t0: Option<Millis>, account: &str, frame: &[u8]) -> serde_json::Result<()> {
    let raw: Option<&RawValue> = serde_json::from_slice(frame).ok();
    let is_plain = |raw: &&RawValue| {
        let text = raw.get();
        text.len() == frame.len() && !text.starts_with('"') && !text.contains(['\n', '\r'])
    };
    let quoted;
    let frame = match raw.filter(is_plain) {
        Some(raw) => raw,
        None => {
            quoted = serde_json::value::to_raw_value(&String::from_utf8_lossy(frame))?;
            &*quoted
        }
    };
    serde_json::to_writer(&mut *lines, &RecordedFrame { t_ms, account: account.into(), frame, t0 })?;
    lines.push(b'\n');
    Ok(())
}

/// A new file for its owner alone, named after when its first frame came, so that names sort as times do: `_` comes behind the `.` of the first
/// file of a millisecond.
fn create(dir: &Path, t0: Millis) -> io::Result<(File, PathBuf)> {
    let stamp = t0.to_string().replace(['-', ':'], "");
    for n in 0..NAMES_MAX {
        let more = if n == 0 { String::new() } else { format!("_{n:02}") };
        let path = dir.join(format!("{BEGIN}{stamp}{more}{ENDING}"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
