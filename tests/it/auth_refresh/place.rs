//! A folder in which auth-refresh runs: its config, its artifacts, and a provider that a test scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use convpipe::auth::{ArtifactStore, Record};
use convpipe::schema::artifact::Artifact;
use convpipe::schema::time::Millis;
use serde_json::{Value, json};

use crate::support::process::{Output, Process};

/// Longest wait for anything; a busy machine gets its time.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// Stands in every secret place, and must stand nowhere else.
pub(super) const CANARY: &str = "canary-3f9a1c";
pub(crate) const ACCOUNT: &str = "200000001";

pub(crate) struct Place {
    dir: tempfile::TempDir,
    /// The config; [`Place::start`] writes it.
    pub(crate) config: Value,
}

impl Place {
    /// One account, and a provider that is the shell script of [`Place::script`].
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("convpipe-refresh-").tempdir().unwrap();
        let config = json!({
            "auth": {
                "dir": "auth",
                "watch_ms": 10,
                "refresh": { "provider": "script", "backoff_min_ms": 1, "backoff_max_ms": 60_000, "drain_timeout_s": 5 },
                "providers": { "script": { "command": { "program": "/bin/sh", "args": ["provider.sh", "{account}", "{reason}"] } } },
            },
            "accounts": { ACCOUNT: {} },
            // Many run side by side.
            "health": { "auth_refresh": "off" },
        });
        Self { dir, config }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn store(&self) -> ArtifactStore {
        ArtifactStore::new(self.path("auth"))
    }

    /// Of the one account.
    pub(super) fn artifact(&self) -> Artifact {
        self.store().load(ACCOUNT).unwrap()
    }

    pub(super) fn record(&self) -> Record {
        self.store().record(ACCOUNT)
    }

    /// What the provider does: `$1` is the account, `$2` the reason. Each call leaves a line in `calls`.
    pub(crate) fn script(&self, script: &str) {
        self.write("provider.sh", &format!("echo \"$1 $2\" >> calls\n{script}\n"), 0o600);
    }

    /// The provider answers with this.
    pub(crate) fn answers(&self, answer: &Value) {
        self.write("answer.json", &answer.to_string(), 0o600);
        self.script("cat answer.json");
    }

    /// How the provider was called so far: account and reason of each.
    pub(super) fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    pub(super) fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Starts `convpipe auth-refresh ARGS…` here.
    pub(crate) fn start(&self, args: &[&str]) -> Process {
        self.start_command("auth-refresh", args)
    }

    /// The same with variables.
    pub(crate) fn start_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Process {
        self.write_config();
        Process::start_with(self.dir(), &[&["auth-refresh"], args].concat(), variables)
    }

    pub(super) fn start_command(&self, command: &str, args: &[&str]) -> Process {
        self.write_config();
        Process::start(self.dir(), &[&[command], args].concat())
    }

    /// Runs it to its end.
    pub(super) fn run(&self, args: &[&str]) -> Output {
        self.start(args).wait(LIMIT)
    }

    /// A run of cron: its exit code and what it says.
    pub(super) fn once(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(&[&["--once"], args].concat());
        assert!(output.stdout.is_empty(), "{:?}", output.stdout);
        (output.status.code().unwrap(), output.stderr.join("\n"))
    }

    pub(crate) fn write_config(&self) {
        // JSON is YAML. Replaced as a whole: a process that was started a moment ago may be reading it.
        self.write("new.yaml", &self.config.to_string(), 0o600);
        fs::rename(self.path("new.yaml"), self.path("convpipe.yaml")).unwrap();
    }
}

/// An answer for an account that ends in so many seconds.
pub(crate) fn answer(account: &str, token: &str, ends_in_s: i64) -> Value {
    let end = convpipe::runtime::clock::now().plus(ends_in_s * 1000);
    json!({
        "schema": "convpipe.artifact.v1", "account_id": account, "platform": "onlyfans", "status": "ready",
        "ws_url": format!("wss://ws.example.com/ws3/30?key={CANARY}"), "token": token, "expires_at": end,
        "headers": { "Cookie": format!("sess={CANARY}; lang=en") },
    })
}

/// The artifact of the one account as a person puts it there.
pub(super) fn artifact(generation: u64, token: &str, prepared_ago_s: i64, ends_in_s: i64) -> Artifact {
    let mut artifact = answer(ACCOUNT, token, ends_in_s);
    let prepared: Millis = convpipe::runtime::clock::now().plus(-prepared_ago_s * 1000);
    (artifact["generation"], artifact["prepared_at"]) = (json!(generation), json!(prepared));
    serde_json::from_value(artifact).unwrap()
}

/// Waits until something holds. Files have no wake-up, so this looks again and again.
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + LIMIT;
    while !holds() {
        assert!(std::time::Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
