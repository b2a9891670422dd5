//! An artifact as its file has it. The only place that writes secrets out; [`Artifact`] itself does not serialize on purpose.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use serde::Serialize;

use crate::schema::artifact::{Artifact, ArtifactStatus};
use crate::schema::time::Millis;

#[derive(Serialize)]
struct File<'a> {
    schema: &'a str,
    account_id: &'a str,
    generation: u64,
    platform: &'a str,
    ws_url: &'a str,
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prepared_at: Option<Millis>,
    status: ArtifactStatus,
}

/// The file's content; it is overwritten in memory when dropped.
pub(super) fn encode(artifact: &Artifact) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let file = File {
        schema: &artifact.schema,
        account_id: &artifact.account_id,
        generation: artifact.generation,
        platform: &artifact.platform,
        ws_url: artifact.ws_url.expose_secret(),
        token: artifact.token.expose_secret(),
        expires_at: artifact.expires_at,
        origin: artifact.origin.as_deref(),
        user_agent: artifact.user_agent.as_deref(),
        headers: artifact.headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect(),
        prepared_at: artifact.prepared_at,
        status: artifact.status,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    serde_json::to_writer_pretty(&mut *bytes, &file)?;
    bytes.push(b'\n');
    Ok(bytes)
}
