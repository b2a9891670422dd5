//! The artifact store: what it reads, what it refuses, how it replaces.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use convpipe::auth::{ARTIFACT_MAX_BYTES, ArtifactStore, Changes, Content, Problem, Unusable, usable};
use convpipe::schema::artifact::{Artifact, ArtifactStatus};
use convpipe::schema::time::Millis;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const ACCOUNT: &str = "200000001";
/// Stands in every secret place of the artifacts below, and must stand nowhere else.
const CANARY: &str = "canary-3f9a1c";

struct Folder {
    dir: tempfile::TempDir,
    store: ArtifactStore,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(dir.path());
        Self { dir, store }
    }

    /// Puts a file there with mode 0600.
    fn put(&self, name: &str, content: &[u8]) {
        let path = self.dir.path().join(name);
        // What is there may be read-only.
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        chmod(&path, 0o600);
    }

    fn problem(&self) -> Problem {
        let error = self.store.load(ACCOUNT).unwrap_err();
        assert_eq!(error.file, self.dir.path().join("200000001.json"));
        error.problem
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn artifact_json(account: &str) -> Value {
    json!({
        "schema": "convpipe.artifact.v1", "account_id": account, "generation": 3, "platform": "onlyfans",
        "ws_url": format!("wss://ws2.example.com/ws3/30?key={CANARY}"), "token": format!("{CANARY}.token"),
        "expires_at": "2026-07-24T12:00:00.000Z", "origin": "https://example.com", "user_agent": "Mozilla/5.0",
        "headers": {"Cookie": format!("sess={CANARY}")}, "prepared_at": "2026-07-23T12:00:00.000Z", "status": "ready"
    })
}

/// The artifact with a field set to a value, or taken out.
fn with(field: &str, value: Option<Value>) -> Vec<u8> {
    let mut artifact = artifact_json(ACCOUNT);
    let fields = artifact.as_object_mut().unwrap();
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
    serde_json::to_vec(&artifact).unwrap()
}

fn artifact(account: &str) -> Artifact {
    serde_json::from_value(artifact_json(account)).unwrap()
}

#[test]
fn an_artifact_is_read_as_it_stands() {
    let folder = Folder::new();
    folder.put("200000001.json", &serde_json::to_vec(&artifact_json(ACCOUNT)).unwrap());
    let artifact = folder.store.load(ACCOUNT).unwrap();
    assert_eq!((artifact.generation, artifact.status), (3, ArtifactStatus::Ready));
    assert_eq!(artifact.token.expose_secret(), format!("{CANARY}.token"));
    assert!(!format!("{artifact:?}").contains(CANARY));
    // Only the owner's bits matter, and what is optional may be missing.
    chmod(&folder.dir.path().join("200000001.json"), 0o400);
    assert!(folder.store.load(ACCOUNT).is_ok());
    for field in ["expires_at", "origin", "user_agent", "headers", "prepared_at"] {
        folder.put("200000001.json", &with(field, None));
        assert!(folder.store.load(ACCOUNT).is_ok(), "without {field}");
    }
}

#[test]
fn files_that_others_may_have_touched_are_refused() {
    let content = with("generation", Some(json!(1)));
    let folder = Folder::new();
    let path = folder.dir.path().join("200000001.json");
    assert_eq!(folder.problem(), Problem::Missing);

    folder.put("200000001.json", &content);
    for mode in [0o604, 0o640, 0o620, 0o602, 0o610, 0o777] {
        chmod(&path, mode);
        let problem = folder.problem();
        assert!(matches!(problem, Problem::Mode { mode: found, .. } if found == mode), "{mode:o}: {problem:?}");
        assert!(problem.to_string().contains("run `chmod 600 200000001.json`"), "{problem}");
    }
    fs::remove_file(&path).unwrap();

    folder.put("elsewhere", &content);
    symlink(folder.dir.path().join("elsewhere"), &path).unwrap();
    assert_eq!(folder.problem(), Problem::Symlink);
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert_eq!(folder.problem(), Problem::NotAFile);
    fs::remove_dir(&path).unwrap();

    // A pipe that nobody writes to does not hold up whoever reads the folder.
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert_eq!(folder.problem(), Problem::NotAFile);
}

#[test]
fn another_users_file_is_refused() {
    // Only root can give a file away; as anybody else, a file of root's is another user's.
    let folder = Folder::new();
    if rustix::process::geteuid().is_root() {
        folder.put("200000001.json", &with("generation", Some(json!(1))));
        std::os::unix::fs::chown(folder.dir.path().join("200000001.json"), Some(65_534), None).unwrap();
    } else {
        fs::hard_link("/etc/passwd", folder.dir.path().join("200000001.json")).ok();
    }
    match folder.store.load(ACCOUNT).unwrap_err().problem {
        Problem::Owner { owner, user, .. } => assert_ne!(owner, user),
        // Where links to other users' files are forbidden or cross a file system, there is no such file to refuse.
        problem => assert_eq!(problem, Problem::Missing),
    }
}

#[test]
fn content_that_cannot_be_is_refused_and_no_secret_is_told() {
    let whole = with("generation", Some(json!(1)));
    let canary = || Some(json!(CANARY));
    let field = |field, what| Problem::Content(Content::Field { field, what });
    let not_json = |line, column| Problem::Content(Content::NotJson { line, column });
    let missing = |field| Problem::Content(Content::MissingField(field));
    let wrong_type = "has the wrong type or a value that it cannot have";
    let in_header = "cannot stand in a header";
    let not_loopback = "is neither a wss:// URL nor a ws:// URL of this machine's loopback";
    let rows = [
        (Vec::new(), not_json(1, 0)),
        (whole[..whole.len() - 9].to_vec(), not_json(1, whole.len() - 9)),
        (CANARY.as_bytes().to_vec(), not_json(1, 1)),
        (b"[\"canary-3f9a1c\"]".to_vec(), not_json(1, 17)),
        (vec![b' '; usize::try_from(ARTIFACT_MAX_BYTES).unwrap() + 1], Problem::TooLarge),
        (with("token", None), missing("token")),
        (with("status", None), missing("status")),
        (with("generation", canary()), field("generation", wrong_type)),
        (with("expires_at", canary()), field("expires_at", wrong_type)),
        (with("status", canary()), field("status", wrong_type)),
        (with("headers", canary()), field("headers", wrong_type)),
        (with("headers", Some(json!({"Cookie": [CANARY]}))), field("headers", wrong_type)),
        (with("token", Some(json!({"value": CANARY}))), field("token", wrong_type)),
        (with("account_id", canary()), Problem::Content(Content::OtherAccount)),
        (with("schema", canary()), field("schema", "is not `convpipe.artifact.v1`, the only version that this convpipe reads")),
        (with("platform", canary()), field("platform", "is not `onlyfans`, the only platform that this convpipe knows")),
        (with("ws_url", canary()), field("ws_url", not_loopback)),
        (with("ws_url", Some(json!(format!("ws://example.com/{CANARY}")))), field("ws_url", not_loopback)),
        (with("token", Some(json!(""))), field("token", "is empty")),
        (with("origin", Some(json!(format!("{CANARY}\r\nA: b")))), field("origin", in_header)),
        (with("user_agent", Some(json!(format!("{CANARY}\n")))), field("user_agent", in_header)),
        (with("headers", Some(json!({CANARY: "a\r\nb"}))), field("headers", "has a name or a value that cannot stand in a header")),
    ];
    for (row, (content, expected)) in rows.into_iter().enumerate() {
        let folder = Folder::new();
        folder.put("200000001.json", &content);
        let error = folder.store.load(ACCOUNT).unwrap_err();
        for told in [error.to_string(), format!("{error:?}"), format!("{:?}", folder.store.scan())] {
            assert!(!told.contains(CANARY), "row {row}: {told}");
        }
        assert!(error.to_string().contains("200000001.json"), "row {row}");
        assert_eq!(error.problem, expected, "row {row}");
    }
}

#[test]
fn a_scan_reads_what_can_be_read() {
    let folder = Folder::new();
    for account in ["b", "a"] {
        folder.put(&format!("{account}.json"), &serde_json::to_vec(&artifact_json(account)).unwrap());
    }
    folder.put("broken.json", b"{");
    folder.put("not an account.json", b"{}");
    folder.put(".hidden.json", b"{");
    folder.put("README", b"hello");
    let scan = folder.store.scan();
    assert_eq!(scan.artifacts.iter().map(|artifact| artifact.account_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let mut names: Vec<_> = scan.problems.iter().map(|error| error.file.file_name().unwrap().to_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["broken.json", "not an account.json"]);

    let scan = ArtifactStore::new(folder.dir.path().join("missing")).scan();
    assert_eq!((scan.artifacts.len(), &scan.problems[0].problem), (0, &Problem::MissingFolder));
}

#[test]
fn no_account_leaves_the_folder() {
    let folder = Folder::new();
    let inner = ArtifactStore::new(folder.dir.path().join("auth"));
    folder.put("x.json", &serde_json::to_vec(&artifact_json("x")).unwrap());
    for account in ["../x", "", ".", "..", "a/b", "/etc/passwd", "a\0b"] {
        assert_eq!(inner.load(account).unwrap_err().problem, Problem::Account, "{account:?}");
        let artifact = Artifact { account_id: account.to_owned(), ..artifact("x") };
        assert_eq!(inner.write(&artifact).unwrap_err().problem, Problem::Account, "{account:?}");
    }
}

#[test]
fn what_is_written_is_read_back_and_is_the_owners_alone() {
    let folder = Folder::new();
    let store = ArtifactStore::new(folder.dir.path().join("new/auth"));
    store.write(&artifact(ACCOUNT)).unwrap();
    store.write(&Artifact { generation: 4, headers: [].into(), expires_at: None, ..artifact(ACCOUNT) }).unwrap();

    let read = store.load(ACCOUNT).unwrap();
    assert_eq!((read.generation, read.headers.len(), read.expires_at), (4, 0, None));
    assert_eq!(read.ws_url.expose_secret(), artifact(ACCOUNT).ws_url.expose_secret());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(store.dir()), mode(&store.dir().join("200000001.json"))), (0o700, 0o600));
    assert_eq!(fs::read_dir(store.dir()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_failed_write_leaves_the_old_one() {
    let folder = Folder::new();
    folder.store.write(&artifact(ACCOUNT)).unwrap();
    let invalid = Artifact { token: String::new().into(), ..artifact(ACCOUNT) };
    assert!(matches!(folder.store.write(&invalid).unwrap_err().problem, Problem::Content(Content::Field { field: "token", .. })));
    assert_eq!(folder.store.load(ACCOUNT).unwrap().generation, 3);
    // A folder in the file's place cannot be replaced, and nothing stays beside it.
    fs::create_dir(folder.dir.path().join("b.json")).unwrap();
    assert!(matches!(folder.store.write(&artifact("b")).unwrap_err().problem, Problem::Io { what: "written", .. }));
    assert_eq!(fs::read_dir(folder.dir.path()).unwrap().count(), 2);
}

#[test]
fn what_came_changed_or_went_is_noticed() {
    let folder = Folder::new();
    let accounts = |accounts: &[&str]| accounts.iter().map(|&account| account.to_owned()).collect::<Vec<_>>();
    let changes = |added: &[&str], changed: &[&str], removed: &[&str]| Changes {
        added: accounts(added),
        changed: accounts(changed),
        removed: accounts(removed),
    };
    let path = |account: &str| folder.dir.path().join(format!("{account}.json"));
    let steps: [(&str, &dyn Fn(), Changes); 6] = [
        ("nothing", &|| (), changes(&[], &[], &[])),
        (
            "new",
            &|| ["a", "b", "c"].iter().for_each(|account| folder.store.write(&artifact(account)).unwrap()),
            changes(&["a", "b", "c"], &[], &[]),
        ),
        ("replaced by an equal one", &|| folder.store.write(&artifact("b")).unwrap(), changes(&[], &["b"], &[])),
        ("other permissions", &|| chmod(&path("c"), 0o644), changes(&[], &["c"], &[])),
        ("gone", &|| fs::remove_file(path("a")).unwrap(), changes(&[], &[], &["a"])),
        ("not an artifact", &|| folder.put("README", b"x"), changes(&[], &[], &[])),
    ];
    let mut before = folder.store.fingerprint().unwrap();
    for (name, step, expected) in steps {
        step();
        let now = folder.store.fingerprint().unwrap();
        let found = before.changes_to(&now);
        assert_eq!(found, expected, "{name}");
        assert_eq!(found.is_empty(), before == now, "{name}");
        before = now;
    }
}

#[test]
fn an_artifact_is_used_until_it_ends() {
    let end = Millis::parse("2026-07-24T12:00:00Z").unwrap();
    let before = end.plus(-1);
    for (status, expires_at, now, expected) in [
        (ArtifactStatus::Ready, Some(end), before, Ok(())),
        (ArtifactStatus::Ready, Some(end), end, Err(Unusable::Expired(end))),
        (ArtifactStatus::Ready, None, end, Ok(())),
        (ArtifactStatus::NeedsOtp, Some(end), before, Err(Unusable::NeedsOtp)),
        (ArtifactStatus::NeedsFaceCheck, None, before, Err(Unusable::NeedsFaceCheck)),
        (ArtifactStatus::Rejected, Some(end), end, Err(Unusable::Rejected)),
    ] {
        let artifact = Artifact { status, expires_at, ..artifact(ACCOUNT) };
        assert_eq!(usable(&artifact, now), expected, "{status:?} {expires_at:?}");
    }
}
