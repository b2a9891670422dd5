//! The `convpipe` binary as a child process that ends with the test.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running `convpipe`. Dropped, it is killed by its own id and waited for.
pub(crate) struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// What a process said until it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Process {
    /// Starts `convpipe ARGS…` in `dir`, without any `CONVPIPE_…` variable of the test's own environment.
    pub(crate) fn start<A: AsRef<OsStr>>(dir: &Path, args: &[A]) -> Self {
        Self::start_with(dir, args, &[])
    }

    /// The same with variables of its own.
    pub(crate) fn start_with<A: AsRef<OsStr>>(dir: &Path, args: &[A], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convpipe"));
        #[expect(clippy::disallowed_methods, reason = "the test's own environment, to keep it from the program")]
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CONVPIPE_")) {
            command.env_remove(name);
        }
        command.args(args).env_remove("COLUMNS").envs(variables.iter().copied()).current_dir(dir);
        Self::spawn(&mut command)
    }

    /// Another program; the same holds of it, but not of what it starts itself.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program under test starts");
        let stdout = Lines::read(child.stdout.take().expect("piped"));
        let stderr = Lines::read(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id")).expect("not zero");
        // It may have ended by itself: then there is nobody to signal.
        let _ = kill_process(pid, signal);
    }

    /// Waits for a line on stderr that contains `text` and returns it.
    pub(crate) fn wait_stderr(&self, text: &str, limit: Duration) -> String {
        self.stderr.wait(text, limit, "stderr")
    }

    /// Waits for a line on stdout that contains `text` and returns it.
    pub(crate) fn wait_stdout(&self, text: &str, limit: Duration) -> String {
        self.stdout.wait(text, limit, "stdout")
    }

    /// Waits for a line on stdout of which this holds and returns it.
    pub(crate) fn wait_stdout_that(&self, what: &str, limit: Duration, holds: impl Fn(&str) -> bool) -> String {
        self.stdout.wait_that(what, limit, "stdout", holds)
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(self, limit: Duration) -> Output {
        self.wait_and(limit, |_| {})
    }

    /// Sends it a signal again and again, as somebody in a hurry does, until it ends.
    pub(crate) fn insist(self, signal: Signal, limit: Duration) -> Output {
        self.wait_and(limit, |process| process.signal(signal))
    }

    fn wait_and(mut self, limit: Duration, each_time: impl Fn(&Self)) -> Output {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            assert!(Instant::now() < end, "still running after {limit:?}; stderr:\n{}", self.stderr.so_far().join("\n"));
            each_time(&self);
            // No portable wait with a limit: this asks often enough to be quick and seldom enough to be cheap.
            std::thread::sleep(Duration::from_millis(5));
        };
        Output { status, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    /// Asks it to stop, with SIGTERM, and waits until it has.
    pub(crate) fn terminate(self, limit: Duration) -> Output {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Ends it at once, as a crash would, and waits until it has.
    pub(crate) fn kill(self) -> Output {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(10))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread of its own so that the process never waits for the test.
struct Lines {
    read: Arc<(Mutex<Seen>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn read(pipe: impl Read + Send + 'static) -> Self {
        let read = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let shared = read.clone();
        let thread = std::thread::spawn(move || {
            let (read, changed) = &*shared;
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                read.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
                changed.notify_all();
            }
            read.lock().unwrap().ended = true;
            changed.notify_all();
        });
        Self { read, thread: Some(thread) }
    }

    fn wait(&self, text: &str, limit: Duration, name: &str) -> String {
        self.wait_that(text, limit, name, |line| line.contains(text))
    }

    fn wait_that(&self, what: &str, limit: Duration, name: &str, holds: impl Fn(&str) -> bool) -> String {
        let (read, changed) = &*self.read;
        let matching = |read: &Seen| read.lines.iter().find(|line| holds(line)).cloned();
        let (read, _) = changed.wait_timeout_while(read.lock().unwrap(), limit, |read| matching(read).is_none() && !read.ended).unwrap();
        let (found, lines) = (matching(&read), read.lines.join("\n"));
        // A panic with the lock in hand would be one for everybody else, too.
        drop(read);
        found.unwrap_or_else(|| panic!("no {what:?} on {name} within {limit:?}:\n{lines}"))
    }

    fn so_far(&self) -> Vec<String> {
        self.read.0.lock().unwrap().lines.clone()
    }

    /// All lines, once the process has ended.
    fn all(&mut self) -> Vec<String> {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reader does not panic");
        }
        self.so_far()
    }
}
