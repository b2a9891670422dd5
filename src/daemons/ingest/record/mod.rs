//! Recordings of the raw frames: what comes over the sockets, in files that `replay` takes.
//!
//! Owns: the way from a socket to a file. Invariants: a socket never waits for a disk; what the queue has no place for is not recorded, and counted;
//! memory is bounded by `queue_max_bytes`, the disk by `size_max_bytes`. Nothing of the handshake is recorded, and so no token.

mod files;
mod scrub;
mod words;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;

use self::files::Files;
use self::scrub::Scrubber;
use super::counters::Counters;
use crate::config::RecordConfig;
use crate::runtime::secret_file::{self, SecretFileError};
use crate::schema::time::Millis;
use crate::ws::Payload;

/// Frames that wait to be written; of small ones these are the bound, of large ones their bytes.
const QUEUE_FRAMES_MAX: usize = 16_384;
/// What a frame costs beyond its bytes, about.
const FRAME_OVERHEAD: usize = 96;
/// Shortest key, characters, and largest file of one.
const KEY_MIN: usize = 32;
const KEY_FILE_MAX_BYTES: u64 = 4 << 10;
/// How often old files are looked for, whether frames come or not.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Recording cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The folder cannot be made or listed.
    #[error("cannot record into {}: {error}", dir.display())]
    Dir {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The system has no randomness for the key of a scrubbed recording.
    #[error("cannot make a key to scrub recordings with")]
    Key,
    /// The key's file cannot be used.
    #[error("ingest.record.key_file: {0}")]
    KeyFile(#[from] SecretFileError),
    /// The key can be guessed.
    #[error("ingest.record.key_file: {} holds fewer than {KEY_MIN} characters; make one with `openssl rand -hex 32`", .0.display())]
    KeyShort(PathBuf),
}

/// Takes frames to the writer; clones share it. The writer ends when all of them are gone.
#[derive(Debug, Clone)]
pub struct Recorder {
    sender: SyncSender<Taken>,
    queued: Arc<AtomicUsize>,
    queue_max: usize,
    counters: Arc<Counters>,
}

/// The writer's thread, to wait for at the end.
#[derive(Debug)]
pub struct RecordWriter(oneshot::Receiver<()>);

/// A frame on its way to a file.
#[derive(Debug)]
struct Taken {
    account: String,
    at: Millis,
    bytes: Vec<u8>,
}

impl Taken {
    fn cost(&self) -> usize {
        self.bytes.len() + FRAME_OVERHEAD
    }
}

impl Recorder {
    /// Begins to record into `config.dir`; `None` where that is not set.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn start(config: &RecordConfig, counters: &Arc<Counters>) -> Result<Option<(Self, RecordWriter)>, RecordError> {
        let Some(dir) = &config.dir else { return Ok(None) };
        let failed = |error| RecordError::Dir { dir: dir.clone(), error };
        let files = Files::open(dir, config).map_err(failed)?;
        let scrubber = config.scrub.then(|| scrubber(config)).transpose()?;
        let (sender, receiver) = sync_channel(QUEUE_FRAMES_MAX);
        let (done, ended) = oneshot::channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            receiver,
            queued: queued.clone(),
            files,
            scrubber,
            flush_every: Duration::from_millis(config.flush_ms),
            counters: counters.clone(),
        };
        let run = move || {
            writer.run();
            // Nobody waits where ingest has ended without us.
            let _ = done.send(());
        };
        std::thread::Builder::new().name("record".to_owned()).spawn(run).map_err(failed)?;
        let recorder = Self { sender, queued, queue_max: config.queue_max_bytes, counters: counters.clone() };
        Ok(Some((recorder, RecordWriter(ended))))
    }

    /// Takes down a frame, or counts that there is no place for it. Never waits.
    pub(super) fn frame(&self, account: &str, at: Millis, frame: &Payload) {
        // What is cut is not what came.
        let is_taken = !frame.is_cut() && self.queued.load(Ordering::Relaxed) + frame.bytes.len() + FRAME_OVERHEAD <= self.queue_max && {
            // A copy: a slice would keep the whole read buffer in memory that it is a part of.
            let taken = Taken { account: account.to_owned(), at, bytes: frame.bytes.to_vec() };
            let cost = taken.cost();
            self.queued.fetch_add(cost, Ordering::Relaxed);
            let sent = self.sender.try_send(taken).is_ok();
            if !sent {
                self.queued.fetch_sub(cost, Ordering::Relaxed);
            }
            sent
        };
        if !is_taken {
            Counters::add(&self.counters.record_dropped, 1);
        }
    }
}

fn scrubber(config: &RecordConfig) -> Result<Scrubber, RecordError> {
    let Some(file) = &config.key_file else { return Scrubber::new().map_err(|scrub::NoKey| RecordError::Key) };
    let key = secret_file::read(file, KEY_FILE_MAX_BYTES)?;
    let key = key.expose_secret();
    if key.chars().count() < KEY_MIN {
        return Err(RecordError::KeyShort(file.clone()));
    }
    Ok(Scrubber::with_key(key.as_bytes()))
}

impl RecordWriter {
    /// Waits until all that was taken is written, at most `cap`; call it once every [`Recorder`] is gone. Whether it was.
    pub async fn finish(self, cap: Duration) -> bool {
        tokio::time::timeout(cap, self.0).await.is_ok_and(|ended| ended.is_ok())
    }
}

struct Writer {
    receiver: Receiver<Taken>,
    queued: Arc<AtomicUsize>,
    files: Files,
    scrubber: Option<Scrubber>,
    flush_every: Duration,
    counters: Arc<Counters>,
}

impl Writer {
    fn run(mut self) {
        let (mut flush_at, mut sweep_at) = (Instant::now() + self.flush_every, Instant::now());
        loop {
            let now = Instant::now();
            if now >= sweep_at {
                self.files.sweep();
                sweep_at = now + SWEEP_EVERY;
            }
            if now >= flush_at {
                self.flush();
                flush_at = now + self.flush_every;
            }
            match self.receiver.recv_timeout(flush_at.saturating_duration_since(now)) {
                Ok(taken) => self.take(&taken),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    fn take(&mut self, taken: &Taken) {
        let (dropped, is_due) = match &self.scrubber {
            None => self.files.push(&taken.account, taken.at, &taken.bytes),
            Some(scrubber) => {
                let (account, frame) = (scrubber.account(&taken.account), scrubber.frame(&taken.bytes));
                self.files.push(&account, taken.at, frame.as_bytes())
            }
        };
        Counters::add(&self.counters.record_dropped, dropped);
        self.queued.fetch_sub(taken.cost(), Ordering::Relaxed);
        if is_due {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let (written, dropped) = self.files.flush();
        Counters::add(&self.counters.recorded, written);
        Counters::add(&self.counters.record_dropped, dropped);
    }
}

#[cfg(test)]
mod tests;
