//! Every way to mistype a command line, and what is said of it: recorded in `tests/golden/errors/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory};
use convpipe::commands::Cli;

use super::{Program, golden, stderr};

/// Nothing that has a value parser takes this.
const NONSENSE: &str = "?!";
/// Values for options whose error is about something else; the first that an option takes is its.
const VALUES: [&str; 11] =
    ["1", "1-1", "10m", "2026-07-23", "event.is_tip", "127.0.0.1:0", "1x", "1/2", "off", "words", "onlyfans:200000001:msg:1:received"];

/// What was said of each line.
#[derive(Default)]
struct Told(String);

impl Told {
    fn line(&mut self, words: &[&str], said: &str) {
        let line = format!("$ convpipe {}", quoted(words));
        self.0.push_str(&format!("{}\n{}\n\n", line.trim_end(), said.trim_end()));
    }

    /// Records the error of a line that clap refuses, without the usage below it, which the help has.
    #[track_caller]
    fn refused(&mut self, words: &[&str], expected: Option<ErrorKind>) {
        let error = parse(words).unwrap_or_else(|| panic!("{words:?} is a right line"));
        assert_eq!(error.kind(), expected.unwrap_or(error.kind()), "{words:?}: {error}");
        let said = error.to_string();
        self.line(words, said.split("\n\nUsage:").next().unwrap().split("\n\nFor more information").next().unwrap());
    }
}

fn quoted(words: &[&str]) -> String {
    let quote = |word: &&str| if word.contains([' ', '?', '\'', '(']) { format!("\"{word}\"") } else { (*word).to_owned() };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// What clap says of a line that it refuses; help is none.
fn parse(words: &[&str]) -> Option<clap::Error> {
    let words = std::iter::once("convpipe").chain(words.iter().copied());
    Cli::command().try_get_matches_from(words).err().filter(clap::Error::use_stderr)
}

/// Every command with the words that call it.
fn commands() -> Vec<(Vec<String>, Command)> {
    fn walk(command: &Command, path: &[String], found: &mut Vec<(Vec<String>, Command)>) {
        found.push((path.to_vec(), command.clone()));
        for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
            walk(child, &[path, &[child.get_name().to_owned()]].concat(), found);
        }
    }
    let mut root = Cli::command();
    root.build();
    let mut found = Vec::new();
    walk(&root, &[], &mut found);
    found
}

/// How an argument is typed with this value.
fn typed(arg: &Arg, value: &str) -> Vec<String> {
    let flag = arg.get_long().map(|long| format!("--{long}"));
    match (flag, arg.get_action().takes_values()) {
        (Some(flag), true) => vec![flag, value.to_owned()],
        (Some(flag), false) => vec![flag],
        (None, _) => vec![value.to_owned()],
    }
}

fn is_of_value(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation)
}

/// How an argument is typed rightly.
fn rightly(path: &[&str], arg: &Arg) -> Vec<String> {
    let possible: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let mut values = possible.iter().map(String::as_str).chain(VALUES);
    let takes = |value: &&str| {
        let words = typed(arg, value);
        let line: Vec<&str> = path.iter().copied().chain(words.iter().map(String::as_str)).collect();
        !parse(&line).is_some_and(|error| is_of_value(&error))
    };
    let value = values.find(takes).unwrap_or_else(|| panic!("{path:?} {}: add a value of it to VALUES", arg.get_id()));
    typed(arg, value)
}

#[test]
fn the_usage_errors_are_the_recorded_ones() {
    let mut told = Told::default();
    for (path, command) in commands() {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let line = |words: &[String]| path.iter().map(|&word| word.to_owned()).chain(words.iter().cloned()).collect::<Vec<_>>();
        let mut refuse = |words: &[String], expected| {
            let line = line(words);
            told.refused(&line.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        };
        // `complete` takes any words: they are somebody's line.
        if command.get_name() != "complete" {
            refuse(&["--no-such-flag".to_owned()], Some(ErrorKind::UnknownArgument));
        }
        if parse(&path).is_some() {
            refuse(&[], None);
        }
        let is_own = |arg: &&Arg| path.is_empty() || !arg.is_global_set();
        for arg in command.get_arguments().filter(is_own).filter(|arg| arg.get_action().takes_values()) {
            let words = typed(arg, NONSENSE);
            let typed_line = line(&words);
            if parse(&typed_line.iter().map(String::as_str).collect::<Vec<_>>()).is_some_and(|error| is_of_value(&error)) {
                refuse(&words, None);
            }
        }
        let mut seen = BTreeSet::new();
        for arg in command.get_arguments().filter(is_own) {
            for other in command.get_arg_conflicts_with(arg) {
                let pair = BTreeSet::from([arg.get_id().as_str(), other.get_id().as_str()]);
                if pair.len() == 2 && seen.insert(pair.into_iter().map(str::to_owned).collect::<Vec<_>>()) {
                    // Without a command nothing else is looked at.
                    let child = if path.is_empty() { vec!["schema".to_owned()] } else { Vec::new() };
                    refuse(&[rightly(&path, arg), rightly(&path, other), child].concat(), Some(ErrorKind::ArgumentConflict));
                }
            }
        }
    }
    for line in [
        // Mistyped: what is near is named.
        "tail-prioriy",
        "inspectfan 100000001",
        "replays",
        "config chekc",
        "nothing-like-it",
        "replay f --chekpoint at",
        "tail-priority --folow",
        "tail-priority -o jsnl",
        "schema evnt",
        "completions bsh",
        // Cut short, or too long.
        "replay f --since",
        "--config",
        "tail-priority --account 1 2",
        "schema event fold",
        "tail-priority --follow=yes",
        "tail-priority --count 0",
        "tail-priority --idle-timeout 10",
        "replay f --rate 0",
        // What does not go alone, or not together.
        "replay f --artifacts dir",
        "inspect-fan",
        "inspect-fan 1 --events --history",
        "tail-priority --filter event.kimd",
    ] {
        told.refused(&line.split(' ').collect::<Vec<_>>(), None);
    }
    assert!(told.0.lines().all(|line| !line.contains('\u{1b}')));

    let program = Program::with_file("all.jsonl", "");
    for line in [
        "replay all.jsonl --loop",
        "replay all.jsonl --checkpoint at",
        "replay all.jsonl --since 2026-07-24 --until 2026-07-23",
        "replay - --to bus --loop",
        "tail-priority --since 2026-07-24 --until 2026-07-23",
        "tail-priority --from-id x",
        "inspect-fan 1 --follow",
        "inspect-fan 1 --last 5000",
        "inspect-fan 1 --transcript -o json",
        "inspect-fan 1 --explain e --account 1 --account 2",
        "ingest --scrub",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let output = program.run(&words);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{line}: {}", stderr(&output));
        told.line(&words, stderr(&output));
    }
    golden(Path::new("tests/golden/errors"), &BTreeMap::from([("usage.txt".to_owned(), told.0.into_bytes()), config_errors()]));
}

/// What is said of a wrong config, with the file that is wrong.
fn config_errors() -> (String, Vec<u8>) {
    let mut told = String::new();
    for (file, variables) in [
        ("redis:\n  time_out_ms: 5\n", &[][..]),
        ("rdis:\n  url: redis://h\n", &[]),
        ("lanes: 5\n", &[]),
        ("ingest:\n  depth_maxx: 1\n", &[]),
        ("redis:\n  timeout_ms: soon\n", &[]),
        ("redis:\n  url: 5\n  url: 6\n", &[]),
        ("bus:\n  backend: kafka\n", &[]),
        ("bus: { backend: google }\n", &[]),
        ("a: [1\n", &[]),
        ("- a\n", &[]),
        ("redis: { timeout_ms: x }\nlog: { format: pink }\n", &[]),
        ("", &[("CONVPIPE_REDIS_TIMEOUT", "5")]),
        ("", &[("CONVPIPE_REDIS_TIMEOUT_MS", "soon")]),
        ("", &[("CONVPIPE_NOTHING_LIKE_IT", "5")]),
    ] {
        let program = Program::with_file("convpipe.yaml", file);
        let output = program.command(&["config", "check"]).envs(variables.iter().copied()).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(78), 0), "{file}: {}", stderr(&output));
        let variables: String = variables.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        told.push_str(&format!("# convpipe.yaml\n{file}$ {variables}convpipe config check\n{}\n", stderr(&output)));
    }
    ("config.txt".to_owned(), told.into_bytes())
}

/// The line is refused before anything of it is done, with exit 2 and nothing on stdout.
#[test]
fn a_refused_line_ends_in_usage() {
    let program = Program::new();
    for line in ["tail-prioriy", "replay --since", "inspect-fan", "-o json", "config print --orign"] {
        let output = program.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains("For more information, try '--help'."), "{line}: {}", stderr(&output));
    }
}
