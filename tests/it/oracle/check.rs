//! Where a real implementation is plugged in: one function from deliveries to what was written.

use convpipe::schema::policy::Policy;
use convpipe::schema::time::Millis;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use serde_json::{Map, Value, json};

use super::compare::{Actual, compare, differences};
use super::deliver::{Arrival, Delivery, deliveries};
use super::generate::{NOW, histories};
use super::model::Model;
use super::rows::{ACCOUNT, rows};

/// Holds an implementation to the model: `cases` histories, each arriving in some order, in some batches, some of it twice.
///
/// `run` starts from nothing, applies the batches one after the other at the given time, and hands back what was written.
///
/// # Errors
/// The differences, and the smallest arrival found that shows them.
pub(crate) fn check_fold(cases: u32, run: impl Fn(&Arrival, &Policy, Millis) -> Actual) -> Result<(), String> {
    search(TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }), run)
}

/// [`check_fold`] with a runner of the caller's.
///
/// # Errors
/// As there.
pub(super) fn search(mut runner: TestRunner, run: impl Fn(&Arrival, &Policy, Millis) -> Actual) -> Result<(), String> {
    let outcome = runner.run(&(histories(), deliveries()), |(history, delivery)| {
        let arrival = delivery.of(&history.events, NOW.plus(-history.policy.horizon_ms));
        let found = check_arrival(&arrival, &history.policy, delivery.is_within_rings(), &run);
        prop_assert!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    });
    outcome.map_err(|error| match error {
        TestError::Abort(reason) => format!("no verdict: {reason}"),
        TestError::Fail(reason, (history, delivery)) => {
            let arrival = delivery.of(&history.events, NOW.plus(-history.policy.horizon_ms));
            format!("{reason}\nwhere what arrived was\n{}", shown(&arrival))
        }
    })
}

/// The differences after one arrival.
pub(crate) fn check_arrival(
    arrival: &Arrival,
    policy: &Policy,
    exact: bool,
    run: impl Fn(&Arrival, &Policy, Millis) -> Actual,
) -> Vec<String> {
    let actual = run(arrival, policy, NOW);
    differences(&model_of(arrival), &actual, policy, exact).iter().map(ToString::to_string).collect()
}

/// Holds an implementation to the hand-worked rows, each event in a batch of its own and all in one.
///
/// Rows about a part that the implementation does not make are passed over; the answer is how many of the rows were checked.
///
/// # Errors
/// The rows that differ.
pub(crate) fn check_rows(run: impl Fn(&Arrival, &Policy, Millis) -> Actual) -> Result<usize, String> {
    let (mut checked, mut found) = (0, Vec::new());
    for row in rows() {
        let one_by_one: Arrival = row.events.iter().map(|event| vec![event.clone()]).collect();
        let at_once = Delivery::plain().of(&row.events, NOW.plus(-row.policy.horizon_ms));
        let mut is_made = true;
        for arrival in [one_by_one, at_once] {
            let written = written(&run(&arrival, &row.policy, NOW));
            let part: String = row.field.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
            is_made &= written.pointer(&part).is_some();
            if is_made {
                let mut differences = Vec::new();
                let actual = written.pointer(row.field).unwrap_or(&Value::Null);
                compare(row.field, &row.value, actual, &mut differences);
                found.extend(differences.iter().map(|difference| format!("{}: {difference}", row.name)));
            }
        }
        checked += usize::from(is_made);
    }
    if found.is_empty() { Ok(checked) } else { Err(found.join("\n")) }
}

/// A model that has seen everything that arrived.
pub(crate) fn model_of(arrival: &Arrival) -> Model<'_> {
    let mut model = Model::default();
    arrival.iter().flatten().for_each(|event| model.see(event, NOW));
    model
}

/// What was written as one JSON value: `/<conversation>/snapshot/unread`, `/account/view/gap/to`.
fn written(actual: &Actual) -> Value {
    let mut all = Map::new();
    for ((account, conversation), written) in &actual.conversations {
        if account == ACCOUNT {
            let mut parts = Map::new();
            parts.extend(written.snapshot.clone().map(|snapshot| ("snapshot".to_owned(), snapshot)));
            parts.extend(written.summary.clone().map(|summary| ("summary".to_owned(), summary)));
            parts.extend(written.history.clone().map(|history| ("history".to_owned(), json!(history))));
            parts.extend(written.fan_events.clone().map(|ids| ("fan_events".to_owned(), json!(ids))));
            parts.extend(
                written
                    .index
                    .map(|index| ("index".to_owned(), json!({ "active_at": index.active_at, "awaiting_since": index.awaiting_since }))),
            );
            all.insert(conversation.clone(), parts.into());
        }
    }
    if let Some(written) = actual.accounts.get(ACCOUNT) {
        let mut parts = Map::new();
        parts.extend(written.view.clone().map(|view| ("view".to_owned(), view)));
        parts.extend(written.priority.clone().map(|ids| ("priority".to_owned(), json!(ids))));
        all.insert("account".to_owned(), parts.into());
    }
    all.into()
}

fn shown(arrival: &Arrival) -> String {
    let line = |event: &Vec<u8>| format!("  {}", String::from_utf8_lossy(event));
    let batch = |events: &Vec<Vec<u8>>| events.iter().map(line).collect::<Vec<_>>().join("\n");
    arrival.iter().map(batch).collect::<Vec<_>>().join("\n  --\n")
}
