//! Tells the service manager how a daemon is doing: when it is ready, that it goes on, what it waits for, that it ends.
//!
//! Owns when something is said. Does not own the words ([`Report`]) nor the protocol ([`super::notify`]). Invariant: a sign of life is given only while
//! every loop goes on, as `/livez` says; so a process of which one part is wedged is ended by its manager like one that is wedged as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::health::Health;
use super::notify::Notifier;
use super::shutdown::Shutdown;

/// How long a start waits for what others have to bring, such as a Redis that is down. Then the start is over all the same, and the status says what is
/// missing: a restart would not bring it, and whoever starts after us would wait for nothing. Well below the 90 s that systemd gives a start.
pub const START_MAX: Duration = Duration::from_secs(10);
/// Between two looks while it starts, and afterwards.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_secs(1);

/// What a daemon says of itself, in a line without ids.
pub trait Report: Send + Sync {
    /// How it is doing: `3 of 4 accounts are live`.
    fn summary(&self) -> String;

    /// What is lost, or done again, if it ends at this moment; nothing, where nothing is.
    fn given_up(&self) -> Option<String>;
}

/// One daemon towards its manager; clones share it.
#[derive(Debug, Clone)]
pub struct Supervised {
    notifier: Notifier,
    is_ready: Arc<AtomicBool>,
    is_stopping: Arc<AtomicBool>,
}

impl Supervised {
    /// A daemon that is starting.
    #[must_use]
    pub fn new(notifier: Notifier) -> Self {
        Self { notifier, is_ready: Arc::default(), is_stopping: Arc::default() }
    }

    /// The config is read again. A start that is still under way is not interrupted by it.
    pub fn reloading(&self) {
        if self.is_ready.load(Relaxed) {
            self.notifier.reloading();
        }
    }

    /// That is over, whatever came of it.
    pub fn reloaded(&self) {
        if self.is_ready.load(Relaxed) {
            self.notifier.ready();
        }
    }

    /// It stops. Said once, however often and by whomever: a daemon may have ended before [`Supervised::speak`] came to it.
    pub fn stopping(&self) {
        if !self.is_stopping.swap(true, Relaxed) {
            self.notifier.stopping();
        }
    }

    /// Speaks for the daemon until it is dropped.
    pub async fn speak(self, health: Health, report: Arc<dyn Report>, shutdown: Shutdown) {
        if !self.notifier.is_on() {
            return;
        }
        let began = Instant::now();
        let (mut said, mut said_at, mut said_heading) = (String::new(), began, None);
        // Half of the time that is given, as the protocol advises.
        let alive_every = self.notifier.watchdog().map(|limit| limit / 2);
        let look = alive_every.map_or(LOOK, |every| every.min(LOOK));
        let mut ticks = interval(LOOK_FIRST.min(look));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut alive_at: Option<Instant> = None;
        let mut stopping = false;
        loop {
            tokio::select! {
                () = shutdown.requested(), if !stopping => {
                    stopping = true;
                    self.stopping();
                }
                _ = ticks.tick() => {}
            }
            let (stalled, missing) = (health.stalled(), health.missing());
            let is_ready = self.is_ready.load(Relaxed);
            if !is_ready && !stopping && (missing.is_empty() || health.is_started() && began.elapsed() >= START_MAX) {
                self.is_ready.store(true, Relaxed);
                self.notifier.ready();
                ticks = interval(look);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            }
            let status = match (stopping, &stalled[..], &missing[..]) {
                (_, [first, ..], _) => format!("stalled: {first}"),
                (true, ..) => format!("stopping: {}", report.summary()),
                (false, [], [first, ..]) => format!("waiting: {first}; {}", report.summary()),
                (false, [], []) => report.summary(),
            };
            // What matters is said at once, numbers once a second.
            let heading = (stopping, stalled.first().map(|stalled| stalled.part), missing.first().copied());
            if status != said && (said_heading != Some(heading) || said_at.elapsed() >= LOOK) {
                self.notifier.status(&status);
                (said, said_at, said_heading) = (status, Instant::now(), Some(heading));
            }
            if let Some(every) = alive_every
                && stalled.is_empty()
                && alive_at.is_none_or(|at| at.elapsed() + look / 2 >= every)
            {
                alive_at = Some(Instant::now());
                self.notifier.alive();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::config::Environment;

    struct Fine;

    impl Report for Fine {
        fn summary(&self) -> String {
            "fine".to_owned()
        }

        fn given_up(&self) -> Option<String> {
            None
        }
    }

    struct Manager {
        socket: UnixDatagram,
        daemon: Supervised,
        _dir: tempfile::TempDir,
    }

    impl Manager {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")];
            let daemon = Supervised::new(Notifier::of(&Environment::from_iter(variables)).unwrap());
            Self { socket, daemon, _dir: dir }
        }

        /// What was said since the last time.
        fn heard(&self) -> Vec<String> {
            let mut bytes = [0; 1_024];
            let message = || self.socket.recv(&mut bytes).ok().map(|length| String::from_utf8(bytes[..length].to_vec()).unwrap());
            std::iter::from_fn(message).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_when_what_it_needs_is_there_and_alive_while_every_loop_goes_on() {
        let manager = Manager::new();
        let (health, shutdown) = (Health::new(Duration::from_secs(5)), Shutdown::new());
        let (redis, lane) = (health.condition("redis"), health.pulse("lane"));
        let speaking = tokio::spawn(manager.daemon.clone().speak(health.clone(), Arc::new(Fine), shutdown.clone()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(manager.heard(), ["STATUS=waiting: daemon: starting; fine", "WATCHDOG=1"]);
        manager.daemon.reloading();
        assert_eq!(manager.heard(), [""; 0], "a start is not a reload");
        health.started();
        redis.meet();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(manager.heard(), ["READY=1", "STATUS=fine"]);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let heard = manager.heard();
        assert!(heard.len() >= 9 && heard.iter().all(|message| message == "WATCHDOG=1"), "{heard:?}");

        lane.begin();
        tokio::time::sleep(Duration::from_secs(5)).await;
        manager.heard();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let heard = manager.heard();
        assert!(heard.iter().all(|message| message.starts_with("STATUS=stalled: lane has been at one step for ")), "{heard:?}");
        lane.rest();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(manager.heard().contains(&"WATCHDOG=1".to_owned()), "it goes on");

        shutdown.request();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(manager.heard(), ["STOPPING=1", "STATUS=stopping: fine"]);
        speaking.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_does_not_wait_for_others_for_ever() {
        let manager = Manager::new();
        let health = Health::default();
        let _redis = health.condition("redis");
        health.started();
        let speaking = tokio::spawn(manager.daemon.clone().speak(health, Arc::new(Fine), Shutdown::new()));
        tokio::time::sleep(START_MAX - Duration::from_millis(100)).await;
        assert!(!manager.heard().contains(&"READY=1".to_owned()));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(manager.heard().contains(&"READY=1".to_owned()));
        manager.daemon.reloading();
        manager.daemon.reloaded();
        let heard = manager.heard();
        assert!(heard[heard.len() - 2].starts_with("RELOADING=1\nMONOTONIC_USEC=") && heard[heard.len() - 1] == "READY=1", "{heard:?}");
        speaking.abort();
    }
}
