//! Two configs held against each other, key by key, for a person who reloads one.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::Config;
use super::known::{self, Known, Shape, join};
use super::render::flow;

/// Longest value that is told, characters: a list of rules is a page.
const VALUE_MAX: usize = 120;

/// A key whose value is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path: `log.filter`.
    pub key: String,
    /// The value before, in one line, cut where it is long. `null` where there was none.
    pub old: String,
    /// The value after, likewise.
    pub new: String,
}

/// Every key that differs, in order of the keys. No key holds a secret, but into some of them people put one by mistake; their values are `***`.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let (mut old, mut new) = (leaves_of(old), leaves_of(new));
    old.retain(|key, value| match new.get(key) {
        Some(other) if other == value => {
            new.remove(key);
            false
        }
        _ => true,
    });
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let told = |key: &str, value: Option<&Value>| match value {
        None => "null".to_owned(),
        Some(_) if is_masked(key) => "***".to_owned(),
        Some(value) => cut(flow(value)),
    };
    keys.into_iter().map(|key| Change { key: key.clone(), old: told(key, old.get(key)), new: told(key, new.get(key)) }).collect()
}

/// Values that hold a URL with room for a password or a token, or what is handed to somebody else.
fn is_masked(key: &str) -> bool {
    key == "redis.url" || key.starts_with("auth.providers.") && [".url", ".body", ".args"].iter().any(|end| key.ends_with(end))
}

fn cut(value: String) -> String {
    match value.char_indices().nth(VALUE_MAX) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value,
    }
}

fn leaves_of(config: &Config) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    collect(&serde_yaml::to_value(config).unwrap_or_default(), known::root(), "", &mut found);
    found
}

fn collect(value: &Value, known: &Known, path: &str, found: &mut BTreeMap<String, Value>) {
    match (&known.shape, value) {
        (Shape::Section(_) | Shape::Each(_), Value::Mapping(map)) => {
            let children = map.iter().filter_map(|(key, value)| key.as_str().and_then(|key| Some((key, value, known.child(key)?))));
            children.for_each(|(key, value, child)| collect(value, child, &join(path, key), found));
        }
        (_, Value::Null) => {}
        _ => {
            found.insert(path.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AccountConfig;
    use crate::schema::policy::HighValuePolicy;

    #[test]
    fn what_differs_is_told_key_by_key() {
        let old = Config::default();
        assert_eq!(changes(&old, &old), []);
        let mut new = old.clone();
        new.log.filter = "debug".into();
        new.redis.user = Some("writer".into());
        new.redis.url = "redis://elsewhere".into();
        new.high_value.fans = (0..100).map(|fan| fan.to_string()).collect();
        let own = AccountConfig { high_value: Some(HighValuePolicy::default()), ..AccountConfig::default() };
        new.accounts.insert("1".into(), own);
        let told: Vec<(String, String, String)> = changes(&old, &new).into_iter().map(|Change { key, old, new }| (key, old, new)).collect();
        let keys: Vec<&str> = told.iter().map(|(key, ..)| key.as_str()).collect();
        let account = ["fans", "lists", "payment_min", "spend_min"].map(|key| format!("accounts.1.high_value.{key}"));
        let expected: Vec<&str> =
            account.iter().map(String::as_str).chain(["high_value.fans", "log.filter", "redis.url", "redis.user"]).collect();
        assert_eq!(keys, expected);
        assert_eq!(told[3].1, "null");
        assert!(told[4].2.ends_with('…') && told[4].2.chars().count() == VALUE_MAX + 1);
        assert_eq!((told[5].1.as_str(), told[5].2.as_str()), ("info", "debug"));
        assert_eq!((told[6].1.as_str(), told[6].2.as_str()), ("***", "***"));
        assert_eq!((told[7].1.as_str(), told[7].2.as_str()), ("null", "writer"));
    }
}
