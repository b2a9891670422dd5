//! Who may do what, and addresses that cannot be used.

use bytes::Bytes;
use convpipe::config::RedisConfig;
use convpipe::schema::time::Millis;
use convpipe::transform::materialize::{AccountWrite, WriteOutcome};
use convpipe::views::{Follower, Reader, Start, StreamId, StreamRange, ViewsError, Writer, acl};
use secrecy::SecretString;

use super::super::support::redis::RedisServer;
use super::{ACCOUNT, T0, claims, config, entry, entry_of, follow, next, write};

/// Files with the passwords, and the config that names them.
fn users(server: &RedisServer, dir: &tempfile::TempDir, passwords: [&str; 2]) -> RedisConfig {
    use std::os::unix::fs::PermissionsExt;
    let file = |name: &str, password: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{password}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Some(path)
    };
    RedisConfig {
        user: Some(acl::SNAPSHOT_USER.into()),
        password_file: file("snapshot", passwords[0]),
        reader_user: Some(acl::READER_USER.into()),
        reader_password_file: file("reader", passwords[1]),
        ..config(server)
    }
}

#[tokio::test]
async fn the_users_may_do_what_they_need_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.acl");
    let passwords = ["snapshot-Secret", "reader-Secret"];
    let rendered = acl::render(&SecretString::from(passwords[0]), &SecretString::from(passwords[1])).unwrap();
    std::fs::write(&file, rendered).unwrap();
    let server = RedisServer::start_with(&["--aclfile", file.to_str().unwrap()]);
    let config = users(&server, &dir, passwords);

    // What the two need works.
    let (writer, reader) = (Writer::connect(&config).await.unwrap(), Reader::connect(&config).await.unwrap());
    writer.epoch().await.unwrap();
    let mut full = write("1", 0);
    (full.awaiting_since, full.due_at) = (Some(Millis(T0)), Some(Millis(T0)));
    (full.fan_events, full.priority) = (vec![Bytes::from_static(b"{}")], vec![entry("x")]);
    assert_eq!(writer.write_conversations(&[full]).await.unwrap(), [WriteOutcome::Written]);
    assert_eq!(writer.write_conversations(&[write("1", 1)]).await.unwrap(), [WriteOutcome::Written]);
    let account =
        AccountWrite { account: ACCOUNT.into(), expected_rev: 0, rev: 1, fold: vec![1], fields: vec![], priority: vec![entry("y")] };
    writer.write_accounts(&[account]).await.unwrap();
    writer.resolve(&[claims(&[("1", "1")], &[("1", T0)])]).await.unwrap();
    writer.resolve(&[claims(&[], &[("1", T0 - 1)])]).await.unwrap();
    writer.load_accounts(&[ACCOUNT.into()]).await.unwrap();
    writer.due(ACCOUNT, Millis(T0), 1).await.unwrap();
    assert!(reader.conversation(ACCOUNT, "1").await.unwrap().is_some());
    reader.epoch().await.unwrap();
    reader.account(ACCOUNT).await.unwrap();
    assert!(reader.memory().await.unwrap().used_bytes > 0);
    reader.awaiting(ACCOUNT, 0, 1).await.unwrap();
    assert_eq!(reader.find_fan("1").await.unwrap(), [ACCOUNT]);
    reader.fan_events(ACCOUNT, "1", StreamRange::After { id: StreamId::ZERO, limit: 1 }).await.unwrap();
    let mut follower = Follower::open(&config, follow(Start::Last(1), false)).unwrap();
    assert_eq!(entry_of(next(&mut follower).await), "{\"n\":\"y\"}");

    // Anything else does not.
    let denied = |user: &str, password: &str, commands: &[&[&str]]| {
        let url = format!("redis://{user}:{password}@127.0.0.1:{}", server.port());
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        for command in commands {
            let answer: redis::RedisResult<redis::Value> = redis::cmd(command[0]).arg(&command[1..]).query(&mut connection);
            let error = answer.expect_err(&format!("{user}: {command:?}")).to_string().to_lowercase();
            assert!(error.contains("permission") || error.contains("noperm"), "{user}: {command:?}: {error}");
        }
    };
    let nobody: [&[&str]; 8] = [
        &["GET", "other:epoch"],
        &["HGET", "other", "rev"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["KEYS", "*"],
        &["ACL", "LIST"],
        &["EVAL", "return 1", "0"],
        &["SHUTDOWN", "NOSAVE"],
    ];
    denied(acl::READER_USER, passwords[1], &nobody);
    denied(acl::SNAPSHOT_USER, passwords[0], &nobody);
    let hash = redis::Script::new("return 1").get_hash().to_owned();
    denied(
        acl::READER_USER,
        passwords[1],
        &[
            &["SET", "convpipe:x", "1"],
            &["HSET", "convpipe:{a}:account", "rev", "1"],
            &["XADD", "convpipe:{a}:priority", "*", "entry", "1"],
            &["ZADD", "convpipe:accounts", "1", "a"],
            &["DEL", "convpipe:epoch"],
            &["EXPIRE", "convpipe:epoch", "1"],
            &["EVALSHA", &hash, "0"],
            &["SCRIPT", "LOAD", "return 1"],
            &["XRANGE", "other", "-", "+"],
            &["XREAD", "STREAMS", "other", "0"],
        ],
    );
    denied(
        acl::SNAPSHOT_USER,
        passwords[0],
        &[
            &["SET", "other", "1"],
            &["HSET", "other", "a", "1"],
            &["DEL", "convpipe:epoch"],
            &["PUBLISH", "channel", "x"],
            &["SCRIPT", "FLUSH"],
            &["EVALSHA", &hash, "1", "other"],
        ],
    );

    // Nor does anybody else, nor they with another password; and the error tells neither.
    let wrong = users(&server, &dir, ["Wrong-one", "Wrong-two"]);
    let anonymous = RedisConfig { url: server.url(), ..RedisConfig::default() };
    let misplaced = RedisConfig { user: config.reader_user.clone(), password_file: None, ..anonymous.clone() };
    for config in [&wrong, &anonymous, &misplaced] {
        for error in [Writer::connect(config).await.err().unwrap(), Reader::connect(config).await.err().unwrap()] {
            assert!(matches!(error, ViewsError::Auth { .. }) && !error.is_transient(), "{error:?}");
            assert!(!error.to_string().contains("Wrong-"), "{error}");
        }
    }
    // The reader's rights do not suffice for the writer, which says so.
    let swapped = RedisConfig { user: config.reader_user.clone(), password_file: wrong.reader_password_file.clone(), ..config.clone() };
    users(&server, &dir, passwords);
    let error = Writer::connect(&swapped).await.unwrap().epoch().await.unwrap_err();
    assert!(matches!(error, ViewsError::NoPermission(_)), "{error:?}");
}

#[tokio::test]
async fn addresses_that_cannot_be_used_are_typed_and_keep_their_secrets() {
    let server = RedisServer::start();
    let port = server.port();
    let with = |url: String| RedisConfig { url, timeout_ms: 500, ..RedisConfig::default() };
    let unix = Reader::connect(&with(server.unix_url())).await.unwrap();
    assert_eq!(unix.epoch().await.unwrap(), None);
    assert!(Reader::connect(&with(format!("redis://127.0.0.1:{port}/1"))).await.is_ok());

    for (url, expected) in [
        (format!("redis://user:Canary@127.0.0.1:{port}"), "Config"),
        ("http://127.0.0.1".into(), "Config"),
        ("".into(), "Config"),
        ("redis://127.0.0.1:1".into(), "Unreachable"),
        ("unix:///nowhere/redis.sock".into(), "Unreachable"),
        // Redis without TLS closes or stays silent on a TLS hello.
        (format!("rediss://127.0.0.1:{port}"), "Unreachable"),
    ] {
        let error = Writer::connect(&with(url.clone())).await.err().unwrap();
        assert!(format!("{error:?}").starts_with(expected), "{url}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("Canary"), "{error:?}");
    }
}
