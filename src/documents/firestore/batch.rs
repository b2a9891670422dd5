//! Writing many documents at once.
//!
//! `BatchWrite` is not atomic and answers for each write: one may be taken, one throttled, one refused by its precondition. What Firestore
//! did not take is kept here and sent again; how much waits is bounded by the call that brought it. Invariant: a write is reported once, and only
//! when its own status says so. A write whose answer was lost is sent again, so its precondition may be refused by its own first try: whoever
//! calls reads what is stored then.

use firestore::gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use firestore::gcloud_sdk::google::firestore::v1::write::Operation;
use firestore::gcloud_sdk::google::firestore::v1::{Document, Precondition, Write};
use firestore::gcloud_sdk::prost::Message as _;
use firestore::gcloud_sdk::prost_types::Timestamp;
use futures_util::{StreamExt, stream};
use tonic::{Code, Status};

use super::super::DocumentsError;
use super::rpc::{FirestoreCounters, Rpc, is_transient};
use super::value::Fields;

/// What has to hold for a write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Guard {
    /// There is no such document.
    Absent,
    /// It was last written then.
    WrittenAt(Timestamp),
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    /// It was taken, at this time.
    Written(Timestamp),
    /// Its guard does not hold.
    Unmet,
}

/// How much goes into one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub batch_max: usize,
    pub batch_bytes_max: usize,
}

/// A document to be written as a whole.
pub(super) fn write(name: String, fields: Fields, guard: Guard) -> Write {
    let condition = match guard {
        Guard::Absent => ConditionType::Exists(false),
        Guard::WrittenAt(time) => ConditionType::UpdateTime(time),
    };
    Write {
        operation: Some(Operation::Update(Document { name, fields, ..Default::default() })),
        current_document: Some(Precondition { condition_type: Some(condition) }),
        ..Default::default()
    }
}

/// Writes documents of different names; the outcomes stand in their order.
pub(super) async fn submit(rpc: &Rpc, limits: Limits, writes: &[Write]) -> Result<Vec<Outcome>, DocumentsError> {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; writes.len()];
    let mut waiting: Vec<usize> = (0..writes.len()).collect();
    let mut retrying = rpc.retrying("writing documents");
    while !waiting.is_empty() {
        let requests: Vec<_> = chunks(writes, &waiting, limits).into_iter().map(|chunk| Box::pin(send(rpc, writes, chunk))).collect();
        let answers: Vec<Vec<(usize, Result<Outcome, Status>)>> = stream::iter(requests).buffer_unordered(rpc.concurrency).collect().await;
        let mut refused = None;
        waiting.clear();
        for (place, answer) in answers.into_iter().flatten() {
            match answer {
                Ok(outcome) => outcomes[place] = Some(outcome),
                Err(status) if is_transient(status.code()) => {
                    waiting.push(place);
                    // Throttling is the one that has to be known.
                    if refused.as_ref().is_none_or(|known: &Status| known.code() != Code::ResourceExhausted) {
                        refused = Some(status);
                    }
                }
                Err(status) => return Err(blamed(rpc, &writes[place], &status)),
            }
        }
        if let Some(status) = refused {
            FirestoreCounters::add(&rpc.counters.retried, waiting.len());
            retrying.again(status).await?;
        }
    }
    Ok(outcomes.into_iter().flatten().collect())
}

/// Only what is said of the document itself is blamed on it: anything else, such as a database of another mode, is true of all documents. An answer for
/// a whole request names the first of its writes, which a caller that writes fewer at a time finds out.
fn blamed(rpc: &Rpc, write: &Write, status: &Status) -> DocumentsError {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => DocumentsError::RefusedDocument {
            store: rpc.store.clone(),
            document: name(write).to_owned(),
            detail: status.message().to_owned(),
        },
        _ => rpc.failed("writing documents", status),
    }
}

/// Sends one request; every write of it gets an answer.
async fn send(rpc: &Rpc, writes: &[Write], chunk: Vec<usize>) -> Vec<(usize, Result<Outcome, Status>)> {
    let message = chunk.iter().map(|&place| writes[place].clone()).collect();
    let answer = match rpc.batch_write(message).await {
        Ok(answer) if answer.status.len() == chunk.len() && answer.write_results.len() == chunk.len() => answer,
        Ok(_) => return fail_all(chunk, &Status::internal("an answer without a status for every write")),
        Err(status) => return fail_all(chunk, &status),
    };
    let answers = chunk.into_iter().zip(answer.status.into_iter().zip(answer.write_results));
    let answers = answers.map(|(place, (status, result))| {
        let outcome = match Code::from(status.code) {
            Code::Ok => {
                FirestoreCounters::add(&rpc.counters.writes, 1);
                Ok(Outcome::Written(result.update_time.unwrap_or_default()))
            }
            Code::AlreadyExists | Code::FailedPrecondition | Code::NotFound => {
                FirestoreCounters::add(&rpc.counters.unmet, 1);
                Ok(Outcome::Unmet)
            }
            code => Err(Status::new(code, status.message)),
        };
        (place, outcome)
    });
    answers.collect()
}

fn fail_all(chunk: Vec<usize>, status: &Status) -> Vec<(usize, Result<Outcome, Status>)> {
    chunk.into_iter().map(|place| (place, Err(status.clone()))).collect()
}

/// Cuts what waits into requests.
fn chunks(writes: &[Write], waiting: &[usize], limits: Limits) -> Vec<Vec<usize>> {
    let mut chunks: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for &place in waiting {
        let size = writes[place].encoded_len();
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < limits.batch_max && bytes + size <= limits.batch_bytes_max => {
                chunk.push(place);
                bytes += size;
            }
            _ => {
                chunks.push(vec![place]);
                bytes = size;
            }
        }
    }
    chunks
}

fn name(write: &Write) -> &str {
    match &write.operation {
        Some(Operation::Update(document)) => &document.name,
        _ => "a write",
    }
}

#[cfg(test)]
mod tests {
    use super::super::value;
    use super::*;

    #[test]
    fn requests_keep_both_bounds_and_leave_nothing_out() {
        let of = |size: usize| write("n".to_owned(), Fields::from([("f".to_owned(), value::bytes(vec![0; size]))]), Guard::Absent);
        let writes: Vec<Write> = [10, 10, 2_000, 10, 920, 10, 10, 10].map(of).into();
        let waiting: Vec<usize> = (0..writes.len()).collect();
        let cut = chunks(&writes, &waiting, Limits { batch_max: 3, batch_bytes_max: 1_000 });
        assert_eq!(cut, [vec![0, 1], vec![2], vec![3, 4], vec![5, 6, 7]]);
        assert!(chunks(&writes, &[], Limits { batch_max: 3, batch_bytes_max: 1_000 }).is_empty());
    }
}
