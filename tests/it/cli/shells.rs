//! Completions in real shells. One that is not installed is passed over, which is said aloud.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::redis::RedisServer;

const ACCOUNTS: [&str; 2] = ["200000001", "200000002"];
/// The latest first, which a shell may sort.
const FANS: [&str; 3] = ["100000009", "100000001", "100000005"];

/// Two accounts with artifacts, three fans in Redis.
struct Place {
    dir: tempfile::TempDir,
    redis: RedisServer,
}

impl Place {
    fn new() -> Self {
        let (dir, redis) = (tempfile::tempdir().unwrap(), RedisServer::start());
        std::fs::write(dir.path().join("convpipe.yaml"), format!("redis:\n  url: {}\nauth:\n  dir: auth\n", redis.url())).unwrap();
        std::fs::create_dir(dir.path().join("auth")).unwrap();
        for account in ACCOUNTS {
            std::fs::write(dir.path().join(format!("auth/{account}.json")), "{}").unwrap();
            redis.run::<()>(&["ZADD", "convpipe:accounts", "5", account]);
        }
        for (fan, at, account) in [(FANS[0], "9000", ACCOUNTS[0]), (FANS[1], "5000", ACCOUNTS[0]), (FANS[2], "1000", ACCOUNTS[1])] {
            redis.run::<()>(&["ZADD", &format!("convpipe:{{{account}}}:inbox"), at, fan]);
        }
        Self { dir, redis }
    }

    /// What a shell prints; `None` where there is no such shell.
    #[expect(clippy::print_stderr, reason = "a shell that is passed over is told to whoever runs the tests")]
    fn run(&self, shell: &str, args: &[&str], script: &str) -> Option<Vec<String>> {
        let program = Path::new(env!("CARGO_BIN_EXE_convpipe")).parent().unwrap();
        let mut command = Command::new(shell);
        command.args(args).arg(script).env_clear().env("PATH", format!("{}:/usr/bin:/bin", program.display()));
        let output = command.env("HOME", self.dir.path()).current_dir(self.dir.path()).stdin(Stdio::null()).output();
        match output {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: there is no {shell}");
                None
            }
            output => {
                let output = output.unwrap();
                assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}: {script}");
                Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
            }
        }
    }

    fn bash(&self, words: &[&str]) -> Option<Vec<String>> {
        let (last, typed) = words.split_last().unwrap();
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "source <(convpipe completions bash); COMP_WORDS=({}); COMP_CWORD={}; {} convpipe '{last}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            quoted.join(" "),
            typed.len(),
            // What bash itself would call.
            "$(complete -p convpipe | sed 's/.*-F \\([^ ]*\\).*/\\1/')",
            typed.last().unwrap()
        );
        self.run("bash", &["--norc", "--noprofile", "-c"], &script)
    }
}

#[test]
fn bash_completes_ids_flags_and_commands() {
    let place = Place::new();
    for (words, expected) in [
        (&["convpipe", "inspect-fan", ""][..], &FANS[..]),
        (&["convpipe", "inspect-fan", "10000000"], &FANS),
        (&["convpipe", "inspect-fan", "--account", ACCOUNTS[1], ""], &FANS[2..]),
        (&["convpipe", "tail-priority", "--account", ""], &ACCOUNTS),
        (&["convpipe", "tail-priority", "--account", "200000002"], &ACCOUNTS[1..]),
        (&["convpipe", "--config", "gone.yaml", "inspect-fan", "--his"], &["--history"]),
        (&["convpipe", "tail-p"], &["tail-priority"]),
    ] {
        let Some(found) = place.bash(words) else { return };
        assert_eq!(found, expected, "{words:?}");
    }
    // Without Redis it completes as it would without us.
    let mut place = place;
    place.redis.stop();
    let found = place.bash(&["convpipe", "inspect-fan", "--fol"]).unwrap();
    assert_eq!(found, ["--follow"]);
    assert!(!place.bash(&["convpipe", "inspect-fan", ""]).unwrap().iter().any(|word| word.starts_with("1000")));
}

#[test]
fn zsh_offers_ids_and_otherwise_what_the_words_are() {
    let place = Place::new();
    // compadd and _arguments work only while a line is edited: what they are given is what counts.
    let script = r#"
        compdef() { print "for $2" }
        compadd() { print -rl -- "${(@P)argv[-1]}" }
        source <(convpipe completions zsh)
        _convpipe_words() { print words }
        words=(convpipe inspect-fan ''); CURRENT=3; _convpipe
        words=(convpipe tail-priority --account ''); CURRENT=4; _convpipe
        words=(convpipe tail-priority --fol); CURRENT=3; _convpipe
    "#;
    let Some(found) = place.run("zsh", &["-f", "-c"], script) else { return };
    assert_eq!(found, [&["for convpipe"][..], &FANS, &ACCOUNTS, &["words"]].concat());
}

#[test]
fn fish_completes_ids_flags_and_commands() {
    let place = Place::new();
    for (line, expected) in [
        ("convpipe inspect-fan 1", &FANS[..]),
        ("convpipe inspect-fan --account 200000002 1", &FANS[2..]),
        ("convpipe tail-priority --account ", &ACCOUNTS),
        ("convpipe auth-refresh request ", &ACCOUNTS),
        ("convpipe tail-p", &["tail-priority"]),
        ("convpipe inspect-fan --his", &["--history"]),
    ] {
        let script = format!("convpipe completions fish | source; complete -C '{line}'");
        let Some(found) = place.run("fish", &["--no-config", "-c"], &script) else { return };
        let words: Vec<&str> = found.iter().map(|line| line.split('\t').next().unwrap()).collect();
        assert_eq!(words, expected, "{line}");
    }
}
