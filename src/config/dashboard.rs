//! The dashboard: its section of the config, and what in it cannot be.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The web page of the inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DashboardConfig {
    /// Address and port that it listens on. Beyond the loopback `token_file` is required.
    pub listen: String,
    /// File with the token that whoever looks has to show, mode 0600, at least 16 visible characters; a bare name is looked for in
    /// $CREDENTIALS_DIRECTORY first.
    pub token_file: Option<PathBuf>,
    /// Names that it is reached by besides its address, such as `chat.example.com`, with the port where it is not the protocol's. Requests for any
    /// other are refused.
    pub hosts: Vec<String>,
    /// Whether a proxy in front of it speaks TLS: the cookie then goes over TLS alone.
    pub tls_in_front: bool,
    /// Time between two looks at Redis while somebody watches, milliseconds.
    pub refresh_ms: u64,
    /// Most conversations that are shown, over all accounts; of more, those with the latest activity.
    pub conversations_max: usize,
    /// Most entries of the priority feed that are shown; of more, the newest.
    pub feed_max: usize,
    /// Most connections at once; whoever comes later waits.
    pub connections_max: usize,
    /// Most live pages at once; a further one is told to come back later.
    pub streams_max: usize,
    /// How long a client may leave what is sent to it unread, milliseconds; then its connection is ended.
    pub write_timeout_ms: u64,
    /// How long a stop waits for answers that are under way, seconds.
    pub drain_timeout_s: u64,
}

impl Default for DashboardConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7070".into(),
            token_file: None,
            hosts: Vec::new(),
            tls_in_front: false,
            refresh_ms: 400,
            conversations_max: 20_000,
            feed_max: 500,
            connections_max: 1_024,
            streams_max: 768,
            write_timeout_ms: 10_000,
            drain_timeout_s: 2,
        }
    }
}

impl DashboardConfig {
    /// Where it listens; `None` where `listen` is no address, which a loaded config cannot have.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }
}

/// Longest pause between two looks: a change has to be on the screen within a second.
const REFRESH_MS: std::ops::RangeInclusive<u64> = 10..=1_000;
/// Long enough for a phone that changes its network, short enough that those who went cost nothing.
const WRITE_TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;
/// What a process of this kind can still hold in memory.
const CONVERSATIONS_MAX: usize = 200_000;
const FEED_MAX: usize = 10_000;
const CONNECTIONS_MAX: usize = 60_000;

/// What is wrong, by key.
pub(super) fn violations(config: &DashboardConfig) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut require = |holds: bool, key: &'static str, message: String| {
        if !holds {
            found.push((key, message));
        }
    };
    let address = config.address();
    require(address.is_some(), "dashboard.listen", "is an address and a port, such as 127.0.0.1:7070".into());
    let is_open = address.is_some_and(|address| !address.ip().is_loopback());
    require(
        !is_open || config.token_file.is_some(),
        "dashboard.token_file",
        "is needed where dashboard.listen is not on the loopback".into(),
    );
    let wrong = config.hosts.iter().find(|host| !is_host(host));
    require(wrong.is_none(), "dashboard.hosts", "is a list of names such as chat.example.com or chat.example.com:8443".into());
    for (key, value, range) in
        [("dashboard.refresh_ms", config.refresh_ms, REFRESH_MS), ("dashboard.write_timeout_ms", config.write_timeout_ms, WRITE_TIMEOUT_MS)]
    {
        require(range.contains(&value), key, format!("is {} to {}", range.start(), range.end()));
    }
    for (key, value, max) in [
        ("dashboard.conversations_max", config.conversations_max, CONVERSATIONS_MAX),
        ("dashboard.feed_max", config.feed_max, FEED_MAX),
        ("dashboard.connections_max", config.connections_max, CONNECTIONS_MAX),
    ] {
        require(value <= max, key, format!("cannot be more than {max}"));
    }
    let streams = format!("is less than dashboard.connections_max, which is {}: each live page holds a connection", config.connections_max);
    require(config.streams_max < config.connections_max, "dashboard.streams_max", streams);
    found
}

/// A host with or without a port. No wildcard: that is what the list is there to keep out.
fn is_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && !name.contains(':') => port.parse::<u16>().ok().map(|_| name),
        _ => Some(host),
    };
    name.is_some_and(|name| {
        let is_v6 = name.starts_with('[') && name.ends_with(']');
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        !name.is_empty() && name.len() <= 253 && (is_v6 || plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_told_by_its_key() {
        let check = |change: fn(&mut DashboardConfig), expected: &[&str]| {
            let mut config = DashboardConfig::default();
            change(&mut config);
            let keys: Vec<&str> = violations(&config).into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, expected, "{config:?}");
        };
        check(|_| (), &[]);
        check(|c| c.listen = "localhost".into(), &["dashboard.listen"]);
        check(|c| c.listen = "0.0.0.0:7070".into(), &["dashboard.token_file"]);
        check(|c| (c.listen, c.token_file) = ("0.0.0.0:7070".into(), Some("token".into())), &[]);
        check(|c| c.listen = "[::1]:0".into(), &[]);
        check(|c| c.hosts = vec!["chat.example.com".into(), "chat.example.com:8443".into()], &[]);
        check(|c| c.hosts = vec!["*".into()], &["dashboard.hosts"]);
        check(|c| c.hosts = vec!["https://chat.example.com".into()], &["dashboard.hosts"]);
        check(|c| c.refresh_ms = 2_000, &["dashboard.refresh_ms"]);
        check(|c| c.write_timeout_ms = 0, &["dashboard.write_timeout_ms"]);
        check(|c| c.streams_max = 1_024, &["dashboard.streams_max"]);
    }
}
