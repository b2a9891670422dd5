//! The embedded documents: message upserts and claims a second, as two lanes of `snapshot` write them.

use std::time::Instant;

use convpipe::config::EmbeddedDocumentsConfig;
use convpipe::documents::{Access, Documents};
use convpipe::schema::document::MessageDocument;
use convpipe::schema::event::Direction;
use convpipe::schema::time::Millis;
use convpipe::transform::materialize::SummaryWrite;
use convpipe::transform::resolve::Claims;

const LANES: usize = 2;
const FANS: usize = 10_000;
/// Fans in one call, and messages of each.
const BATCH: usize = 500;
const MESSAGES: usize = 4;
/// How often every fan is written.
const ROUNDS: usize = 10;

const START: Millis = Millis(1_784_808_000_000);

/// Prints one line for each of new messages, messages written again, and claims.
pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(LANES).build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a folder");
    let config = EmbeddedDocumentsConfig { path: dir.path().join("documents.db"), ..EmbeddedDocumentsConfig::default() };
    let documents = runtime.block_on(Documents::embedded(&config, Access::ReadWrite)).expect("a store");
    for (name, rounds, first_message) in [("new", 0..ROUNDS, 0), ("again", ROUNDS..2 * ROUNDS, ROUNDS)] {
        measure(&runtime, &format!("documents: messages upserted, {name}"), |lane| {
            let (documents, rounds) = (documents.clone(), rounds.clone());
            async move {
                for round in rounds {
                    for batch in (0..FANS / BATCH).filter(|batch| batch % LANES == lane) {
                        let writes = (batch * BATCH..(batch + 1) * BATCH).map(|fan| write(fan, round, round - first_message)).collect();
                        documents.write(writes).await.expect("written");
                    }
                }
            }
        });
    }
    measure(&runtime, "documents: messages claimed", |lane| {
        let documents = documents.clone();
        async move {
            for round in 0..ROUNDS {
                for batch in (0..FANS / BATCH).filter(|batch| batch % LANES == lane) {
                    documents.resolve(&[claims(batch, round)]).await.expect("claimed");
                }
            }
        }
    });
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
fn measure<F: Future<Output = ()> + Send + 'static>(runtime: &tokio::runtime::Runtime, name: &str, lane: impl Fn(usize) -> F) {
    let started = Instant::now();
    let lanes: Vec<_> = (0..LANES).map(|number| runtime.spawn(lane(number))).collect();
    for lane in lanes {
        runtime.block_on(lane).expect("a lane that ends");
    }
    let messages = FANS * MESSAGES * ROUNDS;
    println!("{name:<40} {:>10.0} /s", messages as f64 / started.elapsed().as_secs_f64());
}

fn write(fan: usize, rev: usize, round: usize) -> SummaryWrite {
    let id = (100_000_000 + fan).to_string();
    SummaryWrite {
        account: account(fan / BATCH),
        conversation: id.clone(),
        fan: id,
        expected_rev: rev as u64,
        rev: rev as u64 + 1,
        summary: vec![b's'; 2_000],
        fold: vec![b'f'; 1_500],
        expire_at: START.plus(365 * 86_400_000),
        messages: (0..MESSAGES).map(|message| document(number(fan, round, message), round)).collect(),
        deletions: Vec::new(),
        unkept: Vec::new(),
    }
}

fn claims(batch: usize, round: usize) -> Claims {
    let messages = (batch * BATCH..(batch + 1) * BATCH)
        .flat_map(|fan| (0..MESSAGES).map(move |message| (number(fan, round, message).to_string(), (100_000_000 + fan).to_string())))
        .collect();
    Claims { account: account(batch), messages, deletes: Vec::new() }
}

fn account(batch: usize) -> String {
    (200_000_001 + batch % 5).to_string()
}

/// Message ids grow with time, over all conversations.
fn number(fan: usize, round: usize, message: usize) -> usize {
    6_400_000_000_000 + (round * FANS + fan) * MESSAGES + message
}

fn document(number: usize, round: usize) -> MessageDocument {
    let sent_at = START.plus(round as i64 * 60_000);
    MessageDocument {
        message_id: number.to_string().into(),
        direction: Direction::In,
        sent_at,
        text: Some("How are you today? ".repeat(4).into()),
        html: Some("<p>How are you today? </p>".repeat(4).into()),
        reply_to: None,
        price: None,
        money: None,
        media: Vec::new(),
        is_tip: false,
        is_bulk: false,
        deleted_at: None,
        changed_at: Some(sent_at),
        event_id: format!("onlyfans:200000001:msg:{number}:received").into(),
        expire_at: sent_at.plus(365 * 86_400_000),
    }
}
