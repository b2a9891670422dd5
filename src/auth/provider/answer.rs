//! What in a provider's answer is valid: an artifact, or what a person has to do first.
//!
//! A provider may leave out what it cannot know, when the artifact was prepared; a generation is not looked at, counting them is ours. One that says
//! that a person has to act has no token to give.

use std::collections::BTreeMap;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Ask, ProviderError};
use crate::auth::{Content, check};
use crate::schema::ARTIFACT_SCHEMA;
use crate::schema::artifact::{Artifact, ArtifactStatus};
use crate::schema::time::Millis;

/// What a provider answered.
#[derive(Debug)]
pub enum Answer {
    /// An artifact. Its generation is 0, until whoever puts it in its place has counted it.
    Artifact(Box<Artifact>),
    /// No artifact: a person has to act first. Never [`ArtifactStatus::Ready`].
    Needs(ArtifactStatus),
}

/// The fields of an artifact as far as a provider has to state them.
#[derive(Deserialize)]
struct Stated {
    schema: String,
    account_id: String,
    platform: String,
    #[serde(default)]
    ws_url: Option<SecretString>,
    #[serde(default)]
    token: Option<SecretString>,
    #[serde(default)]
    expires_at: Option<Millis>,
    #[serde(default)]
    origin: Option<String>,
    #[serde(default)]
    user_agent: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, SecretString>,
    #[serde(default)]
    prepared_at: Option<Millis>,
    status: ArtifactStatus,
}

const REQUIRED: [&str; 4] = ["schema", "account_id", "platform", "status"];

/// Reads an answer that is an artifact.
pub(super) fn decode(bytes: &[u8], ask: &Ask<'_>) -> Result<Answer, ProviderError> {
    let stated: Stated = check::decode_as(bytes, &REQUIRED)?;
    if stated.account_id != ask.account {
        return Err(Content::OtherAccount.into());
    }
    if stated.status != ArtifactStatus::Ready {
        return Ok(Answer::Needs(stated.status));
    }
    let artifact = Artifact {
        schema: stated.schema,
        account_id: stated.account_id,
        generation: 0,
        platform: stated.platform,
        ws_url: stated.ws_url.ok_or(Content::MissingField("ws_url"))?,
        token: stated.token.ok_or(Content::MissingField("token"))?,
        expires_at: stated.expires_at,
        origin: stated.origin,
        user_agent: stated.user_agent,
        headers: stated.headers,
        // A time to come would make its life too short to count with.
        prepared_at: Some(stated.prepared_at.map_or(ask.now, |at| at.min(ask.now))),
        status: stated.status,
    };
    check::check(&artifact)?;
    match artifact.expires_at {
        Some(end) if end <= ask.now => Err(ProviderError::Ended(end)),
        _ => Ok(Answer::Artifact(Box::new(artifact))),
    }
}

/// Reads an answer in which the artifact's fields stand where `pointers` say. What no pointer names is as it has to be, or absent.
pub(super) fn decode_at(bytes: &[u8], pointers: &BTreeMap<String, String>, ask: &Ask<'_>) -> Result<Answer, ProviderError> {
    let body: Value = serde_json::from_slice(bytes).map_err(|error| Content::NotJson { line: error.line(), column: error.column() })?;
    let mut fields = Map::new();
    for (name, value) in [("schema", ARTIFACT_SCHEMA), ("account_id", ask.account), ("platform", "onlyfans"), ("status", "ready")] {
        fields.insert(name.to_owned(), value.into());
    }
    for (field, pointer) in pointers {
        match body.pointer(pointer) {
            None | Some(Value::Null) => {}
            Some(at) if field.ends_with("_at") => _ = fields.insert(field.clone(), time(at)),
            // Ids are numbers in many a program.
            Some(Value::Number(id)) if field == "account_id" => _ = fields.insert(field.clone(), id.to_string().into()),
            Some(value) => _ = fields.insert(field.clone(), value.clone()),
        }
    }
    let is_ready = fields.get("status").is_some_and(|status| status == "ready");
    for field in ["ws_url", "token"] {
        if let (true, false, Some(pointer)) = (is_ready, fields.contains_key(field), pointers.get(field)) {
            return Err(ProviderError::Pointer { field, pointer: pointer.clone() });
        }
    }
    let bytes = Zeroizing::new(serde_json::to_vec(&Value::Object(fields)).unwrap_or_default());
    decode(&bytes, ask)
}

/// A time as programs write it: RFC 3339, or seconds or milliseconds since 1970. In seconds, the least number that is taken for milliseconds is the
/// year 5138.
fn time(value: &Value) -> Value {
    match value.as_i64() {
        Some(number) if number >= 100_000_000_000 => json!(Millis(number)),
        Some(number) => json!(Millis(number.saturating_mul(1000))),
        None => value.clone(),
    }
}

/// The secrets of an artifact.
pub(super) fn secrets(artifact: &Artifact) -> impl Iterator<Item = &str> {
    let headers = artifact.headers.values().map(|value| value.expose_secret());
    [artifact.token.expose_secret(), artifact.ws_url.expose_secret()].into_iter().chain(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_784_808_000_000);

    fn ask() -> Ask<'static> {
        Ask { account: "1", reason: "missing", old: None, now: NOW }
    }

    fn told(answer: Result<Answer, ProviderError>) -> String {
        match answer {
            Ok(Answer::Artifact(artifact)) => format!(
                "{} {} {} {:?}",
                artifact.generation,
                artifact.token.expose_secret(),
                artifact.expires_at.map_or("-".to_owned(), |at| at.to_string()),
                artifact.prepared_at.map(|at| at.since(NOW))
            ),
            Ok(Answer::Needs(status)) => format!("needs {status:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_answer_is_an_artifact_or_says_what_is_needed() {
        let base = r#""schema":"convpipe.artifact.v1","account_id":"1","platform":"onlyfans""#;
        let ready = r#""ws_url":"wss://h/canary","token":"canary","status":"ready""#;
        for (answer, expected) in [
            (format!("{{{base},{ready}}}"), "0 canary - Some(0)"),
            (format!("{{{base},{ready},\"generation\":7,\"prepared_at\":\"2026-07-23T11:59:59Z\"}}"), "0 canary - Some(-1000)"),
            (format!("{{{base},{ready},\"prepared_at\":\"2030-01-01T00:00:00Z\"}}"), "0 canary - Some(0)"),
            (format!("{{{base},{ready},\"expires_at\":\"2026-07-24T12:00:00Z\"}}"), "0 canary 2026-07-24T12:00:00.000Z Some(0)"),
            (
                format!("{{{base},{ready},\"expires_at\":\"2026-07-23T12:00:00Z\"}}"),
                "the answer holds a token that ended at 2026-07-23T12:00:00.000Z; compare the clocks",
            ),
            (format!("{{{base},\"status\":\"needs_otp\"}}"), "needs NeedsOtp"),
            (format!("{{{base},\"status\":\"rejected\",\"token\":\"canary\"}}"), "needs Rejected"),
            (format!("{{{base},\"status\":\"ready\",\"token\":\"t\"}}"), "the answer has no field `ws_url`"),
            (
                format!("{{{base},\"status\":\"canary\"}}"),
                "the answer has a field `status` that has the wrong type or a value that it cannot have",
            ),
            (format!("{{{base}}}"), "the answer has no field `status`"),
            (format!("{{{base},{ready},\"token\":\"canary\"}}"), "the answer is not one well-formed JSON object (line 1, column 139)"),
            (format!("{{{base},{ready}}} x"), "the answer is not one well-formed JSON object (line 1, column 134)"),
            (format!("{{{},{ready}}}", base.replace("\"1\"", "\"2\"")), "the answer is the artifact of another account"),
            ("canary".to_owned(), "the answer is not one well-formed JSON object (line 1, column 1)"),
            (String::new(), "the answer is not one well-formed JSON object (line 1, column 0)"),
        ] {
            assert_eq!(told(decode(answer.as_bytes(), &ask())), expected, "{answer}");
        }
    }

    #[test]
    fn fields_are_found_where_the_config_points() {
        let pointers =
            |pairs: &[(&str, &str)]| pairs.iter().map(|&(field, at)| (field.to_owned(), at.to_owned())).collect::<BTreeMap<_, _>>();
        let body = br#"{"data":{"jwt":"canary","url":"wss://h/","exp":1784894400,"exp_ms":1784894400000,"state":"needs_face_check","id":1,"other":2,"none":null}}"#;
        let both = [("token", "/data/jwt"), ("ws_url", "/data/url")];
        for (extra, expected) in [
            (&[][..], "0 canary - Some(0)"),
            (&[("expires_at", "/data/exp"), ("account_id", "/data/id")], "0 canary 2026-07-24T12:00:00.000Z Some(0)"),
            (&[("expires_at", "/data/exp_ms")], "0 canary 2026-07-24T12:00:00.000Z Some(0)"),
            (&[("expires_at", "/data/none")], "0 canary - Some(0)"),
            (&[("expires_at", "/data/jwt")], "the answer has a field `expires_at` that has the wrong type or a value that it cannot have"),
            (&[("account_id", "/data/other")], "the answer is the artifact of another account"),
            (&[("status", "/data/state")], "needs NeedsFaceCheck"),
            (&[("token", "/data/none")], "the answer has nothing at /data/none, where the config says that token is"),
        ] {
            let pointers = pointers(&[&both, extra].concat());
            assert_eq!(told(decode_at(body, &pointers, &ask())), expected, "{extra:?}");
        }
    }
}
