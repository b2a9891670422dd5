//! `ingest --record`: what came is in the files, whatever ends the process, and the files stay within their bounds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use convpipe::daemons::playback::{Frame, Recording};
use serde_json::Value;

use super::place::{LIMIT, Place, Platform, lines, quiet_evening, recordings, unpacked, wait_until};

/// A file of this age in the folder of the recordings.
fn plant(file: &Path, age: SystemTime) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, "x").unwrap();
    fs::File::options().write(true).open(file).unwrap().set_modified(age).unwrap();
}

/// What of a dry run does not depend on when the frames came.
fn counted(printed: &Value) -> [&Value; 3] {
    ["frames", "kinds", "rejected"].map(|key| &printed["counts"][key])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_is_recorded_in_files_that_rotate_and_replay_takes_them() {
    let (evening, frames, accounts) = quiet_evening();
    let mut place = Place::new();
    place.config["ingest"]["record"]["file_max_bytes"] = 2_000.into();
    let (dir, platform) = (place.path("rec"), Platform::start(&accounts).await);
    place.lead(&accounts, &platform.url);
    // Older than `age_max_s`; and what is not ours.
    let (old, others) = (dir.join("convpipe-20200101T000000.000Z.jsonl.zst"), dir.join("notes.jsonl.zst.old"));
    for file in [&old, &others] {
        plant(file, SystemTime::UNIX_EPOCH);
    }
    let ingest = place.start(&["ingest", "--record", "rec"]);
    wait_until("sweep of what is old", || !old.exists()).await;
    for (n, part) in frames.chunks(100).enumerate() {
        platform.play(part).await;
        wait_until("frames in the files", || lines(&dir).len() == (n + 1) * 100).await;
    }
    assert!(ingest.terminate(LIMIT).status.success());

    let files = recordings(&dir);
    let sizes: Vec<u64> = files.iter().map(|file| fs::metadata(file).unwrap().len()).collect();
    assert!(files.len() >= 4 && sizes[..sizes.len() - 1].iter().all(|size| *size >= 2_000), "{sizes:?}");
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().permissions().mode() & 0o777 == 0o600));
    assert!(others.exists(), "what is not a recording is somebody else's");
    // Each account's frames as they came, in order, each once; as the reader of recordings sees them.
    let recorded: Vec<Frame> = files.iter().flat_map(|file| Recording::open(file).unwrap().map(Result::unwrap)).collect();
    for account in &accounts {
        let of = |frames: &[Frame]| -> Vec<String> {
            frames.iter().filter(|frame| frame.account == *account).map(|frame| frame.text.clone()).collect()
        };
        for (n, (recorded, came)) in of(&recorded).iter().zip(of(&frames)).enumerate() {
            assert_eq!(*recorded, came, "{account}, frame {n}");
        }
        assert_eq!(of(&recorded).len(), of(&frames).len(), "{account}");
    }
    let (output, replayed) = place.replay(&files);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(counted(&replayed), counted(&place.replay(&[evening]).1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_recordings_go_when_all_of_them_are_too_large() {
    const SIZE_MAX: u64 = 12_000;
    let (_, frames, accounts) = quiet_evening();
    let mut place = Place::new();
    for (key, value) in [("file_max_bytes", 2_000), ("size_max_bytes", SIZE_MAX)] {
        place.config["ingest"]["record"][key] = value.into();
    }
    let (dir, platform) = (place.path("rec"), Platform::start(&accounts).await);
    place.lead(&accounts, &platform.url);
    let ingest = place.start(&["ingest", "--record", "rec"]);
    let mut largest = 0;
    for part in frames.chunks(50) {
        platform.play(part).await;
        // The last frame of the part is in the newest file; how many were deleted before it is not known here.
        let last = part.iter().rev().find_map(|frame| serde_json::from_str::<Value>(&frame.text).ok()).unwrap();
        wait_until("the frame in the files", || lines(&dir).iter().any(|line| line["frame"] == last)).await;
        let sizes: Vec<u64> = recordings(&dir).iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).collect();
        largest = largest.max(*sizes.iter().max().unwrap());
        assert!(sizes.iter().sum::<u64>() <= SIZE_MAX + largest, "{sizes:?}");
    }
    assert!(ingest.terminate(LIMIT).status.success());
    let left = lines(&dir);
    assert!((50..500).contains(&left.len()), "{} lines are left", left.len());
    assert_eq!(place.replay(&recordings(&dir)).1["counts"]["frames"], left.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_recorded_is_played_and_its_torn_end_is_named() {
    let (_, frames, accounts) = quiet_evening();
    let place = Place::new();
    let (dir, platform) = (place.path("rec"), Platform::start(&accounts).await);
    place.lead(&accounts, &platform.url);
    let ingest = place.start(&["ingest", "--record", "rec"]);
    platform.play(&frames[..200]).await;
    wait_until("frames in the files", || lines(&dir).len() >= 150).await;
    platform.play(&frames[200..400]).await;
    ingest.kill();
    let (output, printed) = place.replay(&recordings(&dir));
    let whole = lines(&dir).len();
    assert!(matches!(output.status.code(), Some(0 | 65)), "a kill may tear the end: {output:?}");
    assert_eq!(printed["counts"]["frames"], whole);

    // The same with an end that is torn for sure, at every kind of place: in a block, in a header, before a frame's last byte.
    let torn = recordings(&dir).pop().unwrap();
    let packed = fs::read(&torn).unwrap();
    for left in [packed.len() - 1, packed.len() - 9, packed.len() / 2, 5, 3] {
        fs::write(&torn, &packed[..left]).unwrap();
        let (output, printed) = place.replay(&recordings(&dir));
        let said = output.stderr.join("\n");
        assert_eq!(output.status.code(), Some(65), "{left} bytes: {said}");
        assert!(said.contains(torn.file_name().unwrap().to_str().unwrap()) && !said.contains("panicked"), "{left} bytes: {said}");
        let whole = if left < 4 { 0 } else { unpacked(&torn).matches('\n').count() };
        // Of a file without one whole line there is nothing to show.
        let frames = if whole == 0 { Value::Null } else { whole.into() };
        assert_eq!(printed["counts"]["frames"], frames, "{left} bytes");
    }

    // The next process begins a file of its own, and what it records is played too.
    fs::write(&torn, &packed[..packed.len() - 1]).unwrap();
    let before = lines(&dir).len();
    let ingest = place.start(&["ingest", "--record", "rec"]);
    ingest.wait_stderr("live", LIMIT);
    platform.play(&frames[400..]).await;
    wait_until("frames in the new file", || lines(&dir).len() >= before + 200).await;
    assert!(ingest.terminate(LIMIT).status.success());
    let (output, printed) = place.replay(&recordings(&dir));
    assert_eq!((output.status.code(), printed["counts"]["frames"].clone()), (Some(65), lines(&dir).len().into()), "{output:?}");
}
