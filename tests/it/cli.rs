//! The program as people run it: help, output, exit codes.
//!
//! What is recorded (`tests/golden/help.txt`, `man/`) is brought up to date with
//! `UPDATE_GOLDEN=1 cargo test --test it cli::`; read the difference before committing it.

mod examples;
mod exits;
mod shells;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use assert_cmd::Command;
use clap::CommandFactory;
use convpipe::commands::Cli;

/// The program in an empty folder of its own, with nothing of this environment.
struct Program {
    folder: tempfile::TempDir,
}

impl Program {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn with_file(name: &str, text: &str) -> Self {
        let program = Self::new();
        fs::write(program.folder.path().join(name), text).unwrap();
        program
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("convpipe").unwrap();
        command.env_clear().current_dir(self.folder.path()).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// One run: what it says, on which stream, and how it ends.
fn check(program: &Program, args: &[&str], variables: &[(&str, &str)], code: i32, says: &str) {
    let output = program.command(args).envs(variables.iter().copied()).output().unwrap();
    let (told, other) = if code == 0 { (stdout(&output), stderr(&output)) } else { (stderr(&output), stdout(&output)) };
    assert_eq!(output.status.code(), Some(code), "{args:?}: {told}{other}");
    assert!(told.contains(says), "{args:?}: {told:?} does not say {says:?}");
    assert_eq!(other, "", "{args:?}");
}

#[test]
fn wrong_command_lines_end_in_usage() {
    let program = Program::new();
    check(&program, &[], &[], 2, "Usage: convpipe");
    check(&program, &["config"], &[], 2, "Usage: convpipe config");
    check(&program, &["confg"], &[], 2, "tip: a similar subcommand exists: 'config'");
    check(&program, &["config", "print", "--orign"], &[], 2, "tip: a similar argument exists: '--origin'");
    check(&program, &["--color", "sometimes", "config", "check"], &[], 2, "possible values: auto, always, never");
    check(&program, &["-v", "--log", "debug", "config", "check"], &[], 2, "cannot be used with");
    check(&program, &["schema", "evnt"], &[], 2, "'event'");
}

#[test]
fn wrong_configs_end_in_78_and_say_where() {
    let program = Program::with_file("convpipe.yaml", "redis:\n  time_out_ms: 5\n");
    let says = "error: convpipe.yaml:2:3: unknown key redis.time_out_ms; did you mean redis.timeout_ms?\n";
    check(&program, &["config", "check"], &[], 78, says);
    check(&program, &["config", "print"], &[], 78, says);
    let program = Program::with_file("convpipe.yaml", "lanes: 5\nredis:\n  url: 'redis://\u{202e}:canary@h'\n");
    check(&program, &["config", "check"], &[], 78, "error: convpipe.yaml:1:1: unknown key lanes; did you mean snapshot.lanes?\n");
    let program = Program::with_file("convpipe.yaml", "log: { format: \"\\e[31mred\" }\nredis:\n  timeout_ms: x\n");
    let says = "error: the config has 2 problems\n  cause: convpipe.yaml:1:16: log.format: unknown variant `\\u{1b}[31mred`, expected";
    check(&program, &["config", "check"], &[], 78, says);

    let program = Program::new();
    check(&program, &["config", "check"], &[("CONVPIPE_REDIS_TIMEOUT", "5")], 78, "did you mean CONVPIPE_REDIS_TIMEOUT_MS?");
    check(
        &program,
        &["--config", "missing.yaml", "config", "check"],
        &[],
        78,
        "cannot read the config file missing.yaml\n  cause: No such file",
    );
    check(&program, &["config", "check"], &[("CONVPIPE_CONFIG", "gone.yaml")], 78, "cannot read the config file gone.yaml");
    // A folder is unreadable for every user, root included.
    check(&program, &["--config", ".", "config", "check"], &[], 78, "cannot read the config file .\n  cause: Is a directory");
}

#[test]
fn a_config_is_checked_printed_and_written() {
    let program = Program::new();
    check(&program, &["config", "check"], &[], 0, "no config file; the defaults and the environment are valid\n");
    let default = program.run(&["config", "default"]);
    fs::write(program.folder.path().join("convpipe.yaml"), &default.stdout).unwrap();
    check(&program, &["config", "check"], &[], 0, "convpipe.yaml: the config is valid\n");
    let fresh = Program::new();
    assert_eq!(stdout(&program.run(&["config", "print"])), stdout(&fresh.run(&["config", "print"])), "the file says what holds without it");

    let program = Program::with_file("convpipe.yaml", "redis:\n  timeout_ms: 9\n");
    let variables = [("CONVPIPE_REDIS_INBOX_MAX", "7")];
    check(&program, &["config", "print", "--origin"], &variables, 0, "  timeout_ms: 9  # file convpipe.yaml:2\n");
    check(&program, &["config", "print", "--origin"], &variables, 0, "  inbox_max: 7  # env CONVPIPE_REDIS_INBOX_MAX\n");
    check(&program, &["config", "print", "--origin", "-v"], &[], 0, "  filter: \"info,convpipe=debug\"  # flag --verbose\n");
    check(&program, &["--log", "warn", "config", "print", "--origin"], &[], 0, "  filter: warn  # flag --log\n");
    check(&program, &["config", "print", "--origin"], &[], 0, "  format: auto  # default\n");
}

#[test]
fn no_secret_that_stands_in_the_wrong_place_is_printed() {
    let program = Program::with_file("convpipe.yaml", "redis:\n  url: redis://:canary@127.0.0.1\n");
    for args in [&["config", "check"][..], &["config", "print"], &["config", "print", "--origin"]] {
        let output = program.run(args);
        assert_eq!(output.status.code(), Some(78));
        assert!(stderr(&output).contains("redis.password_file"), "{}", stderr(&output));
        assert!(!stderr(&output).contains("canary") && !stdout(&output).contains("canary"), "{}", stderr(&output));
    }
}

#[test]
fn colours_are_where_they_were_asked_for() {
    let program = Program::with_file("convpipe.yaml", "x: 1\n");
    for (args, variables, expected) in [
        (&["config", "check"][..], &[][..], false),
        (&["--color", "always", "config", "check"], &[("NO_COLOR", "1")], true),
        (&["--color", "never", "config", "check"], &[], false),
    ] {
        let output = program.command(args).envs(variables.iter().copied()).output().unwrap();
        assert_eq!(stderr(&output).contains('\u{1b}'), expected, "{args:?}");
    }
    let table = program.command(&["schema", "--color", "always"]).env("NO_COLOR", "1").output().unwrap();
    assert!(stdout(&table).contains('\u{1b}'));
    assert!(!stdout(&program.run(&["schema"])).contains('\u{1b}'));
    assert!(stdout(&program.run(&["--help", "--color", "always"])).contains('\u{1b}'));
}

#[test]
fn a_reader_that_has_seen_enough_is_a_clean_end() {
    let program = Program::new();
    for args in [&["config", "default"][..], &["completions", "bash"], &["schema", "event"], &["--help"], &["--version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("convpipe"));
        let output = command.args(args).env_clear().current_dir(program.folder.path());
        let output = output.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_not() {
    let program = Program::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("convpipe"));
    let command = command.args(["config", "default"]).env_clear().current_dir(program.folder.path());
    let output = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    assert!(stderr(&output).starts_with("error: cannot write to standard output\n  cause: No space left"), "{}", stderr(&output));
}

#[test]
fn completions_are_there_for_every_shell() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        check(&program, &["completions", shell], &[], 0, "convpipe");
    }
    check(&program, &["--version"], &[], 0, concat!("convpipe ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// Every command and its subcommands, as they are typed; hidden ones too.
fn surface() -> Vec<Vec<String>> {
    fn walk(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
        found.push(path.to_vec());
        for child in command.get_subcommands() {
            walk(child, &[path, &[child.get_name().to_owned()]].concat(), found);
        }
    }
    let mut found = Vec::new();
    walk(&Cli::command(), &[], &mut found);
    found
}

#[test]
fn the_help_is_the_recorded_one() {
    let program = Program::new();
    let mut help = String::new();
    for path in surface() {
        let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let output = program.command(&args).env("COLUMNS", "100").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        help.push_str(&format!("$ convpipe {}\n{}\n", args.join(" "), stdout(&output)));
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "help fits 100 columns");
    assert_eq!(help_too_wide(&Cli::command()), [""; 0], "text that is not wrapped at the terminal's width fits 80 columns");
    golden(Path::new("tests/golden"), &BTreeMap::from([("help.txt".to_owned(), help.into_bytes())]));
}

/// Lines of the texts below the options that a terminal of 80 columns would break anywhere.
fn help_too_wide(command: &clap::Command) -> Vec<String> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let own = text.lines().filter(|line| line.chars().count() > 80).map(str::to_owned);
    own.chain(command.get_subcommands().flat_map(help_too_wide)).collect()
}

#[test]
fn the_man_pages_are_the_recorded_ones() {
    let program = Program::new();
    let output = program.run(&["man", "man"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    golden(Path::new("man"), &files(&program.folder.path().join("man")));
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    paths.map(|path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

/// Compares the files with those recorded in a folder of the repository, or records them.
fn golden(folder: &Path, made: &BTreeMap<String, Vec<u8>>) {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    #[expect(clippy::disallowed_methods, reason = "a switch of the tests, not of the program")]
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(&at).unwrap();
        let stale = files(&at).into_keys().filter(|name| !made.contains_key(name));
        stale.for_each(|name| fs::remove_file(at.join(name)).unwrap());
        made.iter().for_each(|(name, content)| fs::write(at.join(name), content).unwrap());
        return;
    }
    let recorded = files(&at);
    let names: BTreeSet<&String> = recorded.keys().chain(made.keys()).collect();
    for name in names {
        let text = |files: &BTreeMap<String, Vec<u8>>| files.get(name).map(|content| String::from_utf8_lossy(content).into_owned());
        let how = "UPDATE_GOLDEN=1 cargo test --test it cli:: records it";
        assert_eq!(text(&recorded), text(made), "{} is not what the program makes; {how}", folder.join(name).display());
    }
}
