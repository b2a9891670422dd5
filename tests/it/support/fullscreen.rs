//! `convpipe` where it draws on a whole terminal: a pseudo-terminal whose newest picture is read, and that is made larger or smaller.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// A program with its terminal. Dropped, it is killed by its own id and waited for.
pub(crate) struct Fullscreen {
    child: Child,
    /// The side of the person.
    keyboard: File,
    /// The side of the program, so that the terminal outlives it.
    line: File,
    said: Arc<(Mutex<String>, Condvar)>,
}

impl Fullscreen {
    /// Starts `convpipe ARGS…` in `dir` on a terminal of this size.
    pub(crate) fn start(dir: &Path, args: &[&str], columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let line: File = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap().into();
        let keyboard = File::from(master);
        resize(&keyboard, columns, rows);
        // It makes the terminal the program's own, so that Ctrl-C and a new size become signals, and then becomes the program.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(env!("CARGO_BIN_EXE_convpipe")).args(args).current_dir(dir);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("TERM", "xterm-256color");
        let stream = || line.try_clone().unwrap();
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        let said = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (shared, mut reader) = (said.clone(), keyboard.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                shared.0.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
                shared.1.notify_all();
            }
        });
        Self { child, keyboard, line, said }
    }

    /// Types.
    pub(crate) fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // It may have ended by itself: then there is nobody to signal.
        let _ = kill_process(pid, signal);
    }

    /// Makes the terminal larger or smaller.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        resize(&self.keyboard, columns, rows);
    }

    /// Whether keys are shown as they are typed.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Everything that was written so far.
    pub(crate) fn said(&self) -> String {
        self.said.0.lock().unwrap().clone()
    }

    /// Waits until the newest whole picture is as wanted, and returns its lines without colours.
    pub(crate) fn wait_picture(&self, limit: Duration, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        self.wait(limit, |said| newest_picture(said).filter(|lines| wanted(lines)))
    }

    /// Waits until it has written something.
    pub(crate) fn wait_said(&self, limit: Duration, text: &str) {
        self.wait(limit, |said| said.contains(text).then_some(()));
    }

    fn wait<T>(&self, limit: Duration, found: impl Fn(&str) -> Option<T>) -> T {
        let (said, changed) = &*self.said;
        let (said, _) = changed.wait_timeout_while(said.lock().unwrap(), limit, |said| found(said).is_none()).unwrap();
        let (result, text) = (found(&said), said.clone());
        drop(said);
        result.unwrap_or_else(|| panic!("not within {limit:?}: {text:?}"))
    }

    /// Waits until the program has been stopped, as by Ctrl-Z.
    pub(crate) fn wait_stopped(&self, limit: Duration) {
        let end = Instant::now() + limit;
        // The state stands behind the name, which is in brackets.
        let is_stopped = |stat: String| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'));
        while !std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).is_ok_and(is_stopped) {
            assert!(Instant::now() < end, "not stopped: {:?}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "still running: {:?}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Fullscreen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &File, columns: u16, rows: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// The lines of the newest picture that is complete: from the cursor's way home to what clears the rest.
fn newest_picture(said: &str) -> Option<Vec<String>> {
    let end = said.rfind("\x1b[J")?;
    let begin = said[..end].rfind("\x1b[H")?;
    // The terminal puts a carriage return before each line feed, whether there is one already or not.
    Some(said[begin + 3..end].split('\n').map(|line| without_sequences(line.trim_end_matches('\r'))).collect())
}

fn without_sequences(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').get(1..).unwrap_or_default())
}
