//! Answers: bodies, and the headers that every one of them has.
//!
//! Owns what a browser is told about what it may do with an answer. Does not own what stands in it. Invariants: nothing is stored by anybody; a page
//! runs the one script and the one style sheet that it names, and asks nobody but this server.

use std::convert::Infallible;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{Stream, StreamExt as _};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

use super::guard::Refusal;

/// The body of every answer.
pub(super) type Body = BoxBody<Bytes, Infallible>;
/// An answer.
pub(super) type Answer = Response<Body>;

/// Smaller bodies are not worth compressing.
const GZIP_MIN: usize = 1_024;

/// What a page may do. `nonce` is another one with each answer.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// A body that is there, as JSON, HTML or text.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed());
    *answer.status_mut() = status;
    set(&mut answer, header::CONTENT_TYPE, content_type);
    answer
}

/// JSON that is compared with what the asker has.
pub(super) fn json(asked: &HeaderMap, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => tagged(asked, "application/json", body),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this answer cannot be written; the log says more")
        }
    }
}

/// A body with its tag; `304 Not Modified` where the asker has it, gzip where it is large and the asker takes that.
pub(super) fn tagged(asked: &HeaderMap, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let body = body.into();
    let tag = format!("W/\"{:032x}\"", xxhash_rust::xxh3::xxh3_128(&body));
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let has_it = listed(asked, header::IF_NONE_MATCH).any(|known| known.trim() == "*" || opaque(known) == opaque(&tag));
    let mut answer = if has_it {
        let mut answer = Response::new(Full::default().boxed());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        set(&mut answer, header::VARY, VARY);
        answer
    } else {
        coded(asked, StatusCode::OK, content_type, body)
    };
    set(&mut answer, header::ETAG, tag);
    answer
}

/// What an answer depends on besides its address.
const VARY: &str = "Accept-Encoding, Cookie, Authorization";

/// A body, gzip where it is large and the asker takes that.
///
/// What strangers wrote and what nobody else may know stand in one body here, which is what BREACH needs to guess the one by the other from the
/// length. It also needs its victim's browser to ask again and again, and no other site's page can make it: its requests are refused, and the cookie
/// is `SameSite=Strict`. No token stands in any body, and a nonce serves one answer.
pub(super) fn coded(asked: &HeaderMap, status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let body = body.into();
    let mut answer = match takes_gzip(asked).then(|| gzip(&body)).flatten() {
        Some(smaller) => {
            let mut answer = text(status, content_type, smaller);
            set(&mut answer, header::CONTENT_ENCODING, "gzip");
            answer
        }
        None => text(status, content_type, body),
    };
    set(&mut answer, header::VARY, VARY);
    answer
}

/// The parts of a header that is a list.
fn listed(asked: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    asked.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    listed(asked, header::ACCEPT_ENCODING).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && quality.trim().strip_prefix("q=").is_none_or(|q| q.parse().is_ok_and(|q: f32| q > 0.0))
    })
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < GZIP_MIN {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

/// What went wrong, for a program.
pub(super) fn failure(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = serde_json::json!({ "error": { "code": code, "message": message } });
    text(status, "application/json", body.to_string())
}

/// The refusal of the guard.
pub(super) fn refused(refusal: Refusal) -> Answer {
    let mut answer = failure(refusal.status, refusal.code, refusal.message);
    match refusal.status {
        StatusCode::METHOD_NOT_ALLOWED => set(&mut answer, header::ALLOW, "GET, HEAD"),
        StatusCode::UNAUTHORIZED => set(&mut answer, header::WWW_AUTHENTICATE, "Bearer realm=\"convpipe dashboard\""),
        _ => {}
    }
    answer
}

/// Another place.
pub(super) fn redirect(to: &'static str) -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", "");
    set(&mut answer, header::LOCATION, to);
    answer
}

/// Server-sent events, for as long as they come.
pub(super) fn events(events: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Answer {
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(events.map(|bytes| Ok(Frame::data(bytes))))));
    set(&mut answer, header::CONTENT_TYPE, "text/event-stream");
    // A proxy that gathers would hold changes back.
    set(&mut answer, HeaderName::from_static("x-accel-buffering"), "no");
    answer
}

/// The headers of every answer; `nonce` where it is a page.
pub(super) fn seal(mut answer: Answer, nonce: Option<&str>) -> Answer {
    let policy = nonce.map_or_else(|| "default-src 'none'; frame-ancestors 'none'".to_owned(), policy);
    set(&mut answer, header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        set(&mut answer, name, value);
    }
    answer
}

/// Sets a header whose value is ours, so that it can be one.
pub(super) fn set(answer: &mut Answer, name: HeaderName, value: impl TryInto<HeaderValue>) {
    if let Ok(value) = value.try_into() {
        answer.headers_mut().insert(name, value);
    } else {
        debug_assert!(false, "a value of ours that is none of a header: {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_it_is_not_sent_it_again() {
        let body = "x".repeat(5_000);
        let first = tagged(&HeaderMap::new(), "text/plain", body.clone());
        let tag = first.headers()[header::ETAG].clone();
        for (header, value, status, encoding) in [
            (header::IF_NONE_MATCH, tag.to_str().unwrap(), 304, None),
            (header::IF_NONE_MATCH, &format!("\"a\", {}", tag.to_str().unwrap()), 304, None),
            (header::IF_NONE_MATCH, "*", 304, None),
            (header::IF_NONE_MATCH, "\"other\"", 200, None),
            (header::ACCEPT_ENCODING, "br, gzip;q=0.8", 200, Some("gzip")),
            (header::ACCEPT_ENCODING, "gzip;q=0", 200, None),
        ] {
            let asked = HeaderMap::from_iter([(header, HeaderValue::from_str(value).unwrap())]);
            let answer = tagged(&asked, "text/plain", body.clone());
            let coded = answer.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap());
            assert_eq!((answer.status().as_u16(), coded), (status, encoding), "{value}");
        }
    }
}
