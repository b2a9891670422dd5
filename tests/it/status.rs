//! `convpipe status` as people run it: beside a running pipeline, beside what is left of one, and beside strangers; on a terminal and in a pipe.

mod pipeline;
mod strangers;
mod watch;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::process::{Output, Process};

const LIMIT: Duration = Duration::from_secs(60);
/// A config by which nobody is asked, but for a Redis that is not there.
const NOBODY: &str = "redis: { url: \"redis://127.0.0.1:1\", timeout_ms: 300 }\nhealth: { ingest: off, snapshot: off, auth_refresh: off, dashboard: off }\ndashboard: { listen: \"127.0.0.1:0\" }\n";

fn folder(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("convpipe.yaml"), config).unwrap();
    dir
}

fn status(dir: &Path, args: &[&str]) -> Output {
    let args: Vec<&str> = ["status"].iter().chain(args).copied().collect();
    Process::start(dir, &args).wait(LIMIT)
}

/// The picture as JSON, and the exit code.
#[track_caller]
fn picture(dir: &Path, args: &[&str]) -> (i32, Value) {
    let args: Vec<&str> = args.iter().chain(&["-o", "json"]).copied().collect();
    let output = status(dir, &args);
    let picture = serde_json::from_str(&output.stdout.join("\n"));
    (output.status.code().unwrap(), picture.unwrap_or_else(|error| panic!("{error}: {:?} {:?}", output.stdout, output.stderr)))
}

/// Severity, whom it is about, and what, of each problem.
fn problems(picture: &Value) -> Vec<String> {
    let text = |problem: &Value, field: &str| problem[field].as_str().unwrap().to_owned();
    let problems = picture["problems"].as_array().unwrap().iter();
    problems.map(|problem| ["severity", "about", "what"].map(|field| text(problem, field)).join(" ")).collect()
}

#[test]
fn what_cannot_be_asked_for_is_told() {
    let dir = folder(NOBODY);
    for (args, says) in [
        (&["--watch", "-o", "json"][..], "-o jsonl prints a line each time"),
        (&["--watch", "100ms"], "an interval is 500ms to 1h"),
        (&["--watch", "soon"], "a length of time is"),
        (&["--ingest", "127.0.0.1"], "a name or an IP address, and a port"),
        (&["--dashboard", "http://127.0.0.1:7070"], "a name or an IP address, and a port"),
    ] {
        let output = status(dir.path(), args);
        let said = output.stderr.join("\n");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
}

#[test]
fn nobody_at_all_ends_with_69_and_what_was_looked_for_is_shown_all_the_same() {
    let dir = folder(NOBODY);
    let output = status(dir.path(), &["--watch"]);
    let (shown, said) = (output.stdout.join("\n"), output.stderr.join("\n"));
    assert_eq!(output.status.code(), Some(69), "{shown}\n{said}");
    assert!(shown.contains("fail  redis cannot be read: Redis at 127.0.0.1:1 cannot be reached"), "{shown}");
    assert!(shown.contains("note  ingest is not asked: health.ingest is no address that could be"), "{shown}");
    assert!(said.contains("no terminal to draw on") && said.contains("error: nobody answered\n  hint: start the daemons"), "{said}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}
