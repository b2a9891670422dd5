//! Programs as providers, and what they do wrong.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use super::place::{ACCOUNT, CANARY, Place, answer, artifact, wait_until};

const DAY: i64 = 86_400;

#[test]
fn whatever_a_program_does_the_old_artifact_stays_and_no_secret_is_told() {
    let ready = |token: &str| answer(ACCOUNT, token, DAY).to_string();
    let other = answer("200000002", CANARY, DAY).to_string();
    let ended = answer(ACCOUNT, CANARY, -60).to_string();
    for (script, code, says) in [
        (format!("echo '{CANARY}'"), 65, "the answer is not one well-formed JSON object (line 1, column 1)"),
        (format!("printf '%s' '{}'", &ready(CANARY)[..60]), 65, "the answer is not one well-formed JSON object"),
        ("true".to_owned(), 65, "the answer is not one well-formed JSON object (line 1, column 0)"),
        (format!("printf '%s' '{}' '{}'", ready(CANARY), ready(CANARY)), 65, "the answer is not one well-formed JSON object"),
        (format!("printf '%s' '{other}'"), 65, "the answer is the artifact of another account"),
        (format!("printf '%s' '{ended}'"), 65, "the answer holds a token that ended at "),
        (format!("printf '%s' '{}'", ready("")), 65, "the answer has a field `token` that is empty"),
        (format!("while :; do echo {CANARY}; done"), 65, "the answer is larger than 65536 bytes (auth.refresh.answer_max_bytes)"),
        (format!("printf '%s' '{}'; exit 9", ready(CANARY)), 69, "the program ended with exit code 9"),
        ("kill -9 $$".to_owned(), 69, "the program was ended by signal 9"),
    ] {
        let place = Place::new();
        place.store().write(&artifact(4, "old-token", 3 * DAY, DAY / 2)).unwrap();
        place.script(&script);
        let (found, said) = place.once(&["-v"]);
        assert_eq!(found, code, "{script}: {said}");
        assert!(said.contains(says) && !said.contains(CANARY), "{script}: {said}");
        assert_eq!(place.artifact().generation, 4, "{script}");
        assert!(!format!("{:?}", place.record()).contains(CANARY), "{script}");
    }
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let mut place = Place::new();
    for (program, says) in
        [("no-such-program-3f9a", "the program no-such-program-3f9a cannot be started: "), ("./convpipe.yaml", "Permission denied")]
    {
        place.config["auth"]["providers"]["script"]["command"] = json!({ "program": program });
        let (code, said) = place.once(&["--force"]);
        assert_eq!(code, 69, "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let mut place = Place::new();
    place.config["auth"]["providers"]["script"]["command"]["timeout_ms"] = json!(300);
    // The grandchild holds the pipe, as a browser does that a script has started.
    place.script("sleep 600 & echo $! > grandchild; echo $$ > child; wait");
    let began = Instant::now();
    let (code, said) = place.once(&[]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("no answer within 300 ms"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(30));
    for name in ["child", "grandchild"] {
        let id = fs::read_to_string(place.path(name)).unwrap();
        wait_until(name, || !is_running(id.trim()));
    }
}

/// Whether a process is there and not merely waiting for somebody to take note of its end.
pub(super) fn is_running(id: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
    !matches!(stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()), Some('Z' | 'X'))
}

#[test]
fn what_a_program_says_is_passed_on_without_secrets() {
    let place = Place::new();
    place.store().write(&artifact(4, "oldsecret", 3 * DAY, DAY / 2)).unwrap();
    place.write("answer.json", &answer(ACCOUNT, "newsecret", DAY).to_string(), 0o600);
    let talk = format!(
        "printf 'login as %s\\nold oldsecret new newsecret cookie sess={CANARY}\\nAuthorization: Bearer abc\\n\\033[2Jforged\\n' $1 >&2; cat answer.json"
    );
    place.script(&talk);
    // On success only -v shows it.
    assert_eq!(place.once(&["--force"]), (0, String::new()));
    place.store().write(&artifact(4, "oldsecret", 3 * DAY, DAY / 2)).unwrap();
    let (code, said) = place.once(&["--force", "-v"]);
    assert_eq!(code, 0, "{said}");
    for line in [
        "200000001: script says: login as 200000001",
        "200000001: script says: old *** new *** cookie sess=***",
        "200000001: script says: Authorization: Bearer ***",
        r"200000001: script says: \u{1b}[2Jforged",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    place.store().write(&artifact(4, "oldsecret", 3 * DAY, DAY / 2)).unwrap();
    place.script(&format!("{talk}; exit 5"));
    let (code, said) = place.once(&["--force"]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("old *** new ") && !said.contains("oldsecret") && !said.contains(CANARY), "{said}");
}

#[test]
fn a_program_that_never_stops_talking_does_not_fill_the_memory_or_the_log() {
    let place = Place::new();
    place.write("answer.json", &answer(ACCOUNT, "token-1", DAY).to_string(), 0o600);
    place.script("i=0; while [ $i -lt 20000 ]; do echo \"line $i of many\" >&2; i=$((i+1)); done; cat answer.json");
    let (code, said) = place.once(&["-v"]);
    assert_eq!((code, place.artifact().generation), (0, 1));
    assert!(said.lines().count() < 60 && said.contains("(there is more, which is left out)"), "{said}");
}

/// The example of the documentation does what it says.
#[test]
fn the_example_works() {
    let mut place = Place::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/auth/provider.sh");
    place.config["auth"]["providers"]["script"]["command"] = json!({ "program": example, "args": ["{account}", "sessions"] });
    let (code, said) = place.once(&[]);
    assert_eq!((code, said.contains("the program ended with exit code 1")), (69, true), "{said}");
    assert!(said.contains("says: there is no session of 200000001"), "{said}");
    fs::create_dir(place.path("sessions")).unwrap();
    place.write("sessions/200000001", "wss://ws.example.com/\ncanary-3f9a1c\n2099-01-01T00:00:00Z\n", 0o600);
    assert_eq!(place.once(&["--force"]), (0, String::new()));
    assert_eq!(place.artifact().expires_at.unwrap().to_string(), "2099-01-01T00:00:00.000Z");
    place.write("sessions/200000001", "needs_otp\n", 0o600);
    assert_eq!(place.once(&["--force"]).0, 77);
}
