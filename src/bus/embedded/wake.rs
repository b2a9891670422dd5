//! Wake-up across processes: a subscriber binds a datagram socket in the topic's `wake` folder, and whoever has news sends an empty datagram
//! to every socket there.
//!
//! A socket also tells whether its owner lives: the system refuses a connection to one whose process is gone, however it went. A datagram that
//! is lost costs the wait until the subscriber's next look by itself, never a message.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The folder of one topic's sockets.
#[derive(Debug, Clone)]
pub(super) struct WakeDir {
    path: PathBuf,
    /// Keeps the folder open, for addresses through `/proc/self/fd`.
    handle: Arc<File>,
}

/// What a socket address holds, less its final NUL; 103 on the BSDs.
const ADDRESS_BYTES_MAX: usize = 103;

impl WakeDir {
    /// Opens the folder, creating it where absent.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        super::create_dir(&path)?;
        let handle = Arc::new(File::open(&path)?);
        Ok(Self { path, handle })
    }

    /// The path by which a socket is bound and reached. A folder too deep for a socket address is reached through its open handle, which Linux
    /// has under a short name; elsewhere the system's own error says that the path is too long.
    fn address(&self, name: &str) -> PathBuf {
        use std::os::fd::AsRawFd;
        let direct = self.path.join(name);
        if direct.as_os_str().len() <= ADDRESS_BYTES_MAX || cfg!(not(target_os = "linux")) {
            return direct;
        }
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.handle.as_raw_fd()))
    }

    /// Whether the subscriber of this name is alive. In doubt it is.
    pub(super) fn is_alive(&self, name: &str) -> bool {
        let reached = UnixDatagram::unbound().and_then(|socket| socket.connect(self.address(name)));
        !reached.is_err_and(|error| matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound))
    }
}

/// The receiving end of one subscriber. Its name is unique, and the file goes with it.
#[derive(Debug)]
pub(super) struct Bell {
    dir: WakeDir,
    name: String,
    socket: UnixDatagram,
}

impl Bell {
    pub(super) fn bind(dir: WakeDir) -> io::Result<Self> {
        let name = format!("{}-{:08x}.sock", std::process::id(), fastrand::u32(..));
        let socket = bind(&dir, &name)?;
        Ok(Self { dir, name, socket })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn dir(&self) -> &WakeDir {
        &self.dir
    }

    /// Waits for a datagram, at most this long, and takes all that have gathered.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        // Zero would mean for ever.
        self.socket.set_read_timeout(Some(timeout.max(Duration::from_micros(100))))?;
        match self.socket.recv(&mut [0]) {
            Ok(_) => self.drain(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn drain(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)?;
        while self.socket.recv(&mut [0]).is_ok() {}
        self.socket.set_nonblocking(false)
    }

    /// Binds anew where something has removed the file: a cleaner of old files, or a ringer that met it half bound.
    pub(super) fn ensure_bound(&mut self) -> io::Result<()> {
        if !self.dir.path.join(&self.name).exists() {
            super::create_dir(&self.dir.path)?;
            self.dir = WakeDir::open(self.dir.path.clone())?;
            self.socket = bind(&self.dir, &self.name)?;
        }
        Ok(())
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // Left behind, it would be taken away by the next ringer that is refused.
        let _ = fs::remove_file(self.dir.path.join(&self.name));
    }
}

/// Binds under a hidden name first: between the making of the file and the binding of it a ringer would be refused, and would remove it.
fn bind(dir: &WakeDir, name: &str) -> io::Result<UnixDatagram> {
    let hidden = format!(".{name}");
    let socket = UnixDatagram::bind(dir.address(&hidden))?;
    fs::rename(dir.path.join(&hidden), dir.path.join(name))?;
    Ok(socket)
}

/// Rings one bell by its name; for the owner's own process.
#[derive(Debug)]
pub(super) struct OwnRinger {
    address: PathBuf,
    /// Keeps the address valid where it goes through the handle.
    _dir: WakeDir,
    socket: UnixDatagram,
}

impl OwnRinger {
    pub(super) fn new(bell: &Bell) -> io::Result<Self> {
        Ok(Self { address: bell.dir.address(&bell.name), _dir: bell.dir.clone(), socket: unbound()? })
    }

    pub(super) fn ring(&self) {
        // A full queue means that the bell is ringing; a missing file, that the bell is gone or binds itself anew within its next look.
        let _ = self.socket.send_to(&[], &self.address);
    }
}

/// Rings all bells of a topic.
#[derive(Debug)]
pub(super) struct Ringer {
    dir: WakeDir,
    socket: UnixDatagram,
    bells: Vec<PathBuf>,
    /// The folder's modification time when `bells` was read; `None` when it has to be read again.
    read_at: Option<SystemTime>,
}

/// A folder that changed this short a time before it was read may have changed again within the same tick of the file system's clock.
const CLOCK_TICK: Duration = Duration::from_millis(50);

impl Ringer {
    pub(super) fn new(dir: WakeDir) -> io::Result<Self> {
        Ok(Self { dir, socket: unbound()?, bells: Vec::new(), read_at: None })
    }

    /// Rings every bell; takes away those whose owner is dead. Never waits.
    pub(super) fn ring(&mut self) {
        if self.refresh().is_err() {
            // Without the folder there is nobody to wake; subscribers look by themselves.
            self.bells.clear();
            self.read_at = None;
        }
        let mut stale = false;
        for bell in &self.bells {
            let Err(error) = self.socket.send_to(&[], bell) else { continue };
            match error.kind() {
                ErrorKind::ConnectionRefused => {
                    stale = true;
                    let _ = fs::remove_file(bell);
                }
                ErrorKind::NotFound => stale = true,
                // A full queue: it is awake already.
                _ => {}
            }
        }
        if stale {
            self.read_at = None;
        }
    }

    fn refresh(&mut self) -> io::Result<()> {
        let modified = fs::metadata(&self.dir.path)?.modified()?;
        if self.read_at == Some(modified) {
            return Ok(());
        }
        self.dir = WakeDir::open(self.dir.path.clone())?;
        self.bells.clear();
        for entry in fs::read_dir(&self.dir.path)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| is_bell(name)) else { continue };
            self.bells.push(self.dir.address(name));
        }
        let settled = SystemTime::now().duration_since(modified).is_ok_and(|age| age > CLOCK_TICK);
        self.read_at = settled.then_some(modified);
        Ok(())
    }
}

fn is_bell(name: &str) -> bool {
    !name.starts_with('.') && Path::new(name).extension().is_some_and(|extension| extension == "sock")
}

fn unbound() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(20);

    fn dir(deep: bool) -> (tempfile::TempDir, WakeDir) {
        let temp = tempfile::tempdir().unwrap();
        let path = if deep { temp.path().join("d".repeat(120)).join("t") } else { temp.path().join("t") };
        let dir = WakeDir::open(path).unwrap();
        (temp, dir)
    }

    fn rung(bell: &Bell) -> bool {
        let start = Instant::now();
        bell.wait(LONG).unwrap();
        start.elapsed() < LONG / 2
    }

    #[test]
    fn everybody_is_rung_and_the_dead_are_removed() {
        for deep in [false, true] {
            let (_temp, dir) = dir(deep);
            let mut ringer = Ringer::new(dir.clone()).unwrap();
            ringer.ring();
            let (one, two) = (Bell::bind(dir.clone()).unwrap(), Bell::bind(dir.clone()).unwrap());
            // A socket whose owner died without removing it.
            drop(bind(&dir, "1-dead.sock").unwrap());
            assert!(dir.is_alive(one.name()) && !dir.is_alive("1-dead.sock") && !dir.is_alive("1-never.sock"));
            ringer.ring();
            assert!(rung(&one) && rung(&two), "deep: {deep}");
            assert!(!dir.path.join("1-dead.sock").exists());
            OwnRinger::new(&one).unwrap().ring();
            assert!(rung(&one));
            let name = two.name().to_owned();
            drop(two);
            assert!(!dir.is_alive(&name));
        }
    }

    #[test]
    fn a_removed_socket_is_bound_again() {
        let (_temp, dir) = dir(false);
        let mut bell = Bell::bind(dir.clone()).unwrap();
        fs::remove_dir_all(&dir.path).unwrap();
        bell.ensure_bound().unwrap();
        Ringer::new(dir).unwrap().ring();
        assert!(rung(&bell));
    }

    #[test]
    fn a_full_queue_does_not_wait() {
        let (_temp, dir) = dir(false);
        let bell = Bell::bind(dir.clone()).unwrap();
        let mut ringer = Ringer::new(dir).unwrap();
        for _ in 0..2_000 {
            ringer.ring();
        }
        assert!(rung(&bell));
    }
}
