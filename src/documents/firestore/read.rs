//! Reading. What is past its `expire_at` is left out here: the TTL policy deletes it within a day or so, not at once.

use std::collections::BTreeSet;

use firestore::gcloud_sdk::google::firestore::v1::structured_query::Direction;
use firestore::gcloud_sdk::google::firestore::v1::structured_query::field_filter::Operator;

use super::super::{
    AccountSummary, DocumentsError, History, HistoryCursor, HistoryPage, PAGE_MAX, StoredState, StoredSummary, SummaryDocument,
};
use super::message::Stored;
use super::rpc::Found;
use super::{Store, path, query, summary, value};
use crate::schema::time::Millis;

/// Summaries in one page: each brings its state, some 10 KB, rarely 200.
const SUMMARIES_PAGE_MAX: usize = 100;

/// One request for up to 300 summaries.
pub(super) async fn load(store: &Store, fans: &[(String, String)]) -> Result<Vec<Option<StoredState>>, DocumentsError> {
    let names: Vec<String> = fans.iter().map(|(account, fan)| store.rpc.names.fan(account, fan)).collect();
    store.states(&names).await
}

/// One read.
pub(super) async fn summary(store: &Store, account: &str, fan: &str, now: Millis) -> Result<Option<SummaryDocument>, DocumentsError> {
    let found = store.rpc.get(&[store.rpc.names.fan(account, fan)], &[]).await?.pop().flatten();
    let live = found.filter(|found| summary::is_live(&found.document.fields, now));
    live.map(|found| summary::read(&store.rpc, found.document)).transpose()
}

/// One request for up to 300 documents, each read whole.
pub(super) async fn stored(
    store: &Store,
    account: &str,
    fans: &[String],
    now: Millis,
) -> Result<Vec<Option<StoredSummary>>, DocumentsError> {
    let names: Vec<String> = fans.iter().map(|fan| store.rpc.names.fan(account, fan)).collect();
    let found = store.rpc.get(&names, &[]).await?.into_iter();
    let live = found.map(|found| found.filter(|found| summary::is_live(&found.document.fields, now)));
    let read = |mut found: Found| {
        let StoredState { rev, fold } = summary::stored(&mut found.document.fields);
        StoredSummary { rev, fold, summary: summary::read(&store.rpc, found.document).ok().map(|document| document.summary) }
    };
    Ok(live.map(|found| found.map(read)).collect())
}

pub(super) async fn find_fan(store: &Store, fan: &str, now: Millis) -> Result<Vec<String>, DocumentsError> {
    let fans = query::matching(query::of_group("fans"), "fan_key", Operator::Equal, value::string(&path::segment(fan)));
    let found = store.rpc.query(&store.rpc.names.root, query::select(fans, &["account_id", "expire_at"])).await?;
    let live = found.iter().filter(|document| summary::is_live(&document.fields, now));
    let accounts: BTreeSet<&str> = live.filter_map(|document| value::text(&document.fields, "account_id")).collect();
    Ok(accounts.into_iter().map(str::to_owned).collect())
}

/// One range query a page, over the composite index. A page of which all is expired is not given; the next one is read instead.
pub(super) async fn history(
    store: &Store,
    account: &str,
    conversation: &str,
    page: HistoryPage,
    now: Millis,
) -> Result<History, DocumentsError> {
    let limit = page.limit.clamp(1, PAGE_MAX);
    let parent = store.rpc.names.conversation(account, conversation);
    let mut before = page.before;
    loop {
        let mut query = query::ordered(query::of("messages"), &["sent_at", "message_id"], Direction::Descending);
        if let Some(HistoryCursor { sent_at, message }) = &before {
            query = query::after(query, vec![value::timestamp(*sent_at), value::string(comparable(message))]);
        }
        // One more than asked for, to know whether there is a next page.
        let mut found = store.rpc.query(&parent, query::limit(query, limit + 1)).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        before = found.last().filter(|_| has_more).map(|last| HistoryCursor {
            sent_at: value::time(&last.fields, "sent_at").unwrap_or_default(),
            message: value::text(&last.fields, "message_id").unwrap_or_default().to_owned(),
        });
        found.retain(|document| summary::is_live(&document.fields, now));
        if !found.is_empty() || before.is_none() {
            let decode = |document: &firestore::FirestoreDocument| {
                Stored::read(&document.fields).map_err(|source| store.rpc.document(document.name.clone(), source))
            };
            let stored: Vec<Stored> = found.iter().map(decode).collect::<Result<_, _>>()?;
            return Ok(History { messages: stored.into_iter().filter_map(Stored::into_document).collect(), next: before });
        }
    }
}

/// One read for every account, and another for each that has no document of its own.
pub(super) async fn accounts(store: &Store) -> Result<Vec<String>, DocumentsError> {
    let mut accounts = BTreeSet::new();
    for document in store.rpc.account_documents().await? {
        if let Some(account) = value::text(&document.fields, "account_id") {
            accounts.insert(account.to_owned());
            continue;
        }
        // An account's own id may be encoded in its path, and it may have nothing left but messages: any of its fans says.
        let any = query::limit(query::select(query::of("fans"), &["account_id"]), 1);
        let found = store.rpc.query(&document.name, any).await?;
        accounts.extend(found.first().and_then(|fan| value::text(&fan.fields, "account_id")).map(str::to_owned));
    }
    Ok(accounts.into_iter().collect())
}

pub(super) async fn summaries(
    store: &Store,
    account: &str,
    after: Option<&str>,
    limit: usize,
    now: Millis,
) -> Result<Vec<AccountSummary>, DocumentsError> {
    let limit = limit.clamp(1, SUMMARIES_PAGE_MAX);
    let parent = store.rpc.names.account(account);
    let mut after = after.map(|after| path::segment(after).into_owned());
    loop {
        let fans = query::ordered(query::of("fans"), &["fan_key"], Direction::Ascending);
        let mut fans = query::select(fans, &["fan_id", "fan_key", "conversation_id", "rev", "fold", "expire_at"]);
        if let Some(after) = &after {
            fans = query::after(fans, vec![value::string(after)]);
        }
        let found = store.rpc.query(&parent, query::limit(fans, limit)).await?;
        let is_last = found.len() < limit;
        after = found.last().and_then(|last| value::text(&last.fields, "fan_key")).map(str::to_owned);
        let page: Vec<AccountSummary> = found
            .into_iter()
            .filter(|document| summary::is_live(&document.fields, now))
            .map(|mut document| AccountSummary {
                fan: value::text(&document.fields, "fan_id").unwrap_or_default().to_owned(),
                conversation: value::text(&document.fields, "conversation_id").unwrap_or_default().to_owned(),
                stored: summary::stored(&mut document.fields),
            })
            .collect();
        if !page.is_empty() || is_last {
            return Ok(page);
        }
    }
}

/// As much of an id as a query may name. No platform's ids are that long, and where one is, its neighbours in time are the price.
fn comparable(id: &str) -> &str {
    const BYTES_MAX: usize = 1_400;
    &id[..id.floor_char_boundary(BYTES_MAX)]
}
