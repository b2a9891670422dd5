//! Every metric that is scraped stands in `docs/metrics.md`, and the other way round; its form is what the page promises.

use std::collections::{BTreeMap, BTreeSet};

use super::replayed::{auth_refresh, dashboard, pipeline};
use super::scrape::Scrape;

/// Those of an engine that needs a service of Google's.
const ELSEWHERE: &str = "convpipe_firestore_";

/// Names, with the type and the labels that the page gives them.
pub(crate) fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `convpipe_"));
    let mut found = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let labels = cells[2].split(", ").filter(|label| *label != "–").map(|label| label.trim_matches('`').to_owned());
        let before = found.insert(format!("convpipe_{}", cells[0]), (cells[1].to_owned(), labels.collect()));
        assert!(before.is_none(), "{} stands there twice", cells[0]);
    }
    found
}

/// The same as it was scraped; counters with the `_total` by which they are asked for.
fn scraped(scrape: &Scrape) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let name_of = |name: &String, kind: &str| if kind == "counter" { format!("{name}_total") } else { name.clone() };
    let labels_of = |name: &str| -> BTreeSet<String> {
        let of_it = scrape.samples.keys().filter(|series| {
            let base = series.split('{').next().unwrap();
            base == name || [("_bucket"), ("_sum"), ("_count")].iter().any(|end| base.strip_suffix(end) == Some(name))
        });
        let labels = of_it.filter_map(|series| series.split_once('{')).flat_map(|(_, labels)| labels.trim_end_matches('}').split(','));
        labels.map(|label| label.split('=').next().unwrap().to_owned()).filter(|label| label != "le").collect()
    };
    let all = scrape.types.iter().map(|(name, kind)| (name_of(name, kind), kind.clone()));
    all.map(|(name, kind)| (name.clone(), (kind, labels_of(&name)))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_scraped_is_what_the_page_says() {
    let (ingest, snapshot) = pipeline().await;
    let refresh = tokio::task::spawn_blocking(auth_refresh).await.unwrap();
    let dashboard = tokio::task::spawn_blocking(dashboard).await.unwrap();
    let mut all = BTreeMap::new();
    for scrape in [&ingest, &snapshot, &refresh, &dashboard] {
        check_form(scrape);
        for (name, (kind, labels)) in scraped(scrape) {
            let entry = all.entry(name).or_insert_with(|| (kind, BTreeSet::new()));
            entry.1.extend(labels);
        }
    }
    let mut documented = documented();
    let elsewhere = documented.extract_if(.., |name, _| name.starts_with(ELSEWHERE)).count();
    assert_eq!(elsewhere, 5);
    let names = |of: &BTreeMap<String, (String, BTreeSet<String>)>| of.keys().cloned().collect::<BTreeSet<_>>();
    let missing: Vec<String> = names(&all).difference(&names(&documented)).cloned().collect();
    let gone: Vec<String> = names(&documented).difference(&names(&all)).cloned().collect();
    assert!(missing.is_empty() && gone.is_empty(), "not on the page: {missing:#?}; only on the page: {gone:#?}");
    for (name, scraped) in &all {
        assert_eq!(&documented[name], scraped, "{name}");
    }
}

fn check_form(scrape: &Scrape) {
    for (name, kind) in &scrape.types {
        assert!(name.starts_with("convpipe_") && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert!(!["_ms", "_kib", "_us", "_percent", "_total"].iter().any(|unit| name.ends_with(unit)), "{name}: base units alone");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name} is a {kind}");
        assert!(scrape.help[name].ends_with('.'), "{name} is told in a sentence");
    }
    for (series, value) in &scrape.samples {
        assert!(value.is_finite() && *value >= 0.0, "{series} {value}");
    }
    for (label, value) in scrape.labels() {
        assert!(
            ["le", "daemon", "version", "state", "outcome", "source", "reason", "class", "event", "topic", "consumer", "status", "result"]
                .contains(&label),
            "{label}"
        );
        let is_id = value.len() > 5 && value.bytes().all(|b| b.is_ascii_digit());
        assert!(!is_id && value.len() < 20, "{label}={value}: an id");
    }
    assert!(scrape.samples.len() < 250, "{} series of one process", scrape.samples.len());
}
