//! The client's socket: opens it with a cap on each step, reads frames in chunks, and says what an error means.
//!
//! Owns: TCP, TLS, the WebSocket handshake, what is sent and answered, and what an end of the connection means. Does not own: how bytes become
//! frames and what of them is too large ([`super::assemble`]), when to connect and what to send ([`super::session`]). Invariant: nothing here, errors and `Debug` included, prints a URL's
//! path or query, a header, a token or the peer's text.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use rustls::crypto::SecureRandom;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use url::{Host, Url};

use super::assemble::{Assembler, Broken, Payload, Received};
use super::upgrade::Upgrade;
use super::{Failure, Reason, close};
use crate::config::IngestConfig;
use crate::runtime::trust::{Trust, TrustError};
use crate::schema::artifact::Artifact;

/// Most frames, and about most bytes, of one chunk: enough to share out the cost of a wake-up, few enough to look at timers often.
const CHUNK_FRAMES_MAX: usize = 512;
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// One read from the system takes up to this much, and is not made for less than the other.
const READ_BUFFER: usize = 64 << 10;
const READ_MIN: usize = 4 << 10;
/// All that we ever send are a token and heartbeats; a peer that lets this fill does not read.
const WRITE_BUFFER_MAX: usize = 64 << 10;
/// While less than this waits to be sent each ping has its own answer.
const PONGS_MAX: usize = 4 << 10;

/// What a connection may take: time for each step of its making, and bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    step: Duration,
    message_max: usize,
    frame_max: usize,
}

impl From<&IngestConfig> for Limits {
    fn from(config: &IngestConfig) -> Self {
        Self {
            step: Duration::from_millis(config.connect_timeout_ms),
            message_max: config.message_max_bytes,
            frame_max: config.frame_max_bytes,
        }
    }
}

/// Where a socket leads, as far as it may be shown: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    host: Host<String>,
    port: u16,
}

impl Endpoint {
    /// The endpoint of an artifact.
    ///
    /// # Errors
    /// [`Reason::Artifact`] where its `ws_url` is none, or is `ws://` to anything but loopback: a token never travels in the clear.
    pub fn of(artifact: &Artifact) -> Result<Self, Failure> {
        let refused = Failure::refused(Reason::Artifact);
        let url = Url::parse(artifact.ws_url.expose_secret()).map_err(|_| refused)?;
        let host = url.host().ok_or(refused)?.to_owned();
        let port = url.port_or_known_default().ok_or(refused)?;
        let loopback = match &host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        match url.scheme() {
            "wss" => Ok(Self { tls: true, host, port }),
            "ws" if loopback => Ok(Self { tls: false, host, port }),
            _ => Err(refused),
        }
    }

    /// Whether TLS is spoken with it.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "wss" } else { "ws" }, self.host, self.port)
    }
}

/// A byte stream in both directions, below TLS or above it.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Wire for S {}

/// What opens the byte stream to an endpoint: [`tcp`], or in a simulation something that needs no network. TLS and the handshake are done over it.
pub type Dial = Arc<dyn Fn(Endpoint) -> Dialling + Send + Sync>;
/// A byte stream that is being opened.
pub type Dialling = Pin<Box<dyn Future<Output = Result<Box<dyn Wire>, Failure>> + Send>>;

/// Over the network.
#[must_use]
pub fn tcp() -> Dial {
    Arc::new(|endpoint| Box::pin(async move { Ok(Box::new(connect_tcp(&endpoint).await?) as Box<dyn Wire>) }))
}

/// An open WebSocket.
pub struct Socket {
    stream: Box<dyn Wire>,
    read: BytesMut,
    assembler: Assembler,
    /// What is to be sent. The system may have to be told to send on even where this is empty: `unflushed`.
    write: BytesMut,
    unflushed: bool,
    /// The answer to the newest ping that found too much waiting to be sent. Older ones need none then, so a peer that only pings fills no memory.
    pong: Option<Bytes>,
    /// The end, found behind frames that were handed out first.
    ended: Option<Failure>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// Opens the artifact's socket. TCP, TLS and the WebSocket handshake may each take the configured time.
///
/// # Errors
/// [`Failure`]: the step that failed, and what that means for the next attempt.
pub async fn connect(artifact: &Artifact, limits: Limits, tls: &Trust, dial: &Dial) -> Result<Socket, Failure> {
    let endpoint = Endpoint::of(artifact)?;
    let request = request(artifact)?;

    let wire = capped(limits.step, Reason::Connect, dial(endpoint.clone())).await?;
    let stream: Box<dyn Wire> = if endpoint.tls {
        let name = match &endpoint.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| Failure::refused(Reason::Artifact))?,
            Host::Ipv4(ip) => ServerName::from(IpAddr::from(*ip)),
            Host::Ipv6(ip) => ServerName::from(IpAddr::from(*ip)),
        };
        let connector = tokio_rustls::TlsConnector::from(tls.client_config().map_err(nobody_to_trust)?);
        let tls = async { connector.connect(name, wire).await.map_err(|_| Failure::retry(Reason::Tls)) };
        Box::new(capped(limits.step, Reason::Tls, tls).await?)
    } else {
        wire
    };
    let handshake = async { client_async(request, Upgrade::new(stream)).await.map_err(|error| handshake_failure(&error)) };
    // Boxed: the handshake's future is large and would be part of every session's.
    let (library, _response) = capped(limits.step, Reason::Handshake, Box::pin(handshake)).await?;
    let (stream, read) = library.into_inner().into_parts();
    let assembler = Assembler::new(limits.frame_max, limits.message_max);
    Ok(Socket { stream, read, assembler, write: BytesMut::new(), unflushed: false, pong: None, ended: None })
}

/// No account can be connected over TLS before somebody has mended this, so it is told in full.
#[expect(clippy::needless_pass_by_value, reason = "what map_err calls takes the error")]
fn nobody_to_trust(error: TrustError) -> Failure {
    tracing::error!(%error, "no connection over TLS");
    Failure::retry(Reason::Tls)
}

async fn capped<T>(cap: Duration, reason: Reason, step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(cap, step).await.unwrap_or(Err(Failure::timeout(reason)))
}

async fn connect_tcp(endpoint: &Endpoint) -> Result<TcpStream, Failure> {
    let failed = Failure::retry(Reason::Connect);
    let connected = match &endpoint.host {
        Host::Domain(name) => TcpStream::connect((name.as_str(), endpoint.port)).await,
        Host::Ipv4(ip) => TcpStream::connect((*ip, endpoint.port)).await,
        Host::Ipv6(ip) => TcpStream::connect((*ip, endpoint.port)).await,
    };
    let tcp = connected.map_err(|_| failed)?;
    // `localhost` is a name, and a resolver may lie.
    if !endpoint.tls && !tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()) {
        return Err(Failure::refused(Reason::Artifact));
    }
    tcp.set_nodelay(true).map_err(|_| failed)?;
    Ok(tcp)
}

/// The handshake's request. Headers of the artifact cannot replace those that make it a WebSocket handshake to this host.
fn request(artifact: &Artifact) -> Result<Request, Failure> {
    let refused = Failure::refused(Reason::Artifact);
    let mut request = artifact.ws_url.expose_secret().into_client_request().map_err(|_| refused)?;
    let named = [(header::ORIGIN, &artifact.origin), (header::USER_AGENT, &artifact.user_agent)];
    for (name, value) in named {
        if let Some(value) = value {
            request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(|_| refused)?);
        }
    }
    for (name, value) in &artifact.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused)?;
        let ours = [header::HOST, header::CONNECTION, header::UPGRADE].contains(&name) || name.as_str().starts_with("sec-websocket-");
        if ours {
            return Err(refused);
        }
        let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| refused)?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

impl Socket {
    /// Queues a text frame. Never waits: [`Socket::read_chunk`] and [`Socket::flush`] see to it that it goes out.
    ///
    /// # Errors
    /// [`Failure`] where the peer has not read what was sent before.
    pub fn send(&mut self, text: impl Into<String>) -> Result<(), Failure> {
        if self.write.len() > WRITE_BUFFER_MAX {
            return Err(Failure::retry(Reason::Heartbeat));
        }
        self.queue(Frame::message(text.into(), OpCode::Data(Data::Text), true))
    }

    /// Waits for at least one frame and appends all that are there to `frames`: text and binary payloads, as they came. Sends what is
    /// queued, pongs included. Cancel-safe: a frame is either still in the socket or in `frames`.
    ///
    /// # Errors
    /// [`Failure`] where the connection has ended; every frame before its end was handed out first.
    pub async fn read_chunk(&mut self, frames: &mut Vec<Payload>) -> Result<(), Failure> {
        poll_fn(|context| self.poll_chunk(context, frames)).await
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>, frames: &mut Vec<Payload>) -> Poll<Result<(), Failure>> {
        if let Some(failure) = self.ended {
            return Poll::Ready(Err(failure));
        }
        if let Poll::Ready(Err(failure)) = self.poll_flush(context) {
            return Poll::Ready(Err(self.end(failure)));
        }
        let (before, mut bytes) = (frames.len(), 0);
        while frames.len() - before < CHUNK_FRAMES_MAX && bytes < CHUNK_BYTES_MAX && self.ended.is_none() {
            match self.assembler.next(&mut self.read) {
                Ok(Some(Received::Message(payload))) => {
                    bytes += payload.bytes.len();
                    frames.push(payload);
                }
                Ok(Some(Received::Ping(data))) => {
                    if let Err(failure) = self.pong(data) {
                        self.end(failure);
                    }
                }
                Ok(Some(Received::Pong)) => {}
                Ok(Some(Received::Close(close))) => {
                    // The answer is a courtesy: the connection ends whether it goes out or not.
                    let _ = self.queue(Frame::close(close::answer(close.as_ref())));
                    let _ = self.poll_flush(context);
                    self.end(close::closed(close.as_ref()));
                }
                Ok(None) => match self.poll_fill(context) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(0) | Err(_)) => _ = self.end(Failure::retry(Reason::Reset)),
                    Poll::Ready(Ok(_)) => {}
                },
                Err(Broken) => _ = self.end(Failure::retry(Reason::Protocol)),
            }
        }
        if self.ended.is_none()
            && let Poll::Ready(Err(failure)) = self.poll_flush(context)
        {
            self.end(failure);
        }
        match self.ended {
            _ if frames.len() > before => Poll::Ready(Ok(())),
            Some(failure) => Poll::Ready(Err(failure)),
            None => Poll::Pending,
        }
    }

    /// Reads what is there; 0 bytes are the end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read.capacity() - self.read.len() < READ_MIN {
            self.read.reserve(READ_BUFFER);
        }
        pin!(self.stream.read_buf(&mut self.read)).poll(context)
    }

    /// Sends what is queued and reads nothing; then waits for ever. For the time in which nobody takes frames. Cancel-safe.
    ///
    /// # Errors
    /// [`Failure`] where the connection turns out to be broken.
    pub async fn flush(&mut self) -> Result<std::convert::Infallible, Failure> {
        poll_fn(|context| self.poll_flush(context)).await?;
        std::future::pending().await
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let broken = |_| Failure::retry(Reason::Reset);
        loop {
            while !self.write.is_empty() {
                match ready!(Pin::new(&mut self.stream).poll_write(context, &self.write)).map_err(broken)? {
                    0 => return Poll::Ready(Err(Failure::retry(Reason::Reset))),
                    written => self.write.advance(written),
                }
            }
            let Some(data) = self.pong.take() else { break };
            self.queue(Frame::pong(data))?;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context)).map_err(broken)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn pong(&mut self, data: Bytes) -> Result<(), Failure> {
        if self.pong.is_none() && self.write.len() < PONGS_MAX {
            return self.queue(Frame::pong(data));
        }
        self.pong = Some(data);
        Ok(())
    }

    /// Appends a frame to what is to be sent, masked with a key that nobody can foresee, as RFC 6455 wants it of a client.
    pub(super) fn queue(&mut self, mut frame: Frame) -> Result<(), Failure> {
        static RANDOM: LazyLock<&'static dyn SecureRandom> = LazyLock::new(|| rustls::crypto::ring::default_provider().secure_random);
        let mut mask = [0; 4];
        RANDOM.fill(&mut mask).map_err(|_| Failure::retry(Reason::Reset))?;
        frame.header_mut().mask = Some(mask);
        self.unflushed = true;
        // Writing to memory cannot fail.
        frame.format(&mut (&mut self.write).writer()).map_err(|_| Failure::retry(Reason::Reset))
    }

    fn end(&mut self, failure: Failure) -> Failure {
        *self.ended.get_or_insert(failure)
    }

    /// Sends a close frame and waits for the system to take it, at most `cap`; the socket is gone either way.
    pub async fn close(mut self, cap: Duration) {
        self.pong = None;
        if self.queue(Frame::close(None)).is_ok() {
            let _ = timeout(cap, poll_fn(|context| self.poll_flush(context))).await;
        }
    }
}

/// What an error of the WebSocket library means. It does the handshake alone.
fn handshake_failure(error: &Error) -> Failure {
    let Error::Http(response) = error else { return Failure::retry(Reason::Handshake) };
    close::refused_handshake(response.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::Verdict;
    use tokio_tungstenite::tungstenite::http::Response;

    fn artifact(url: &str, headers: &str) -> Artifact {
        let json = format!(
            r#"{{"schema":"convpipe.artifact.v1","account_id":"1","generation":1,"platform":"onlyfans","ws_url":"{url}","token":"t",
            "origin":"https://example.com","user_agent":"Agent/1","headers":{headers},"status":"ready"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn endpoints_show_no_secret_and_no_token_travels_in_the_clear() {
        for (url, expected) in [
            ("wss://ws2.example.com/ws3/30?key=canary", Some("wss://ws2.example.com:443")),
            ("wss://user:canary@example.com:8443/", Some("wss://example.com:8443")),
            ("ws://127.0.0.1:9/canary", Some("ws://127.0.0.1:9")),
            ("ws://[::1]:9/", Some("ws://[::1]:9")),
            ("ws://localhost/", Some("ws://localhost:80")),
            ("ws://example.com/", None),
            ("ws://10.0.0.1/", None),
            ("ws://localhost.example.com/", None),
            ("https://example.com/", None),
            ("wss://", None),
            ("canary", None),
        ] {
            let endpoint = Endpoint::of(&artifact(url, "{}"));
            assert_eq!(endpoint.as_ref().ok().map(ToString::to_string).as_deref(), expected, "{url}");
            assert!(!format!("{endpoint:?}").contains("canary"), "{url}");
        }
    }

    #[test]
    fn headers_of_the_artifact_do_not_change_the_handshake() {
        let request = |headers| request(&artifact("wss://example.com/x?y", headers));
        let sent = request(r#"{"x-bc":"canary"}"#).unwrap();
        assert_eq!(sent.headers()["origin"], "https://example.com");
        assert_eq!(sent.headers()["user-agent"], "Agent/1");
        assert_eq!(sent.headers()["x-bc"], "canary");
        assert!(!format!("{sent:?}").contains("canary"));
        for headers in [r#"{"Host":"a"}"#, r#"{"Sec-WebSocket-Key":"a"}"#, r#"{"upgrade":"a"}"#, r#"{"a b":"c"}"#, r#"{"a":"b\r\nc: d"}"#] {
            assert_eq!(request(headers).unwrap_err().reason, Reason::Artifact, "{headers}");
        }
    }

    #[test]
    fn refused_handshakes_are_classified() {
        let http = |status: u16| Error::Http(Box::new(Response::builder().status(status).body(None).unwrap()));
        for (error, reason, verdict) in [
            (http(401), Reason::AuthRefused, Verdict::Refused),
            (http(403), Reason::AuthRefused, Verdict::Refused),
            (http(429), Reason::Handshake, Verdict::Slow),
            (http(503), Reason::Handshake, Verdict::Retry),
            (http(302), Reason::Handshake, Verdict::Retry),
            (Error::ConnectionClosed, Reason::Handshake, Verdict::Retry),
            (Error::Utf8("canary".into()), Reason::Handshake, Verdict::Retry),
        ] {
            let failure = handshake_failure(&error);
            assert_eq!((failure.reason, failure.verdict), (reason, verdict), "{error:?}");
            assert!(!format!("{failure} {failure:?}").contains("canary"));
        }
    }
}
