//! Which keys there are, taken from the config's own JSON Schema: their texts, their kinds and the names of their variables.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::Config;

/// A key that may stand in a config.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known {
    /// Its doc comment, in one line.
    pub(super) text: String,
    /// What its value is.
    pub(super) shape: Shape,
    /// Whether null is a value of it.
    pub(super) nullable: bool,
}

/// What a key's value is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Shape {
    /// Named keys.
    Section(BTreeMap<String, Known>),
    /// Keys of the writer's choice, each with a value of this kind.
    Each(Box<Known>),
    /// A list. It is one value: setting it replaces all of it.
    List(Box<Known>),
    /// A text.
    Text,
    /// A number or a truth value.
    #[default]
    Other,
}

impl Known {
    /// What stands under this key, if this can be a key there.
    pub(super) fn child(&self, key: &str) -> Option<&Known> {
        match &self.shape {
            Shape::Section(keys) => keys.get(key),
            Shape::Each(each) => Some(each),
            _ => None,
        }
    }
}

/// The whole config.
pub(super) fn root() -> &'static Known {
    static ROOT: LazyLock<Known> = LazyLock::new(|| {
        let schema = schemars::schema_for!(Config).to_value();
        known(&schema, &schema)
    });
    &ROOT
}

fn known(schema: &Value, document: &Value) -> Known {
    let text = schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let (shape, nullable) = shape(schema, document);
    Known { text, shape, nullable }
}

/// The kind of value that a schema describes, and whether null is one.
fn shape(schema: &Value, document: &Value) -> (Shape, bool) {
    if let Some(pointer) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        return document.pointer(pointer).map_or_else(Default::default, |target| shape(target, document));
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let nullable = choices.iter().any(|choice| choice["type"] == "null");
        let stated = choices.iter().find(|choice| choice["type"] != "null");
        return stated.map_or_else(Default::default, |stated| (shape(stated, document).0, nullable));
    }
    let is = |name: &str| match &schema["type"] {
        Value::String(one) => one == name,
        Value::Array(several) => several.iter().any(|one| one == name),
        _ => false,
    };
    let is_choice = schema["oneOf"].as_array().is_some_and(|choices| choices.iter().all(|choice| choice["type"] == "string"));
    let shape = if let Some(keys) = schema["properties"].as_object() {
        Shape::Section(keys.iter().map(|(key, schema)| (key.clone(), known(schema, document))).collect())
    } else if schema["additionalProperties"].is_object() {
        Shape::Each(Box::new(known(&schema["additionalProperties"], document)))
    } else if is("array") {
        Shape::List(Box::new(known(&schema["items"], document)))
    } else if is("string") || is_choice {
        Shape::Text
    } else {
        Shape::Other
    };
    (shape, is("null"))
}

/// Variable name to key path, for every key that a variable can set.
pub type EnvironmentNames = BTreeMap<String, String>;

/// The environment variables there are, each with the key that it sets: `CONVPIPE_REDIS_TIMEOUT_MS` sets `redis.timeout_ms`. Lists,
/// and `accounts` as a whole, are YAML flow: `CONVPIPE_HIGH_VALUE_LISTS='[vip, regulars]'`.
#[must_use]
pub fn environment_names() -> &'static EnvironmentNames {
    static NAMES: LazyLock<EnvironmentNames> =
        LazyLock::new(|| leaves().iter().map(|path| (environment_name(path), path.clone())).collect());
    &NAMES
}

fn environment_name(path: &str) -> String {
    format!("CONVPIPE_{}", path.replace('.', "_").to_uppercase())
}

/// The paths of all keys that hold a value; free keys such as those of `accounts` are one.
pub(super) fn leaves() -> &'static [String] {
    static LEAVES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut leaves = Vec::new();
        collect(root(), "", &mut leaves);
        leaves
    });
    &LEAVES
}

fn collect(known: &Known, path: &str, leaves: &mut Vec<String>) {
    match &known.shape {
        Shape::Section(keys) => keys.iter().for_each(|(key, child)| collect(child, &join(path, key), leaves)),
        _ => leaves.push(path.to_owned()),
    }
}

/// The key of a path that has no free keys in it.
pub(super) fn at(path: &str) -> Option<&'static Known> {
    path.split('.').try_fold(root(), |known, key| known.child(key))
}

/// A path with one more key. A key that is not a plain word is quoted and escaped, so a path is always one clean line.
pub(super) fn join(path: &str, key: &str) -> String {
    let is_plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if is_plain { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The known key that was probably meant by `key` under `path`: the most similar neighbour, else the one place in the config where
/// exactly this name stands.
pub(super) fn nearest_key(known: &Known, path: &str, key: &str) -> Option<String> {
    let Shape::Section(keys) = &known.shape else { return None };
    if let Some(neighbour) = nearest(key, keys.keys().map(String::as_str)) {
        return Some(join(path, neighbour));
    }
    let mut elsewhere = leaves().iter().filter(|leaf| leaf.rsplit('.').next() == Some(key));
    match (elsewhere.next(), elsewhere.next()) {
        (Some(leaf), None) => Some(leaf.clone()),
        _ => None,
    }
}

/// The known variable that was probably meant.
pub(super) fn nearest_variable(name: &str) -> Option<String> {
    nearest(name, environment_names().keys().map(String::as_str).chain(["CONVPIPE_CONFIG"])).map(str::to_owned)
}

/// The most similar candidate, if at most a third of the name is different.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A hostile key of a megabyte is not worth a quadratic comparison.
    if name.len() > 200 {
        return None;
    }
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.len().max(name.len()))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_sets_one_key_and_every_key_has_a_variable() {
        assert_eq!(environment_names().len(), leaves().len(), "two keys share a variable");
        assert_eq!(environment_names().get("CONVPIPE_REDIS_TIMEOUT_MS").map(String::as_str), Some("redis.timeout_ms"));
        assert_eq!(environment_names().get("CONVPIPE_ACCOUNTS").map(String::as_str), Some("accounts"));
        for name in environment_names().keys() {
            assert_ne!(name, "CONVPIPE_CONFIG");
            assert!(!name.starts_with("CONVPIPE_TEST_"), "{name} is kept for tests");
        }
    }

    /// The schema and what serde writes must agree on the keys, else a value would be loaded and never printed.
    #[test]
    fn the_known_keys_are_those_of_the_serialized_default() {
        fn walk(value: &serde_yaml::Value, known: &Known, path: &str, found: &mut Vec<String>) {
            match (&known.shape, value) {
                (Shape::Section(_), serde_yaml::Value::Mapping(map)) => {
                    for (key, value) in map {
                        let key = key.as_str().expect("keys are text");
                        walk(value, known.child(key).expect(key), &join(path, key), found);
                    }
                }
                _ => found.push(path.to_owned()),
            }
        }
        let mut found = Vec::new();
        walk(&serde_yaml::to_value(Config::default()).expect("serializes"), root(), "", &mut found);
        found.sort();
        assert_eq!(found, leaves().iter().cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        assert!(leaves().iter().all(|leaf| !at(leaf).expect(leaf).text.is_empty()), "every key has a text");
    }

    #[test]
    fn the_nearest_key_is_a_neighbour_or_the_same_name_elsewhere() {
        for (path, key, expected) in [
            ("redis", "time_out_ms", Some("redis.timeout_ms")),
            ("redis", "lanes", Some("snapshot.lanes")),
            ("", "reddis", Some("redis")),
            ("", "zzzzzzzz", None),
            ("redis", "drain_timeout_s", None),
        ] {
            let known = if path.is_empty() { root() } else { at(path).expect(path) };
            assert_eq!(nearest_key(known, path, key).as_deref(), expected, "{path} {key}");
        }
        assert_eq!(nearest_variable("CONVPIPE_REDIS_TIME_OUT_MS").as_deref(), Some("CONVPIPE_REDIS_TIMEOUT_MS"));
        assert_eq!(nearest_variable("CONVPIPE_QQQQQQQQQQQQQ"), None);
    }
}
