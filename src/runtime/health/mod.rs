//! Whether a process makes progress, and whether it does its work: what `/livez`, `/readyz` and a watchdog ask.
//!
//! Owns the signs of life of its loops, and what has to hold before it is ready. Does not own any loop, nor what is counted. Invariants: a loop that waits
//! for work is well however long it waits; one that has been at the same step for longer than the limit is not, and stays so until it goes on.

mod listener;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

pub use listener::{Listener, Serving};

/// How long one step may take, where nobody says otherwise: longer than any timeout, with retries, that stands inside of a step.
pub const STALL_DEFAULT: Duration = Duration::from_secs(180);

/// The health of one daemon. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    stall: Duration,
    started: AtomicBool,
    pulses: Mutex<Pulses>,
    conditions: Mutex<Vec<(&'static str, Why)>>,
}

#[derive(Debug, Default)]
struct Pulses {
    all: Vec<(&'static str, Weak<AtomicU64>)>,
    /// With more than these, those that have ended are looked for: every time would be a square of thousands of accounts.
    clean_at: usize,
}

/// Why a condition does not hold; `None` where it does.
type Why = Arc<Mutex<Option<&'static str>>>;

impl Default for Health {
    fn default() -> Self {
        Self::new(STALL_DEFAULT)
    }
}

impl Health {
    /// Of a daemon whose loops may take `stall` for one step.
    #[must_use]
    pub fn new(stall: Duration) -> Self {
        let shared = Shared {
            start: Instant::now(),
            stall,
            started: AtomicBool::new(false),
            pulses: Mutex::default(),
            conditions: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How long it has been there.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// The sign of life of one more loop. Several may have one name. Dropped, nothing is expected of the loop any more.
    #[must_use]
    pub fn pulse(&self, name: &'static str) -> Pulse {
        let begun = Arc::new(AtomicU64::new(RESTING));
        let mut pulses = lock(&self.shared.pulses);
        if pulses.all.len() >= pulses.clean_at {
            pulses.all.retain(|(_, begun)| begun.strong_count() > 0);
            pulses.clean_at = 2 * pulses.all.len() + 16;
        }
        pulses.all.push((name, Arc::downgrade(&begun)));
        drop(pulses);
        Pulse { start: self.shared.start, begun }
    }

    /// Something that has to hold before the daemon is ready. It does not, until it is met.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        let missing = Arc::new(Mutex::new(Some("not there yet")));
        lock(&self.shared.conditions).push((name, Arc::clone(&missing)));
        Condition { missing }
    }

    /// All conditions are known from now on; before this the daemon is not ready.
    pub fn started(&self) {
        self.shared.started.store(true, Relaxed);
    }

    /// Whether [`Self::started`] was called.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.shared.started.load(Relaxed)
    }

    /// The loops that have been at one step for too long, and for how long.
    #[must_use]
    pub fn stalled(&self) -> Vec<Stalled> {
        let now = millis(self.shared.start);
        let pulses = lock(&self.shared.pulses);
        let at_work = pulses.all.iter().filter_map(|(name, begun)| Some((*name, begun.upgrade()?.load(Relaxed))));
        let ages =
            at_work.filter(|(_, begun)| *begun != RESTING).map(|(name, begun)| (name, Duration::from_millis(now.saturating_sub(begun))));
        ages.filter(|(_, age)| *age > self.shared.stall).map(|(part, age)| Stalled { part, age }).collect()
    }

    /// What keeps the daemon from being ready: nothing, where it is.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        if !self.shared.started.load(Relaxed) {
            return vec![Missing { what: "daemon", why: "starting" }];
        }
        let conditions = lock(&self.shared.conditions);
        conditions.iter().filter_map(|(what, missing)| Some(Missing { what, why: (*lock(missing))? })).collect()
    }
}

/// A loop that does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stalled {
    /// Which.
    pub part: &'static str,
    /// So long it has been at the same step.
    pub age: Duration,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has been at one step for {} s", self.part, self.age.as_secs())
    }
}

/// What a daemon needs and does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub what: &'static str,
    /// Why not.
    pub why: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// What stands where a loop waits for work.
const RESTING: u64 = u64::MAX;

/// One loop's sign of life.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    begun: Arc<AtomicU64>,
}

impl Pulse {
    /// A step begins, or the next try of one.
    pub fn begin(&self) {
        self.begun.store(millis(self.start), Relaxed);
    }

    /// The loop waits for work.
    pub fn rest(&self) {
        self.begun.store(RESTING, Relaxed);
    }

    /// Runs a loop of which each turn without waiting is a step, and all its waiting is for work: it is stalled where it keeps its thread for too long,
    /// and never where nothing comes. For a loop that waits for an answer in the middle of a step, [`Self::begin`] and [`Self::rest`] say more.
    pub async fn watch<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.begin();
            let polled = work.as_mut().poll(context);
            self.rest();
            polled
        })
        .await
    }

    /// Waits for an answer, as one step.
    pub async fn step<F: Future>(&self, answer: F) -> F::Output {
        self.begin();
        let answered = answer.await;
        self.rest();
        answered
    }
}

/// Something that a daemon needs.
#[derive(Debug)]
pub struct Condition {
    missing: Why,
}

impl Condition {
    /// It is there.
    pub fn meet(&self) {
        *lock(&self.missing) = None;
    }

    /// It is not there any more; why, in a few words.
    pub fn miss(&self, why: &'static str) {
        *lock(&self.missing) = Some(why);
    }
}

fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(RESTING - 1)
}

/// Nothing panics under these locks; if something did, what they hold would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_that_takes_too_long_is_told_and_waiting_is_not() {
        let health = Health::new(Duration::from_secs(10));
        let (at_work, idle) = (health.pulse("lane"), health.pulse("lane"));
        at_work.begin();
        idle.begin();
        idle.rest();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(health.stalled(), []);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.stalled(), [Stalled { part: "lane", age: Duration::from_secs(11) }]);
        at_work.begin();
        assert_eq!(health.stalled(), [], "it goes on");
        tokio::time::advance(Duration::from_secs(60)).await;
        drop(at_work);
        assert_eq!(health.stalled(), [], "it has ended");
    }

    #[test]
    fn a_loop_that_keeps_its_thread_is_told_and_one_that_waits_is_not() {
        let health = Health::new(Duration::from_millis(20));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (quiet, wedged) = (health.pulse("account"), health.pulse("account"));
        let (go_on, wait) = std::sync::mpsc::sync_channel::<()>(0);
        runtime.spawn(async move { quiet.watch(std::future::pending::<()>()).await });
        let working = runtime.spawn(async move {
            // A thread that is not given back, as by a loop without an end or a disk that does not answer.
            wedged.watch(async move { wait.recv().is_ok() }).await
        });
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while health.stalled().is_empty() {
            assert!(std::time::Instant::now() < end);
            std::thread::yield_now();
        }
        assert_eq!(health.stalled().iter().map(|stalled| stalled.part).collect::<Vec<_>>(), ["account"], "one of the two");
        go_on.send(()).unwrap();
        assert!(runtime.block_on(working).unwrap());
        assert_eq!(health.stalled(), []);
    }

    #[test]
    fn thousands_of_loops_come_and_go() {
        let health = Health::default();
        let mut pulses = Vec::new();
        for number in 0..20_000 {
            pulses.push(health.pulse("account"));
            if number % 3 == 0 {
                pulses.swap_remove(number % pulses.len());
            }
        }
        pulses.truncate(10);
        (0..40_000).for_each(|_| drop(health.pulse("account")));
        assert!(lock(&health.shared.pulses).all.len() < 100);
    }

    #[test]
    fn it_is_ready_when_all_that_it_needs_is_there() {
        let health = Health::default();
        assert_eq!(health.missing(), [Missing { what: "daemon", why: "starting" }]);
        let (redis, topic) = (health.condition("redis"), health.condition("topic"));
        health.started();
        redis.meet();
        assert_eq!(health.missing(), [Missing { what: "topic", why: "not there yet" }]);
        topic.meet();
        assert_eq!(health.missing(), []);
        redis.miss("access denied");
        assert_eq!(health.missing(), [Missing { what: "redis", why: "access denied" }]);
    }
}
