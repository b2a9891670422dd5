//! What a Redis says of its own past, by which a writer sees that it has lost some of it.
//!
//! Owns the epoch, the floor of revisions, and the marks. Invariant: a mark is written after what it stands for, on the same connection, so a Redis
//! that still has a mark has all of that; one that came back with older data has an older mark.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Pipeline, Value};

use crate::runtime::clock;

use super::error::ViewsError;
use super::value;
use super::write::Writer;

/// Writers whose marks are kept; the most recent ones.
const MARKS_MAX: i64 = 1_000;

/// Identity of what stands in a Redis, and how far it is filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// 32 hex digits. Others mean that Redis lost data in between: everything read from it before is void.
    pub id: String,
    /// This call set it, so Redis was empty.
    pub created: bool,
    /// States of a smaller `rev` were written before Redis last lost data; 0 where it never did.
    pub floor: u64,
    /// All that the documents know has been written at or above the floor.
    pub filled: bool,
}

/// How far one writer has got: what it wrote last, and what Redis has confirmed. Clones are the same mark.
#[derive(Debug, Clone)]
pub struct Mark {
    id: Arc<str>,
    sent: Arc<AtomicU64>,
    confirmed: Arc<AtomicU64>,
}

impl Mark {
    pub(super) fn new() -> Self {
        Self { id: format!("{:016x}", fastrand::u64(..)).into(), sent: Arc::default(), confirmed: Arc::default() }
    }

    /// Adds the next mark to what is written; [`Mark::confirm`] it when Redis has answered.
    pub(super) fn add_to(&self, pipeline: &mut Pipeline, key: &str) -> u64 {
        let now = u64::try_from(clock::now().0).unwrap_or(0);
        let next = |sent: u64| Some(now.max(sent + 1));
        // What a connection that was given up still brings later is smaller, and does not count.
        let mark = self.sent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(0).saturating_add(1).max(now);
        pipeline.cmd("ZADD").arg(key).arg("GT").arg(mark).arg(&*self.id);
        mark
    }

    pub(super) fn confirm(&self, mark: u64) {
        self.confirmed.fetch_max(mark, Ordering::Relaxed);
    }
}

impl Writer {
    /// The epoch; set where Redis has none. To be asked at the start, and now and then: a Redis that was emptied has none until a writer sets one.
    ///
    /// # Errors
    /// What Redis or the connection fails with.
    pub async fn epoch(&self) -> Result<Epoch, ViewsError> {
        let fresh = fresh_id();
        let (key, refill) = (self.keys.epoch(), self.keys.refill());
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SET").arg(&key).arg(&fresh).arg("NX").cmd("GET").arg(&key);
        pipeline.cmd("HMGET").arg(&refill).arg("floor").arg("filled");
        let [_, id, of_refill] = value::pair(&key, Value::Array(self.connection.query(&pipeline).await?))?;
        let id = value::text(&key, id)?;
        let [floor, filled] = value::pair(&refill, of_refill)?;
        let number = |value: Value| if value == Value::Nil { Ok(0) } else { value::number::<u64>(&refill, &value) };
        let (floor, filled) = (number(floor)?, number(filled)?);
        Ok(Epoch { created: id == fresh, id, floor, filled: floor > 0 && filled == floor })
    }

    /// Says that everything below `floor` is to be filled again; with `renew` readers are told, by another epoch, that what they read is void.
    ///
    /// # Errors
    /// What Redis or the connection fails with.
    pub async fn begin_refill(&self, floor: u64, renew: bool) -> Result<(), ViewsError> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HSET").arg(self.keys.refill()).arg("floor").arg(floor).arg("filled").arg(0);
        if renew {
            pipeline.cmd("SET").arg(self.keys.epoch()).arg(fresh_id());
        }
        self.connection.query(&pipeline).await.map(drop)
    }

    /// Says that everything is filled that was below `floor`; 0 says that something is missing.
    ///
    /// # Errors
    /// What Redis or the connection fails with.
    pub async fn end_refill(&self, floor: u64) -> Result<(), ViewsError> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HSET").arg(self.keys.refill()).arg("filled").arg(floor);
        self.connection.query(&pipeline).await.map(drop)
    }

    /// This writer's mark.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark.clone()
    }

    /// Whether Redis has lost something that it had confirmed to one of these writers: it was emptied, or came back with older data. Said once of each
    /// loss: the marks begin anew then.
    ///
    /// # Errors
    /// What Redis or the connection fails with.
    pub async fn has_lost(&self, marks: &[Mark]) -> Result<bool, ViewsError> {
        // Read before Redis is asked, so that what is confirmed meanwhile does not count as missing.
        let confirmed: Vec<u64> = marks.iter().map(|mark| mark.confirmed.load(Ordering::Relaxed)).collect();
        if confirmed.iter().all(|&mark| mark == 0) {
            return Ok(false);
        }
        let key = self.keys.marks();
        let mut pipeline = Pipeline::new();
        let scores = pipeline.cmd("ZMSCORE").arg(&key);
        marks.iter().for_each(|mark| {
            scores.arg(&*mark.id);
        });
        pipeline.cmd("ZREMRANGEBYRANK").arg(&key).arg(0).arg(-MARKS_MAX - 1);
        let [scores, _] = value::pair(&key, Value::Array(self.connection.query(&pipeline).await?))?;
        let mut lost = false;
        for (score, confirmed) in value::array(&key, scores)?.iter().zip(confirmed) {
            let found = if *score == Value::Nil { 0 } else { value::number::<u64>(&key, score)? };
            lost |= found < confirmed;
        }
        if lost {
            marks.iter().for_each(|mark| mark.confirmed.store(0, Ordering::Relaxed));
        }
        Ok(lost)
    }
}

fn fresh_id() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}
