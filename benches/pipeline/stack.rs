//! The processes of one machine: a Redis, ingest, snapshot, with everything in a temporary folder.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use convpipe::auth::ArtifactStore;
use convpipe::bus::Bus;
use convpipe::bus::embedded::EmbeddedBus;
use convpipe::config::{Config, Environment, Sources, load};
use convpipe::runtime::clock;
use convpipe::schema::ARTIFACT_SCHEMA;
use convpipe::schema::artifact::{Artifact, ArtifactStatus};
use convpipe::ws::serve::token_of;

use super::server::RedisServer;

/// A folder with a config, and a Redis.
pub(crate) struct Stack {
    folder: tempfile::TempDir,
    pub(crate) redis: RedisServer,
    pub(crate) config: Config,
}

impl Stack {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start();
        let file = folder.path().join("convpipe.yaml");
        let text = format!(
            "redis: {{url: \"{}\"}}\nbus: {{embedded: {{dir: bus}}}}\ndocuments: {{embedded: {{path: documents.db}}}}\nauth: {{dir: auth}}\nlog: {{filter: warn}}\n",
            redis.url()
        );
        std::fs::write(&file, text).unwrap();
        let environment = Environment::from_iter(Vec::<(String, String)>::new());
        let config = load(&Sources { file: Some(&file), ..Sources::new(&environment) }).unwrap().config;
        Self { folder, redis, config }
    }

    pub(crate) fn bus(&self) -> Bus {
        Bus::Embedded(EmbeddedBus::open(&self.config.bus.embedded).unwrap())
    }

    /// Writes artifacts that lead to a server.
    pub(crate) fn accounts_at(&self, server: SocketAddr, accounts: &BTreeSet<String>) {
        std::fs::create_dir_all(&self.config.auth.dir).unwrap();
        let store = ArtifactStore::new(&self.config.auth.dir);
        for account in accounts {
            store
                .write(&Artifact {
                    schema: ARTIFACT_SCHEMA.to_owned(),
                    account_id: account.clone(),
                    generation: 1,
                    platform: "onlyfans".to_owned(),
                    ws_url: format!("ws://{server}/").into(),
                    token: token_of(account).into(),
                    expires_at: None,
                    origin: None,
                    user_agent: None,
                    headers: Default::default(),
                    prepared_at: Some(clock::now()),
                    status: ArtifactStatus::Ready,
                })
                .unwrap();
        }
    }

    /// Starts `convpipe ARGS` on this stack.
    pub(crate) fn spawn(&self, args: &[&str]) -> Service {
        let child = Command::new(env!("CARGO_BIN_EXE_convpipe"))
            .arg("--config")
            .arg(self.file())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Service { child }
    }

    fn file(&self) -> PathBuf {
        Path::new(self.folder.path()).join("convpipe.yaml")
    }

    /// Waits until a subscription has nothing left.
    pub(crate) async fn drained(&self, bus: &Bus, subscription: &str) {
        let deadline = Instant::now() + Duration::from_secs(300);
        while bus.backlog(&self.config.bus.topic, subscription).await.map_or(1, |backlog| backlog.messages.unwrap_or(1)) > 0 {
            assert!(Instant::now() < deadline, "{subscription} does not come to its end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A running `convpipe`; ends with the value.
pub(crate) struct Service {
    child: Child,
}

impl Service {
    /// Resident memory now, in MB.
    pub(crate) fn rss_mb(&self) -> f64 {
        rss_mb(self.child.id())
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of a process, in MB.
pub(crate) fn rss_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
