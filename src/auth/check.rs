//! What in an artifact is valid. The values that are looked at stay in here; the errors name fields.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use serde::de::{DeserializeOwned, IgnoredAny};
use url::{Host, Url};

use super::Content;
use crate::schema::ARTIFACT_SCHEMA;
use crate::schema::artifact::{Artifact, ArtifactStatus};
use crate::schema::time::Millis;

/// Platforms that there is code for.
const PLATFORMS: [&str; 1] = ["onlyfans"];

/// Fields of an artifact, the required ones first, to be named when one does not decode.
const REQUIRED: [&str; 7] = ["schema", "account_id", "generation", "platform", "ws_url", "token", "status"];
const OPTIONAL: [&str; 5] = ["expires_at", "origin", "user_agent", "headers", "prepared_at"];

/// Why an artifact that is valid cannot be connected with now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Its token has ended.
    #[error("its token ended at {0}; supply a new artifact")]
    Expired(Millis),
    /// Its owner has to enter a one-time code.
    #[error("the account's owner has to enter a one-time code, then supply a new artifact")]
    NeedsOtp,
    /// Its owner has to pass a face check.
    #[error("the account's owner has to pass a face check, then supply a new artifact")]
    NeedsFaceCheck,
    /// The platform refused it.
    #[error("the platform refused it; supply a new artifact")]
    Rejected,
}

/// Whether to connect with the artifact at `now`.
///
/// # Errors
/// Why not, and what has to happen first.
pub fn usable(artifact: &Artifact, now: Millis) -> Result<(), Unusable> {
    match (artifact.status, artifact.expires_at) {
        (ArtifactStatus::NeedsOtp, _) => Err(Unusable::NeedsOtp),
        (ArtifactStatus::NeedsFaceCheck, _) => Err(Unusable::NeedsFaceCheck),
        (ArtifactStatus::Rejected, _) => Err(Unusable::Rejected),
        (ArtifactStatus::Ready, Some(end)) if end <= now => Err(Unusable::Expired(end)),
        (ArtifactStatus::Ready, _) => Ok(()),
    }
}

/// Whether an account can name a file: ASCII letters, digits, `_` and `-`, at most 64.
#[must_use]
pub fn is_account(account: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&account.len()) && account.bytes().all(is_plain)
}

/// Decodes and checks the artifact of `account`.
pub(super) fn decode(bytes: &[u8], account: &str) -> Result<Artifact, Content> {
    let artifact: Artifact = decode_as(bytes, &REQUIRED)?;
    if artifact.account_id != account {
        return Err(Content::OtherAccount);
    }
    check(&artifact)?;
    Ok(artifact)
}

/// Decodes something with the fields of an artifact, of which those in `required` have to be there.
pub(super) fn decode_as<T: DeserializeOwned>(bytes: &[u8], required: &[&'static str]) -> Result<T, Content> {
    serde_json::from_slice(bytes).map_err(|error| why_not::<T>(bytes, &error, required))
}

/// Everything but its name.
pub(super) fn check(artifact: &Artifact) -> Result<(), Content> {
    let checks = [
        (artifact.schema == ARTIFACT_SCHEMA, "schema", "is not `convpipe.artifact.v1`, the only version that this convpipe reads"),
        (PLATFORMS.contains(&artifact.platform.as_str()), "platform", "is not `onlyfans`, the only platform that this convpipe knows"),
        (is_ws_url(artifact.ws_url.expose_secret()), "ws_url", "is neither a wss:// URL nor a ws:// URL of this machine's loopback"),
        (!artifact.token.expose_secret().is_empty(), "token", "is empty"),
        (artifact.origin.as_deref().is_none_or(is_header_value), "origin", "cannot stand in a header"),
        (artifact.user_agent.as_deref().is_none_or(is_header_value), "user_agent", "cannot stand in a header"),
        (
            artifact.headers.iter().all(|(name, value)| is_header_name(name) && is_header_value(value.expose_secret())),
            "headers",
            "has a name or a value that cannot stand in a header",
        ),
    ];
    match checks.into_iter().find(|(holds, ..)| !holds) {
        Some((_, field, what)) => Err(Content::Field { field, what }),
        None => Ok(()),
    }
}

/// The token must not cross a network in the clear; on loopback, where `replay --serve` listens, it may.
fn is_ws_url(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    match (url.scheme(), url.host()) {
        ("wss", Some(_)) => true,
        ("ws", Some(Host::Ipv4(ip))) => ip.is_loopback(),
        ("ws", Some(Host::Ipv6(ip))) => ip.is_loopback(),
        ("ws", Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}

/// `token` of RFC 9110, 5.6.2.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Visible ASCII, space and tab: what every server takes.
fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

/// What keeps an artifact from decoding, without the value that did: serde's own message would repeat it.
fn why_not<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error, required: &[&'static str]) -> Content {
    let Ok(fields) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(bytes) else {
        return Content::NotJson { line: error.line(), column: error.column() };
    };
    if let Some(field) = required.iter().find(|&&field| !fields.contains_key(field)) {
        return Content::MissingField(field);
    }
    let mut decoder = serde_json::Deserializer::from_slice(bytes);
    let path = serde_path_to_error::deserialize::<_, T>(&mut decoder).err().map(|error| error.path().to_string());
    let is_in = |field: &&str| path.as_deref().is_some_and(|path| path.split(['.', '[']).next() == Some(field));
    match REQUIRED.into_iter().chain(OPTIONAL).find(is_in) {
        Some(field) => Content::Field { field, what: "has the wrong type or a value that it cannot have" },
        None => Content::NotJson { line: error.line(), column: error.column() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_cross_no_network_in_the_clear() {
        for (url, expected) in [
            ("wss://ws2.example.com/ws3/30", true),
            ("wss://192.0.2.1:9000/", true),
            ("ws://127.0.0.1:8080/ws", true),
            ("ws://127.8.8.8/", true),
            ("ws://[::1]:9/", true),
            ("ws://localhost:1/", true),
            ("ws://LOCALHOST/", true),
            ("ws://localhost.example.com/", false),
            ("ws://127.0.0.1.example.com/", false),
            ("ws://example.com/", false),
            ("ws://127.0.0.1@example.com/", false),
            ("ws://[::ffff:192.0.2.1]/", false),
            ("ws://0.0.0.0/", false),
            ("https://example.com/", false),
            ("wss://", false),
            ("", false),
        ] {
            assert_eq!(is_ws_url(url), expected, "{url}");
        }
    }

    #[test]
    fn accounts_are_file_names() {
        for account in ["200000001", "a-b_C", &"9".repeat(64)] {
            assert!(is_account(account), "{account}");
        }
        for account in ["", ".", "..", "a/b", "a.b", "é", "a\0", &"9".repeat(65)] {
            assert!(!is_account(account), "{account:?}");
        }
    }

    #[test]
    fn headers_carry_no_line_breaks() {
        for (name, value, expected) in [
            ("Cookie", "a=b; c", true),
            ("X-Y", "", true),
            ("A:", "v", false),
            ("", "v", false),
            ("A", "v\r\nB: c", false),
            ("A", "é", false),
        ] {
            assert_eq!(is_header_name(name) && is_header_value(value), expected, "{name:?}: {value:?}");
        }
    }
}
