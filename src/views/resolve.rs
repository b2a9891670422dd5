//! Which conversation a deleted message belongs to, kept in Redis: see [`crate::transform::resolve`].

use redis::{Pipeline, Value};

use crate::schema::ids::message_rank;
use crate::schema::time::Millis;
use crate::transform::resolve::{Claims, Resolved};

use super::error::ViewsError;
use super::script;
use super::value;
use super::write::Writer;

/// Messages and deletes of one script call. Lua passes at most about 8,000 values to one command.
const CLAIMS_MAX: usize = 1_000;

/// One message or delete of the claims, by its place.
#[derive(Clone, Copy)]
enum Claim<'a> {
    Message { id: &'a str, conversation: &'a str },
    Delete { id: &'a str, at: Millis },
}

impl Writer {
    /// Claims messages and deletes, and tells each side of the other: in one batch, in two, from two workers. Repeated, it answers the same.
    ///
    /// The index holds `redis.message_index_max` messages an account, and as many deletes; the lowest ranks, the oldest messages, go.
    ///
    /// # Errors
    /// What Redis or the connection fails with. Some of the claims may be known then; repeat all of them.
    pub async fn resolve(&self, claims: &[Claims]) -> Result<Vec<Resolved>, ViewsError> {
        let mut calls = Pipeline::with_capacity(claims.len());
        let mut parts = Vec::with_capacity(claims.len());
        for (at, claim) in claims.iter().enumerate() {
            for part in all(claim).chunks(CLAIMS_MAX) {
                calls.add_command(self.resolve_call(&claim.account, part));
                parts.push((at, part.iter().filter(|claim| matches!(claim, Claim::Message { .. })).count()));
            }
        }
        let values = script::run(&self.connection, &script::RESOLVE, &calls).await?;
        let mut resolved = vec![Resolved::default(); claims.len()];
        for ((at, messages), value) in parts.into_iter().zip(values) {
            let Value::Array(answers) = value else { return Err(ViewsError::unexpected("resolve.lua", value::shape(&value))) };
            for (place, answer) in answers.into_iter().enumerate() {
                if place < messages {
                    resolved[at].deleted_at.push(time("resolve.lua", answer)?);
                } else {
                    let conversation = if answer == Value::Nil { None } else { Some(value::text("resolve.lua", answer)?) };
                    resolved[at].conversations.push(conversation);
                }
            }
        }
        for (claim, resolved) in claims.iter().zip(&resolved) {
            if resolved.deleted_at.len() != claim.messages.len() || resolved.conversations.len() != claim.deletes.len() {
                return Err(ViewsError::unexpected("resolve.lua", "another number of answers than claims"));
            }
        }
        Ok(resolved)
    }

    fn resolve_call(&self, account: &str, part: &[Claim<'_>]) -> redis::Cmd {
        let names = [self.keys.messages(account), self.keys.deleted(account)];
        let messages = part.iter().filter(|claim| matches!(claim, Claim::Message { .. })).count();
        let mut cmd = script::RESOLVE.call(&names, 3 + 3 * part.len(), 64 * part.len());
        cmd.arg(self.bounds.message_index_max).arg(self.bounds.ttl_ms).arg(messages);
        for claim in part {
            let (Claim::Message { id, .. } | Claim::Delete { id, .. }) = *claim;
            cmd.arg(message_rank(id)).arg(format!("{}:{id}", id.len()));
            match claim {
                Claim::Message { conversation, .. } => cmd.arg(*conversation),
                Claim::Delete { at, .. } => cmd.arg(at.0),
            };
        }
        cmd
    }
}

/// Messages first, then deletes, as the script takes them.
fn all(claims: &Claims) -> Vec<Claim<'_>> {
    let messages = claims.messages.iter().map(|(id, conversation)| Claim::Message { id, conversation });
    let deletes = claims.deletes.iter().map(|(id, at)| Claim::Delete { id, at: *at });
    messages.chain(deletes).collect()
}

fn time(what: &str, value: Value) -> Result<Option<Millis>, ViewsError> {
    match value {
        Value::BulkString(text) if text.is_empty() => Ok(None),
        other => value::number(what, &other).map(|ms| Some(Millis(ms))),
    }
}
