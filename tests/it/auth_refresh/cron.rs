//! `--once`: what is due, what is told, how it ends.

use std::fs;

use serde_json::{Value, json};

use super::place::{ACCOUNT, CANARY, Place, answer, artifact, wait_until};
use secrecy::ExposeSecret as _;

const DAY: i64 = 86_400;

#[test]
fn a_run_renews_what_is_due_and_says_nothing() {
    let place = Place::new();
    place.answers(&answer(ACCOUNT, "first-token", DAY));
    assert_eq!(place.once(&[]), (0, String::new()));
    let first = place.artifact();
    assert_eq!((first.generation, first.token.expose_secret()), (1, "first-token"));
    assert!(first.prepared_at.is_some() && place.record().refreshed_at.is_some());

    // Fresh: nobody is asked.
    assert_eq!(place.once(&[]), (0, String::new()));
    assert_eq!(place.calls(), ["200000001 missing"]);
    let (code, said) = place.once(&["-v"]);
    assert_eq!((code, said.as_str()), (0, "accounts with a provider: 1"));

    // Less than a quarter of its life is left.
    place.store().write(&artifact(4, "old-token", 3 * DAY, DAY / 2)).unwrap();
    place.answers(&answer(ACCOUNT, "second-token", DAY));
    let (code, said) = place.once(&["-v"]);
    assert_eq!((code, place.artifact().generation), (0, 5), "{said}");
    assert!(said.contains("200000001: has a new artifact, generation 5, which ends at 20"), "{said}");
    assert_eq!(place.calls(), ["200000001 missing", "200000001 expiring"]);
}

#[test]
fn the_minimum_can_be_typed_and_a_dry_run_asks_nobody() {
    let place = Place::new();
    place.answers(&answer(ACCOUNT, "new-token", DAY));
    place.store().write(&artifact(1, "old-token", DAY / 2, DAY / 2)).unwrap();
    let due = ["ACCOUNT    PROVIDER  REASON", "200000001  script    expiring"];
    for (args, expected) in [
        (&["--dry-run"][..], &[][..]),
        (&["--dry-run", "--min-ttl", "40%"], &[]),
        (&["--dry-run", "--min-ttl", "90%"], &due),
        (&["--dry-run", "--min-ttl", "2h"], &[]),
        // Never more than half of its life, and the jitter.
        (&["--dry-run", "--min-ttl", "30d"], &[]),
        (&["--dry-run", "--force"], &["ACCOUNT    PROVIDER  REASON", "200000001  script    forced"]),
    ] {
        let output = place.run(args);
        assert_eq!((output.status.code(), output.stdout), (Some(0), expected.iter().map(|&line| line.to_owned()).collect()), "{args:?}");
    }
    assert!(place.calls().is_empty() && place.artifact().generation == 1);
    let names: Vec<_> = fs::read_dir(place.path("auth")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["200000001.json"], "a dry run leaves nothing behind");
    let (code, said) = place.once(&["--min-ttl", "91%"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("--min-ttl: auth.refresh.min_ttl_percent: is 1 to 90"), "{said}");
}

#[test]
fn what_people_have_to_do_is_told_and_not_tried_again() {
    for (status, standing) in [("needs_otp", "needs_otp"), ("needs_face_check", "needs_face_check"), ("rejected", "rejected")] {
        let place = Place::new();
        place.store().write(&artifact(4, "old-token", 3 * DAY, DAY / 2)).unwrap();
        let base = json!({ "schema": "convpipe.artifact.v1", "account_id": ACCOUNT, "platform": "onlyfans", "status": status });
        place.answers(&base);
        for run in 0..3 {
            let (code, said) = place.once(&[]);
            assert_eq!((code, place.calls().len()), (77, 1), "run {run}: {said}");
            assert!(said.starts_with(&format!("200000001: {standing}: ")), "run {run}: {said}");
        }
        // The old one may still be in use: it stays as it is.
        assert_eq!((place.artifact().generation, place.artifact().status.name()), (4, "ready"));
        let stands = place.run(&["status", "-o", "jsonl"]).stdout;
        let stands: Value = serde_json::from_str(&stands[0]).unwrap();
        assert_eq!((&stands["status"], &stands["refresh_at"]), (&json!(standing), &Value::Null));

        // The person did it, and says so.
        place.answers(&answer(ACCOUNT, "new-token", DAY));
        assert_eq!(place.run(&["request", ACCOUNT]).status.code(), Some(0));
        assert_eq!(place.once(&[]), (0, String::new()));
        assert_eq!((place.artifact().generation, place.calls().last().unwrap().as_str()), (5, "200000001 asked"));
        assert_eq!(place.once(&[]), (0, String::new()));
        assert_eq!(place.calls().len(), 2, "a request is answered once");
    }
}

#[test]
fn an_artifact_that_is_of_no_use_any_more_says_why() {
    let place = Place::new();
    place.store().write(&artifact(4, "old-token", 3 * DAY, -1)).unwrap();
    place.answers(&json!({ "schema": "convpipe.artifact.v1", "account_id": ACCOUNT, "platform": "onlyfans", "status": "needs_otp" }));
    assert_eq!(place.once(&[]).0, 77);
    assert_eq!((place.artifact().generation, place.artifact().status.name()), (5, "needs_otp"));
    assert_eq!((place.once(&[]).0, place.calls().len()), (77, 1), "and is not tried again");
    // A person puts another one there: the matter is settled.
    place.store().write(&artifact(9, "by-hand-token", 0, DAY)).unwrap();
    assert_eq!(place.once(&[]), (0, String::new()));
}

#[test]
fn a_provider_that_fails_is_left_alone_and_the_old_artifact_stays() {
    let mut place = Place::new();
    place.config["auth"]["refresh"]["backoff_min_ms"] = json!(50_000);
    place.store().write(&artifact(4, "old-token", 3 * DAY, DAY / 2)).unwrap();
    place.script("exit 3");
    let (code, said) = place.once(&[]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("200000001: no new artifact from script: the program ended with exit code 3; next attempt in "), "{said}");
    // Within the backoff nobody is asked, and the run still says that something is wrong.
    assert_eq!(place.once(&[]), (69, String::new()));
    let (code, said) = place.once(&["-v"]);
    assert!(code == 69 && said.contains("200000001: waits until 20"), "{said}");
    assert!(said.contains(" UTC after a failure: the program ended with exit code 3; --force asks at once"), "{said}");
    assert_eq!((place.calls().len(), place.artifact().generation, place.record().failures), (1, 4, 1));
    // Unless a person insists.
    place.answers(&answer(ACCOUNT, "new-token", DAY));
    assert_eq!(place.once(&["--force"]), (0, String::new()));
    assert_eq!((place.artifact().generation, place.record().failures, place.record().error), (5, 0, None));
}

#[test]
fn the_account_that_people_have_to_act_on_decides_the_exit_code() {
    let mut place = Place::new();
    for account in ["down", "otp", "fine", "garbage"] {
        place.config["accounts"][account] = json!({});
    }
    let otp = json!({ "schema": "convpipe.artifact.v1", "account_id": "otp", "platform": "onlyfans", "status": "needs_otp" });
    place.write("otp.json", &otp.to_string(), 0o600);
    for account in ["fine", ACCOUNT] {
        place.write(&format!("{account}.json"), &answer(account, "token", DAY).to_string(), 0o600);
    }
    place.script("case $1 in down) exit 1;; garbage) echo '{';; *) cat $1.json;; esac");
    for (accounts, expected) in
        [(&["fine", ACCOUNT][..], 0), (&["down", "fine"], 69), (&["down", "garbage"], 65), (&["garbage", "otp", "down"], 77)]
    {
        let args: Vec<&str> = accounts.iter().flat_map(|account| ["--account", account]).collect();
        assert_eq!(place.once(&args).0, expected, "{accounts:?}");
    }
    let (code, said) = place.once(&[]);
    assert_eq!(code, 77, "{said}");
    let output = place.run(&["status"]);
    let table = output.stdout.join("\n");
    assert!(output.status.success() && table.contains("otp        needs_otp"), "{table}");
    assert!(table.contains("the program ended with exit code 1") && table.contains("is not one well-formed JSON object"), "{table}");
    let one = place.run(&["status", "--account", "fine", "-o", "json"]).stdout.concat();
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!((&one[0]["account_id"], &one[0]["status"], one.as_array().unwrap().len()), (&json!("fine"), &json!("ready"), 1));
}

#[test]
fn what_is_not_set_up_is_a_config_error() {
    let mut place = Place::new();
    let (code, said) = place.once(&["--account", "../x"]);
    assert_eq!((code, said.contains("\"../x\" is no account: those are 1 to 64 letters")), (2, true), "{said}");
    place.config["auth"]["refresh"]["provider"] = json!("scrpit");
    let (code, said) = place.once(&[]);
    assert_eq!((code, said.contains("there is no \"scrpit\" in auth.providers; the nearest is script")), (78, true), "{said}");
    place.config["auth"]["refresh"]["provider"] = Value::Null;
    let (code, said) = place.once(&[]);
    assert_eq!((code, said.contains("no account has a provider")), (78, true), "{said}");
    assert_eq!(place.run(&["status"]).status.code(), Some(1), "there is no account");
}

#[test]
fn a_refused_artifact_is_renewed_at_once_but_not_for_ever() {
    use convpipe::runtime::clock;
    use convpipe::schema::artifact::RequestReason;
    let place = Place::new();
    let refuse = |generation| place.store().request(ACCOUNT, RequestReason::Refused, Some(generation), clock::now()).unwrap();
    place.store().write(&artifact(1, "token-1", 0, DAY)).unwrap();
    refuse(1);
    // The provider has not noticed.
    place.answers(&answer(ACCOUNT, "token-1", DAY));
    let (code, said) = place.once(&[]);
    assert_eq!((code, place.artifact().generation), (65, 1), "{said}");
    assert!(said.contains("the answer holds the token that the platform refused"), "{said}");
    place.answers(&answer(ACCOUNT, "token-2", DAY));
    wait_until("the backoff is over", || place.once(&[]).0 == 0);
    assert_eq!((place.artifact().generation, place.calls().last().unwrap().as_str()), (2, "200000001 refused"));
    refuse(2);
    // The second refusal within minutes waits for the longest backoff.
    let calls = place.calls().len();
    assert_eq!((place.once(&[]), place.calls().len()), ((0, String::new()), calls));
    let mut record = place.record();
    for generation in [3, 4] {
        record.refreshed_at = record.refreshed_at.map(|at| at.plus(-120_000));
        place.store().remember(ACCOUNT, &record).unwrap();
        place.answers(&answer(ACCOUNT, &format!("token-{generation}"), DAY));
        assert_eq!(place.once(&[]), (0, String::new()));
        assert_eq!((place.artifact().generation, place.calls().last().unwrap().as_str()), (generation, "200000001 refused"));
        refuse(generation);
        record = place.record();
    }
    let (code, said) = place.once(&[]);
    assert_eq!((code, place.calls().len()), (77, calls + 2), "{said}");
    assert!(said.starts_with("200000001: rejected: "), "{said}");
    // A request for one that is gone is overtaken.
    place.store().write(&artifact(9, "by-hand-token", 0, DAY)).unwrap();
    assert_eq!(place.once(&[]), (0, String::new()));
}

#[test]
fn metrics_are_written_whole_for_everybody() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut place = Place::new();
    place.config["accounts"]["down"] = json!({});
    place.write("200000001.json", &answer(ACCOUNT, CANARY, DAY).to_string(), 0o600);
    place.script("cat $1.json");
    let file = place.path("convpipe.prom");
    std::os::unix::fs::symlink(place.path("victim"), &file).unwrap();
    assert_eq!(place.once(&["--metrics-file", "convpipe.prom"]).0, 69);
    assert!(!place.path("victim").exists() && file.symlink_metadata().unwrap().is_file(), "a link is replaced, not followed");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o111, 0);
    let metrics = fs::read_to_string(&file).unwrap();
    for line in [
        "# TYPE convpipe_auth_last_success_timestamp_seconds gauge",
        "convpipe_auth_generation{account=\"200000001\"} 1",
        "convpipe_auth_failures{account=\"down\"} 1",
        "convpipe_auth_status{account=\"200000001\",status=\"ready\"} 1",
        "convpipe_auth_status{account=\"down\",status=\"missing\"} 1",
        "convpipe_auth_status{account=\"down\",status=\"needs_otp\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}:\n{metrics}");
    }
    let success = metrics.lines().find(|line| line.starts_with("convpipe_auth_last_success_timestamp_seconds{account=\"200000001\"} "));
    let at: f64 = success.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((convpipe::runtime::clock::now().0 as f64 / 1000.0 - at).abs() < 60.0);
    assert!(!metrics.contains("last_success_timestamp_seconds{account=\"down\"}") && !metrics.contains(CANARY));

    let (code, said) = place.once(&["--account", ACCOUNT, "--metrics-file", "no/such/folder/x.prom"]);
    assert_eq!((code, said.contains("no/such/folder/x.prom: the metrics cannot be written")), (75, true), "{said}");
}

#[test]
fn the_samples_in_deploy_run_as_they_are() {
    for sample in ["auth-refresh.cron", "systemd/convpipe-auth-refresh.service"] {
        let place = Place::new();
        place.answers(&answer(ACCOUNT, "new-token", DAY));
        let text = std::fs::read_to_string(format!("{}/deploy/{sample}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let command = text.lines().find_map(|line| line.split_once("--config /etc/convpipe/convpipe.yaml auth-refresh ")).expect(sample).1;
        let here = format!("{}/", place.dir().display());
        let args: Vec<String> = command.split_whitespace().map(|arg| arg.replace("/var/lib/node_exporter/", &here)).collect();
        let output = place.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{sample}: {output:?}");
        assert!(place.path("convpipe-auth.prom").exists(), "{sample}: {args:?}");
    }
}
