//! A service manager of a few lines: it listens, and ends by signal whoever gives no sign of life.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::pipeline::place::LIMIT;

pub(super) struct Manager {
    path: PathBuf,
    heard: Arc<(Mutex<Heard>, Condvar)>,
    _dir: tempfile::TempDir,
}

#[derive(Default)]
struct Heard {
    messages: Vec<(Instant, String)>,
    ended: bool,
}

impl Manager {
    pub(super) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("convpipe-manager-").tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let heard = Arc::<(Mutex<Heard>, Condvar)>::default();
        let listening = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            loop {
                let message = socket.recv(&mut bytes).ok().map(|length| String::from_utf8(bytes[..length].to_vec()).unwrap());
                let mut heard = listening.0.lock().unwrap();
                if heard.ended {
                    return;
                }
                heard.messages.extend(message.map(|message| (Instant::now(), message)));
                drop(heard);
                listening.1.notify_all();
            }
        });
        Self { path, heard, _dir: dir }
    }

    /// What it sets for a process with that watchdog.
    pub(super) fn variables(&self, watchdog: Duration) -> [(&'static str, String); 2] {
        [("NOTIFY_SOCKET", self.path.to_str().unwrap().to_owned()), ("WATCHDOG_USEC", watchdog.as_micros().to_string())]
    }

    /// Waits for the message after the first `after` that begins like this; its place among all, and the message.
    pub(super) fn wait(&self, beginning: &str, after: usize) -> (usize, String) {
        let (heard, changed) = &*self.heard;
        let find = |heard: &Heard| {
            let rest = heard.messages.iter().enumerate().skip(after);
            rest.map(|(at, (_, message))| (at, message.clone())).find(|(_, message)| message.starts_with(beginning))
        };
        let (heard, _) = changed.wait_timeout_while(heard.lock().unwrap(), LIMIT, |heard| find(heard).is_none()).unwrap();
        let (found, all) = (find(&heard), heard.messages.clone());
        drop(heard);
        found.unwrap_or_else(|| panic!("no {beginning:?} after {after}: {all:?}"))
    }

    /// Waits until there was no sign of life for so long, as systemd does with `WatchdogSec=`.
    pub(super) fn wait_lifeless(&self, watchdog: Duration) {
        let end = Instant::now() + LIMIT;
        loop {
            let last = self.heard.0.lock().unwrap().messages.iter().rev().find(|(_, message)| message == "WATCHDOG=1").map(|(at, _)| *at);
            let since = last.expect("a sign of life at first").elapsed();
            if since > watchdog {
                return;
            }
            assert!(Instant::now() < end, "it gives signs of life");
            std::thread::sleep(watchdog.saturating_sub(since) + Duration::from_millis(5));
        }
    }

    /// How many messages there were.
    pub(super) fn count(&self) -> usize {
        self.heard.0.lock().unwrap().messages.len()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Ok(mut heard) = self.heard.0.lock() {
            heard.ended = true;
        }
    }
}
