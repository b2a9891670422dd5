//! Which conversation a deleted message belongs to, kept in Redis: see [`crate::transform::resolve`].

use redis::{Pipeline, Value};

use crate::schema::time::Millis;
use crate::transform::resolve::{Claims, Resolved};

use super::error::ViewsError;
use super::script;
use super::value;
use super::write::Writer;

/// Messages and deletes of one script call. Lua passes at most about 8,000 values to one command.
const CLAIMS_MAX: usize = 1_000;

/// Part of an account's claims, for one script call.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// Which of the claims.
    at: usize,
    account: &'a str,
    messages: &'a [(String, String)],
    deletes: &'a [(String, Millis)],
}

impl Writer {
    /// Claims messages and deletes, and tells each side of the other: in one batch, in two, from two workers. Repeated, it answers the same.
    ///
    /// The index holds at most `redis.message_index_max` messages an account, and as many deletes; those go that were claimed first.
    ///
    /// # Errors
    /// What Redis or the connection fails with. Some of the claims may be known then; repeat all of them.
    pub async fn resolve(&self, claims: &[Claims]) -> Result<Vec<Resolved>, ViewsError> {
        let parts = parts(claims, usize::try_from(self.index_part_max()).map_or(CLAIMS_MAX, |max| max.min(CLAIMS_MAX)));
        let mut calls = Pipeline::with_capacity(parts.len());
        for part in &parts {
            calls.add_command(self.resolve_call(part));
        }
        let values = script::run(&self.connection, &script::RESOLVE, &calls).await?;
        let mut resolved: Vec<Resolved> = claims
            .iter()
            .map(|claims| Resolved {
                deleted_at: vec![None; claims.messages.len()],
                conversations: Vec::with_capacity(claims.deletes.len()),
            })
            .collect();
        // Where in its account's messages a part begins.
        let (mut first, mut account) = (0, 0);
        for (part, value) in parts.iter().zip(values) {
            if part.at != account {
                (first, account) = (0, part.at);
            }
            let [times, conversations] = value::pair(SCRIPT, value)?;
            learn(&mut resolved[part.at], first, part, times, conversations)?;
            first += part.messages.len();
        }
        Ok(resolved)
    }

    /// The index has two parts, of which the newer one is filled.
    fn index_part_max(&self) -> u64 {
        (self.bounds.message_index_max / 2).max(1)
    }

    fn resolve_call(&self, part: &Part<'_>) -> redis::Cmd {
        let names = self.keys.message_index(part.account);
        let claims = part.messages.len() + part.deletes.len();
        let mut cmd = script::RESOLVE.call(&names, 3 + 2 * claims, 32 * claims);
        cmd.arg(self.index_part_max()).arg(self.bounds.ttl_ms).arg(part.messages.len());
        for (id, conversation) in part.messages {
            cmd.arg(id).arg(conversation);
        }
        for (id, at) in part.deletes {
            cmd.arg(id).arg(at.0);
        }
        cmd
    }
}

const SCRIPT: &str = "resolve.lua";

/// Cuts the claims into calls of bounded size, a message before the deletes of its account.
fn parts(claims: &[Claims], claims_max: usize) -> Vec<Part<'_>> {
    let mut parts = Vec::with_capacity(claims.len());
    for (at, Claims { account, messages, deletes }) in claims.iter().enumerate() {
        let (mut messages, mut deletes) = (&messages[..], &deletes[..]);
        while !messages.is_empty() || !deletes.is_empty() {
            let (some, later) = messages.split_at(messages.len().min(claims_max));
            let (some_deletes, later_deletes) = deletes.split_at(deletes.len().min(claims_max - some.len()));
            parts.push(Part { at, account, messages: some, deletes: some_deletes });
            (messages, deletes) = (later, later_deletes);
        }
    }
    parts
}

/// Puts one call's answer where it belongs.
fn learn(resolved: &mut Resolved, first: usize, part: &Part<'_>, times: Value, conversations: Value) -> Result<(), ViewsError> {
    let (times, conversations) = (value::array(SCRIPT, times)?, value::array(SCRIPT, conversations)?);
    if conversations.len() != part.deletes.len() {
        return Err(ViewsError::unexpected(SCRIPT, "another number of answers than deletes"));
    }
    for entry in times.chunks_exact(2) {
        let place: usize = value::number(SCRIPT, &entry[0])?;
        let at = part.messages.get(place).and_then(|_| resolved.deleted_at.get_mut(first + place));
        *at.ok_or_else(|| ViewsError::unexpected(SCRIPT, "an answer for no message"))? = Some(Millis(value::number(SCRIPT, &entry[1])?));
    }
    for answer in conversations {
        resolved.conversations.push(value::optional_text(SCRIPT, answer)?);
    }
    Ok(())
}
