//! What is asked for: a path and a query become a value, or a reason why not.
//!
//! Owns every address there is. Does not own what is answered. Invariant: an id that leaves here is 1 to 200 characters without control characters.

use super::rows::Tab;
use crate::schema::policy::Level;
use crate::views::StreamId;

/// Longest id, characters.
const ID_MAX: usize = 200;
/// Longest target, bytes.
const TARGET_MAX: usize = 4_096;
/// Rows of a page of the inbox without JavaScript, and of an answer where nothing else is asked for.
pub(super) const PAGE: usize = 100;
/// Most rows or entries of one answer.
pub(super) const LIMIT_MAX: usize = 1_000;

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Inbox(Choice),
    Conversation(Conversation, Choice),
    Priority(Feed),
    Pipeline,
    SignIn { token: Option<String> },
    Asset(&'static Asset),
    Api(Api),
}

/// An address below `/api/v1/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Api {
    Description,
    Status,
    Accounts,
    Conversations(Choice),
    Conversation(Conversation),
    Events(Conversation, usize),
    Event(Conversation, StreamId),
    Priority(Feed),
    Stream,
}

/// Which rows of the inbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) account: Option<String>,
    pub(super) tab: Tab,
    pub(super) offset: usize,
    pub(super) limit: usize,
}

/// Which conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conversation {
    pub(super) account: String,
    pub(super) id: String,
}

/// Which entries of the feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Feed {
    pub(super) account: Option<String>,
    pub(super) level: Option<Level>,
    pub(super) limit: usize,
}

/// A file in the binary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asset {
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: &'static str,
}

/// Every file in the binary.
static ASSETS: [Asset; 2] = [
    Asset { path: "/assets/dashboard.js", content_type: "text/javascript; charset=utf-8", body: include_str!("assets/dashboard.js") },
    Asset { path: "/assets/dashboard.css", content_type: "text/css; charset=utf-8", body: include_str!("assets/dashboard.css") },
];

/// The description of the JSON answers.
pub(super) const OPENAPI: &str = include_str!("assets/openapi.json");

/// Why an address is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRoute {
    #[error("there is nothing at this address")]
    NotFound,
    #[error("the address is too long")]
    TooLong,
    #[error("{0} cannot be read: {1}")]
    Bad(&'static str, &'static str),
}

impl Route {
    /// Reads the path and the query of a request's target.
    pub(super) fn parse(path: &str, query: Option<&str>) -> Result<Self, NoRoute> {
        if path.len() + query.map_or(0, str::len) > TARGET_MAX {
            return Err(NoRoute::TooLong);
        }
        if let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) {
            return Ok(Self::Asset(asset));
        }
        let query = Query::new(query);
        let path = path.strip_prefix('/').ok_or(NoRoute::NotFound)?;
        let segments: Vec<&str> = path.split('/').collect();
        Ok(match segments[..] {
            [""] => Self::Inbox(query.choice(PAGE)?),
            ["accounts", account, "conversations", id] => Self::Conversation(conversation(account, id)?, query.choice(PAGE)?),
            ["priority"] => Self::Priority(query.feed()?),
            ["pipeline"] => Self::Pipeline,
            ["login"] => Self::SignIn { token: query.get("token") },
            ["api", "v1", ref rest @ ..] => Self::Api(api(rest, &query)?),
            _ => return Err(NoRoute::NotFound),
        })
    }

    /// Whether it may be seen without the token.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::SignIn { .. } | Self::Asset(_))
    }

    /// Whether a program asks, who is told errors as JSON.
    pub(super) fn is_for_programs(path: &str) -> bool {
        path.starts_with("/api/")
    }
}

fn api(rest: &[&str], query: &Query) -> Result<Api, NoRoute> {
    Ok(match *rest {
        ["openapi.json"] => Api::Description,
        ["status"] => Api::Status,
        ["accounts"] => Api::Accounts,
        ["conversations"] => Api::Conversations(query.choice(PAGE)?),
        ["accounts", account, "conversations", id] => Api::Conversation(conversation(account, id)?),
        ["accounts", account, "conversations", id, "events"] => Api::Events(conversation(account, id)?, query.limit(PAGE)?),
        ["accounts", account, "conversations", id, "events", event] => {
            let event = event.parse().map_err(|_| NoRoute::Bad("the event's place", "it is like 1784808000000-0"))?;
            Api::Event(conversation(account, id)?, event)
        }
        ["priority"] => Api::Priority(query.feed()?),
        ["stream"] => Api::Stream,
        _ => return Err(NoRoute::NotFound),
    })
}

fn conversation(account: &str, id: &str) -> Result<Conversation, NoRoute> {
    let part = |name, text| decode(text).filter(|id| is_id(id)).ok_or(NoRoute::Bad(name, NO_ID));
    Ok(Conversation { account: part("the account", account)?, id: part("the conversation", id)? })
}

const NO_ID: &str = "an id is 1 to 200 characters without control characters";

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.chars().count() <= ID_MAX && !id.chars().any(char::is_control)
}

/// The path of a conversation's page.
pub(super) fn conversation_path(account: &str, id: &str) -> String {
    format!("/accounts/{}/conversations/{}", encode(account), encode(id))
}

/// A text as one segment of a path or one value of a query.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

/// The text behind a segment; `None` where an escape is none or what comes out is not UTF-8.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
            bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

struct Query(Vec<(String, String)>);

impl Query {
    fn new(query: Option<&str>) -> Self {
        Self(url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// The value; one that is empty says nothing, as a form leaves it.
    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
    }

    fn account(&self) -> Result<Option<String>, NoRoute> {
        self.get("account").map(|id| if is_id(&id) { Ok(id) } else { Err(NoRoute::Bad("account", NO_ID)) }).transpose()
    }

    fn limit(&self, default: usize) -> Result<usize, NoRoute> {
        let Some(limit) = self.get("limit") else { return Ok(default) };
        limit.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or(NoRoute::Bad("limit", "it is 1 to 1000"))
    }

    fn choice(&self, limit: usize) -> Result<Choice, NoRoute> {
        let tab = match self.get("tab") {
            Some(name) => Tab::parse(&name).ok_or(NoRoute::Bad("tab", "it is all, priority, unread, awaiting, tips or high-value"))?,
            None => Tab::All,
        };
        let offset = self.get("offset").map_or(Some(0), |offset| offset.parse().ok()).ok_or(NoRoute::Bad("offset", "it is a number"))?;
        Ok(Choice { account: self.account()?, tab, offset, limit: self.limit(limit)? })
    }

    fn feed(&self) -> Result<Feed, NoRoute> {
        let level = match self.get("level") {
            Some(name) => {
                let known = Level::ALL.into_iter().find(|level| level.name() == name);
                Some(known.ok_or(NoRoute::Bad("level", "it is urgent, high, due or low"))?)
            }
            None => None,
        };
        Ok(Feed { account: self.account()?, level, limit: self.limit(PAGE)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_ids_survive_the_way_there_and_back() {
        for id in ["100000001", "a/b", "../x", "a b+c", "é", "%2F", "<script>", "."] {
            let path = conversation_path(id, id);
            let expected = Conversation { account: id.into(), id: id.into() };
            assert_eq!(Route::parse(&path, None), Ok(Route::Conversation(expected, Choice { limit: PAGE, ..Choice::default() })), "{path}");
        }
    }

    #[test]
    fn what_is_no_address_is_told() {
        let long = "x".repeat(201);
        for (target, expected) in [
            ("", "nothing"),
            ("//", "nothing"),
            ("/assets/../Cargo.toml", "nothing"),
            ("/assets/dashboard.js/", "nothing"),
            ("/api/v2/status", "nothing"),
            ("/accounts/1/conversations/", "conversation"),
            ("/accounts/%00/conversations/1", "account"),
            ("/accounts/%zz/conversations/1", "account"),
            ("/accounts/%ff/conversations/1", "account"),
            ("/accounts/%/conversations/1", "account"),
            (&format!("/accounts/1/conversations/{long}"), "conversation"),
            ("/?tab=other", "tab"),
            ("/?limit=0", "limit"),
            ("/?limit=1001", "limit"),
            ("/?offset=-1", "offset"),
            ("/?account=%0a", "account"),
            ("/priority?level=x", "level"),
            ("/api/v1/accounts/1/conversations/2/events/x", "place"),
            (&format!("/?{}", "x".repeat(5_000)), "too long"),
        ] {
            let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
            let error = Route::parse(path, query).expect_err(target).to_string();
            assert!(error.contains(expected), "{target}: {error}");
        }
        assert_eq!(Route::parse("/", Some("tab=&account=&limit=")), Ok(Route::Inbox(Choice { limit: PAGE, ..Choice::default() })));
    }
}
