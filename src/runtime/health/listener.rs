//! The health listener: `/metrics`, `/livez` and `/readyz` over HTTP, for a scraper, an orchestrator and `convpipe status`.
//!
//! Owns the socket, its limits and the three answers. Invariants: it only reads, and answers nothing that is secret or names an account; a client that
//! is slow or says nothing holds one of a few places for a few seconds, and nothing else.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Health;
use crate::runtime::exposition::{self, Expose};
use crate::runtime::shutdown::Shutdown;

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 16;
/// Longest time for one connection, from its first byte to our last.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// Longest time for a request's head.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// Wait after a connection could not be accepted, as where the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A socket that is bound and does not answer yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Answers until it is dropped.
#[derive(Debug)]
pub struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    /// Takes the address; port 0 is any free one.
    ///
    /// # Errors
    /// Where it cannot be taken, mostly because somebody else has it.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self { address: socket.local_addr()?, socket })
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers in the background, until the result is dropped: also while a stop is under way, when it says that the daemon is not ready.
    #[must_use]
    pub fn serve(self, health: Health, metrics: Arc<dyn Expose>, shutdown: Shutdown) -> Serving {
        let answers = Arc::new(Answers { health, metrics, shutdown, loopback_only: self.address.ip().is_loopback() });
        Serving(tokio::spawn(accept(self.socket, answers)))
    }
}

async fn accept(socket: TcpListener, answers: Arc<Answers>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed, so there is always a place sooner or later.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answers.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            // One question a connection: nobody asks often enough to keep a place.
            let server = server.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).keep_alive(false).max_buf_size(16 << 10);
            // What goes wrong is the client's to notice.
            let _ = timeout(CONNECTION_MAX, server.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

struct Answers {
    health: Health,
    metrics: Arc<dyn Expose>,
    shutdown: Shutdown,
    loopback_only: bool,
}

impl Answers {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if self.loopback_only && !names_loopback(request) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this listener answers to 127.0.0.1, [::1] and localhost\n".to_owned());
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match request.uri().path() {
            "/metrics" => {
                let mut page = text(StatusCode::OK, exposition::render(&self.metrics));
                page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(exposition::CONTENT_TYPE));
                page
            }
            "/livez" => verdict(&lines(&self.health.stalled())),
            "/readyz" if self.shutdown.is_requested() => verdict(&["daemon: stopping".to_owned()]),
            "/readyz" => verdict(&lines(&self.health.missing())),
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n".to_owned()),
        }
    }
}

fn lines(wrong: &[impl ToString]) -> Vec<String> {
    wrong.iter().map(ToString::to_string).collect()
}

/// `ok`, or what is wrong, a line each.
fn verdict(wrong: &[String]) -> Response<Full<Bytes>> {
    match wrong.is_empty() {
        true => text(StatusCode::OK, "ok\n".to_owned()),
        false => text(StatusCode::SERVICE_UNAVAILABLE, wrong.join("\n") + "\n"),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether the request means this machine by a name of its own. A page in somebody's browser whose name was made to lead here does not.
fn names_loopback(request: &Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(HOST) else { return true };
    host.to_str().is_ok_and(is_loopback)
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_are_meant() {
        for (host, expected) in [
            ("127.0.0.1:7081", true),
            ("127.0.0.1", true),
            ("[::1]:7081", true),
            ("localhost:7081", true),
            ("LOCALHOST", true),
            ("rebound.example:7081", false),
            ("127.0.0.1.example", false),
            ("10.0.0.1:7081", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host:?}");
        }
    }
}
