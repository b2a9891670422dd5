//! A pipeline of real processes, whole and in pieces.

use super::{LIMIT, picture, problems, status};
use crate::health::replayed::address;
use crate::health::scrape::wait_for;
use crate::pipeline::place::Place;
use crate::support::redis::RedisServer;

const QUIET_EVENING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/quiet-evening.jsonl.gz");

/// The lines of a picture without what is another in each run: everything that has a digit in it, or stands for a number, is `#`.
fn shape(lines: &[String]) -> String {
    let word = |word: &str| if word == "–" || word.bytes().any(|b| b.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() };
    let line = |line: &String| {
        let mut words: Vec<String> = line.split_whitespace().map(word).collect();
        words.dedup_by(|a, b| a == "#" && b == "#");
        words.join(" ") + "\n"
    };
    lines.iter().map(line).collect()
}

const WHOLE: &str = "\
# UTC all is well

DAEMON AT STATE UP VERSION MEMORY FILES
ingest # ready # MiB # of #
snapshot # ready # MiB # of #
auth-refresh # not asked #
dashboard # ready # MiB # of #

INGEST FRAMES/S EVENTS/S SENT/S BUFFER LIVE GAPS FAILURES CONNECTING WAITING SHED/S REJECTED PUBLISH # LOST
# of #

SNAPSHOT AT WRITTEN/S BACKLOG OLDEST LAG # LAG # CONFLICTS RETRIES REDELIVERED SET ASIDE LOST
views #
documents #

REDIS # of # MiB # commands/s, # evicted

ACCOUNTS # opened
ACCOUNT STATE SINCE REASON
# gap # ago start
# gap # ago start
";

#[test]
fn it_is_on_one_screen_and_what_is_missing_stands_first() {
    let mut redis = RedisServer::start_with(&["--maxmemory", "100mb"]);
    let place = Place::new(&redis.url(), "convpipe");
    let auth = place.config.auth.dir.to_str().unwrap();
    let serve = ["replay", QUIET_EVENING, "--serve", "127.0.0.1:0", "--artifacts", auth, "--speed", "200x", "--loop", "--shift-time"];
    let platform = place.start(&serve);
    platform.wait_stderr("serving 2 accounts on ws://127.0.0.1:", LIMIT);
    let ingest = place.start(&["ingest", "--health", "127.0.0.1:0"]);
    let snapshot = place.start(&["snapshot", "--health", "127.0.0.1:0"]);
    let dashboard = place.start(&["dashboard", "--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"]);
    let (ingest_at, snapshot_at, page) = (address(&ingest), address(&snapshot), address(&dashboard));
    let named = ["--ingest", &ingest_at, "--snapshot", &snapshot_at, "--dashboard", &page];

    // The sockets, the subscriptions and the first events take their time.
    let end = std::time::Instant::now() + LIMIT;
    let shown = loop {
        let output = status(place.dir(), &named);
        if output.status.code() == Some(0) && shape(&output.stdout) == WHOLE {
            break output;
        }
        assert!(std::time::Instant::now() < end, "{}\n{WHOLE}", shape(&output.stdout));
    };
    assert!(shown.stderr.is_empty(), "{:?}", shown.stderr);
    let (code, whole) = picture(place.dir(), &named);
    assert_eq!((code, whole["ok"].as_bool()), (0, Some(true)), "{whole:#}");
    let [ingest_now, snapshot_now] = [0, 1].map(|at| &whole["daemons"][at]);
    assert!(ingest_now["ingest"]["frames_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{ingest_now:#}");
    assert_eq!((ingest_now["ingest"]["live"].as_u64(), ingest_now["version"].as_str()), (Some(2), Some(env!("CARGO_PKG_VERSION"))));
    assert!(snapshot_now["consumers"][0]["lag_p99_s"].as_f64().is_some_and(|lag| lag < 60.0), "{snapshot_now:#}");
    assert_eq!((whole["redis"]["accounts"]["opened"].as_u64(), whole["redis"]["max_bytes"].as_u64()), (Some(2), Some(100 << 20)));

    snapshot.kill();
    redis.stop();
    // While nobody watches it looks at Redis every few seconds.
    wait_for(&page, "/readyz", 503);
    let (code, broken) = picture(place.dir(), &named);
    let told = problems(&broken);
    assert_eq!((code, told.len()), (1, 3), "{told:#?}");
    assert!(told[0].starts_with("fail snapshot does not answer: Connection refused"), "{told:#?}");
    assert!(told.iter().any(|told| told.contains(" dashboard is not ready: ")), "{told:#?}");
    assert!(told.iter().any(|told| told.starts_with("fail redis cannot be read: Redis at 127.0.0.1:")), "{told:#?}");
    assert_eq!((broken["daemons"][0]["state"].as_str(), broken["daemons"][1]["state"].as_str()), (Some("ready"), Some("down")));

    for process in [ingest, dashboard, platform] {
        process.kill();
    }
    let output = status(place.dir(), &named);
    assert_eq!(output.status.code(), Some(69), "{:?}", output.stdout);
    assert!(output.stderr.join("\n").contains("error: nobody answered"), "{:?}", output.stderr);
}
