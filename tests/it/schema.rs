//! The JSON Schemas in `docs/schema/` are those of the code.

use std::collections::BTreeSet;
use std::path::PathBuf;

use convpipe::schema::json_schema::{NAMES, schema};
use serde_json::Value;

/// Set to write the files instead of comparing them.
const UPDATE: &str = "UPDATE_GOLDEN";

#[test]
fn docs_hold_the_schemas_of_the_code() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let file = |name: &str| format!("{name}.v1.json");
    let text = |name: &str| format!("{}\n", serde_json::to_string_pretty(&schema(name).unwrap()).unwrap());
    #[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests, not a setting of the program")]
    if std::env::var_os(UPDATE).is_some() {
        std::fs::create_dir_all(&dir).unwrap();
        for name in NAMES {
            std::fs::write(dir.join(file(name)), text(name)).unwrap();
        }
    }
    for name in NAMES {
        let kept = std::fs::read_to_string(dir.join(file(name))).unwrap_or_default();
        assert!(kept == text(name), "docs/schema/{} is not that of the code: run `{UPDATE}=1 cargo test --test it schema::`", file(name));
    }
    let found: BTreeSet<String> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, NAMES.iter().map(|name| file(name)).collect(), "nothing else lies in docs/schema");
}

#[test]
fn every_name_has_a_schema_of_an_object() {
    for name in NAMES {
        let schema: Value = schema(name).unwrap().into();
        assert_eq!(schema["$id"], format!("urn:convpipe:{name}:v1"));
        assert_eq!(schema["type"], "object", "{name}");
        assert!(schema["properties"].as_object().is_some_and(|properties| !properties.is_empty()), "{name}");
    }
    assert!(schema("config").is_none() && schema("Event").is_none());
}
