//! Each exit code that the help names is reached by a command.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::CommandFactory;
use convpipe::commands::Cli;
use rustix::process::Signal;

use super::{Program, stderr};
use crate::support::process::Process;

const LIMIT: Duration = Duration::from_secs(30);

/// The numbers in the last paragraph of `convpipe --help`.
fn named() -> BTreeSet<i32> {
    let help = Cli::command().get_after_help().unwrap().to_string();
    let (_, codes) = help.split_once("Exit codes:").unwrap();
    codes.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[test]
fn every_exit_code_that_the_help_names_is_reached() {
    const FRAME: &str = "{\"t0\":\"2026-07-23T19:00:00.000Z\",\"t_ms\":0,\"account\":\"1\",\"frame\":{\"typing\":{\"id\":2}}}\n";
    const NO_REDIS: (&str, &str) = ("CONVPIPE_REDIS_URL", "redis://127.0.0.1:1");
    const GOOGLE: [(&str, &str); 3] = [
        ("CONVPIPE_BUS_BACKEND", "google"),
        ("CONVPIPE_BUS_GOOGLE_PROJECT", "some-project"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json"),
    ];
    let program = Program::with_file("all.jsonl", FRAME);
    let mut reached = BTreeSet::new();
    for (line, variables, code, says) in [
        ("config check", &[][..], 0, ""),
        ("replay all.jsonl", &[], 0, "1 frames"),
        ("replay all.jsonl --until 2020-01-01", &[], 1, "nothing to play"),
        ("replay --from-quarantine", &[], 1, "there is no bus here yet"),
        ("replay", &[], 2, "<FILE>"),
        ("replay all.jsonl --loop", &[], 2, "--loop never ends"),
        ("replay convpipe.txt", &[], 65, "convpipe.txt:1:2: not JSON"),
        ("tail-priority --no-follow", &[NO_REDIS], 69, "redis"),
        ("inspect-fan 1", &[NO_REDIS], 69, "redis"),
        ("replay all.jsonl --to bus --checkpoint no/such/file", &[], 75, "cannot write the checkpoint"),
        ("provision --dry-run", &GOOGLE, 77, "error: "),
        ("config check", &[("CONVPIPE_REDIS_TIMEOUT", "5")], 78, "did you mean"),
    ] {
        std::fs::write(program.folder.path().join("convpipe.txt"), "no recording\n").unwrap();
        let output = program.command(&line.split(' ').collect::<Vec<_>>()).envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{line}: {}", stderr(&output));
        reached.insert(code);
    }
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let process = Process::start(program.folder.path(), &["replay", "all.jsonl", "--serve", "127.0.0.1:0"]);
        process.wait_stderr("serving 1 accounts", LIMIT);
        process.signal(signal);
        reached.extend(process.wait(LIMIT).status.code().filter(|found| *found == code));
    }
    assert_eq!(reached, named());
}
