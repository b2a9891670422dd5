//! Progress of long work: a bar on a terminal, a line now and then elsewhere.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::runtime::units::{duration, number};

/// How often a line is written where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of one piece of work, on stderr. Cheap to advance, from any thread.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: Lines,
    /// What went wrong so far; the bar's own drawing reads it too.
    errors: Arc<AtomicU64>,
}

impl Progress {
    /// `what` is a word such as `replay`, `unit` what is counted, `total` how many of it there are, if that is known.
    pub(super) fn new(what: &'static str, unit: &'static str, total: Option<u64>, has_bar: bool) -> Self {
        let errors = Arc::<AtomicU64>::default();
        let bar = has_bar.then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
            let known = "{msg} {wide_bar} {human_pos} of {human_len} {prefix}, {rate}, {eta} left{errors}";
            let unknown = "{msg} {spinner} {human_pos} {prefix}, {rate}, for {elapsed}{errors}";
            let template = ProgressStyle::with_template(if total.is_some() { known } else { unknown });
            let rate = |state: &ProgressState, rate: &mut dyn fmt::Write| {
                // A rate that cannot be drawn is drawn with the next step.
                let _ = rate.write_str(&per_second(state.pos(), state.elapsed()));
            };
            let counted = errors.clone();
            let told = move |_: &ProgressState, told: &mut dyn fmt::Write| {
                let _ = told.write_str(&errors_told(counted.load(Ordering::Relaxed)));
            };
            let style = template.unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.with_key("rate", rate).with_key("errors", told));
            bar.with_message(what).with_prefix(unit)
        });
        Self { bar, lines: Lines::new(what, unit, total, Instant::now()), errors }
    }

    /// What is counted.
    #[must_use]
    pub const fn unit(&self) -> &'static str {
        self.lines.unit
    }

    /// Says that the work begins now, where it had to wait for somebody: the rate counts from here.
    pub fn begin(&self) {
        match &self.bar {
            Some(bar) => bar.reset(),
            None => self.lines.begin(Instant::now()),
        }
    }

    /// Says that `count` more went wrong; told with the next step.
    pub fn fail(&self, count: u64) {
        self.errors.fetch_add(count, Ordering::Relaxed);
    }

    /// Says that `count` more are done.
    pub fn advance(&self, count: u64) {
        match &self.bar {
            Some(bar) => bar.inc(count),
            None => {
                self.lines.done.fetch_add(count, Ordering::Relaxed);
                if let Some(line) = self.lines.due(Instant::now()) {
                    // A closed stderr is no reason to stop the work.
                    let _ = writeln!(std::io::stderr(), "{line}{}", errors_told(self.errors.load(Ordering::Relaxed)));
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
    unit: &'static str,
    total: Option<u64>,
    done: AtomicU64,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    began: Instant,
    last: Instant,
}

impl Lines {
    fn new(what: &'static str, unit: &'static str, total: Option<u64>, now: Instant) -> Self {
        Self { what, unit, total, done: AtomicU64::new(0), times: Mutex::new(Times { began: now, last: now }) }
    }

    fn begin(&self, now: Instant) {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner) = Times { began: now, last: now };
    }

    /// The line to write at this time, if one is due. Whoever finds another thread at it leaves it to that one.
    fn due(&self, now: Instant) -> Option<String> {
        let mut times = self.times.try_lock().ok()?;
        if now.saturating_duration_since(times.last) < LINE_EVERY {
            return None;
        }
        times.last = now;
        let done = self.done.load(Ordering::Relaxed);
        let elapsed = now.saturating_duration_since(times.began);
        let (what, unit, rate) = (self.what, self.unit, per_second(done, elapsed));
        let Some(total) = self.total else { return Some(format!("{what}: {} {unit}, {rate}", number(done))) };
        let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(100);
        let left_ms = (elapsed.as_millis() * u128::from(total.saturating_sub(done))).checked_div(u128::from(done));
        let left = match left_ms.and_then(|ms| u64::try_from(ms).ok()) {
            Some(ms) if total > done => format!(", {} left", duration(Duration::from_secs(ms / 1000))),
            _ => String::new(),
        };
        Some(format!("{what}: {} of {} {unit} ({percent} %), {rate}{left}", number(done), number(total)))
    }
}

/// `, 3 errors`; nothing where there are none.
fn errors_told(errors: u64) -> String {
    match errors {
        0 => String::new(),
        1 => ", 1 error".to_owned(),
        _ => format!(", {} errors", number(errors)),
    }
}

/// How many a second since the beginning: `2,400/s`, and below ten with a decimal, `0.5/s`.
fn per_second(done: u64, elapsed: Duration) -> String {
    let tenths = u64::try_from(u128::from(done) * 10_000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX);
    if tenths < 100 { format!("{}.{}/s", tenths / 10, tenths % 10) } else { format!("{}/s", number(tenths / 10)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_every_five_seconds() {
        let began = Instant::now();
        let lines = Lines::new("replay", "frames", Some(20_000), began);
        lines.done.store(12_000, Ordering::Relaxed);
        let at = |seconds| lines.due(began + Duration::from_secs(seconds));
        assert_eq!(at(4), None);
        assert_eq!(at(5).as_deref(), Some("replay: 12,000 of 20,000 frames (60 %), 2,400/s, 3s left"));
        assert_eq!(at(9), None);
        assert_eq!(at(10).as_deref(), Some("replay: 12,000 of 20,000 frames (60 %), 1,200/s, 6s left"));
        let open = Lines::new("replay", "frames", None, began);
        open.done.store(7, Ordering::Relaxed);
        assert_eq!(open.due(began + Duration::from_secs(7)).as_deref(), Some("replay: 7 frames, 1.0/s"));
    }

    #[test]
    fn errors_are_told_where_there_are_any() {
        assert_eq!([0, 1, 1_200].map(errors_told), ["", ", 1 error", ", 1,200 errors"]);
        let progress = Progress::new("replay", "frames", Some(9), true);
        progress.fail(2);
        progress.fail(1);
        assert_eq!(progress.errors.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_wait_before_the_beginning_is_no_part_of_the_rate() {
        let opened = Instant::now();
        let lines = Lines::new("replay", "frames", Some(600), opened);
        let began = opened + Duration::from_secs(60);
        lines.begin(began);
        lines.done.store(300, Ordering::Relaxed);
        assert_eq!(lines.due(began + Duration::from_secs(6)).as_deref(), Some("replay: 300 of 600 frames (50 %), 50/s, 6s left"));
        assert_eq!(per_second(1, Duration::from_secs(3)), "0.3/s");
    }
}
