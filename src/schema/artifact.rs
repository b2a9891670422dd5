//! The auth artifact: what `auth-refresh` writes and ingest loads, one file an account.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::time::Millis;

/// Session material of one account, as its owner supplies it. Secrets in it do not print.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Artifact {
    /// [`super::ARTIFACT_SCHEMA`].
    pub schema: String,
    /// The account it belongs to; equals the file's name.
    pub account_id: String,
    /// Grows with every new artifact of the account.
    pub generation: u64,
    /// `onlyfans`.
    pub platform: String,
    /// Where to connect. It may carry secrets in its query, so it does not print.
    #[schemars(with = "String")]
    pub ws_url: SecretString,
    /// The token of the `connect` frame.
    #[schemars(with = "String")]
    pub token: SecretString,
    /// When the token ends.
    #[serde(default)]
    pub expires_at: Option<Millis>,
    /// `Origin` of the handshake.
    #[serde(default)]
    pub origin: Option<String>,
    /// `User-Agent` of the handshake: the one the session was made with.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// Further handshake headers.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: BTreeMap<String, SecretString>,
    /// When it was prepared.
    #[serde(default)]
    pub prepared_at: Option<Millis>,
    /// Whether it can be used.
    pub status: ArtifactStatus,
}

/// Whether an artifact can be used, or what a person has to do first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactStatus {
    /// Connect with it.
    Ready,
    /// The owner has to enter a one-time code.
    NeedsOtp,
    /// The owner has to pass a face check.
    NeedsFaceCheck,
    /// The platform refused it.
    Rejected,
}

impl ArtifactStatus {
    /// The name as it stands in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NeedsOtp => "needs_otp",
            Self::NeedsFaceCheck => "needs_face_check",
            Self::Rejected => "rejected",
        }
    }
}

/// What asks for a new artifact of an account: the file `<account>.request` beside the artifacts. ingest leaves one where the platform refused an
/// artifact; anybody who may write there can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactRequest {
    /// [`super::ARTIFACT_REQUEST_SCHEMA`].
    pub schema: String,
    /// The account; equals the file's name.
    pub account_id: String,
    /// Why.
    pub reason: RequestReason,
    /// The generation that was refused; a request for one that is no longer there is overtaken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// When.
    pub requested_at: Millis,
}

/// Why somebody asks for a new artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestReason {
    /// The platform refused the one that is there.
    Refused,
    /// A person wants it, for example after a check was passed.
    Asked,
}
