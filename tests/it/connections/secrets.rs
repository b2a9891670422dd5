//! A canary in every secret place of an artifact, and ingest at its most talkative: it stands in nothing that ingest writes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use convpipe::auth::ArtifactStore;
use convpipe::schema::artifact::Artifact;
use serde_json::{Value, json};

use crate::support::process::Process;
use crate::support::scripted::Step::{Close, Raw, Status, Sync, Text, Upgrade};
use crate::support::scripted::{CONNECTED, Scripted};

const CANARY: &str = "canary-3f9a1c";
const LIMIT: Duration = Duration::from_secs(60);

fn artifact(account: &str, generation: u64, port: u16) -> Value {
    let end = convpipe::runtime::clock::now().plus(86_400_000);
    json!({
        "schema": "convpipe.artifact.v1", "account_id": account, "generation": generation, "platform": "onlyfans", "status": "ready",
        "ws_url": format!("ws://{CANARY}:{CANARY}@127.0.0.1:{port}/{CANARY}/30?key={CANARY}"), "token": format!("replay-{CANARY}"),
        "expires_at": end, "headers": { "Cookie": format!("sess={CANARY}"), "X-Bc": CANARY },
    })
}

/// All files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn has_canary(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_an_artifact_is_in_anything_that_ingest_writes() {
    // Lives, is left in words that repeat the token, is answered with a status, with a broken protocol, and then refuses.
    let frame = || Text(r#"{"typing":{"id":100000001}}"#.to_owned());
    let live = || vec![Upgrade, Text(CONNECTED.to_owned()), frame(), Sync];
    let platform = Scripted::new(
        vec![
            [live(), vec![Close(1011, "no more of replay-canary-3f9a1c")]].concat(),
            vec![Status(503)],
            [live(), vec![Raw(b"\x83\x0dcanary-3f9a1c".to_vec())]].concat(),
            [live(), vec![Text(format!(r#"{{"error":"Wrong user {CANARY}"}}"#))]].concat(),
            live(),
        ],
        None,
    );
    let port = platform.listen().await;
    let place = tempfile::Builder::new().prefix("convpipe-secrets-").tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let config = json!({
        "auth": { "dir": "auth", "watch_ms": 10 }, "bus": { "embedded": { "dir": "bus" } }, "log": { "filter": "trace" },
        "ingest": { "backoff_min_ms": 1, "backoff_max_ms": 5, "state_dir": "state", "record": { "dir": "rec", "flush_ms": 10 } },
    });
    fs::write(path("convpipe.yaml"), config.to_string()).unwrap();
    let store = ArtifactStore::new(path("auth"));
    let put = |artifact: Value| store.write(&serde_json::from_value::<Artifact>(artifact).unwrap()).unwrap();
    put(artifact("200000001", 1, port));

    let ingest = Process::start(place.path(), &["ingest"]);
    ingest.wait_stderr("the account waits for a new artifact", LIMIT);
    put(artifact("200000001", 2, port));
    let end = Instant::now() + LIMIT;
    while platform.heard().iter().filter(|said| said.ends_with("token")).count() < 4 {
        assert!(Instant::now() < end, "{:?}", platform.heard());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What cannot be used is refused with the reason, and the old one stays in use.
    let file = path("auth/200000001.json");
    let ended = Value::from("2020-01-01T00:00:00.000Z");
    let mut expired = artifact("200000001", 3, port);
    expired["expires_at"] = ended;
    put(expired);
    let told = ingest.wait_stderr("its token ended at 2020-01-01", LIMIT);
    assert!(told.contains("the one before it stays in use"), "{told}");
    for (content, mode, why) in [
        (format!("{{\"token\": \"{CANARY}\""), 0o600, "well-formed JSON"),
        (artifact("200000002", 3, port).to_string(), 0o600, "another account"),
        (artifact("200000001", 3, port).to_string(), 0o640, "chmod 600"),
    ] {
        let beside = path("auth/.new");
        fs::write(&beside, content).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(beside, &file).unwrap();
        ingest.wait_stderr(why, LIMIT);
    }
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(path("convpipe.yaml"), &file).unwrap();
    ingest.wait_stderr("symbolic link", LIMIT);
    assert_eq!(platform.heard().iter().filter(|said| said.ends_with("token")).count(), 4, "none of them ended the connection");

    // Nor does a crash leave it anywhere.
    let limits = fs::read_to_string(format!("/proc/{}/limits", ingest.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // Its environment may be out of reach, because it is not to be dumped.
    for file in ["cmdline", "environ"].into_iter().filter_map(|name| fs::read(format!("/proc/{}/{name}", ingest.id())).ok()) {
        assert!(!has_canary(&file));
    }
    let output = ingest.terminate(LIMIT);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.len() > 20, "at trace it is talkative: {:?}", output.stderr);
    for line in output.stdout.iter().chain(&output.stderr) {
        assert!(!line.contains(CANARY), "{line}");
    }
    let mut kinds = Vec::new();
    for file in files(place.path()) {
        let name = file.strip_prefix(place.path()).unwrap().display().to_string();
        let bytes = fs::read(&file).unwrap();
        let bytes = if name.ends_with(".zst") { zstd::decode_all(&bytes[..]).unwrap() } else { bytes };
        // What the platform itself says is recorded, and kept where it cannot be read: here it said the token.
        let is_platforms = name.starts_with("rec");
        assert!(is_platforms || !has_canary(&bytes), "{name}");
        assert!(!is_platforms || !bytes.windows(4).any(|window| window == b"sess"), "{name}");
        kinds.push(name.split('/').next().unwrap().to_owned());
    }
    for kind in ["auth", "bus", "rec", "state"] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind} was looked at: {kinds:?}");
    }
}
