//! The question before repairs, on a real terminal.

use convpipe::schema::envelope::Envelope;

use crate::pipeline::place::{LIMIT, Place, busy_evening, wait_until};
use crate::support::redis::RedisServer;
use crate::support::terminal::Terminal;

/// Two conversations that Redis lost, with nobody there who would repair them.
async fn drifted(redis: &RedisServer) -> Place {
    let place = Place::new(&redis.url(), "convpipe");
    let process = place.start(&["snapshot"]);
    let events = busy_evening(100).into_iter().filter(|envelope: &Envelope| envelope.attribute("ce-subject").is_some());
    place.publish(events.collect()).await;
    place.wait_backlog(&place.bus(), 0).await;
    assert!(process.terminate(LIMIT).status.success());
    let keys: Vec<String> = redis.run(&["KEYS", "convpipe:*:conversation:*"]);
    keys.iter().take(2).for_each(|key| redis.run::<()>(&["DEL", key]));
    place
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_yes_repairs() {
    let redis = RedisServer::start();
    let place = drifted(&redis).await;
    let bus = place.bus();
    let file = place.dir().join("convpipe.yaml");
    let args = ["--config", file.to_str().unwrap(), "reconcile", "--repair", "--settle", "0s"];
    let asked = |keys: &str| {
        let mut terminal = Terminal::start(place.dir(), 80, &args, &[]);
        terminal.wait_for("2 repairs, each writes a conversation anew in one store. Go on? Type yes: ", LIMIT);
        terminal.press(keys);
        let (status, shown) = terminal.wait(LIMIT);
        (status.code(), shown)
    };
    for (keys, code, says) in [
        ("no\n", 1, "nothing was repaired"),
        ("y\n", 1, "nothing was repaired"),
        ("\n", 1, "nothing was repaired"),
        ("\u{4}", 1, "nothing was repaired"),
        ("\u{3}", 130, "interrupted: nothing was repaired"),
    ] {
        let (ended, shown) = asked(keys);
        assert_eq!(ended, Some(code), "{keys:?}: {shown}");
        let told = shown.lines().last().unwrap_or_default();
        assert!(told.contains(says), "{keys:?}: {shown}");
        assert_eq!(place.backlog(&bus).await, Some(0), "{keys:?}: nothing was asked for");
    }
    let (ended, shown) = asked("yes\n");
    assert_eq!(ended, Some(0), "{shown}");
    assert!(shown.contains("2 repairs asked for"), "{shown}");
    wait_until("requests", async || place.backlog(&bus).await == Some(4)).await;
}
