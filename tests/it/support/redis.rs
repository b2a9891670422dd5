//! A private Redis: a free loopback port and a Unix socket, a folder of its own, no persistence unless it is told to `SAVE`; it ends with the value.

#![allow(dead_code, reason = "the benchmarks share this file and use another part of it")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Redis answers within milliseconds; a busy machine gets its time.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// One redis-server process.
#[derive(Debug)]
pub(crate) struct RedisServer {
    process: Option<Child>,
    port: u16,
    args: Vec<String>,
    dir: tempfile::TempDir,
}

impl RedisServer {
    /// A server as it comes: everybody may do everything.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with further arguments, such as `--maxmemory 8mb`.
    #[must_use]
    pub(crate) fn start_with(args: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("convpipe-redis-").tempdir().expect("a temporary folder");
        let mut server = Self { process: None, port: 0, args: args.iter().map(|&arg| arg.to_owned()).collect(), dir };
        // Another process may take the port between our look and Redis' bind.
        for _ in 0..10 {
            server.port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
            if server.spawn() {
                return server;
            }
        }
        panic!("redis-server does not start:\n{}", server.log());
    }

    /// `redis://127.0.0.1:port`.
    #[must_use]
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `unix:///…/redis.sock`.
    #[must_use]
    pub(crate) fn unix_url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    #[must_use]
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Ends the server; what it held is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Nothing of it is kept, so there is nothing to shut down in order.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Kills the server if it runs, and starts one on the same port: an empty one, or what it had when it was told to `SAVE`.
    pub(crate) fn restart(&mut self) {
        self.stop();
        assert!(self.spawn(), "redis-server does not start again:\n{}", self.log());
    }

    /// Empties it.
    pub(crate) fn flush(&self) {
        self.run::<()>(&["FLUSHALL"]);
    }

    /// Runs one command as the default user.
    pub(crate) fn run<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let (name, args) = command.split_first().expect("a command");
        redis::cmd(name).arg(args).query(&mut self.connection()).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// A connection as the default user.
    #[must_use]
    pub(crate) fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("the server answers")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default()
    }

    /// Whether the server came up; not, where the port is taken.
    fn spawn(&mut self) -> bool {
        #[expect(clippy::disallowed_methods, reason = "the variable is for tests alone")]
        let program = std::env::var_os("CONVPIPE_TEST_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(&program);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.arg("--dir").arg(self.dir.path()).arg("--logfile").arg(self.dir.path().join("redis.log"));
        command.arg("--unixsocket").arg(self.socket()).args(&self.args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("{} cannot be run ({error}): install redis-server, or name one in CONVPIPE_TEST_REDIS_SERVER", program.display())
        });
        let process = self.process.insert(process);
        let begun = Instant::now();
        while begun.elapsed() < START_TIMEOUT {
            if process.try_wait().expect("its own child").is_some() {
                self.process = None;
                return false;
            }
            if answers(self.port) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether a Redis speaks on that port; a refusal for lack of a password is an answer too.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut first = [0];
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut first)?;
        Ok::<_, std::io::Error>(first[0])
    };
    matches!(ask(), Ok(b'+' | b'-'))
}
