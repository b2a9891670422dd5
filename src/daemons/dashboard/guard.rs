//! Who may ask: everything that is decided before anybody looks at what is asked for.
//!
//! Owns hosts, methods, origins and the token. Does not own routes or answers. Invariants: the Host is checked before anything else, so that no name
//! that an attacker controls reaches this server (DNS rebinding); the token is compared in constant time and stands in no error.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret, SecretString};

use std::net::SocketAddr;

/// Shortest token, characters: as much as nobody guesses over a network.
const TOKEN_MIN: usize = 16;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// A word for programs.
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

const fn refusal(status: StatusCode, code: &'static str, message: &'static str) -> Refusal {
    Refusal { status, code, message }
}

const BAD_HOST: Refusal = refusal(
    StatusCode::MISDIRECTED_REQUEST,
    "bad_host",
    "this server does not answer to that name; dashboard.hosts lists those it answers to",
);
const BAD_METHOD: Refusal = refusal(StatusCode::METHOD_NOT_ALLOWED, "bad_method", "only GET and HEAD: nothing here can be changed");
const BODY: Refusal = refusal(StatusCode::BAD_REQUEST, "body", "a request here has no body");
const BAD_ORIGIN: Refusal = refusal(StatusCode::FORBIDDEN, "bad_origin", "another site's page may not ask here");
const NO_TOKEN: Refusal =
    refusal(StatusCode::UNAUTHORIZED, "no_token", "show the token: Authorization: Bearer …, or sign in with a browser");

/// The token cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the dashboard's token has to be at least {TOKEN_MIN} visible ASCII characters; `openssl rand -hex 32` makes one")]
pub struct UnusableToken;

/// What a request has to show.
pub(super) struct Guard {
    hosts: Vec<String>,
    token: Option<Token>,
    tls_in_front: bool,
}

/// The token, as a key: both sides of a comparison are hashed with it, so that the time says nothing.
struct Token {
    compare: hmac::Key,
    token: hmac::Tag,
    session: String,
    session_tag: hmac::Tag,
}

impl Guard {
    /// Answers to the address that is listened on, to the loopback's names where that is one or every address, and to `hosts`.
    ///
    /// # Errors
    /// [`UnusableToken`].
    pub(super) fn new(
        address: SocketAddr,
        hosts: &[String],
        token: Option<&SecretString>,
        tls_in_front: bool,
    ) -> Result<Self, UnusableToken> {
        let port = address.port();
        let mut names: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        if !address.ip().is_unspecified() {
            names.push(address.to_string());
        }
        if address.ip().is_loopback() || address.ip().is_unspecified() {
            names.extend(["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{port}")));
        }
        if port == 80 {
            // A browser leaves the port of the protocol out.
            let bare: Vec<String> = names.iter().filter_map(|name| name.strip_suffix(":80")).map(str::to_owned).collect();
            names.extend(bare);
        }
        Ok(Self { hosts: names, token: token.map(Token::new).transpose()?, tls_in_front })
    }

    /// Whether this may be answered at all; `is_open` is what needs no token, such as the page that asks for it.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, request: &Parts, is_open: bool) -> Result<(), Refusal> {
        let host = self.host(request)?;
        if request.method != Method::GET && request.method != Method::HEAD {
            return Err(BAD_METHOD);
        }
        let has_body = request.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
        if has_body || request.headers.contains_key(TRANSFER_ENCODING) {
            return Err(BODY);
        }
        self.origin(request, host)?;
        match &self.token {
            Some(token) if !is_open && !token.is_shown(&request.headers, self.cookie_name()) => Err(NO_TOKEN),
            _ => Ok(()),
        }
    }

    /// The one Host, which has to be one of ours. Where the target names a host too, both are the same.
    fn host<'r>(&self, request: &'r Parts) -> Result<&'r str, Refusal> {
        let mut hosts = request.headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(BAD_HOST) };
        let host = host.to_str().map_err(|_| BAD_HOST)?;
        let is_ours = self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host));
        let is_same = request.uri.authority().is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host));
        if is_ours && is_same { Ok(host) } else { Err(BAD_HOST) }
    }

    /// A page of another site may link here, and nothing else.
    fn origin(&self, request: &Parts, host: &str) -> Result<(), Refusal> {
        if let Some(origin) = request.headers.get(ORIGIN) {
            let scheme = if self.tls_in_front { "https://" } else { "http://" };
            let is_ours =
                origin.to_str().is_ok_and(|origin| origin.strip_prefix(scheme).is_some_and(|name| name.eq_ignore_ascii_case(host)));
            if !is_ours {
                return Err(BAD_ORIGIN);
            }
        }
        let header = |name: &str| request.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        let is_foreign = matches!(header("sec-fetch-site"), b"cross-site" | b"same-site");
        let is_link = header("sec-fetch-mode") == b"navigate" && header("sec-fetch-dest") == b"document";
        if is_foreign && !is_link { Err(BAD_ORIGIN) } else { Ok(()) }
    }

    /// Whether this server asks for a token.
    pub(super) const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The cookie for a browser that showed the token, in the header or as `token`; `None` where it is wrong or none is asked for.
    pub(super) fn sign_in(&self, headers: &HeaderMap, token: Option<&str>) -> Option<String> {
        let own = self.token.as_ref()?;
        let shown = bearer(headers).or(token)?;
        if !own.is_token(shown) {
            return None;
        }
        let secure = if self.tls_in_front { "; Secure" } else { "" };
        Some(format!("{}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800{secure}", self.cookie_name(), own.session))
    }

    /// Behind TLS a name that browsers tie to this host, to TLS and to `/`.
    const fn cookie_name(&self) -> &'static str {
        if self.tls_in_front { "__Host-convpipe" } else { "convpipe" }
    }
}

impl Token {
    fn new(token: &SecretString) -> Result<Self, UnusableToken> {
        let token = token.expose_secret();
        if token.len() < TOKEN_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(UnusableToken);
        }
        // Derived from the token, so that a browser stays signed in when the server restarts; the token itself is not in it.
        let session = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()), b"convpipe dashboard session");
        let session = session.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let compare = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| UnusableToken)?;
        let (token, session_tag) = (hmac::sign(&compare, token.as_bytes()), hmac::sign(&compare, session.as_bytes()));
        Ok(Self { compare, token, session, session_tag })
    }

    fn is_shown(&self, headers: &HeaderMap, cookie_name: &str) -> bool {
        if let Some(shown) = bearer(headers) {
            return self.is_token(shown);
        }
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
        let ours = cookies.filter_map(|cookie| cookie.trim().split_once('=')).find(|(name, _)| *name == cookie_name);
        ours.is_some_and(|(_, session)| self.is_equal(session, &self.session_tag))
    }

    fn is_token(&self, shown: &str) -> bool {
        self.is_equal(shown, &self.token)
    }

    /// Compared as hashes under a key that nobody knows: neither length nor content shows in the time.
    fn is_equal(&self, shown: &str, tag: &hmac::Tag) -> bool {
        hmac::verify(&self.compare, shown.as_bytes(), tag.as_ref()).is_ok()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn parts(request: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::builder().uri("/");
        for (name, value) in request {
            builder = match *name {
                "method" => builder.method(*value),
                "uri" => builder.uri(*value),
                name => builder.header(name, *value),
            };
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn guard(address: &str, hosts: &[&str], token: bool, tls: bool) -> Guard {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        Guard::new(address.parse().unwrap(), &hosts, token.then(|| SecretString::from(TOKEN)).as_ref(), tls).unwrap()
    }

    #[test]
    fn only_our_names_our_pages_and_reading() {
        let guard = guard("127.0.0.1:7070", &["chat.example.com"], false, false);
        for (request, expected) in [
            (&[("host", "127.0.0.1:7070")][..], ""),
            (&[("host", "LOCALHOST:7070")], ""),
            (&[("host", "[::1]:7070")], ""),
            (&[("host", "chat.example.com")], ""),
            (&[], "bad_host"),
            (&[("host", "localhost")], "bad_host"),
            (&[("host", "localhost:7071")], "bad_host"),
            (&[("host", "evil.example:7070")], "bad_host"),
            (&[("host", "127.0.0.1:7070"), ("host", "127.0.0.1:7070")], "bad_host"),
            (&[("host", "127.0.0.1:7070"), ("uri", "http://evil.example/")], "bad_host"),
            (&[("host", "evil.example"), ("method", "POST")], "bad_host"),
            (&[("host", "127.0.0.1:7070"), ("method", "POST")], "bad_method"),
            (&[("host", "127.0.0.1:7070"), ("method", "HEAD")], ""),
            (&[("host", "evil.example"), ("method", "HEAD")], "bad_host"),
            (&[("host", "127.0.0.1:7070"), ("method", "OPTIONS")], "bad_method"),
            (&[("host", "127.0.0.1:7070"), ("content-length", "3")], "body"),
            (&[("host", "127.0.0.1:7070"), ("transfer-encoding", "chunked")], "body"),
            (&[("host", "127.0.0.1:7070"), ("origin", "http://127.0.0.1:7070")], ""),
            (&[("host", "127.0.0.1:7070"), ("origin", "http://evil.example")], "bad_origin"),
            (&[("host", "127.0.0.1:7070"), ("origin", "null")], "bad_origin"),
            (&[("host", "127.0.0.1:7070"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], "bad_origin"),
            (
                &[
                    ("host", "127.0.0.1:7070"),
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "iframe"),
                ],
                "bad_origin",
            ),
            (
                &[
                    ("host", "127.0.0.1:7070"),
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                "",
            ),
            (&[("host", "127.0.0.1:7070"), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")], ""),
        ] {
            let refused = guard.check(&parts(request), false).err().map_or("", |refusal| refusal.code);
            assert_eq!(refused, expected, "{request:?}");
        }
    }

    #[test]
    fn the_token_opens_and_nothing_like_it() {
        let guard = guard("0.0.0.0:7070", &[], true, true);
        let host = ("host", "localhost:7070");
        let cookie = guard.sign_in(&HeaderMap::new(), Some(TOKEN)).unwrap();
        assert!(cookie.starts_with("__Host-convpipe=") && cookie.contains("HttpOnly; SameSite=Strict") && cookie.ends_with("; Secure"));
        assert!(!cookie.contains(TOKEN));
        let session = cookie.split(';').next().unwrap();
        for (header, opens) in [
            (("authorization", format!("Bearer {TOKEN}")), true),
            (("authorization", format!("bearer {TOKEN}")), true),
            (("authorization", format!("Bearer {TOKEN}0")), false),
            (("authorization", format!("Basic {TOKEN}")), false),
            (("authorization", "Bearer ".to_owned()), false),
            (("cookie", format!("a=b; {session}")), true),
            (("cookie", format!("__Host-convpipe={TOKEN}")), false),
            (("cookie", session.replace("__Host-", "")), false),
        ] {
            let request = parts(&[host, (header.0, &header.1)]);
            assert_eq!(guard.check(&request, false).is_ok(), opens, "{header:?}");
        }
        assert_eq!(guard.check(&parts(&[host]), false), Err(NO_TOKEN));
        assert_eq!(guard.check(&parts(&[host]), true), Ok(()));
        assert!(guard.sign_in(&HeaderMap::new(), Some("wrong")).is_none());
        for short in ["", "0123456789abcde", "0123456789 abcdef"] {
            assert!(Guard::new("127.0.0.1:1".parse().unwrap(), &[], Some(&SecretString::from(short)), false).is_err());
        }
    }
}
