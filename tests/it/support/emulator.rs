//! Google's emulators: a Java process takes seconds to start, so those tests share one that run at the same time.
//!
//! The test runner gives every test a process of its own. Each that needs an emulator holds a lease, a shared lock on a file; whoever finds none
//! running starts it. A guardian waits for the lock with nobody else's on it and then ends the emulator with all its children, by the id of
//! their process group. So it ends with the last test, however that ends.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// The launcher is Python, the emulator Java; a busy machine gets its time.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// `$0` is the folder, the rest the emulator's command. `gcloud` makes a process group of its own, with Java in it. The lock is kept until all of
/// them are gone, so that nobody gets an emulator that is ending.
const GUARDIAN: &str = r#"
"$@" &
exec flock --exclusive "$0/lease" sh -c '
    rm -f "$1/address"
    kill -s TERM -- "-$2" || kill -s TERM -- "$2"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -s 0 -- "-$2" || exit 0
        sleep 0.5
    done
    kill -s KILL -- "-$2"
' end "$0" $!
"#;

/// An emulator that runs at least as long as this value.
#[derive(Debug)]
pub(crate) struct Emulator {
    /// `127.0.0.1:port`.
    pub(crate) address: String,
    _lease: File,
}

/// Which emulator, and how it is started.
struct Kind {
    /// Of its folder.
    name: &'static str,
    /// The variable that names one that runs already.
    variable: &'static str,
    /// The component of Google's SDK that holds it.
    component: &'static str,
    /// What `gcloud` is told.
    command: &'static [&'static str],
}

const FIRESTORE: Kind = Kind {
    name: "firestore",
    variable: "CONVPIPE_TEST_FIRESTORE_EMULATOR",
    component: "cloud-firestore-emulator",
    command: &["emulators", "firestore", "start"],
};

const PUBSUB: Kind = Kind {
    name: "pubsub",
    variable: "CONVPIPE_TEST_PUBSUB_EMULATOR",
    component: "pubsub-emulator",
    command: &["beta", "emulators", "pubsub", "start", "--project=demo"],
};

impl Emulator {
    /// Firestore's. `None` where it is not installed, which is said aloud, and is a failure where `CI=true`.
    pub(crate) fn firestore() -> Option<&'static Self> {
        static EMULATOR: OnceLock<Option<Emulator>> = OnceLock::new();
        EMULATOR.get_or_init(|| Self::lease(&FIRESTORE)).as_ref()
    }

    /// Pub/Sub's; the same.
    pub(crate) fn pubsub() -> Option<&'static Self> {
        static EMULATOR: OnceLock<Option<Emulator>> = OnceLock::new();
        EMULATOR.get_or_init(|| Self::lease(&PUBSUB)).as_ref()
    }

    /// Whether both can be started, by whoever wants some of their own; where not, it is said in the same way.
    pub(crate) fn are_installed() -> bool {
        [FIRESTORE, PUBSUB].iter().all(|kind| is_installed(kind.component) || left_out(&kind.missing()))
    }

    fn lease(kind: &Kind) -> Option<Self> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("emulator-{}", kind.name));
        fs::create_dir_all(&dir).expect("a folder for the emulator");
        let lease = lock(&dir.join("lease"), FlockOperation::LockShared);
        let _starting = lock(&dir.join("starting"), FlockOperation::LockExclusive);
        if let Some(address) = variable(kind.variable) {
            assert!(answers(&address), "{} names {address}, where nobody listens", kind.variable);
            return Some(Self { address, _lease: lease });
        }
        let running = fs::read_to_string(dir.join("address")).ok().filter(|address| answers(address));
        let address = match running {
            Some(address) => address,
            None if !is_installed(kind.component) => {
                left_out(&kind.missing());
                return None;
            }
            None => start(kind, &dir),
        };
        Some(Self { address, _lease: lease })
    }
}

impl Kind {
    fn missing(&self) -> String {
        let Self { name, variable, .. } = self;
        format!(
            "the {name} emulator is missing: install google-cloud-cli-{name}-emulator, a Java 17 or later, and flock, or name one that runs in {variable}"
        )
    }
}

/// Says aloud what is missing for a test, which is a failure where `CI=true`. Never true.
#[expect(clippy::print_stderr, reason = "what is left out is said where the runner shows it")]
pub(crate) fn left_out(missing: &str) -> bool {
    assert!(variable("CI").is_none_or(|ci| ci != "true"), "{missing}");
    eprintln!("LEFT OUT: {missing}");
    false
}

#[expect(clippy::zombie_processes, reason = "the guardian outlives this process, and whoever inherits it waits for it")]
fn start(kind: &Kind, dir: &Path) -> String {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let address = format!("127.0.0.1:{port}");
    let log = File::create(dir.join("log")).expect("a log");
    Command::new("sh")
        .args(["-c", GUARDIAN])
        .arg(dir)
        .arg("gcloud")
        .args(kind.command)
        .arg(format!("--host-port={address}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("sh starts");
    let begun = Instant::now();
    while !answers(&address) {
        let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
        assert!(begun.elapsed() < START_TIMEOUT, "the {} emulator does not start:\n{}", kind.name, log());
        // Another process' port cannot be waited for, only asked.
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::write(dir.join("address"), &address).expect("its address is written down");
    address
}

fn lock(path: &PathBuf, operation: FlockOperation) -> File {
    let file = File::options().create(true).truncate(false).write(true).open(path).expect("a lock file");
    flock(&file, operation).expect("a lock");
    file
}

fn answers(address: &str) -> bool {
    address.parse::<SocketAddr>().is_ok_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

/// Whether the SDK that `gcloud` belongs to has the component, and the rest is there that it takes to run it.
fn is_installed(component: &str) -> bool {
    let found = |program: &str| {
        let path = variable("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
    };
    let has_component = found("gcloud").and_then(|gcloud| gcloud.canonicalize().ok()).is_some_and(|gcloud| {
        gcloud.ancestors().any(|dir| {
            let platform = dir.join("platform");
            platform.join(component).is_dir() || dir.join("google-cloud-sdk/platform").join(component).is_dir()
        })
    });
    has_component && found("java").is_some() && found("flock").is_some()
}

#[expect(clippy::disallowed_methods, reason = "variables of tests alone, and where programs are found")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
