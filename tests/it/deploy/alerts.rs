//! Alerts and dashboard name what is scraped, and every alert has a page in the runbook and a test.

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml::Value;

use super::questions::{self, Selector, base, grouped_by, selectors};
use super::{none, under, yaml};
use crate::health::documented::documented;
use crate::health::replayed::{auth_refresh, pipeline};

/// Labels that Prometheus itself gives, and that of a histogram's buckets.
const OWN_LABELS: [&str; 3] = ["job", "instance", "le"];

/// Metrics and their labels, of the daemons and of the textfile.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let daemons = documented().into_iter().map(|(name, (_, labels))| (name, labels));
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/auth.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `convpipe_")?.split('`').next().map(str::to_owned));
    let textfile = rows.map(|row| {
        let (name, labels) = row.split_once('{').unwrap_or((&row, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        (format!("convpipe_{name}"), labels.map(str::to_owned).collect())
    });
    let textfile: Vec<_> = textfile.collect();
    assert_eq!(textfile.len(), 7, "{textfile:?}");
    daemons.chain(textfile).collect()
}

#[test]
fn metrics_and_labels_exist() {
    let known = known();
    let all: BTreeSet<&str> = known.values().flatten().map(String::as_str).chain(OWN_LABELS).collect();
    let mut problems = Vec::new();
    for (place, question) in questions::all() {
        for Selector { metric, labels } in selectors(&question) {
            let Some(has) = known.get(&metric).or_else(|| known.get(base(&metric))) else {
                problems.push(format!("{place}: there is no {metric}: {question}"));
                continue;
            };
            let unknown = labels.iter().filter(|(name, ..)| !has.contains(name) && !OWN_LABELS.contains(&name.as_str()));
            problems.extend(unknown.map(|(name, ..)| format!("{place}: {metric} has no label {name}: {question}")));
        }
        let unknown = grouped_by(&question).into_iter().filter(|name| !all.contains(name.as_str()));
        problems.extend(unknown.map(|name| format!("{place}: nothing has a label {name}: {question}")));
    }
    none(&problems);
}

/// A value that no series has makes a question that nothing ever answers, and nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_labels_are_scraped() {
    let (ingest, snapshot) = pipeline().await;
    let refresh = tokio::task::spawn_blocking(auth_refresh).await.unwrap();
    let series: Vec<&String> = [&ingest, &snapshot, &refresh].iter().flat_map(|scrape| scrape.samples.keys()).collect();
    let mut problems = Vec::new();
    for (place, question) in questions::all() {
        let asked = selectors(&question).into_iter().flat_map(|selector| {
            let values = selector.labels.into_iter().filter(|(name, ..)| !OWN_LABELS.contains(&name.as_str()));
            values.map(move |(label, _, value)| (selector.metric.clone(), label, value)).collect::<Vec<_>>()
        });
        for (metric, label, values) in asked.filter(|(.., values)| !values.is_empty() && !values.starts_with('$')) {
            // Of the textfile, whose values are those of the daemon.
            let metric = metric.replace("convpipe_auth_status", "convpipe_auth_refresh_accounts");
            let of_it: Vec<_> = series.iter().filter(|series| series.split('{').next() == Some(&metric)).collect();
            let missing = values.split('|').filter(|value| !of_it.iter().any(|series| series.contains(&format!("{label}=\"{value}\""))));
            problems.extend(missing.map(|value| format!("{place}: no {metric} has {label}={value}: {question}")));
        }
    }
    none(&problems);
}

#[test]
fn recorded_names_are_those_that_are_asked_for() {
    let rules = yaml("prometheus/alerts.yml");
    let recorded: BTreeSet<&str> = under(&rules, "record").into_iter().filter_map(Value::as_str).collect();
    let is_recorded = |word: &&str| word.contains(":convpipe_");
    let asked: Vec<(&str, String)> = questions::all();
    let asked: BTreeSet<&str> = asked
        .iter()
        .flat_map(|(_, question)| question.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')))
        .filter(is_recorded)
        .collect();
    assert_eq!(recorded, asked);
}

/// Name and rule of each alert.
pub(super) fn alerts() -> BTreeMap<String, Value> {
    let file = yaml("prometheus/alerts.yml");
    let rules = under(&file, "rules").into_iter().filter_map(Value::as_sequence).flatten();
    let alerts = rules.filter_map(|rule| Some((rule["alert"].as_str()?.to_owned(), rule.clone())));
    alerts.collect()
}

#[test]
fn every_alert_says_how_urgent_it_is_and_where_to_read_on() {
    let runbook = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md")).unwrap();
    let alerts = alerts();
    let mut problems = Vec::new();
    for (name, rule) in &alerts {
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        if !["critical", "warning"].contains(&severity) {
            problems.push(format!("{name}: its severity is {severity:?}"));
        }
        for text in ["summary", "description"] {
            if rule["annotations"][text].as_str().is_none_or(str::is_empty) {
                problems.push(format!("{name}: no {text}"));
            }
        }
        let url = format!("docs/runbook.md#{}", name.to_lowercase());
        if rule["annotations"]["runbook_url"].as_str() != Some(&url) {
            problems.push(format!("{name}: its runbook_url is not {url}"));
        }
        if !runbook.contains(&format!("\n### {name}\n\n*{severity}.* ")) {
            problems.push(format!("{name}: docs/runbook.md has no page of it that begins with *{severity}.*"));
        }
    }
    let pages = runbook.lines().filter_map(|line| line.strip_prefix("### ")).filter(|page| page.starts_with("Convpipe"));
    problems.extend(pages.filter(|page| !alerts.contains_key(*page)).map(|page| format!("no alert has the page {page}")));
    none(&problems);
}

#[test]
fn every_alert_has_a_test_in_which_it_is_silent_first_and_then_fires() {
    let tests = yaml("prometheus/alerts_test.yml");
    let tests = tests["tests"].as_sequence().unwrap();
    let mut problems = Vec::new();
    for name in alerts().keys() {
        let of_it: Vec<&Value> =
            tests.iter().filter(|test| test["name"].as_str().is_some_and(|of| of.split(':').next() == Some(name))).collect();
        if of_it.is_empty() {
            problems.push(format!("{name} has no test"));
        }
        for test in of_it {
            let asked = test["promql_expr_test"].as_sequence().unwrap();
            let is_of_it = |sample: &&Value| sample["expr"].as_str().is_some_and(|expr| expr.contains(&format!("alertname=\"{name}\"")));
            let fires = |sample: &Value| sample["exp_samples"].as_sequence().is_some_and(|samples| !samples.is_empty());
            let outcome: Vec<bool> = asked.iter().filter(is_of_it).map(fires).collect();
            if outcome != [false, true] {
                problems.push(format!("{name}: its test is to be silent first, and then to fire: {outcome:?}"));
            }
        }
    }
    none(&problems);
}

#[test]
fn panels_of_the_dashboard_have_their_place_and_say_what_they_show() {
    let dashboard: Value = serde_yaml::from_str(&super::text("grafana/convpipe.json")).unwrap();
    let panels = dashboard["panels"].as_sequence().unwrap();
    let rows: Vec<&str> =
        panels.iter().filter(|panel| panel["type"].as_str() == Some("row")).filter_map(|row| row["title"].as_str()).collect();
    assert_eq!(rows, ["Overview", "Ingest", "Bus", "Snapshot", "Redis", "Documents", "Auth"]);
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
    let area = |panel: &Value| ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
    for (index, panel) in panels.iter().enumerate() {
        let [x, y, w, h] = area(panel);
        assert!(x + w <= 24, "{}", panel["title"].as_str().unwrap());
        let covers = |other: &&Value| {
            let [ox, oy, ow, oh] = area(other);
            x < ox + ow && ox < x + w && y < oy + oh && oy < y + h
        };
        let other = panels[index + 1..].iter().find(covers);
        assert!(other.is_none(), "{:?} lies over {:?}", panel["title"], other.map(|other| &other["title"]));
        if panel["type"].as_str() != Some("row") {
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with(['.', '`'])), "{:?}", panel["title"]);
            assert_eq!(panel["datasource"]["uid"].as_str(), Some("${datasource}"), "{:?}", panel["title"]);
        }
    }
    let variables: Vec<&str> = under(&dashboard["templating"]["list"], "name").into_iter().filter_map(Value::as_str).collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
}
