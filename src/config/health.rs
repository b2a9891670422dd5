//! Where the daemons tell how they are doing.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where `/metrics`, `/livez` and `/readyz` are: an address and a port each, or `off`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Those of ingest. Several processes on one machine take one each, with --health.
    pub ingest: Listen,
    /// Those of snapshot.
    pub snapshot: Listen,
    /// Those of auth-refresh, where it runs as a daemon.
    pub auth_refresh: Listen,
    /// Those of the dashboard, beside its page.
    pub dashboard: Listen,
    /// A loop that is at one step for longer does not live any more, seconds.
    pub stall_s: u64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        let at = |port| Listen(Some(SocketAddr::from(([127, 0, 0, 1], port))));
        Self { ingest: at(7081), snapshot: at(7082), auth_refresh: at(7083), dashboard: at(7084), stall_s: 180 }
    }
}

/// An address to listen at, such as `127.0.0.1:7081`; `off` for none. Port 0 is any free one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

/// A text that is no [`Listen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an address and a port such as 127.0.0.1:7081, or off")]
pub struct ListenError;

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text {
            "off" => Ok(Self(None)),
            address => address.parse().map(|address| Self(Some(address))).map_err(|_| ListenError),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{address}"),
            None => f.write_str("off"),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "An address and a port such as `127.0.0.1:7081`, or `off`." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_off() {
        for (text, is_one) in
            [("off", true), ("127.0.0.1:0", true), ("[::1]:7081", true), ("7081", false), ("localhost:7081", false), ("", false)]
        {
            let read = text.parse::<Listen>();
            assert_eq!(read.is_ok(), is_one, "{text:?}");
            assert!(read.is_err() || read.unwrap().to_string() == text, "{text:?}");
        }
    }
}
