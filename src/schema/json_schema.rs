//! The JSON Schemas of what leaves or enters the process, derived from the types: what `convpipe schema` prints and `docs/schema/` holds.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::artifact::{Artifact, ArtifactRequest};
use super::document::{AccountDocument, FanSummary, MessageDocument};
use super::event::Event;
use super::frame::RecordedFrame;
use super::view::{AccountView, ConversationSnapshot, PriorityEntry};

/// Names of the schemas, each of version 1.
pub const NAMES: &[&str] = &[
    "event",
    "conversation-snapshot",
    "priority-entry",
    "account-view",
    "message-document",
    "fan-summary",
    "account-document",
    "artifact",
    "artifact-request",
    "recorded-frame",
];

/// The schema of that name. For what we write, a field is required where we always write it; for what we read, where we need it.
#[must_use]
pub fn schema(name: &str) -> Option<Schema> {
    let mut schema = match name {
        "event" => written::<Event<'static>>(),
        "conversation-snapshot" => written::<ConversationSnapshot>(),
        "priority-entry" => written::<PriorityEntry>(),
        "account-view" => written::<AccountView>(),
        "message-document" => written::<MessageDocument>(),
        "fan-summary" => written::<FanSummary>(),
        "account-document" => written::<AccountDocument>(),
        "artifact" => read::<Artifact>(),
        "artifact-request" => read::<ArtifactRequest>(),
        "recorded-frame" => read::<RecordedFrame<'static>>(),
        _ => return None,
    };
    schema.insert("$id".to_owned(), format!("urn:convpipe:{name}:v1").into());
    Some(schema)
}

fn written<T: JsonSchema>() -> Schema {
    SchemaSettings::default().for_serialize().into_generator().into_root_schema_for::<T>()
}

fn read<T: JsonSchema>() -> Schema {
    SchemaSettings::default().for_deserialize().into_generator().into_root_schema_for::<T>()
}
