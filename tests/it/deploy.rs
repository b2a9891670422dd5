//! What is in `deploy/`, held to what the program does. Whether the tools of those who read it take it says `scripts/check-deploy`.

mod alerts;
mod drills;
mod manifests;
mod questions;
mod terraform;
mod units;

use std::fs;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

/// The folder, or something in it.
fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(place(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

/// Of a file with one document.
fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&text(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

/// Every value that is found under this key, however deep.
fn under<'v>(value: &'v Value, key: &str) -> Vec<&'v Value> {
    match value {
        Value::Mapping(mapping) => {
            let here = mapping.iter().filter(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value);
            here.chain(mapping.values().flat_map(|value| under(value, key))).collect()
        }
        Value::Sequence(list) => list.iter().flat_map(|value| under(value, key)).collect(),
        _ => Vec::new(),
    }
}

/// Tells all that is wrong at once.
#[track_caller]
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Why the program does not take these arguments, and nothing where it does.
fn why_not(args: &[&str]) -> Option<String> {
    let words = ["convpipe"].iter().chain(args);
    let error = <convpipe::commands::Cli as clap::CommandFactory>::command().try_get_matches_from(words).err()?;
    Some(error.to_string())
}

#[test]
fn the_configs_are_taken() {
    for name in ["convpipe.yaml", "docker/convpipe.yaml", "kubernetes/convpipe.yaml"] {
        let path = place(name);
        let process = crate::support::process::Process::start(&place(""), &["--config", path.to_str().unwrap(), "config", "check"]);
        let output = process.wait(std::time::Duration::from_secs(30));
        assert!(output.status.success(), "{name}: {:?}", output.stderr);
    }
}
