//! The text of `/metrics`: OpenMetrics, written from our own counters whenever somebody asks.
//!
//! Owns names and form: every name begins with `convpipe_`, every unit is a base unit, every label has a few values that are known beforehand. Does not
//! own what is counted. Invariant: nothing is kept here between two scrapes, so counting costs the same whether somebody scrapes or not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::histogram::{BOUNDS_US, Durations};

/// What the answer of a scrape is called.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of one sample: names, and values out of a short list. Never an id.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// Something that has numbers to show.
pub trait Expose: Send + Sync {
    /// Writes all of them, each name once.
    fn expose(&self, page: &mut Page<'_>);
}

/// The numbers of one process as text.
#[must_use]
pub fn render(source: &Arc<dyn Expose>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Source(Arc::clone(source))));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = text::encode(&mut text, &registry);
    text
}

struct Source(Arc<dyn Expose>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Collector for Source {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder, outcome: Ok(()) };
        self.0.expose(&mut page);
        page.outcome
    }
}

/// Where numbers are written. Names are given without `convpipe_` and without the `_total` of counters.
pub struct Page<'e> {
    encoder: DescriptorEncoder<'e>,
    outcome: fmt::Result,
}

impl Page<'_> {
    /// A number that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, [(&[] as Labels<'_>, value)]);
    }

    /// The same, by labels.
    pub fn counters<'l>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'l>, u64)>) {
        self.counters_of(name, help, samples);
    }

    /// Seconds that only grow.
    pub fn seconds_counter(&mut self, name: &str, help: &str, value: Duration) {
        self.counters_of(name, help, [(&[] as Labels<'_>, value.as_secs_f64())]);
    }

    fn counters_of<'l, V: EncodeCounterValue>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'l>, V)>) {
        self.family(name, help, MetricType::Counter, samples, |value, sample| sample.encode_counter::<NoLabelSet, V, f64>(&value, None));
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) {
        self.gauges(name, help, [(&[] as Labels<'_>, value)]);
    }

    /// The same, by labels. With no samples only the name is shown.
    pub fn gauges<'l, V: EncodeGaugeValue>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'l>, V)>) {
        self.family(name, help, MetricType::Gauge, samples, |value, sample| sample.encode_gauge(&value));
    }

    /// Latencies by labels, in seconds.
    pub fn histograms<'l>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'l>, Durations)>) {
        self.family(name, help, MetricType::Histogram, samples, |value, sample| {
            let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(value.buckets).collect();
            sample.encode_histogram::<NoLabelSet>(value.sum_us as f64 / 1e6, value.count(), &buckets, None)
        });
    }

    fn family<'l, V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
        mut encode: impl FnMut(V, &mut MetricEncoder<'_>) -> fmt::Result,
    ) {
        let name = format!("convpipe_{name}");
        let written = self.encoder.encode_descriptor(&name, help, None, kind).and_then(|mut family| {
            samples.into_iter().try_for_each(|(labels, value)| match labels {
                [] => encode(value, &mut family),
                labels => encode(value, &mut family.encode_family(&labels)?),
            })
        });
        self.outcome = self.outcome.and(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::histogram::Histogram;

    struct Some;

    impl Expose for Some {
        fn expose(&self, page: &mut Page<'_>) {
            page.counter("frames", "Frames.", 3);
            page.gauges("accounts", "Accounts.", [(&[("state", "live")] as Labels<'_>, 2u64), (&[("state", "a\"\n")], 1)]);
            let took = Histogram::default();
            took.observe_all([Duration::from_millis(1), Duration::from_secs(301)]);
            page.histograms("took_seconds", "Took.", [(&[("topic", "events")] as Labels<'_>, took.read())]);
        }
    }

    #[test]
    fn it_is_openmetrics() {
        let text = render(&(Arc::new(Some) as Arc<dyn Expose>));
        for line in [
            "# TYPE convpipe_frames counter\nconvpipe_frames_total 3\n",
            "convpipe_accounts{state=\"live\"} 2\nconvpipe_accounts{state=\"a\\\"\\n\"} 1\n",
            "# TYPE convpipe_took_seconds histogram\nconvpipe_took_seconds_sum{topic=\"events\"} 301.001\n",
            "convpipe_took_seconds_bucket{le=\"0.001\",topic=\"events\"} 1\n",
            "convpipe_took_seconds_bucket{le=\"+Inf\",topic=\"events\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
