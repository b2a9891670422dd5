//! A recorded frame: one line of a recording, what `replay` takes and the fixtures are made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::text::Untrusted;

/// One line of a recording. `t_ms` counts from the recording's start, unless `t0` (RFC 3339, first line only) says when that was.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RecordedFrame<'a> {
    /// Milliseconds since the recording began.
    pub t_ms: u64,
    /// The account whose socket the frame came from.
    #[serde(borrow)]
    pub account: Untrusted<'a>,
    /// The frame, as JSON; or, where it was none, a JSON string holding what came instead.
    #[serde(borrow)]
    #[schemars(with = "serde_json::Value")]
    pub frame: &'a RawValue,
    /// When the recording began, on its first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t0: Option<super::time::Millis>,
}
