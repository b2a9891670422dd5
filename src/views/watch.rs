//! What somebody asks who watches all conversations at once: many small answers in few round trips.
//!
//! Owns how they are asked for together. Does not own what is done with them. Invariants: the work of one question is bounded by its arguments; one
//! account or conversation that cannot be read is an error in its own place, and the others are there.

use redis::{Pipeline, Value};

use crate::schema::time::Millis;
use crate::schema::view::AccountView;

use super::error::ViewsError;
use super::read::{self, Reader};
use super::value;

/// Small commands sent with one pipeline.
const PIPELINE_MAX: usize = 2_048;
/// Inboxes read with one pipeline; each answer may be long.
const INBOXES_MAX: usize = 16;

impl Reader {
    /// What is known of several accounts beyond their conversations, in the order asked.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch), where it is not the fault of one account; so for every call below.
    pub async fn account_views<S: AsRef<str>>(&self, accounts: &[S]) -> Result<Vec<Result<AccountView, ViewsError>>, ViewsError> {
        let mut views = Vec::with_capacity(accounts.len());
        for part in accounts.chunks(PIPELINE_MAX) {
            let keys: Vec<String> = part.iter().map(|account| self.keys.account(account.as_ref())).collect();
            let mut pipeline = Pipeline::with_capacity(keys.len());
            for key in &keys {
                pipeline.add_command(read::account_command(key));
            }
            views.extend(keys.iter().zip(self.each(&pipeline).await?).map(|(key, fields)| read::account_view(key, fields)));
        }
        Ok(views)
    }

    /// How the connections of several accounts stand (connection, gap and session material, nothing else), in the order asked.
    pub async fn connections<S: AsRef<str>>(&self, accounts: &[S]) -> Result<Vec<AccountView>, ViewsError> {
        let mut views = Vec::with_capacity(accounts.len());
        for part in accounts.chunks(PIPELINE_MAX) {
            let keys: Vec<String> = part.iter().map(|account| self.keys.account(account.as_ref())).collect();
            let mut pipeline = Pipeline::with_capacity(keys.len());
            for key in &keys {
                pipeline.add_command(read::connection_command(key));
            }
            for (key, fields) in keys.iter().zip(self.connection.query(&pipeline).await?) {
                views.push(read::connection_view(key, fields)?);
            }
        }
        Ok(views)
    }

    /// The `limit` conversations of several accounts with the latest activity, the latest first: account (its place in `accounts`), id, activity.
    pub async fn latest<S: AsRef<str>>(&self, accounts: &[S], limit: usize) -> Result<Vec<(usize, String, Millis)>, ViewsError> {
        let mut latest: Vec<(usize, String, Millis)> = Vec::new();
        if limit == 0 {
            return Ok(latest);
        }
        for (part, chunk) in accounts.chunks(INBOXES_MAX).enumerate() {
            let keys: Vec<String> = chunk.iter().map(|account| self.keys.inbox(account.as_ref())).collect();
            let mut pipeline = Pipeline::with_capacity(keys.len());
            for key in &keys {
                pipeline.cmd("ZREVRANGE").arg(key).arg(0).arg(limit - 1).arg("WITHSCORES");
            }
            for (at, (key, value)) in keys.iter().zip(self.connection.query(&pipeline).await?).enumerate() {
                let account = part * INBOXES_MAX + at;
                latest.extend(read::members(key, value)?.into_iter().map(|(id, activity)| (account, id, activity)));
            }
            // Ties are broken by id, so that two looks at the same Redis give the same order.
            latest.sort_unstable_by(|a, b| b.2.cmp(&a.2).then_with(|| (a.0, &a.1).cmp(&(b.0, &b.1))));
            latest.truncate(limit);
        }
        Ok(latest)
    }

    /// How often each conversation was written, in the order asked; `None` where it is no more.
    pub async fn revs<A: AsRef<str>, C: AsRef<str>>(&self, wanted: &[(A, C)]) -> Result<Vec<Result<Option<u64>, ViewsError>>, ViewsError> {
        let mut revs = Vec::with_capacity(wanted.len());
        for part in wanted.chunks(PIPELINE_MAX) {
            let mut pipeline = Pipeline::with_capacity(part.len());
            for (account, conversation) in part {
                pipeline.cmd("HGET").arg(self.keys.conversation(account.as_ref(), conversation.as_ref())).arg("rev");
            }
            for (value, (account, conversation)) in self.each(&pipeline).await?.iter().zip(part) {
                revs.push(match value {
                    Value::Nil => Ok(None),
                    value => value::number(&self.keys.conversation(account.as_ref(), conversation.as_ref()), value).map(Some),
                });
            }
        }
        Ok(revs)
    }
}
