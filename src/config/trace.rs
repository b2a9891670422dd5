//! Traces over OTLP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which events' ways are told to an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceConfig {
    /// The collector's OTLP over gRPC, such as `http://127.0.0.1:4317`; none, and nothing is traced.
    pub endpoint: Option<String>,
    /// Share of the events that are traced, above 0 and at most 1. Each daemon picks the same ones, by their ids.
    pub sample_ratio: f64,
    /// Spans that wait for the collector, with what they hold; of more, the newest are dropped.
    pub queue_max: usize,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { endpoint: None, sample_ratio: 0.001, queue_max: 2_048 }
    }
}

/// What is wrong with it: key and message.
pub(super) fn violations(config: &TraceConfig) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    if config.endpoint.as_ref().is_some_and(|endpoint| !is_endpoint(endpoint)) {
        found.push(("trace.endpoint", "is http://host:port of a collector; TLS to elsewhere is the collector's own business"));
    }
    if !(config.sample_ratio > 0.0 && config.sample_ratio <= 1.0) {
        found.push(("trace.sample_ratio", "is a share above 0, at most 1; without trace.endpoint nothing is traced"));
    }
    found
}

fn is_endpoint(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        url.scheme() == "http"
            && url.has_host()
            && url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_http_address() {
        for (endpoint, is_one) in [
            ("http://127.0.0.1:4317", true),
            ("http://collector:4317/", true),
            ("https://collector:4317", false),
            ("127.0.0.1:4317", false),
            ("http://a:b@collector:4317", false),
            ("http://collector:4317/v1/traces", false),
            ("", false),
        ] {
            let config = TraceConfig { endpoint: Some(endpoint.into()), ..TraceConfig::default() };
            assert_eq!(violations(&config).is_empty(), is_one, "{endpoint}");
        }
    }

    #[test]
    fn a_ratio_is_above_zero_and_at_most_one() {
        for (sample_ratio, is_one) in [(1.0, true), (1e-9, true), (0.0, false), (1.5, false), (-0.1, false), (f64::NAN, false)] {
            assert_eq!(violations(&TraceConfig { sample_ratio, ..TraceConfig::default() }).is_empty(), is_one, "{sample_ratio}");
        }
    }
}
