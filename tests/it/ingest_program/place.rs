//! A folder in which ingest runs, and a platform that it connects to.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use convpipe::auth::ArtifactStore;
use convpipe::daemons::playback::{Frame, Recording};
use convpipe::runtime::shutdown::Shutdown;
use convpipe::ws::serve::{self, Player};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::process::{Output, Process};
use crate::ws::artifact;

/// Longest wait for anything; a busy machine gets its time.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// The folder.
pub(super) struct Place {
    dir: tempfile::TempDir,
    /// The config; [`Place::start`] writes it.
    pub(super) config: Value,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("convpipe-ingest-").tempdir().unwrap();
        let config = json!({
            "auth": { "dir": "auth", "watch_ms": 10 },
            "bus": { "embedded": { "dir": "bus" } },
            "ingest": { "backoff_min_ms": 1, "backoff_max_ms": 20, "start_spread_ms": 0, "record": { "flush_ms": 5 } },
        });
        fs::DirBuilder::new().mode(0o700).create(dir.path().join("auth")).unwrap();
        Self { dir, config }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, content: &str, mode: u32) {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Artifacts that lead these accounts to that URL.
    pub(super) fn lead(&self, accounts: &[String], url: &str) {
        let store = ArtifactStore::new(self.path("auth"));
        accounts.iter().for_each(|account| store.write(&artifact(account, 1, url)).map(|_| ()).unwrap());
    }

    /// Starts `convpipe ARGS…` here.
    pub(super) fn start(&self, args: &[&str]) -> Process {
        self.start_with(args, &[])
    }

    /// The same with variables.
    pub(super) fn start_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Process {
        self.write("convpipe.yaml", &self.config.to_string(), 0o600);
        Process::start_with(self.dir.path(), args, variables)
    }

    /// What a dry run of these recordings says: its end, and what it printed; nothing is `null`.
    pub(super) fn replay(&self, files: &[PathBuf]) -> (Output, Value) {
        let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
        let output = self.start(&[&["replay", "-o", "json"], &files[..]].concat()).wait(LIMIT);
        let printed = match output.stdout.join("\n") {
            nothing if nothing.is_empty() => Value::Null,
            text => serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}")),
        };
        (output, printed)
    }
}

/// The recordings in a folder, in order.
pub(super) fn recordings(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.to_str().unwrap().ends_with(".jsonl.zst")).collect();
    files.sort();
    files
}

/// The text of a recording up to where it is torn.
pub(super) fn unpacked(file: &Path) -> String {
    let packed = fs::read(file).unwrap();
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    let mut decoder = zstd::Decoder::new(&packed[..]).unwrap();
    while let Ok(read @ 1..) = decoder.read(&mut piece) {
        text.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(text).unwrap()
}

/// The complete lines of all recordings in a folder.
pub(super) fn lines(dir: &Path) -> Vec<Value> {
    let of_file = |file: PathBuf| {
        let text = unpacked(&file);
        let whole: Vec<Value> =
            text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| serde_json::from_str(line).unwrap()).collect();
        whole
    };
    recordings(dir).into_iter().flat_map(of_file).collect()
}

/// Asks again and again until it holds.
pub(super) async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "no {what} within {LIMIT:?}");
        // Files tell nobody that they changed.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// The platform, with the accounts of a recording on it.
pub(super) struct Platform {
    player: Player,
    pub(super) url: String,
    _serving: Serving,
}

struct Serving(Shutdown);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.request();
    }
}

impl Platform {
    pub(super) async fn start(accounts: &[String]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let (player, source) = serve::stage(accounts.iter().map(String::as_str), &[]);
        let shutdown = Shutdown::new();
        tokio::spawn(serve::serve(listener, source, shutdown.clone()));
        Self { player, url, _serving: Serving(shutdown) }
    }

    pub(super) async fn play(&self, frames: &[Frame]) {
        for frame in frames {
            tokio::time::timeout(LIMIT, self.player.play(&frame.account, frame.text.clone())).await.unwrap().unwrap();
        }
    }
}

/// The frames of the quiet evening, and the accounts in it.
pub(super) fn quiet_evening() -> (PathBuf, Vec<Frame>, Vec<String>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings/quiet-evening.jsonl.gz");
    let frames: Vec<Frame> = Recording::open(&file).unwrap().map(Result::unwrap).collect();
    let mut accounts: Vec<String> = frames.iter().map(|frame| frame.account.clone()).collect();
    accounts.sort();
    accounts.dedup();
    (file, frames, accounts)
}
