//! A program on a pseudo terminal of its own, as somebody at a keyboard has it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A running `convpipe` whose streams are a terminal. Dropped, it is killed by its own id and waited for.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    reading: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shown {
    bytes: Vec<u8>,
    ended: bool,
}

impl Terminal {
    /// Starts `convpipe ARGS…` in `dir` on a terminal of so many columns, which is its controlling one; without any `CONVPIPE_…` variable of the
    /// test's own environment.
    pub(crate) fn start<A: AsRef<OsStr>>(dir: &Path, columns: u16, args: &[A], variables: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("ours");
        tcsetwinsize(&master, Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("any size");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).expect("its other end");
        let stream = |slave: &OwnedFd| Stdio::from(slave.try_clone().expect("a descriptor"));
        // Only a process itself can take a terminal as its controlling one, before it becomes the program; setsid(1) does.
        let mut command = Command::new("setsid");
        #[expect(clippy::disallowed_methods, reason = "the test's own environment, to keep it from the program")]
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CONVPIPE_")) {
            command.env_remove(name);
        }
        command.arg("--ctty").arg(env!("CARGO_BIN_EXE_convpipe")).args(args).current_dir(dir);
        command.env_remove("COLUMNS").env("TERM", "xterm-256color").envs(variables.iter().copied());
        command.stdin(stream(&slave)).stdout(stream(&slave)).stderr(stream(&slave));
        let child = command.spawn().expect("setsid of util-linux is installed");
        // The master ends when nobody holds the other end any more, and the command holds it too.
        drop((command, slave));
        let keyboard = File::from(master);
        let shown = Arc::new((Mutex::new(Shown::default()), Condvar::new()));
        let reading = std::thread::spawn({
            let (mut screen, shown) = (keyboard.try_clone().expect("a descriptor"), shown.clone());
            move || read(&mut screen, &shown)
        });
        Self { child, keyboard, shown, reading: Some(reading) }
    }

    /// Types something; `\u{3}` is Ctrl-C, `\u{4}` Ctrl-D.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("somebody reads the keyboard");
    }

    /// Waits until this was shown.
    pub(crate) fn wait_for(&self, text: &str, limit: Duration) {
        let (shown, changed) = &*self.shown;
        let has = |shown: &Shown| String::from_utf8_lossy(&shown.bytes).contains(text);
        let (shown, _) = changed.wait_timeout_while(shown.lock().unwrap(), limit, |shown| !has(shown) && !shown.ended).unwrap();
        let (found, all) = (has(&shown), String::from_utf8_lossy(&shown.bytes).into_owned());
        drop(shown);
        assert!(found, "no {text:?} within {limit:?}:\n{all}");
    }

    /// Waits until it ends by itself, and gives all that was shown, byte by byte as the terminal got it.
    pub(crate) fn wait(mut self, limit: Duration) -> (ExitStatus, String) {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            assert!(Instant::now() < end, "still running after {limit:?}:\n{}", self.all());
            // No portable wait with a limit.
            std::thread::sleep(Duration::from_millis(5));
        };
        self.reading.take().expect("taken once").join().expect("the reader does not panic");
        (status, self.all())
    }

    fn all(&self) -> String {
        String::from_utf8(self.shown.0.lock().unwrap().bytes.clone()).expect("UTF-8")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(screen: &mut File, shown: &(Mutex<Shown>, Condvar)) {
    let (shown, changed) = shown;
    let mut buffer = [0; 1 << 14];
    // A terminal whose other end is closed is an error on Linux, and an end elsewhere.
    while let Ok(length @ 1..) = screen.read(&mut buffer) {
        shown.lock().unwrap().bytes.extend_from_slice(&buffer[..length]);
        changed.notify_all();
    }
    shown.lock().unwrap().ended = true;
    changed.notify_all();
}
