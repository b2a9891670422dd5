//! What the service manager is told: the protocol of sd_notify(3), a datagram of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names.
//!
//! Owns the socket and the form. Does not own when something is said ([`super::supervise`]). Invariants: without `NOTIFY_SOCKET` nothing happens at all; a
//! manager that does not read holds us up for a moment and no longer; what is said is of one line.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::config::Environment;

/// Longest wait for a manager whose socket is full.
const SEND_MAX: Duration = Duration::from_millis(250);
/// Longest status, bytes: it is one line on somebody's screen.
const STATUS_MAX: usize = 400;

/// The line to the service manager; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// To the socket that `NOTIFY_SOCKET` names: a path, or an abstract name after `@`. Says nothing where there is none.
    ///
    /// # Errors
    /// Where there is such a variable and nobody can be reached there.
    pub fn of(environment: &Environment) -> io::Result<Self> {
        let Some(path) = environment.path("NOTIFY_SOCKET") else { return Ok(Self::default()) };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address(&path)?)?;
        socket.set_write_timeout(Some(SEND_MAX))?;
        let number = |name: &str| environment.get(name)?.parse::<u64>().ok();
        // A watchdog that is meant for another process, such as the shell that started us, is none of ours.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&usec| is_ours && usec > 0).map(Duration::from_micros);
        Ok(Self { socket: Some(Arc::new(socket)), watchdog })
    }

    /// Whether anybody listens.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.socket.is_some()
    }

    /// So long the manager waits for a sign of life, where it does.
    #[must_use]
    pub const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The start is over, or a reload is.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The config is being read again; [`Self::ready`] ends it. The manager holds the time against its own of the request, and takes for unfinished
    /// whatever began before that.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000));
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// It goes on.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// How it is doing, in one line; the manager shows it.
    pub fn status(&self, status: &str) {
        let line: String = status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.send(&format!("STATUS={}", &line[..line.floor_char_boundary(STATUS_MAX)]));
    }

    /// What cannot be sent is lost: the manager notices that nobody speaks, and there is nobody else to tell.
    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, message, "the service manager cannot be told");
        }
    }
}

fn address(path: &Path) -> io::Result<SocketAddr> {
    match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => abstract_address(name),
        None => SocketAddr::from_pathname(path),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;

    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "abstract sockets are Linux's"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1_024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_is_told_on_its_path_or_abstract_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let mut sockets = vec![(path.to_str().unwrap().to_owned(), UnixDatagram::bind(&path).unwrap())];
        if cfg!(target_os = "linux") {
            let name = format!("convpipe-test-{:016x}", fastrand::u64(..));
            let address = abstract_address(name.as_bytes()).unwrap();
            sockets.push((format!("@{name}"), UnixDatagram::bind_addr(&address).unwrap()));
        }
        for (variable, socket) in sockets {
            let notifier = Notifier::of(&Environment::from_iter([("NOTIFY_SOCKET", variable)])).unwrap();
            assert!(notifier.is_on() && notifier.watchdog().is_none());
            notifier.ready();
            assert_eq!(read(&socket), "READY=1");
            notifier.status("two\nREADY=1 lines");
            assert_eq!(read(&socket), "STATUS=two READY=1 lines");
            notifier.status(&"ä".repeat(STATUS_MAX));
            assert_eq!(read(&socket).len(), "STATUS=".len() + STATUS_MAX);
            notifier.reloading();
            let told = read(&socket);
            let usec: u64 = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
            assert!(usec > 0);
        }
    }

    #[test]
    fn without_a_manager_nothing_is_said_and_another_process_s_watchdog_is_not_ours() {
        let none = Notifier::of(&Environment::default()).unwrap();
        assert!(!none.is_on());
        none.ready();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let of = |pid: u32| {
            let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", &pid.to_string())];
            Notifier::of(&Environment::from_iter(variables))
        };
        assert!(of(1).is_err(), "nobody is there");
        let _socket = UnixDatagram::bind(&path).unwrap();
        assert_eq!(of(std::process::id()).unwrap().watchdog(), Some(Duration::from_secs(3)));
        assert_eq!(of(std::process::id() + 1).unwrap().watchdog(), None);
    }
}
