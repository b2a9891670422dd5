//! Asking a health listener: one GET over HTTP/1.1, with a limit on everything.
//!
//! Owns the question and what may be wrong with its answer. Does not own what the answer means. Invariants: whatever listens there, an answer ends within
//! [`ANSWER_MAX`] and takes no more memory than was allowed; nothing is sent but the question.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http::header::{ACCEPT, HOST};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest wait for a whole answer, the connection included: longer than the dashboard waits for a Redis that does not answer, before it says so.
pub const ANSWER_MAX: Duration = Duration::from_secs(4);
/// Largest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Where a daemon answers: a name or an IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

/// A text that is no [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name or an IP address, and a port: 127.0.0.1:7081, ingest-0.example.net:7081, [::1]:7081")]
pub struct AddressError;

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The head.
    pub headers: HeaderMap,
    /// The body; what is not UTF-8 is replaced.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there, or no way leads there.
    #[error("{}", without_number(.0))]
    Unreachable(io::Error),
    /// Somebody took the connection and did not say enough in time.
    #[error("no answer within {} s", ANSWER_MAX.as_secs())]
    Silent,
    /// Somebody speaks, but not HTTP, or stops in the middle.
    #[error("no HTTP: {0}")]
    NotHttp(String),
    /// The answer is longer than any of ours.
    #[error("an answer of more than {0} bytes")]
    TooLarge(usize),
}

/// The system's word for an error, without its number: lines are short where it is shown.
fn without_number(error: &io::Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.find(" (os error").unwrap_or(text.len()));
    text
}

/// Asks for `path`; of the body at most `body_bytes_max` are taken.
///
/// # Errors
/// Where there is no answer, or none that can be read.
pub async fn ask(address: &Address, path: &str, body_bytes_max: usize) -> Result<Answer, AskError> {
    timeout(ANSWER_MAX, exchange(address, path, body_bytes_max)).await.map_err(|_| AskError::Silent)?
}

async fn exchange(address: &Address, path: &str, body_bytes_max: usize) -> Result<Answer, AskError> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(AskError::Unreachable)?;
    let not_http = |error: hyper::Error| AskError::NotHttp(error.to_string());
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await.map_err(not_http)?;
    // Dropped, with this future or after it, it ends the connection.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let request = Request::get(path).header(HOST, address.to_string()).header(ACCEPT, "*/*").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| AskError::NotHttp(error.to_string()))?;
    let (head, body) = sender.send_request(request).await.map_err(not_http)?.into_parts();
    let body = Limited::new(body, body_bytes_max).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { AskError::TooLarge(body_bytes_max) } else { AskError::NotHttp(error.to_string()) }
    })?;
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

impl From<SocketAddr> for Address {
    /// Where something that listens at this address is asked: who listens on every address of a machine is asked on its loopback.
    fn from(listened: SocketAddr) -> Self {
        let ip = match listened.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self { host: ip.to_string(), port: listened.port() }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or(AddressError)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_name = |host: &str| {
            (1..=253).contains(&host.len()) && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        };
        let is_valid = bare.map_or_else(|| is_name(host), |ip| ip.parse::<Ipv6Addr>().is_ok());
        if is_valid { Ok(Self { host: bare.unwrap_or(host).to_owned(), port }) } else { Err(AddressError) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_name_and_a_port() {
        for (text, expected) in [
            ("127.0.0.1:7081", true),
            ("ingest-0.convpipe.svc.cluster.local:7081", true),
            ("localhost:7081", true),
            ("[::1]:7081", true),
            ("::1:7081", false),
            ("[::1:7081", false),
            ("[localhost]:7081", false),
            (":7081", false),
            ("127.0.0.1", false),
            ("127.0.0.1:0", false),
            ("127.0.0.1:70810", false),
            ("http://127.0.0.1:7081", false),
            ("a b:7081", false),
            ("a\r\nX:7081", false),
            ("", false),
        ] {
            let read = text.parse::<Address>();
            assert_eq!(read.is_ok(), expected, "{text:?}");
            assert!(read.is_err() || read.unwrap().to_string() == text, "{text:?}");
        }
    }

    #[test]
    fn who_listens_everywhere_is_asked_on_the_loopback() {
        for (listened, asked) in
            [("0.0.0.0:7081", "127.0.0.1:7081"), ("[::]:7081", "[::1]:7081"), ("10.0.0.1:1", "10.0.0.1:1"), ("[fd00::1]:1", "[fd00::1]:1")]
        {
            assert_eq!(Address::from(listened.parse::<SocketAddr>().unwrap()).to_string(), asked);
        }
    }
}
