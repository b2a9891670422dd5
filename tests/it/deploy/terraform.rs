//! What Terraform makes is what `convpipe provision` makes: the same names and numbers, and the same list of indexes.

use std::collections::BTreeMap;

use convpipe::config::{Config, environment_names};

use super::{none, text};

/// Description and default of each variable.
fn variables() -> BTreeMap<String, (String, Option<String>)> {
    let text = text("terraform/variables.tf");
    let blocks = text.split("\nvariable \"").skip(1);
    let value = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.trim().strip_prefix(name)?.trim().strip_prefix('='));
        line.map(|line| line.trim().trim_matches('"').to_owned())
    };
    blocks
        .map(|block| {
            let (name, block) = block.split_once('"').unwrap();
            (name.to_owned(), (value(block, "description").expect(name), value(block, "default")))
        })
        .collect()
}

#[test]
fn defaults_are_those_of_the_config() {
    let defaults = serde_yaml::to_value(Config::default()).unwrap();
    let (mut problems, mut compared) = (Vec::new(), 0);
    for (variable, (description, default)) in variables() {
        let keys: Vec<&str> = description.split('`').skip(1).step_by(2).collect();
        for key in keys {
            if !environment_names().values().any(|known| known == key) {
                problems.push(format!("{variable}: there is no key {key}"));
                continue;
            }
            let value = key.split('.').fold(&defaults, |value, name| &value[name]);
            let expected = (!value.is_null()).then(|| serde_json::to_string(value).unwrap().trim_matches('"').to_owned());
            compared += 1;
            if default != expected {
                problems.push(format!("{variable} is {default:?}, {key} is {expected:?}"));
            }
        }
    }
    assert!(compared >= 11, "only {compared} were compared");
    none(&problems);
}

#[test]
fn topics_and_subscriptions_are_as_they_are_provisioned() {
    // What is not a name or a number of the config; provision has no filter, and asks for no exactly-once.
    let text = text("terraform/pubsub.tf");
    for (count, setting) in [
        (1, "message_retention_duration = local.retention\n  depends_on"),
        (2, "  expiration_policy {\n    ttl = \"\"\n  }\n"),
        (1, "enable_message_ordering      = var.ordering\n"),
        (1, "enable_exactly_once_delivery = false\n"),
        (1, "max_delivery_attempts = var.dead_letter_attempts_max\n"),
        (2, "= var.lease_s\n"),
        (0, "filter"),
        (0, "push_config"),
    ] {
        assert_eq!(text.matches(setting).count(), count, "{setting}");
    }
    assert!(text.contains("toset([var.topic, var.quarantine_topic, var.dead_letter_topic])"));
}

#[test]
fn indexes_are_read_from_the_list_that_is_held_to_the_code() {
    assert!(text("terraform/firestore.tf").contains("jsondecode(file(\"${path.module}/../firestore.indexes.json\"))"));
}

#[test]
fn the_rights_are_those_of_the_documentation() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/google.md")).unwrap();
    let text = text("terraform/identities.tf");
    for role in ["roles/pubsub.publisher", "roles/datastore.user"] {
        assert!(page.contains(role) && text.contains(&format!("\"{role}\"")), "{role}");
    }
    assert!(text.contains("[\"subscriber\", \"viewer\"]") && page.contains("`roles/pubsub.subscriber`, `roles/pubsub.viewer`"));
    // What only who provisions needs, and what nobody does.
    for role in ["editor", "owner", "admin", "indexAdmin"] {
        assert!(!text.to_lowercase().contains(&format!("{}\"", role.to_lowercase())), "{role}");
    }
}
