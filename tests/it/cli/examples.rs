//! The examples of `--help` are right lines, and those that need nobody else are run.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::CommandFactory;
use convpipe::commands::Cli;

use crate::docs::{command, pages, why_not};

/// The lines below `Examples:` of a command's help, those that go on put together.
fn examples(command: &clap::Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let block = help.split_once("Examples:\n").map(|(_, rest)| rest.split("\n\n").next().unwrap_or_default());
    let (mut own, mut goes_on) = (Vec::<String>::new(), false);
    for line in block.unwrap_or_default().lines() {
        // Two spaces stand before a remark.
        let text = line.trim().split("  ").next().unwrap_or_default();
        let begun = text.strip_suffix(" \\").unwrap_or(text);
        match own.last_mut().filter(|_| goes_on) {
            Some(last) => last.extend([" ", begun]),
            None => own.push(begun.to_owned()),
        }
        goes_on = begun.len() < text.len();
    }
    own.into_iter().chain(command.get_subcommands().flat_map(examples)).collect()
}

/// The call of the program in a line: behind an assignment or in a substitution, too.
fn call(line: &str) -> Option<Vec<String>> {
    let inner = line.split_once("<(").and_then(|(_, rest)| rest.split_once(')')).map(|(inner, _)| inner);
    command(inner.unwrap_or(line))
}

#[test]
fn every_example_of_the_help_is_a_right_line() {
    let lines = examples(&Cli::command());
    // Two calls of one pipe are two lines.
    let calls: Vec<Vec<String>> = lines.iter().flat_map(|line| line.split(" | ").filter_map(call)).collect();
    assert!(calls.len() > 30, "only {} examples were found", calls.len());
    // What a shell would put in the place of a variable is not known here.
    let whole = calls.iter().filter(|words| !words.iter().any(|word| word.starts_with('$')));
    let wrong: Vec<String> = whole.filter_map(|words| why_not(words)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a line needs neither a service nor a file that only its reader has.
fn is_local(line: &str) -> bool {
    const ALONE: [&str; 4] = ["convpipe config ", "convpipe schema", "convpipe completions ", "source <(convpipe completions "];
    let plays = line.starts_with("convpipe replay ") && !line.contains("--serve") && !line.contains(" rec/") && !line.contains("/tmp/");
    plays || ALONE.iter().any(|begin| line.starts_with(begin))
}

#[test]
fn what_needs_nobody_else_is_run() {
    let in_help = examples(&Cli::command());
    let in_docs: Vec<String> =
        pages().iter().flat_map(|page| page.shell().map(|(_, line)| line.trim().to_owned()).collect::<Vec<_>>()).collect();
    let mut lines: Vec<String> = in_help.into_iter().chain(in_docs).map(|line| line.split("  ").next().unwrap().to_owned()).collect();
    lines.retain(|line| is_local(line) && !line.ends_with('\\'));
    lines.sort();
    lines.dedup();
    assert!(lines.len() > 15, "only {lines:#?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_BIN_EXE_convpipe"));
    let recording = std::fs::read(root.join("fixtures/recordings/quiet-evening.jsonl.gz")).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display());
    let has_jq = Command::new("jq").arg("--version").stdout(Stdio::null()).status().is_ok();
    for line in lines.iter().filter(|line| has_jq || !line.contains("jq ")) {
        // Each in a folder of its own: some write, and some would go on where another ended.
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root.join("fixtures"), dir.path().join("fixtures")).unwrap();
        for name in ["evening.jsonl.zst", "evening.jsonl.gz"] {
            std::fs::write(dir.path().join(name), &recording).unwrap();
        }
        for folder in [".zfunc", ".config/fish/completions", ".local/share/bash-completion/completions"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("set -o pipefail; {line}")]).env_clear().env("PATH", &path).env("HOME", dir.path());
        let output = bash.current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
        // 1 is an answer: nothing matched, no quarantine yet.
        let (code, told) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
        assert!(matches!(code, Some(0 | 1)), "{line}: {code:?}\n{told}");
        let says_nothing_found = ["nothing to play", "there is no bus here yet", "differ"].iter().any(|text| told.contains(text));
        assert!(code == Some(0) || says_nothing_found, "{line}: {told}");
    }
}
