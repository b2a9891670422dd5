//! The daemon: renews in time, answers requests, stops as it is asked to.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use super::place::{ACCOUNT, LIMIT, Place, answer, artifact, wait_until};
use super::program::is_running;

const DAY: i64 = 86_400;

#[test]
fn it_renews_before_the_end_and_answers_requests() {
    let place = Place::new();
    place.store().write(&artifact(1, "token-1", 0, DAY)).unwrap();
    place.answers(&answer(ACCOUNT, "token-2", DAY));
    let daemon = place.start(&["--metrics-file", "convpipe.prom"]);
    daemon.wait_stderr("looks after accounts", LIMIT);
    assert!(place.calls().is_empty(), "it is fresh");

    assert_eq!(place.run(&["request", ACCOUNT]).status.code(), Some(0));
    daemon.wait_stderr("generation 2", LIMIT);
    wait_until("the request is taken away", || !place.path("auth/200000001.request").exists());

    // Somebody puts one there that ends soon.
    place.answers(&answer(ACCOUNT, "token-4", DAY));
    place.store().write(&artifact(7, "token-3", 3 * DAY, DAY / 2)).unwrap();
    daemon.wait_stderr("generation 8", LIMIT);
    assert_eq!(place.calls(), ["200000001 asked", "200000001 expiring"]);

    // A new account comes with its artifact.
    let mut other = artifact(1, "token", 3 * DAY, -5);
    other.account_id = "200000002".into();
    place.answers(&answer("200000002", "token-5", DAY));
    place.store().write(&other).unwrap();
    daemon.wait_stderr("\"account\":\"200000002\"", LIMIT);
    wait_until("the metrics", || {
        fs::read_to_string(place.path("convpipe.prom")).is_ok_and(|text| text.contains("generation{account=\"200000002\"} 2"))
    });

    let output = daemon.terminate(LIMIT);
    assert_eq!(output.status.code(), Some(0), "{:?}", output.stderr);
    assert!(output.stdout.is_empty());
}

#[test]
fn what_people_have_to_do_is_told_once() {
    let place = Place::new();
    place.answers(&json!({ "schema": "convpipe.artifact.v1", "account_id": ACCOUNT, "platform": "onlyfans", "status": "needs_otp" }));
    let daemon = place.start(&[]);
    daemon.wait_stderr("needs_otp: the account's owner has to enter a one-time code", LIMIT);
    // Looks at the folder several times meanwhile.
    place.store().write(&artifact(3, "by-hand", 3 * DAY, DAY)).unwrap();
    place.answers(&answer(ACCOUNT, "token-2", 2 * DAY));
    place.run(&["request", ACCOUNT]);
    daemon.wait_stderr("generation 4", LIMIT);
    let output = daemon.terminate(LIMIT);
    let told = output.stderr.iter().filter(|line| line.contains("one-time code")).count();
    assert_eq!((output.status.code(), told), (Some(0), 1), "{:?}", output.stderr);
}

#[test]
fn a_failing_provider_is_tried_again_with_backoff() {
    let mut place = Place::new();
    place.config["auth"]["refresh"]["backoff_max_ms"] = json!(40);
    place.write("answer.json", &answer(ACCOUNT, "token-1", DAY).to_string(), 0o600);
    place.script("test $(wc -l < calls) -gt 3 || { echo not yet >&2; exit 1; }; cat answer.json");
    let daemon = place.start(&[]);
    daemon.wait_stderr("has a new artifact", LIMIT);
    let output = daemon.terminate(LIMIT);
    let count = |text: &str| output.stderr.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("exit code 1"), count("not yet"), place.calls().len()), (3, 3, 4), "{:?}", output.stderr);
}

#[test]
fn a_stop_waits_for_providers_but_not_for_ever() {
    // Inside the time it has: the answer counts.
    let place = Place::new();
    place.write("answer.json", &answer(ACCOUNT, "token-1", DAY).to_string(), 0o600);
    place.script("touch begun; while ! [ -e go ]; do sleep 0.01; done; cat answer.json");
    let daemon = place.start(&[]);
    wait_until("it is asked", || place.path("begun").exists());
    daemon.signal(Signal::TERM);
    daemon.wait_stderr("stopping: waiting for the providers of 200000001", LIMIT);
    place.write("go", "", 0o600);
    let output = daemon.wait(LIMIT);
    assert_eq!((output.status.code(), place.artifact().generation), (Some(0), 1), "{:?}", output.stderr);

    // Beyond it: the provider is killed.
    for (args, signal) in [(&[][..], Signal::TERM), (&["--once"], Signal::INT)] {
        let mut place = Place::new();
        place.config["auth"]["refresh"]["drain_timeout_s"] = json!(0);
        place.script("echo $$ > child.new; mv child.new child; sleep 600");
        let process = place.start(args);
        wait_until("it is asked", || place.path("child").exists());
        process.signal(signal);
        let output = process.wait(LIMIT);
        let said = output.stderr.join("\n");
        assert_eq!(output.status.code(), Some(75), "{args:?}: {said}");
        assert!(said.contains("stopped while the providers of 200000001 were asked, which had not answered within 0 s"), "{said}");
        let id = fs::read_to_string(place.path("child")).unwrap();
        wait_until("the provider is gone", || !is_running(id.trim()));
    }
}

#[test]
fn a_run_that_a_signal_ends_early_says_so() {
    let mut place = Place::new();
    place.config["auth"]["refresh"]["concurrency_max"] = json!(1);
    place.config["accounts"]["200000002"] = json!({});
    place.write("answer.json", &answer(ACCOUNT, "token-1", DAY).to_string(), 0o600);
    place.script("touch begun; while ! [ -e go ]; do sleep 0.01; done; cat answer.json");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let process = place.start(&["--once", "--force"]);
        wait_until("it is asked", || place.path("begun").exists());
        process.signal(signal);
        // It has heard the signal before the provider answers, else it would go on with the next account.
        process.wait_stderr("stopping: waiting for the providers of 200000001", LIMIT);
        place.write("go", "", 0o600);
        let output = process.wait(LIMIT);
        assert_eq!(output.status.code(), Some(code), "{:?}", output.stderr);
        fs::remove_file(place.path("go")).unwrap();
        fs::remove_file(place.path("begun")).unwrap();
    }
    assert!(place.calls().iter().all(|call| call.starts_with(ACCOUNT)), "{:?}", place.calls());
}
