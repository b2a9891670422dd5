//! `ingest --record --scrub`: nobody is left in the files, and everything else is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::place::{LIMIT, Place, Platform, lines, quiet_evening, recordings, unpacked, wait_until};

const KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// What identifies somebody or something: names, texts and links whatever they say, and ids.
fn telling(key: &str, value: &Value, found: &mut BTreeSet<String>) {
    const TEXTS: [&str; 12] =
        ["text", "rawText", "name", "username", "title", "url", "src", "full", "thumb", "preview", "avatar", "lastMessage"];
    match value {
        Value::String(text) if TEXTS.contains(&key) || text.contains("://") || text.contains(' ') || is_id(text) => {
            found.insert(text.clone());
        }
        Value::Number(number) if is_id(&number.to_string()) => _ = found.insert(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| telling(key, item, found)),
        Value::Object(entries) => entries.iter().for_each(|(key, item)| telling(key, item, found)),
        _ => {}
    }
}

/// Ids have eight digits and more; times in seconds since 1970 have ten and begin with 17.
fn is_id(text: &str) -> bool {
    text.len() >= 8 && text.bytes().all(|b| b.is_ascii_digit()) && !(text.len() == 10 && text.starts_with("17"))
}

/// Walks two frames side by side: the shape is the same, and every id and text has one replacement.
fn same_shape(at: &str, original: &Value, scrubbed: &Value, replaced: &mut BTreeMap<String, String>) {
    match (original, scrubbed) {
        (Value::Object(before), Value::Object(after)) => {
            assert_eq!(before.len(), after.len(), "{at}");
            // A key that the platform is not known for has another name.
            for (key, before) in before {
                if let Some(after) = after.get(key) {
                    same_shape(&format!("{at}/{key}"), before, after, replaced);
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{at}");
            before.iter().zip(after).for_each(|(before, after)| same_shape(at, before, after, replaced));
        }
        (Value::Number(before), Value::Number(after)) if is_id(&before.to_string()) => {
            let (before, after) = (before.to_string(), after.to_string());
            assert_eq!(before.len(), after.len(), "{at}");
            assert_eq!(*replaced.entry(before).or_insert_with(|| after.clone()), after, "{at}");
        }
        (Value::String(before), Value::String(after)) if is_id(before) => {
            assert_eq!(replaced.entry(before.clone()).or_insert_with(|| after.clone()), after, "{at}");
        }
        (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_)) => {}
        (before, after) => assert_eq!(before, after, "{at}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrubbed_recording_holds_nobody_and_means_the_same() {
    let (_, frames, accounts) = quiet_evening();
    let mut place = Place::new();
    place.config["ingest"]["record"]["file_max_bytes"] = 4_000.into();
    place.config["ingest"]["record"]["key_file"] = "key".into();
    place.write("key", KEY, 0o600);
    let (plain, scrubbed) = (place.path("plain"), place.path("scrubbed"));
    let platform = Platform::start(&accounts).await;
    place.lead(&accounts, &platform.url);

    // Once as it came, in one process; once scrubbed, by two processes with the same key, the first of which is killed.
    let ingest = place.start(&["ingest", "--record", "plain"]);
    platform.play(&frames).await;
    wait_until("frames in the files", || lines(&plain).len() == frames.len()).await;
    assert!(ingest.terminate(LIMIT).status.success());
    let (first, second) = frames.split_at(frames.len() / 2);
    let ingest = place.start(&["ingest", "--record", "scrubbed", "--scrub"]);
    platform.play(first).await;
    wait_until("frames in the files", || lines(&scrubbed).len() == first.len()).await;
    ingest.kill();
    let ingest = place.start(&["ingest", "--record", "scrubbed", "--scrub"]);
    platform.play(second).await;
    wait_until("frames in the files", || lines(&scrubbed).len() == frames.len()).await;
    assert!(ingest.terminate(LIMIT).status.success());
    assert!(recordings(&scrubbed).len() > 2, "several files");

    // Nothing that identifies is left.
    let text: String = recordings(&scrubbed).iter().map(|file| unpacked(file)).collect();
    let mut found = BTreeSet::from_iter(accounts.clone());
    let originals: Vec<Value> = frames.iter().filter_map(|frame| serde_json::from_str(&frame.text).ok()).collect();
    originals.iter().for_each(|frame| telling("", frame, &mut found));
    assert!(found.len() > 500, "only {}", found.len());
    for telling in &found {
        let as_json = serde_json::to_string(telling).unwrap();
        // A word of three letters may stand in another one by chance.
        let is_there =
            if telling.len() < 5 { text.contains(&as_json) } else { text.contains(telling) || text.contains(as_json.trim_matches('"')) };
        assert!(!is_there || telling.is_empty(), "{telling:?} is left");
    }

    // The shape is the same, and the same id has the same replacement in all files, whichever process wrote them. Accounts come in no order to each
    // other, so each is compared by itself.
    let mut replaced = BTreeMap::new();
    let (plain_lines, scrubbed_lines) = (lines(&plain), lines(&scrubbed));
    let of = |lines: &[Value], account: &str| -> Vec<Value> {
        lines.iter().filter(|line| line["account"] == *account).map(|line| line["frame"].clone()).collect()
    };
    let others: BTreeSet<String> = scrubbed_lines.iter().map(|line| line["account"].as_str().unwrap().to_owned()).collect();
    assert_eq!(others.len(), accounts.len());
    // Whose frames are whose shows in when somebody typed, which stays.
    let typed = |frames: &[Value]| -> Vec<bool> { frames.iter().map(|frame| frame.get("typing").is_some()).collect() };
    for account in &accounts {
        let frames = of(&plain_lines, account);
        let alike = |other: &&String| typed(&of(&scrubbed_lines, other)) == typed(&frames);
        let other = others.iter().find(alike).expect("the same frames");
        for (n, (before, after)) in frames.iter().zip(of(&scrubbed_lines, other)).enumerate() {
            same_shape(&format!("frame {n}"), before, &after, &mut replaced);
        }
        assert_eq!(replaced.entry(account.clone()).or_insert_with(|| other.clone()), other, "on the line and in the frames");
    }
    assert!(replaced.len() > 50, "only {} ids", replaced.len());
    assert_eq!(replaced.values().collect::<BTreeSet<_>>().len(), replaced.len(), "two ids never become one");

    let (plain, scrubbed) = (place.replay(&recordings(&plain)).1, place.replay(&recordings(&scrubbed)).1);
    for key in ["frames", "kinds", "rejected"] {
        assert_eq!(plain["counts"][key], scrubbed["counts"][key], "{key}");
    }
    let sizes = |printed: &Value| [printed["snapshots"].as_array().unwrap().len(), printed["accounts"].as_object().unwrap().len()];
    assert_eq!(sizes(&plain), sizes(&scrubbed));
}

#[test]
fn a_key_that_others_can_read_or_guess_is_refused() {
    let mut place = Place::new();
    place.config["ingest"]["record"]["key_file"] = "key".into();
    for (content, mode, says) in [
        (KEY, 0o644, "chmod 0600"),
        ("short", 0o600, "fewer than 32 characters; make one with `openssl rand -hex 32`"),
        ("", 0o600, "is empty"),
    ] {
        place.write("key", content, mode);
        let output = place.start(&["ingest", "--record", "rec", "--scrub"]).wait(LIMIT);
        let said = output.stderr.join("\n");
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("ingest.record.key_file: ") && said.contains(says) && !said.contains(KEY), "{said}");
    }
    let output = place.start(&["ingest", "--scrub"]).wait(LIMIT);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
