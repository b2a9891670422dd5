//! Playback: the frames of recordings, at the speed and in the time that was asked for.
//!
//! Owns reading, pacing, rounds, and moving a recording into the present. Does not own where the frames go.

mod dry_run;
mod quarantine;
mod recording;
mod rewrite;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::clock;
use crate::schema::time::Millis;
use crate::transform::normalize::{FrameContext, Normalized, Reason, Rejected, normalize};

pub use dry_run::{Counts, DryRun, Outcome};
pub use quarantine::{Group, Record, Refused, Rereading};
pub use recording::{Frame, Recording, RecordingError};

/// How fast frames come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// As they were recorded, this many times as fast.
    Times(f64),
    /// This many a second.
    Rate(f64),
    /// As fast as they are taken.
    Max,
}

/// What is played and how.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaybackSettings {
    /// The recordings, one after the other.
    pub files: Vec<PathBuf>,
    /// How fast.
    pub speed: Speed,
    /// From the beginning again at the end, for ever. Every round's messages have new ids.
    pub repeat: bool,
    /// Move the times in the frames to the moment in which they are played.
    pub shift_time: bool,
    /// The number of the first round: 0 leaves the ids as they were recorded.
    pub first_round: u64,
    /// Only frames that were recorded at or after this.
    pub since: Option<Millis>,
    /// Only frames that were recorded before this.
    pub until: Option<Millis>,
    /// Frames that are passed over at the beginning, of those that would be played.
    pub skip: u64,
}

/// A frame, or an event, when its time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// The account.
    pub account: String,
    /// The frame's text, or the event's JSON.
    pub text: String,
    /// When it was received: at the recording, or now.
    pub received_at: Millis,
    /// Whether the text is an event's.
    pub is_event: bool,
}

impl Played {
    /// The events of the frame, and what of it cannot be read; or the one event, as it says itself where it comes from.
    #[must_use]
    pub fn read<'p>(&'p self, context: &FrameContext<'p>) -> Normalized<'p> {
        if !self.is_event {
            return normalize(self.text.as_bytes(), context);
        }
        match serde_json::from_str(&self.text) {
            Ok(event) => Normalized { events: vec![event], ..Normalized::default() },
            Err(error) => {
                let detail = error.to_string();
                let rejected = Rejected { reason: Reason::WrongType, key: None, detail, bytes: self.text.as_bytes() };
                Normalized { rejected: vec![rejected], ..Normalized::default() }
            }
        }
    }
}

/// What a recording holds, counted before it is played.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// Frames, and events.
    pub frames: u64,
    /// Those of them that are events.
    pub events: u64,
    /// Accounts, in order.
    pub accounts: BTreeSet<String>,
    /// From the first frame to the last.
    pub length: Duration,
    /// When the first recording began, where it says so.
    pub t0: Option<Millis>,
    /// Who is online in the last `online` frame, at most 50.
    pub online: Vec<u64>,
}

/// Reads all of it once.
///
/// # Errors
/// Where a file cannot be read to its end; what could be read is in `overview` then, and is still played.
pub fn overview(files: &[PathBuf], overview: &mut Overview) -> Result<(), RecordingError> {
    for path in files {
        let mut last = 0;
        for frame in Recording::open(path)? {
            let frame = frame?;
            overview.frames += 1;
            overview.events += u64::from(frame.is_event);
            last = last.max(frame.t_ms);
            overview.t0 = overview.t0.or(frame.t0);
            if frame.text.starts_with(ONLINE) {
                overview.online = online(&frame.text);
            }
            if !overview.accounts.contains(&frame.account) {
                overview.accounts.insert(frame.account);
            }
        }
        overview.length += Duration::from_millis(last);
    }
    Ok(())
}

const ONLINE: &str = "{\"online\":";
const ONLINE_MAX: usize = 50;

fn online(text: &str) -> Vec<u64> {
    #[derive(serde::Deserialize)]
    struct Online {
        online: Vec<u64>,
    }
    let mut online = serde_json::from_str::<Online>(text).map(|frame| frame.online).unwrap_or_default();
    online.truncate(ONLINE_MAX);
    online
}

/// The frames, one after the other.
pub struct Playback {
    settings: PlaybackSettings,
    recording: Option<Recording>,
    /// The file that comes next.
    file: usize,
    round: u64,
    /// When the current file began to play.
    began: Instant,
    /// What the current file's `t_ms` counts from where it does not say.
    base: Millis,
    played: u64,
    played_in_round: u64,
    skipped: u64,
    gaps: u64,
    first: Instant,
}

impl Playback {
    /// Begins; nothing is opened before the first frame is asked for.
    #[must_use]
    pub fn new(settings: PlaybackSettings) -> Self {
        let now = Instant::now();
        let round = settings.first_round;
        Self {
            settings,
            recording: None,
            file: 0,
            round,
            began: now,
            base: clock::now(),
            played: 0,
            played_in_round: 0,
            skipped: 0,
            gaps: 0,
            first: now,
        }
    }

    /// Frames played so far.
    #[must_use]
    pub fn played(&self) -> u64 {
        self.played
    }

    /// Gap records that stood between the events so far.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps + self.recording.as_ref().map_or(0, Recording::gaps)
    }

    /// Waits for the next frame's time; `None` at the end. Not cancel-safe: a frame whose wait is cancelled is lost, which is right for a
    /// caller that stops.
    ///
    /// # Errors
    /// Where a recording cannot be read on; the next call goes on with the next file.
    pub async fn next(&mut self) -> Option<Result<Played, RecordingError>> {
        let frame = loop {
            match self.read()? {
                Ok(frame) if self.is_wanted(&frame) => break frame,
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        };
        let due = match self.settings.speed {
            Speed::Max => None,
            Speed::Times(times) => Some(self.began + Duration::from_millis(frame.t_ms).div_f64(times.max(f64::MIN_POSITIVE))),
            Speed::Rate(rate) => Some(self.first + Duration::from_secs_f64(self.played as f64 / rate.max(f64::MIN_POSITIVE))),
        };
        if let Some(due) = due.filter(|&due| due > Instant::now()) {
            tokio::time::sleep_until(due).await;
        }
        self.played += 1;
        Some(Ok(self.present(frame)))
    }

    fn is_wanted(&mut self, frame: &Frame) -> bool {
        let recorded_at = self.recorded_at(frame);
        let PlaybackSettings { since, until, skip, .. } = self.settings;
        if since.is_some_and(|since| recorded_at < since) || until.is_some_and(|until| recorded_at >= until) {
            return false;
        }
        let is_passed_over = self.skipped < skip;
        self.skipped += u64::from(is_passed_over);
        !is_passed_over
    }

    fn recorded_at(&self, frame: &Frame) -> Millis {
        frame.t0.unwrap_or(self.base).plus(i64::try_from(frame.t_ms).unwrap_or(i64::MAX))
    }

    fn present(&self, frame: Frame) -> Played {
        let recorded_at = self.recorded_at(&frame);
        let mut text = rewrite::renumber(frame.text, self.round);
        let received_at = if self.settings.shift_time {
            let now = clock::now();
            rewrite::shift_times(&mut text, now.since(recorded_at));
            now
        } else {
            recorded_at
        };
        Played { account: frame.account, text, received_at, is_event: frame.is_event }
    }

    fn read(&mut self) -> Option<Result<Frame, RecordingError>> {
        loop {
            if let Some(recording) = &mut self.recording {
                match recording.next() {
                    Some(Ok(frame)) => {
                        self.played_in_round += 1;
                        return Some(Ok(frame));
                    }
                    Some(Err(error)) => {
                        self.close();
                        return Some(Err(error));
                    }
                    None => self.close(),
                }
            }
            if self.file == self.settings.files.len() {
                // A round without a frame would go round for ever.
                if !self.settings.repeat || self.played_in_round == 0 {
                    return None;
                }
                self.file = 0;
                self.round += 1;
                self.played_in_round = 0;
            }
            let path = &self.settings.files[self.file];
            self.file += 1;
            self.began = Instant::now();
            self.base = clock::now();
            match Recording::open(path) {
                Ok(recording) => self.recording = Some(recording),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn close(&mut self) {
        self.gaps += self.recording.take().map_or(0, |recording| recording.gaps());
    }
}
