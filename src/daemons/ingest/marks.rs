//! What outlives the process of each account's session: when it last heard anything, and how often kinds of events came. So a gap after a restart has a
//! beginning, and silence is known at once.
//!
//! Owns: the file, and when it is written. Does not own: what a mark means ([`Mark`]). Invariants: a mark on the disk is never later than what the bus has
//! confirmed, so a gap that begins with it leaves nothing out; the file is replaced whole; where it cannot be read or written, sockets do not notice.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::buffer::Buffer;
use crate::config::Shard;
use crate::runtime::health::Pulse;
use crate::schema::time::Millis;
use crate::ws::session::Mark;

/// How often the marks are written. What is on the disk is up to two of these old.
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// A mark of an account that was heard of last before so long, milliseconds, is forgotten: so long the account's state is kept, too.
const AGE_MAX_MS: i64 = 30 * 86_400_000;
/// Largest file that is read, bytes; ten thousand accounts need a fifth of it.
const FILE_MAX_BYTES: u64 = 8 << 20;
const NAME: &str = "marks";
const ENDING: &str = ".json";

/// The marks of a process; shared by its accounts.
#[derive(Debug)]
pub struct Marks {
    dir: PathBuf,
    name: String,
    marks: Mutex<BTreeMap<String, Mark>>,
}

impl Marks {
    /// The marks that `dir` holds. Each shard has a file of its own, and all of them are read, because accounts move between shards; of an account in
    /// several the newest counts. A file that cannot be read is told in the log, and counts as empty.
    #[must_use]
    pub fn open(dir: impl Into<PathBuf>, shard: Option<Shard>, now: Millis) -> Self {
        let dir = dir.into();
        let name =
            shard.map_or_else(|| format!("{NAME}{ENDING}"), |shard| format!("{NAME}-{}{ENDING}", shard.to_string().replace('/', "-")));
        let mut marks = BTreeMap::new();
        match read_all(&dir) {
            Ok(found) => found.into_iter().for_each(|(account, mark)| newest(&mut marks, account, mark)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(?dir, %error, "the marks of earlier connections cannot be read; the first gaps have no beginning"),
        }
        marks.retain(|_, mark: &mut Mark| now.since(mark.heard_at) < AGE_MAX_MS);
        Self { dir, name, marks: Mutex::new(marks) }
    }

    /// What is remembered of an account.
    #[must_use]
    pub fn of(&self, account: &str) -> Option<Mark> {
        self.lock().get(account).cloned()
    }

    /// Remembers. Everything that was heard until the mark has to be in the buffer by now.
    pub(super) fn put(&self, account: &str, mark: Mark) {
        self.lock().insert(account.to_owned(), mark);
    }

    /// Writes what is remembered, for good: the buffer is empty.
    ///
    /// # Errors
    /// Where the file cannot be written; the old one stays.
    pub fn write(&self) -> io::Result<()> {
        let bytes = self.encode();
        replace(&self.dir, &self.name, &bytes)
    }

    fn encode(&self) -> Vec<u8> {
        // Maps with text as keys serialize.
        serde_json::to_vec(&*self.lock()).unwrap_or_default()
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the marks now and then, for ever: those that were there when the last look was taken, once the bus has confirmed all that had been read by then.
pub(super) async fn keep(marks: Arc<Marks>, buffer: Buffer, pulse: Pulse) {
    let (mut written, mut failed) = (Vec::new(), false);
    loop {
        let (bytes, position) = (marks.encode(), buffer.pushed());
        tokio::time::sleep(WRITE_EVERY).await;
        if buffer.released() < position || bytes == written {
            continue;
        }
        let writer = marks.clone();
        let writing = tokio::task::spawn_blocking(move || replace(&writer.dir, &writer.name, &bytes).map(|()| bytes));
        match pulse.step(writing).await {
            Ok(Ok(bytes)) => (written, failed) = (bytes, false),
            Ok(Err(error)) if !failed => {
                failed = true;
                tracing::warn!(dir = ?marks.dir, %error, "the marks of the connections cannot be written; a gap after a restart may have no beginning");
            }
            _ => {}
        }
    }
}

fn newest(marks: &mut BTreeMap<String, Mark>, account: String, mark: Mark) {
    let is_older = |known: &Mark| known.heard_at >= mark.heard_at;
    if !marks.get(&account).is_some_and(is_older) {
        marks.insert(account, mark);
    }
}

fn read_all(dir: &Path) -> io::Result<Vec<(String, Mark)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let is_marks = name.to_str().is_some_and(|name| name.starts_with(NAME) && name.ends_with(ENDING));
        if is_marks {
            match read(&dir.join(&name)) {
                Ok(marks) => found.extend(marks),
                Err(error) => tracing::warn!(?dir, ?name, %error, "marks of earlier connections cannot be read"),
            }
        }
    }
    Ok(found)
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Mark>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Puts the file in its place, whole: it is written beside it and renamed.
fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // One process writes a shard's file, so one name is enough, and a killed process leaves no more than that one behind.
    let beside = dir.join(format!(".{name}.tmp"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(beside, dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::health::Health;
    use crate::schema::event::EventKind;

    const NOW: Millis = Millis(1_784_808_000_000);

    fn mark(ago_ms: i64) -> Mark {
        Mark { heard_at: NOW.plus(-ago_ms), pace: [(EventKind::MessageReceived, 1_500)].into() }
    }

    #[test]
    fn accounts_are_remembered_wherever_they_were_served() {
        let dir = tempfile::tempdir().unwrap();
        let open = |shard: Option<&str>| Marks::open(dir.path().join("state"), shard.map(|shard| shard.parse().unwrap()), NOW);
        assert_eq!(open(None).of("1"), None, "no folder is no mark");
        for (shard, account, ago) in [(None, "1", 5_000), (Some("1/2"), "1", 900), (Some("2/2"), "2", 10), (Some("2/2"), "3", AGE_MAX_MS)] {
            let marks = open(shard);
            marks.put(account, mark(ago));
            marks.write().unwrap();
        }
        let marks = open(Some("1/3"));
        assert_eq!([marks.of("1"), marks.of("2"), marks.of("3")], [Some(mark(900)), Some(mark(10)), None]);

        // A file that is damaged, or too old to be understood, counts as empty.
        fs::write(dir.path().join("state/marks-2-2.json"), "{\"2\":{").unwrap();
        fs::write(dir.path().join("state/marks-9-9.json"), "[]").unwrap();
        assert_eq!([open(None).of("1"), open(None).of("2")], [Some(mark(900)), None]);
        assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), 4, "nothing is left beside them");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_bus_has_not_confirmed_is_no_mark_yet() {
        use super::super::buffer::Item;
        use super::super::counters::Counters;
        use crate::schema::envelope::Envelope;

        let dir = tempfile::tempdir().unwrap();
        let marks = Arc::new(Marks::open(dir.path(), None, NOW));
        let buffer = Buffer::new(10_000, Arc::new(Counters::default()));
        assert!(buffer.try_push(&mut [Item::quarantine(Envelope::new(0, &[], b"x"))].into()));
        marks.put("1", mark(0));
        let keeping = tokio::spawn(keep(marks.clone(), buffer.clone(), Health::default().pulse("marks")));
        let on_disk = || Marks::open(dir.path(), None, NOW).of("1");
        tokio::time::sleep(WRITE_EVERY * 5).await;
        assert_eq!(on_disk(), None);
        let batch = buffer.take(10).await.unwrap();
        tokio::time::sleep(WRITE_EVERY * 5).await;
        assert_eq!(on_disk(), None, "on its way is not there");
        buffer.release(&batch);
        tokio::time::sleep(WRITE_EVERY * 2).await;
        assert_eq!(on_disk(), Some(mark(0)));
        keeping.abort();
    }
}
