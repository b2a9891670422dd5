//! Progress of long work: a bar on a terminal, a line now and then elsewhere.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::units::{duration, number};

/// How often a line is written where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of one piece of work, on stderr. Cheap to advance, from any thread.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: Lines,
}

impl Progress {
    /// `what` is a word such as `replay`; `total` in frames or whatever is counted, if it is known.
    pub(super) fn new(what: &'static str, total: Option<u64>, has_bar: bool) -> Self {
        let bar = has_bar.then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
            let known = "{msg} {wide_bar} {human_pos}/{human_len}  {per_sec:.0}  {eta}";
            let unknown = "{msg} {spinner} {human_pos}  {per_sec:.0}  {elapsed}";
            let template = ProgressStyle::with_template(if total.is_some() { known } else { unknown });
            bar.set_style(template.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.with_message(what)
        });
        Self { bar, lines: Lines::new(what, total, Instant::now()) }
    }

    /// Says that `count` more are done.
    pub fn advance(&self, count: u64) {
        match &self.bar {
            Some(bar) => bar.inc(count),
            None => {
                self.lines.done.fetch_add(count, Ordering::Relaxed);
                if let Some(line) = self.lines.due(Instant::now()) {
                    // A closed stderr is no reason to stop the work.
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
        }
    }

    /// Writes something else to stderr without tearing the bar.
    pub fn suspended<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away; what was done is for the command to say.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The lines that stand in for a bar.
#[derive(Debug)]
struct Lines {
    what: &'static str,
    total: Option<u64>,
    done: AtomicU64,
    began: Instant,
    last: Mutex<Instant>,
}

impl Lines {
    fn new(what: &'static str, total: Option<u64>, now: Instant) -> Self {
        Self { what, total, done: AtomicU64::new(0), began: now, last: Mutex::new(now) }
    }

    /// The line to write at this time, if one is due. Whoever finds another thread at it leaves it to that one.
    fn due(&self, now: Instant) -> Option<String> {
        let mut last = self.last.try_lock().ok()?;
        if now.saturating_duration_since(*last) < LINE_EVERY {
            return None;
        }
        *last = now;
        let done = self.done.load(Ordering::Relaxed);
        let elapsed = now.saturating_duration_since(self.began);
        let rate = u64::try_from(u128::from(done) * 1000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX);
        let of = self.total.map_or_else(String::new, |total| {
            let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(100);
            format!(" of {} ({percent} %)", number(total))
        });
        let left = match self.total {
            Some(total) if rate > 0 && total > done => format!(", {} left", duration(Duration::from_secs((total - done) / rate))),
            _ => String::new(),
        };
        Some(format!("{}: {}{of}, {}/s{left}", self.what, number(done), number(rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_every_five_seconds() {
        let began = Instant::now();
        let lines = Lines::new("replay", Some(20_000), began);
        lines.done.store(12_000, Ordering::Relaxed);
        let at = |seconds| lines.due(began + Duration::from_secs(seconds));
        assert_eq!(at(4), None);
        assert_eq!(at(5).as_deref(), Some("replay: 12,000 of 20,000 (60 %), 2,400/s, 3s left"));
        assert_eq!(at(9), None);
        assert_eq!(at(10).as_deref(), Some("replay: 12,000 of 20,000 (60 %), 1,200/s, 6s left"));
        let open = Lines::new("tail", None, began);
        open.done.store(7, Ordering::Relaxed);
        assert_eq!(open.due(began + Duration::from_secs(7)).as_deref(), Some("tail: 7, 1/s"));
    }
}
