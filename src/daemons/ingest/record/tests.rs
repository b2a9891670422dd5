use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn config(dir: &Path) -> RecordConfig {
    RecordConfig { dir: Some(dir.to_owned()), ..RecordConfig::default() }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Time, account and frame of each line, as `replay` reads them.
fn lines(file: &Path) -> Vec<(u64, String, String)> {
    let text = String::from_utf8(zstd::decode_all(&fs::read(file).unwrap()[..]).unwrap()).unwrap();
    let line = |(n, line): (usize, &str)| {
        let recorded: crate::schema::frame::RecordedFrame<'_> = serde_json::from_str(line).unwrap();
        assert_eq!(recorded.t0.is_some(), n == 0, "the first line says when it began");
        let raw = recorded.frame.get();
        let frame = if raw.starts_with('"') { serde_json::from_str(raw).unwrap() } else { raw.to_owned() };
        (recorded.t_ms, recorded.account.raw().to_owned(), frame)
    };
    text.split_terminator('\n').enumerate().map(line).collect()
}

#[test]
fn frames_are_recorded_as_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("new");
    let mut record = Files::open(&dir, &config(&dir)).unwrap();
    let frames = [r#"{"a":1.50,"a":"\u00e9"}"#, "{\"a\":\n1}", r#""hello""#, "no JSON", " {}", "", "{\"a\":\"\u{2028}\"}", "[1]"];
    for (frame, at) in frames.iter().zip([0, 5, 3, 7, 8, 9, 10, 11]) {
        assert_eq!(record.push("1", Millis(1_000_000 + at), frame.as_bytes()), (0, false));
    }
    assert_eq!((record.flush(), record.flush()), ((8, 0), (0, 0)));
    let [file] = &files(&dir)[..] else { panic!("one file") };
    let read = lines(file);
    assert_eq!(read.iter().map(|(_, _, frame)| frame.as_str()).collect::<Vec<_>>(), frames);
    assert_eq!(read.iter().map(|(t_ms, ..)| *t_ms).collect::<Vec<_>>(), [0, 5, 5, 7, 8, 9, 10, 11], "never back");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(file.file_name().unwrap(), "convpipe-19700101T001640.000Z.jsonl.zst");
}

#[test]
fn what_was_flushed_is_whole_whatever_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = Files::open(dir.path(), &config(dir.path())).unwrap();
    record.push("1", Millis(0), b"1");
    record.flush();
    record.push("1", Millis(1), b"2");
    // The process is killed: what was not flushed is gone, what was is a file of its own right.
    drop(record);
    let file = &files(dir.path())[0];
    assert_eq!(lines(file).len(), 1);
    // A flush that was torn costs itself alone.
    let mut torn = fs::read(file).unwrap();
    torn.extend_from_slice(&zstd::encode_all(&b"{\"t_ms\":1,"[..], 3).unwrap()[..9]);
    let mut text = String::new();
    let error = io::Read::read_to_string(&mut zstd::Decoder::new(&torn[..]).unwrap(), &mut text).unwrap_err();
    assert_eq!((error.kind(), text.lines().count()), (io::ErrorKind::UnexpectedEof, 1));
}

#[test]
fn files_rotate_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("notes.jsonl.zst");
    fs::write(&other, "not ours").unwrap();
    let limits = RecordConfig { file_max_bytes: 200, size_max_bytes: 1_000, ..config(dir.path()) };
    let mut record = Files::open(dir.path(), &limits).unwrap();
    for n in 0..40i64 {
        // Nothing that compresses.
        let frame = format!("\"{}\"", crate::schema::ids::hash128_hex(&[&n.to_le_bytes()]));
        assert_eq!(record.push("1", Millis(n * 1_000), frame.as_bytes()).0, 0);
        assert_eq!(record.flush(), (1, 0));
    }
    let kept = files(dir.path());
    let size: u64 = kept.iter().filter(|file| **file != other).map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(kept.contains(&other) && kept.len() > 3 && size <= 1_000 + 200, "{size} bytes in {kept:?}");
    let first = kept.iter().find(|file| **file != other).unwrap();
    assert!(lines(first)[0].1 == "1" && !first.to_string_lossy().contains("000000.000Z"), "the oldest went: {first:?}");

    // What is old goes, whether anything new comes or not.
    for file in &kept {
        fs::File::options().write(true).open(file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    Files::open(dir.path(), &config(dir.path())).unwrap().sweep();
    assert_eq!(files(dir.path()), [other]);
}

#[test]
fn names_sort_as_the_files_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = Files::open(dir.path(), &RecordConfig { file_max_bytes: 1, ..config(dir.path()) }).unwrap();
    // Several in one millisecond; one account's frame that is taken after a later one of another; a clock that was set back.
    let times: Vec<i64> = std::iter::repeat_n(5_000, 12).chain([5_001, 4_990, 5_001, 5_010]).collect();
    for (n, at) in times.iter().enumerate() {
        record.push("1", Millis(*at), n.to_string().as_bytes());
        record.flush();
    }
    let written: Vec<String> = files(dir.path()).iter().flat_map(|file| lines(file)).map(|(.., frame)| frame).collect();
    assert!(written.iter().eq((0..times.len()).map(|n| n.to_string()).collect::<Vec<_>>().iter()), "{written:?}");
    record.push("1", Millis(1_000), b"back");
    record.flush();
    assert!(files(dir.path())[0].to_str().unwrap().contains("T000001"), "a clock that was set back is believed");
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_never_waits() {
    let dir = tempfile::tempdir().unwrap();
    let counters = Arc::new(Counters::default());
    let limits = RecordConfig { queue_max_bytes: 1_000, ..config(dir.path()) };
    let (recorder, writer) = Recorder::start(&limits, &counters).unwrap().unwrap();
    let frame = |bytes: &[u8], length: u64| Payload { is_text: true, bytes: Bytes::copy_from_slice(bytes), length };
    recorder.frame("1", Millis(0), &frame(&[b'1'; 901], 901));
    recorder.frame("1", Millis(0), &frame(&[b'1'; 950], 950));
    recorder.frame("1", Millis(0), &frame(b"1", 2));
    drop(recorder);
    assert!(writer.finish(Duration::from_secs(5)).await);
    let counts = counters.read();
    assert_eq!((counts.recorded, counts.record_dropped), (1, 2), "the second is too large for the queue, the third was cut");
    assert_eq!(lines(&files(dir.path())[0]).len(), 1);
    assert!(Recorder::start(&RecordConfig::default(), &counters).unwrap().is_none());
    let in_a_file = RecordConfig { dir: Some(files(dir.path())[0].join("x")), ..limits };
    assert!(Recorder::start(&in_a_file, &counters).unwrap_err().to_string().contains("cannot record into"));
}

#[test]
fn scrubbed_frames_keep_their_shape_and_nobody() {
    const CANARIES: [&str; 9] =
        ["Canary", "canary_name", "100000077", "6400000000077", "492000077", "canary.example", "canaryKey", "secret", "555-0177"];
    let frames = [
        r#"{"api2_chat_message":{"id":6400000000077,"text":"<p>Canary &amp; 555-0177</p>","price":3.99,"media":[{"id":492000077,"type":"photo",
            "files":{"full":{"url":"https://canary.example/secret?x=1","width":1080}}}],"fromUser":{"id":100000077,"name":"Canary","username":"u100000077",
            "listsStates":[{"id":"rebill_on","type":"Canary"}]},"createdAt":"2026-07-23T12:00:00+00:00","isNew":true}}"#,
        r#"{"new_message":{"id":"6400000000077","type":"paided_message","subType":"subscriber_pay_for_chat_message","text":"Canary paid","user":{"id":100000077,
            "name":"canary_name"},"replacePairs":{"{MESSAGE_LINK}":"/my/chats/chat/100000077?firstId=6400000000077","{AMOUNT}":"$12.00",
            "{POST_URL}":"https://onlyfans.com/492000077/canary_name","{MESSAGE_LINK2}":"/my/chats/chat/100000077"}}}"#,
        r#"{"brand_new_thing":{"canaryKey":{"100000077":["Canary",true,null,-1,2.5]}},"typing":{"id":100000077},"typing":{"id":100000077}}"#,
        r#""Canary says secret""#,
        "Canary {not json 100000077",
        "[\"Canary\",100000077,\"https://canary.example\"]",
    ];
    let scrubber = Scrubber::new().unwrap();
    let scrubbed: Vec<String> = frames.iter().map(|frame| scrubber.frame(frame.as_bytes())).collect();
    for (frame, scrubbed) in frames.iter().zip(&scrubbed) {
        for canary in CANARIES {
            assert!(!scrubbed.contains(canary), "{canary} in {scrubbed}");
        }
        assert_eq!(*scrubbed, scrubber.frame(frame.as_bytes()), "the same again");
        assert_ne!(*scrubbed, Scrubber::new().unwrap().frame(frame.as_bytes()), "not with another key");
    }
    let fan = scrubber.account("100000077");
    let message = scrubber.account("6400000000077");
    assert_eq!((fan.len(), message.len()), (9, 13));
    for kept in [
        "\"price\":3.99",
        "\"type\":\"photo\"",
        "\"width\":1080",
        "\"createdAt\":\"2026-07-23T12:00:00+00:00\"",
        "\"rebill_on\"",
        "\"isNew\":true",
    ] {
        assert!(scrubbed[0].contains(kept), "{kept} in {}", scrubbed[0]);
    }
    assert!(scrubbed[0].contains(&format!("\"id\":{fan}")) && scrubbed[0].contains(&format!("\"u{fan}\"")), "{}", scrubbed[0]);
    assert!(scrubbed[1].contains(&format!("/my/chats/chat/{fan}?firstId={message}")), "{}", scrubbed[1]);
    assert!(
        scrubbed[1].contains("\"{AMOUNT}\":\"$12.00\"") && scrubbed[1].contains("\"subscriber_pay_for_chat_message\""),
        "{}",
        scrubbed[1]
    );
    let renewal = |kind: &str| scrubber.frame(format!(r#"{{"new_message":{{"subType":"{kind}"}}}}"#).as_bytes());
    assert!(renewal("subscription_renewed_again").contains("subscription_renewed_again"), "new names of notifications stay");
    assert!(!renewal("Canary name").contains("Canary") && !renewal("canary").contains("canary"), "what is no name does not");
    assert_eq!(scrubbed[2].matches(&format!("\"typing\":{{\"id\":{fan}}}")).count(), 2, "keys that stand twice: {}", scrubbed[2]);
    assert!(scrubbed[2].starts_with("{\"brand_new_thing\":{"), "the names of new events stay: {}", scrubbed[2]);
}

/// Every text of the fixtures that is none of the platform's own words is gone from their scrubbed frames.
#[test]
fn no_text_of_the_fixtures_survives() {
    fn texts(value: &serde_json::Value, found: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::String(text) => _ = found.insert(text.clone()),
            serde_json::Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            // The name of a notification is the platform's, also where it is new.
            serde_json::Value::Object(entries) => entries
                .iter()
                .filter(|(key, item)| *key != "subType" || !item.as_str().is_some_and(scrub::is_name))
                .for_each(|(_, item)| texts(item, found)),
            serde_json::Value::Number(number) if number.as_u64().is_some_and(|id| id >= 10_000_000) => _ = found.insert(number.to_string()),
            _ => {}
        }
    }
    let scrubber = Scrubber::new().unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/frames")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_string_lossy();
        if !name.ends_with(".json") || name.ends_with(".expected.json") {
            continue;
        }
        let frame = fs::read(&path).unwrap();
        let Ok(value) = serde_json::from_slice(&frame) else { continue };
        let scrubbed = scrubber.frame(&frame);
        let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
        texts(&value, &mut before);
        texts(&serde_json::from_str(&scrubbed).unwrap(), &mut after);
        let survived: Vec<&String> = before.intersection(&after).filter(|text| !is_public(text)).collect();
        assert!(survived.is_empty(), "{name}: {survived:?}");
        seen += before.len();
    }
    assert!(seen > 100, "only {seen} texts");
}

/// Times, amounts, versions and the platform's own words. A unix time counts as a time.
fn is_public(text: &str) -> bool {
    let is_number = text.trim_start_matches('$').bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.len() < 8;
    let is_time =
        Millis::parse(text).is_some() || text.len() == 10 && (text.starts_with("20") && text.contains('-') || text.starts_with("178"));
    text.is_empty() || is_number || is_time || words::WORDS.binary_search(&text).is_ok()
}

proptest! {
    #[test]
    fn two_ids_never_become_one(ids in prop::collection::btree_set(1u64..2_000, 2..60), large in prop::collection::btree_set(1u64..10_000_000_000_000_000_000, 2..20)) {
        let scrubber = Scrubber::new().unwrap();
        let all: BTreeSet<u64> = ids.union(&large).copied().collect();
        let mapped: BTreeSet<String> = all.iter().map(|id| {
            let mapped = scrubber.account(&id.to_string());
            assert_eq!((mapped.len(), mapped.parse::<u64>().is_ok()), (id.to_string().len(), true));
            mapped
        }).collect();
        prop_assert_eq!(mapped.len(), all.len());
    }

    #[test]
    fn any_frame_becomes_one_line(frame in ".{0,200}") {
        let scrubbed = Scrubber::new().unwrap().frame(frame.as_bytes());
        prop_assert!(!scrubbed.contains(['\n', '\r']));
    }
}

#[test]
fn the_lists_ascend() {
    for list in [words::KEYS, words::AMOUNTS, words::KINDS, words::WORDS] {
        assert!(list.is_sorted());
    }
    assert!(words::AMOUNTS.iter().chain(words::KINDS).all(|key| words::KEYS.contains(key)));
}
