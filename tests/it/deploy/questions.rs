//! What alerts and the dashboard ask Prometheus: a scan of PromQL that finds metrics, what is asked of their labels, and labels that are grouped by.

use std::collections::BTreeSet;

use serde_yaml::Value;

use super::{text, under, yaml};

/// A metric as it is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selector {
    pub(super) metric: String,
    /// Label, operator, value.
    pub(super) labels: Vec<(String, String, String)>,
}

/// Every question of the rules and of the dashboard, with where it stands.
pub(super) fn all() -> Vec<(&'static str, String)> {
    let dashboard: Value = serde_yaml::from_str(&text("grafana/convpipe.json")).unwrap();
    let of = |name: &'static str, value: &Value, keys: &[&str]| -> Vec<(&'static str, String)> {
        let found = keys.iter().flat_map(|key| under(value, key)).filter_map(Value::as_str);
        found.map(|question| (name, question.to_owned())).collect()
    };
    let mut all = of("alerts.yml", &yaml("prometheus/alerts.yml"), &["expr"]);
    // `query` and `definition` are those of the variables.
    all.extend(of("convpipe.json", &dashboard, &["expr", "definition"]));
    assert!(all.len() > 100, "only {} questions were found", all.len());
    all
}

/// The metrics of convpipe that a question names. Names of recording rules have a colon before it, and are not among them.
pub(super) fn selectors(question: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    for (at, _) in question.match_indices("convpipe_") {
        if question[..at].ends_with(|c: char| c == ':' || c == '_' || c == '"' || c.is_alphanumeric()) {
            continue;
        }
        let rest = &question[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (metric, rest) = rest.split_at(end);
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split(", ").filter(|label| !label.is_empty()).map(|label| {
            let end = label.find(['=', '!']).unwrap_or_else(|| panic!("{label}: {question}"));
            let (name, rest) = label.split_at(end);
            let (operator, value) = rest.split_once('"').unwrap_or_else(|| panic!("{label}: {question}"));
            (name.to_owned(), operator.to_owned(), value.trim_end_matches('"').to_owned())
        });
        found.push(Selector { metric: metric.to_owned(), labels: labels.collect() });
    }
    found
}

/// Labels by which a question groups or matches.
pub(super) fn grouped_by(question: &str) -> BTreeSet<String> {
    let words = ["by (", "without (", "on (", "ignoring (", "group_left ("];
    let lists = words.iter().flat_map(|word| question.match_indices(word).map(|(at, word)| &question[at + word.len()..]));
    let names = lists.flat_map(|rest| rest.split(')').next().unwrap_or_default().split(','));
    names.map(|name| name.trim().to_owned()).collect()
}

/// A metric as the documentation names it, without what a histogram adds.
pub(super) fn base(metric: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric)
}

#[test]
fn questions_are_read() {
    let question = r#"sum without (reason) (increase(convpipe_a_total{reason!~"start|x", topic="events"}[30m])) > on (job) i:convpipe_b:sum + convpipe_c"#;
    let label = |name: &str, operator: &str, value: &str| (name.to_owned(), operator.to_owned(), value.to_owned());
    let expected = [
        Selector { metric: "convpipe_a_total".to_owned(), labels: vec![label("reason", "!~", "start|x"), label("topic", "=", "events")] },
        Selector { metric: "convpipe_c".to_owned(), labels: Vec::new() },
    ];
    assert_eq!(selectors(question), expected);
    assert_eq!(grouped_by(question), BTreeSet::from(["reason".to_owned(), "job".to_owned()]));
    assert_eq!(base("convpipe_lag_seconds_bucket"), "convpipe_lag_seconds");
}
