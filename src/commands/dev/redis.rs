//! The private Redis of `dev`: one writer, one reader, nobody else, nothing on disk; it ends with `dev`, however that ends.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

use super::folder::Folder;
use crate::commands::{CommandError, Exit};
use crate::config::RedisConfig;
use crate::views::{Writer, acl};

/// How a Redis is reached.
pub(super) struct RedisAccess {
    /// Without user and password.
    pub(super) url: String,
    /// User who writes, and the file with the password.
    pub(super) writer: Option<(&'static str, PathBuf)>,
    /// User who reads.
    pub(super) reader: Option<(&'static str, PathBuf)>,
}

impl RedisAccess {
    /// A Redis that lets everybody in.
    pub(super) fn open(url: &str) -> Self {
        Self { url: url.to_owned(), writer: None, reader: None }
    }
}

/// A running Redis.
pub(super) struct PrivateRedis {
    guard: Child,
    /// Open as long as `dev` lives; its end, even by SIGKILL, ends Redis.
    lifeline: Option<ChildStdin>,
}

/// Memory of the private Redis.
const MAXMEMORY: &str = "512mb";
/// Starts Redis, and ends it when standard input ends or this script is told to end.
const GUARD: &str = r#"exec 3<&0
"$@" </dev/null 3<&- &
server=$!
(cat <&3 >/dev/null; kill -TERM "$server" 2>/dev/null) &
exec 3<&-
wait "$server""#;
const START_MAX: Duration = Duration::from_secs(10);

impl PrivateRedis {
    /// Starts one on a free port of the loopback, with the users of `scripts/redis.acl`.
    ///
    /// # Errors
    /// Where there is no redis-server, or it does not start.
    pub(super) async fn start(folder: &Folder) -> Result<(Self, RedisAccess), CommandError> {
        let program = find_server()?;
        let (writer, writer_file) = folder.new_password("redis-snapshot.password")?;
        let (reader, reader_file) = folder.new_password("redis-reader.password")?;
        let users = acl::render(&writer, &reader).map_err(|error| CommandError::of(Exit::Config, &error))?;
        let acl_file = folder.write("redis-users.acl", users.as_bytes())?;
        let port = free_port()?;
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "convpipe-redis"])
            .arg(&program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--maxmemory", MAXMEMORY, "--maxmemory-policy", "noeviction", "--loglevel", "notice"])
            .arg("--dir")
            .arg(folder.dir())
            .arg("--logfile")
            .arg(folder.redis_log())
            .arg("--aclfile")
            .arg(&acl_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for `dev`, which ends Redis after its writers.
            .process_group(0)
            .spawn()
            .map_err(|error| CommandError::new(Exit::Unavailable, format!("cannot start {program}")).caused_by(&error))?;
        let lifeline = guard.stdin.take();
        let mut redis = Self { guard, lifeline };
        let access = RedisAccess {
            url: format!("redis://127.0.0.1:{port}"),
            writer: Some((acl::SNAPSHOT_USER, writer_file)),
            reader: Some((acl::READER_USER, reader_file)),
        };
        redis.wait_until_ready(&access, folder).await?;
        Ok((redis, access))
    }

    async fn wait_until_ready(&mut self, access: &RedisAccess, folder: &Folder) -> Result<(), CommandError> {
        let config = RedisConfig {
            url: access.url.clone(),
            user: access.writer.as_ref().map(|(user, _)| (*user).to_owned()),
            password_file: access.writer.as_ref().map(|(_, file)| file.clone()),
            ..RedisConfig::default()
        };
        let deadline = Instant::now() + START_MAX;
        loop {
            let failed = match Writer::connect(&config).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let ended = matches!(self.guard.try_wait(), Ok(Some(_)));
            if ended || Instant::now() > deadline {
                let hint = format!("see {}", folder.redis_log().display());
                return Err(CommandError::new(Exit::Unavailable, "the private Redis does not start").caused_by(&failed).hint(hint));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until Redis has ended by itself.
    pub(super) async fn ended(&mut self) {
        // Whatever its end was called, it has ended.
        let _ = self.guard.wait().await;
    }

    /// Ends it, and waits for that.
    pub(super) async fn stop(mut self) {
        drop(self.lifeline.take());
        if tokio::time::timeout(Duration::from_secs(5), self.guard.wait()).await.is_err() {
            let _ = self.guard.kill().await;
        }
    }
}

fn find_server() -> Result<String, CommandError> {
    for name in ["redis-server", "valkey-server"] {
        let found = std::process::Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_ok_and(|status| status.success()) {
            return Ok(name.to_owned());
        }
    }
    Err(CommandError::new(Exit::Unavailable, "there is neither redis-server nor valkey-server on this machine")
        .hint("apt-get install redis-server (or brew install redis), or name a Redis that is there with --redis"))
}

/// A port that nobody listens on now. Another process may take it before Redis does; then Redis says so and `dev` is started again.
fn free_port() -> Result<u16, CommandError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|error| CommandError::new(Exit::TryLater, "there is no free port").caused_by(&error))
}
