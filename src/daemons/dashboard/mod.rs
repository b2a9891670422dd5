//! `dashboard`: the inbox as a web page, live, and the same as JSON; from Redis alone, as the user who may only read.
//!
//! Owns the server: who is let in, how many, and what answers what. Does not own what is shown (views). Invariants: one loop reads Redis over one
//! connection for any number of viewers; every answer is bounded; nothing here writes anything.

mod answer;
mod api;
mod board;
mod guard;
mod html;
mod live;
mod meter;
mod page;
mod panel;
mod patience;
mod route;
mod rows;
mod watch;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::answer::{Answer, coded, failure, redirect, refused, seal, tagged, text};
use self::board::Board;
use self::guard::Guard;
pub use self::guard::UnusableToken;
use self::page::{Page, View};
use self::panel::Panel;
use self::patience::Patient;
use self::route::{Api, Choice, NoRoute, Route};
use self::watch::{Signs, Watcher};
use crate::config::Config;
use crate::runtime::clock::Now;
use crate::runtime::exposition::{Expose, Page as Scrape};
use crate::runtime::health::Health;
use crate::runtime::panics::contained;
use crate::runtime::secret_file::{self, SecretFileError};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::supervise::Report;
use crate::views::{Reader, ViewsError};

/// Largest head of a request, bytes; hyper wants no less than 8 KiB.
const HEAD_MAX: usize = 16 << 10;
/// How long a client may take for the head of a request; also how long an idle connection is kept.
const HEAD_WAIT: Duration = Duration::from_secs(15);
/// What the system keeps for a client that does not read, bytes. By itself it would take megabytes of one.
const SEND_BUFFER: u32 = 128 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// Largest token file, bytes.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// Why the dashboard does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    /// `dashboard.listen` is no address; a loaded config cannot have that.
    #[error("dashboard.listen is no address: {0}")]
    Address(String),
    /// Nothing but the loopback may be listened on without a token.
    #[error("{0} is not on the loopback: dashboard.token_file is needed")]
    Open(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The token file cannot be used.
    #[error("dashboard.token_file: {0}")]
    TokenFile(#[from] SecretFileError),
    /// The token is too easy.
    #[error("{}: {source}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: UnusableToken,
    },
    /// Redis cannot be asked as the config says. One that is only away is waited for.
    #[error(transparent)]
    Views(#[from] ViewsError),
}

/// A dashboard that listens.
pub struct Dashboard {
    listener: TcpListener,
    address: SocketAddr,
    connections_max: usize,
    drain: Duration,
    open: Arc<Open>,
    watcher: Watcher,
    rooms: Arc<Rooms>,
}

/// How many connections there are.
#[derive(Debug, Default)]
struct Open(AtomicUsize);

/// What it shows to whoever runs it; clones share it.
#[derive(Debug, Clone)]
pub struct DashboardNumbers {
    address: SocketAddr,
    open: Arc<Open>,
}

impl Report for DashboardNumbers {
    fn summary(&self) -> String {
        format!("at http://{}/, {} connections", self.address, self.open.0.load(Relaxed))
    }

    fn given_up(&self) -> Option<String> {
        let open = self.open.0.load(Relaxed);
        (open > 0).then(|| format!("what was being answered over {open} connections"))
    }
}

impl Expose for DashboardNumbers {
    fn expose(&self, page: &mut Scrape<'_>) {
        page.gauge("dashboard_connections", "Connections that are open.", self.open.0.load(Relaxed) as u64);
    }
}

/// What every request needs.
struct Rooms {
    guard: Guard,
    board: Board,
    reader: Reader,
    now: Now,
    streams: Arc<Semaphore>,
    streams_max: usize,
    /// Streams that were asked for while all places were taken.
    refused: AtomicU64,
    /// Connections that were ended because their client did not read.
    let_go: Arc<AtomicU64>,
    write_timeout: Duration,
    shutdown: Shutdown,
}

impl Dashboard {
    /// Checks the config and listens; does not ask Redis yet.
    ///
    /// # Errors
    /// Where the token, the address or Redis' config cannot be used.
    pub async fn bind(config: &Config, now: Now) -> Result<Self, DashboardError> {
        let own = &config.dashboard;
        let wanted = own.address().ok_or_else(|| DashboardError::Address(own.listen.clone()))?;
        let token = own.token_file.as_deref().map(|path| secret_file::read(path, TOKEN_BYTES_MAX)).transpose()?;
        if token.is_none() && !wanted.ip().is_loopback() {
            return Err(DashboardError::Open(wanted));
        }
        let reader = Reader::open(&config.redis)?;
        let listen = |source| DashboardError::Listen { address: wanted, source };
        let listener = open(wanted).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let guard = Guard::new(address, &own.hosts, token.as_ref(), own.tls_in_front);
        let guard = guard.map_err(|source| DashboardError::Token { path: own.token_file.clone().unwrap_or_default(), source })?;
        let board = Board::new(now, own.refresh_ms);
        let watcher = Watcher::new(reader.clone(), board.clone(), own, now);
        let streams = Arc::new(Semaphore::new(own.streams_max));
        let rooms = Rooms {
            guard,
            board,
            reader,
            now,
            streams,
            streams_max: own.streams_max,
            refused: AtomicU64::new(0),
            let_go: Arc::default(),
            write_timeout: Duration::from_millis(own.write_timeout_ms),
            shutdown: Shutdown::new(),
        };
        let (open, drain) = (Arc::default(), Duration::from_secs(own.drain_timeout_s));
        Ok(Self { listener, address, connections_max: own.connections_max, drain, open, watcher, rooms: Arc::new(rooms) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its numbers, for whoever runs it.
    #[must_use]
    pub fn numbers(&self) -> DashboardNumbers {
        DashboardNumbers { address: self.address, open: Arc::clone(&self.open) }
    }

    /// Serves until a stop is asked for, then gives answers under way `dashboard.drain_timeout_s`.
    pub async fn serve(self, health: &Health, shutdown: Shutdown) {
        let Self { listener, connections_max, drain, open, watcher, rooms, .. } = self;
        let permits = Arc::new(Semaphore::new(connections_max));
        let signs = Signs { pulse: health.pulse("watcher"), redis: health.condition("redis") };
        health.started();
        let watching = tokio::spawn(watcher.run(signs, rooms.shutdown.clone()));
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                while connections.try_join_next().is_some() {}
                open.0.store(connections.len(), Relaxed);
                let accepted = tokio::select! {
                    accepted = accept(&listener, &permits) => accepted,
                    () = shutdown.requested() => return,
                };
                let Some((stream, permit)) = accepted else { continue };
                let rooms = rooms.clone();
                connections.spawn(contained(async move {
                    connection(stream, rooms).await;
                    drop(permit);
                }));
            }
        };
        health.pulse("listener").watch(accepting).await;
        drop(listener);
        rooms.shutdown.request();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(drain, drained).await.is_err() {
            connections.shutdown().await;
        }
        // It hears the same stop.
        let _ = watching.await;
    }
}

/// Listens. What is accepted inherits the small send buffer.
fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart finds the port of connections that are only just over.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // Nobody closes it.
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            // Out of descriptors, most likely: whoever goes gives one back.
            tracing::warn!(%error, "a connection cannot be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, rooms: Arc<Rooms>) {
    // Changes are small and have to go at once. Where it cannot be set they go a little later.
    let _ = stream.set_nodelay(true);
    let shutdown = rooms.shutdown.clone();
    let stream = Patient::new(stream, rooms.write_timeout, rooms.let_go.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let rooms = rooms.clone();
        async move { Ok::<_, Infallible>(respond(&rooms, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT).max_buf_size(HEAD_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Answers one request.
async fn respond(rooms: &Arc<Rooms>, request: Request<Incoming>) -> Answer {
    let (parts, _) = request.into_parts();
    let nonce = nonce();
    let route = Route::parse(parts.uri.path(), parts.uri.query());
    let is_open = route.as_ref().is_ok_and(Route::is_open);
    let is_for_programs = Route::is_for_programs(parts.uri.path());
    if let Err(refusal) = rooms.guard.check(&parts, is_open) {
        let is_page = !is_for_programs && refusal.status == StatusCode::UNAUTHORIZED;
        return seal(if is_page { redirect("/login") } else { refused(refusal) }, None);
    }
    let route = match route {
        Ok(route) => route,
        Err(error) => {
            let status = match error {
                NoRoute::NotFound => StatusCode::NOT_FOUND,
                NoRoute::TooLong => StatusCode::URI_TOO_LONG,
                NoRoute::Bad(..) => StatusCode::BAD_REQUEST,
            };
            return seal(wrong(is_for_programs, status, &nonce, &error), Some(&nonce));
        }
    };
    match route {
        Route::Api(Api::Stream) => seal(live::stream(rooms, &parts.method), None),
        Route::Api(api) => seal(api::answer(rooms, &parts.headers, &api).await, None),
        Route::Asset(asset) => seal(tagged(&parts.headers, asset.content_type, asset.body), None),
        Route::SignIn { token } => seal(sign_in(rooms, &parts.headers, token.as_deref(), &nonce), Some(&nonce)),
        page => seal(html_page(rooms, &parts.headers, page, &nonce).await, Some(&nonce)),
    }
}

const HTML: &str = "text/html; charset=utf-8";

fn wrong(is_for_programs: bool, status: StatusCode, nonce: &str, error: &NoRoute) -> Answer {
    if is_for_programs {
        let code = if status == StatusCode::NOT_FOUND { "not_found" } else { "bad_request" };
        return failure(status, code, &error.to_string());
    }
    text(status, HTML, page::notice(nonce, status.canonical_reason().unwrap_or("Error"), &error.to_string()))
}

fn sign_in(rooms: &Rooms, headers: &HeaderMap, token: Option<&str>, nonce: &str) -> Answer {
    if !rooms.guard.has_token() {
        return redirect("/");
    }
    match rooms.guard.sign_in(headers, token) {
        Some(cookie) => {
            let mut answer = redirect("/");
            answer::set(&mut answer, header::SET_COOKIE, cookie);
            answer
        }
        None => {
            let is_wrong = token.is_some() || headers.contains_key(header::AUTHORIZATION);
            let status = if is_wrong { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
            text(status, HTML, page::sign_in(nonce, is_wrong))
        }
    }
}

async fn html_page(rooms: &Rooms, asked: &HeaderMap, route: Route, nonce: &str) -> Answer {
    let picture = rooms.board.fresh().await;
    let now = (rooms.now)();
    let other = Choice { limit: route::PAGE, ..Choice::default() };
    let render = |choice: &Choice, view: &View<'_>| Page { picture: &picture, choice, now, nonce }.render(view);
    let (status, page) = match route {
        Route::Conversation(wanted, choice) => {
            let panel = Panel::read(&rooms.reader, &wanted).await;
            (panel.status(), render(&choice, &View::Conversation(&panel)))
        }
        Route::Priority(feed) => {
            let choice = Choice { account: feed.account.clone(), ..other };
            (StatusCode::OK, render(&choice, &View::Priority(&feed)))
        }
        Route::Pipeline => (StatusCode::OK, render(&other, &View::Pipeline)),
        Route::Inbox(choice) => (StatusCode::OK, render(&choice, &View::Inbox)),
        Route::SignIn { .. } | Route::Asset(_) | Route::Api(_) => (StatusCode::NOT_FOUND, page::notice(nonce, "Not Found", "")),
    };
    // A page that Redis is missing for says so, and is no success for whoever watches this server.
    let status = if picture.fault.is_some() && status == StatusCode::OK { StatusCode::SERVICE_UNAVAILABLE } else { status };
    coded(asked, status, HTML, page)
}

/// Another one for each answer, from the system's random numbers.
fn nonce() -> String {
    let random = ring::rand::generate::<[u8; 16]>(&ring::rand::SystemRandom::new());
    // Without random numbers the page goes without script and style: an empty nonce matches nothing.
    random.map_or_else(|_| String::new(), |bytes| bytes.expose().iter().map(|byte| format!("{byte:02x}")).collect())
}
