//! A connection to Redis that comes back.
//!
//! Owns connecting, timeouts, rebuilding. Does not own any command. redis-rs by itself keeps a connection whose bytes a middlebox swallows: every
//! call times out and nothing reconnects. Invariant here: after an I/O error, or three timeouts in a row, the next call uses a new connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Pipeline, RedisError, Value};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::RedisConfig;
use crate::runtime::trust;

use super::error::{Peer, ViewsError};
use super::password;

/// Timeouts in a row after which the connection counts as dead.
const TIMEOUTS_MAX: u32 = 3;
/// The wait before an attempt is random between 0 and this, doubled with every failure.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Who is connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The snapshot service.
    Writer,
    /// Everything else.
    Reader,
}

/// Connects at the first call, reconnects when it has to. Clones share one connection; answers come in order of the calls.
///
/// A call that fails is not repeated here. Where the connection could not be made, the next call waits out the backoff first, so a caller
/// may simply try again.
#[derive(Clone)]
pub(super) struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    options: AsyncConnectionConfig,
    peer: Peer,
    timeouts: AtomicU32,
    /// The live connection has answered a call.
    answered: AtomicBool,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    live: Option<MultiplexedConnection>,
    /// Counts connections, so that a failure of an old one does not end a new one.
    generation: u64,
    /// Attempts and connections in a row that came to nothing.
    failures: u32,
    retry_at: Option<Instant>,
}

impl Connection {
    /// Reads the config; does not connect yet.
    pub(super) fn open(config: &RedisConfig, role: Role) -> Result<Self, ViewsError> {
        Self::with_patience(config, role, Duration::ZERO)
    }

    /// The same for calls that block in Redis for up to `blocking`: that much is added to the response timeout.
    pub(super) fn with_patience(config: &RedisConfig, role: Role, blocking: Duration) -> Result<Self, ViewsError> {
        let (user, password_file) = match role {
            Role::Writer => (&config.user, &config.password_file),
            Role::Reader => (&config.reader_user, &config.reader_password_file),
        };
        let bad_url = |reason: String| ViewsError::Config { key: "url", reason };
        let info = config.url.as_str().into_connection_info().map_err(|e| bad_url(e.to_string()))?;
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        if settings.password().is_some() {
            return Err(bad_url("it carries a password; put that into a file and name it in redis.password_file".into()));
        }
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(path) = password_file {
            settings = settings.set_password(password::read(path)?.expose_secret());
        }
        if config.url.starts_with("rediss") {
            // An error only says that the process has chosen a provider already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            // The client reads them by itself, with each connection, and says less about what is missing.
            trust::machine().map_err(|error| bad_url(error.to_string()))?;
        }
        let timeout = Duration::from_millis(config.timeout_ms.max(1)) + blocking;
        let peer = Peer {
            addr: info.addr().to_string(),
            user: settings.username().unwrap_or("default").to_owned(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let info = info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info).map_err(|e| bad_url(e.to_string()))?;
        let options = AsyncConnectionConfig::new().set_connection_timeout(Some(timeout)).set_response_timeout(Some(timeout));
        let shared =
            Shared { client, options, peer, timeouts: AtomicU32::new(0), answered: AtomicBool::new(false), link: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sends all commands at once; the answers in order, error replies among them as [`Value::ServerError`].
    pub(super) async fn send(&self, pipeline: &Pipeline) -> Result<Vec<Value>, ViewsError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let (generation, mut live) = self.live().await?;
        match live.send_packed_commands(pipeline, 0, pipeline.len()).await {
            Ok(values) => {
                self.shared.timeouts.store(0, Ordering::Relaxed);
                self.shared.answered.store(true, Ordering::Relaxed);
                Ok(values)
            }
            Err(error) => Err(self.failed(generation, &error).await),
        }
    }

    /// The same; the first error reply is the error.
    pub(super) async fn query(&self, pipeline: &Pipeline) -> Result<Vec<Value>, ViewsError> {
        let values = self.send(pipeline).await?;
        match values.iter().find_map(|value| if let Value::ServerError(error) = value { Some(error) } else { None }) {
            Some(error) => Err(ViewsError::from_reply(error)),
            None => Ok(values),
        }
    }

    async fn live(&self) -> Result<(u64, MultiplexedConnection), ViewsError> {
        // Held while connecting: clones wait for the one attempt instead of making their own.
        let mut link = self.shared.link.lock().await;
        if let Some(live) = &link.live {
            return Ok((link.generation, live.clone()));
        }
        if let Some(at) = link.retry_at {
            tokio::time::sleep_until(at).await;
        }
        match self.connect().await {
            Ok(live) => {
                link.generation += 1;
                link.live = Some(live.clone());
                self.shared.timeouts.store(0, Ordering::Relaxed);
                self.shared.answered.store(false, Ordering::Relaxed);
                Ok((link.generation, live))
            }
            Err(error) => {
                link.back_off();
                Err(error)
            }
        }
    }

    /// A connection that has answered: without a password Redis refuses with the first command, not while connecting.
    async fn connect(&self) -> Result<MultiplexedConnection, ViewsError> {
        let Shared { client, options, peer, .. } = &*self.shared;
        let no_answer = |_| peer.unreachable(format!("no answer within {} ms", peer.timeout_ms));
        let attempt = async {
            let mut live = client.get_multiplexed_async_connection_with_config(options).await?;
            redis::cmd("PING").exec_async(&mut live).await?;
            Ok::<_, RedisError>(live)
        };
        let limit = Duration::from_millis(peer.timeout_ms);
        match tokio::time::timeout(limit, attempt).await.map_err(no_answer)? {
            Ok(live) => Ok(live),
            Err(error) => match peer.error(&error) {
                ViewsError::Timeout { .. } => Err(peer.unreachable(error.to_string())),
                other => Err(other),
            },
        }
    }

    /// Decides whether the connection is still good, and says what the failure means.
    async fn failed(&self, generation: u64, error: &RedisError) -> ViewsError {
        let timeouts = if error.is_timeout() { self.shared.timeouts.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        let broken = timeouts == 0 && (error.is_io_error() || error.is_unrecoverable_error());
        if broken || timeouts >= TIMEOUTS_MAX {
            let mut link = self.shared.link.lock().await;
            if link.generation == generation && link.live.take().is_some() {
                tracing::warn!(addr = %self.shared.peer.addr, %error, "the connection to Redis is given up");
                // One that worked until now is replaced at once; one that never answered counts as a failed attempt.
                if self.shared.answered.load(Ordering::Relaxed) {
                    (link.failures, link.retry_at) = (0, None);
                } else {
                    link.back_off();
                }
            }
        }
        self.shared.peer.error(error)
    }
}

impl Link {
    /// Full jitter: many processes that lost the same Redis do not come back in step.
    fn back_off(&mut self) {
        let most = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + most.mul_f64(fastrand::f64()));
    }
}
