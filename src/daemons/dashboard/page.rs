//! The pages, whole without JavaScript: every link and form works, and a page without the script loads itself anew.
//!
//! Owns what stands where. Does not own how it looks (`assets/dashboard.css`) nor how it stays live (`assets/dashboard.js`, which writes the same
//! elements). Invariant: foreign text is written by [`Html::foreign`] alone.

use std::sync::Arc;

use super::api::{choose, entries};
use super::board::{Picture, Strip};
use super::html::{Html, bytes, lag, utc, waiting};
use super::panel::{Panel, panel};
use super::route::{Choice, Feed, conversation_path, encode};
use super::rows::{Entry, Row, Tab, waiting_class};
use crate::runtime::units::{money, number};
use crate::schema::event::Direction;
use crate::schema::policy::Level;
use crate::schema::text::OwnedText;
use crate::schema::time::Millis;
use crate::schema::view::PpvState;

/// How long somebody seen online counts as online.
const ONLINE_MS: i64 = 120_000;
/// Entries of the feed beside the inbox.
const FEED_BESIDE: usize = 30;

/// How long a gap counts as news.
const GAP_NEWS_MS: i64 = 3_600_000;
/// What the two figures of an account are.
const RATE: &str =
    "conversations written a second over the last ten seconds, and the slowest way from a frame to Redis that was seen in them";

/// What a page shows in its middle.
pub(super) enum View<'a> {
    Inbox,
    Conversation(&'a Panel),
    Priority(&'a Feed),
    Pipeline,
}

/// What every page needs.
pub(super) struct Page<'a> {
    pub(super) picture: &'a Picture,
    pub(super) choice: &'a Choice,
    pub(super) now: Millis,
    pub(super) nonce: &'a str,
}

impl Page<'_> {
    /// The page as HTML.
    pub(super) fn render(&self, view: &View<'_>) -> String {
        let mut html = Html::default();
        let (name, title) = match view {
            View::Inbox => ("inbox", "Inbox"),
            View::Conversation(_) => ("conversation", "Conversation"),
            View::Priority(_) => ("priority", "Priority feed"),
            View::Pipeline => ("pipeline", "Pipeline"),
        };
        head(&mut html, self.nonce, title, true);
        html.open("body", &[("data-view", name), ("data-tab", self.choice.tab.name())]);
        html.leaf("a", &[("class", "skip"), ("href", "#main")], "Skip to the conversations");
        self.header(&mut html, name);
        self.fault(&mut html);
        self.strips(&mut html, matches!(view, View::Pipeline));
        html.open("main", &[("id", "main"), ("tabindex", "-1")]).leaf("h1", &[("class", "sr")], title);
        match view {
            View::Inbox | View::Conversation(_) => {
                self.inbox(&mut html);
                html.open("section", &[("id", "panel"), ("aria-label", "Conversation"), ("tabindex", "-1")]);
                match view {
                    View::Conversation(shown) => panel(&mut html, shown, self.choice, self.now),
                    _ => {
                        html.leaf(
                            "p",
                            &[("class", "hint")],
                            "Choose a conversation. With the keyboard: j and k go down and up, Enter opens, Escape closes.",
                        );
                    }
                }
                html.close("section");
                self.feed(&mut html, &Feed { account: self.choice.account.clone(), level: None, limit: FEED_BESIDE });
            }
            View::Priority(feed) => self.feed(&mut html, feed),
            View::Pipeline => {}
        }
        html.close("main");
        html.close("body").close("html");
        html.finish()
    }

    fn header(&self, html: &mut Html, view: &str) {
        html.open("header", &[("class", "top")]);
        html.open("a", &[("class", "brand"), ("href", "/")]).text("convpipe").close("a");
        html.open("nav", &[("aria-label", "Views")]);
        for (path, name, label) in
            [("/", "inbox", "Inbox"), ("/priority", "priority", "Priority feed"), ("/pipeline", "pipeline", "Pipeline")]
        {
            let current = if name == view { "page" } else { "false" };
            html.leaf("a", &[("href", path), ("aria-current", current)], label);
        }
        html.close("nav");
        html.open("form", &[("method", "get"), ("action", if view == "priority" { "/priority" } else { "/" }), ("class", "account")]);
        html.leaf("label", &[("for", "account")], "Account");
        html.open("select", &[("id", "account"), ("name", "account")]);
        let chosen = self.choice.account.as_deref();
        html.leaf("option", &[("value", "")], "All accounts");
        for strip in &self.picture.accounts {
            let id = strip.account.raw();
            let attributes = [("value", id), ("selected", "")];
            html.leaf("option", &attributes[..if chosen == Some(id) { 2 } else { 1 }], id);
        }
        html.close("select");
        html.open("input", &[("type", "hidden"), ("name", "tab"), ("value", self.choice.tab.name())]);
        html.leaf("button", &[("type", "submit")], "Show").close("form");
        let state =
            if self.picture.fault.is_some() { ("away", "Redis is away") } else { ("still", "not live: this page loads itself anew") };
        html.leaf("p", &[("id", "live"), ("role", "status"), ("data-state", state.0)], state.1);
        html.close("header");
    }

    fn fault(&self, html: &mut Html) {
        let Some(fault) = &self.picture.fault else {
            html.leaf("p", &[("id", "fault"), ("role", "alert"), ("hidden", "")], "");
            return;
        };
        let read_at = self.picture.read_at.map_or_else(|| "never".to_owned(), utc);
        let text = format!("Redis cannot be read since {}: {}. What is shown was read: {read_at}.", utc(fault.since), fault.message);
        html.leaf("p", &[("id", "fault"), ("role", "alert")], &text);
    }

    /// The pipeline, one account a box.
    fn strips(&self, html: &mut Html, is_whole: bool) {
        let class = if is_whole { "whole" } else { "brief" };
        // Many accounts are more than fits: whoever has a keyboard alone scrolls it too.
        html.open("section", &[("id", "strip"), ("aria-label", "Pipeline"), ("class", class), ("tabindex", "0")]);
        html.open("ul", &[("id", "accounts")]);
        for strip in &self.picture.accounts {
            self.strip(html, strip);
        }
        html.close("ul");
        let memory = self.picture.memory.map_or_else(
            || "Redis memory: unknown".to_owned(),
            |memory| {
                let limit = if memory.max_bytes == 0 { "no limit".to_owned() } else { format!("of {}", bytes(memory.max_bytes)) };
                format!("Redis memory: {}, {limit}", bytes(memory.used_bytes))
            },
        );
        html.leaf("p", &[("id", "memory")], &memory).close("section");
    }

    fn strip(&self, html: &mut Html, strip: &Strip) {
        let state = strip.connection.as_ref().map_or("unknown", |connection| connection.state.as_str());
        html.open("li", &[("class", "strip"), ("data-account", strip.account.raw()), ("data-state", state)]);
        html.open("span", &[("class", "strip-name")]).foreign("id", &strip.account).close("span");
        html.leaf("span", &[("class", "state")], state);
        let worst = strip.lag_ms.iter().rev().take(10).flatten().max();
        let rate = match worst {
            Some(&ms) => format!("{:.1} writes/s · lag {}", strip.writes_per_second, lag(ms)),
            None if strip.writes_per_second > 0.0 => format!("{:.1} writes/s", strip.writes_per_second),
            None => "quiet".to_owned(),
        };
        html.leaf("span", &[("class", "rate"), ("title", RATE)], &rate);
        let (all, awaiting) = (number(strip.conversations as u64), number(strip.awaiting as u64));
        html.leaf("span", &[("class", "counts")], &format!("{all} conversations · {awaiting} awaiting"));
        if strip.unreadable > 0 {
            html.leaf("span", &[("class", "bad")], &format!("{} cannot be read", number(strip.unreadable as u64)));
        }
        if let Some(fault) = &strip.fault {
            html.leaf("span", &[("class", "bad"), ("title", fault)], "its state cannot be read");
        }
        if let Some(gap) = &strip.gap {
            let is_news = gap.reason.as_deref() != Some("start") && self.now.since(gap.to) < GAP_NEWS_MS;
            html.open("span", &[("class", if is_news { "gap" } else { "gap old" })]).text("gap ").ago(gap.to, self.now);
            html.text(&gap.reason.as_ref().map_or_else(String::new, |reason| format!(" · {reason}"))).close("span");
        }
        if let Some(auth) = &strip.auth {
            html.leaf("span", &[("class", "auth")], &format!("session: {}", auth.status.replace('_', " ")));
        }
        html.close("li");
    }

    fn inbox(&self, html: &mut Html) {
        let (rows, total) = choose(self.picture, self.choice);
        html.open("section", &[("id", "inbox"), ("aria-label", "Inbox")]);
        html.open("div", &[("class", "inbox-head")]).open("nav", &[("id", "tabs"), ("aria-label", "Which conversations")]);
        for tab in Tab::EVERY {
            let current = if tab == self.choice.tab { "page" } else { "false" };
            html.leaf("a", &[("href", &self.address(tab, 0)), ("data-tab", tab.name()), ("aria-current", current)], tab.label());
        }
        html.close("nav");
        html.leaf("p", &[("id", "count"), ("aria-live", "off")], &format!("{} conversations", number(total as u64)));
        html.close("div").open("div", &[("id", "list")]).open("ol", &[("id", "rows"), ("aria-label", "Conversations")]);
        for row in &rows {
            row_item(html, row, self.now);
        }
        html.close("ol");
        let hidden = [("id", "none"), ("class", "hint"), ("hidden", "")];
        html.leaf("p", &hidden[..if rows.is_empty() { 2 } else { 3 }], none(self.choice.tab)).close("div");
        html.open("nav", &[("id", "pages"), ("aria-label", "Pages")]);
        let Choice { offset, limit, .. } = *self.choice;
        if offset > 0 {
            html.leaf("a", &[("href", &self.address(self.choice.tab, offset.saturating_sub(limit)))], "Newer");
        }
        if offset.saturating_add(limit) < total {
            html.leaf("a", &[("href", &self.address(self.choice.tab, offset + limit))], "Older");
        }
        html.close("nav").close("section");
    }

    fn address(&self, tab: Tab, offset: usize) -> String {
        let account = self.choice.account.as_deref().map_or_else(String::new, |account| format!("&account={}", encode(account)));
        let offset = if offset > 0 { format!("&offset={offset}") } else { String::new() };
        format!("/?tab={}{account}{offset}", tab.name())
    }

    fn feed(&self, html: &mut Html, feed: &Feed) {
        html.open("section", &[("id", "feed"), ("aria-label", "Priority feed")]);
        html.open("div", &[("class", "feed-head")]).leaf("h2", &[], "Priority feed");
        html.open("form", &[("method", "get"), ("action", "/priority"), ("class", "levels")]);
        html.leaf("label", &[("for", "level")], "Level").open("select", &[("id", "level"), ("name", "level")]);
        html.leaf("option", &[("value", "")], "All");
        for level in Level::ALL {
            let attributes = [("value", level.name()), ("selected", "")];
            html.leaf("option", &attributes[..if feed.level == Some(level) { 2 } else { 1 }], level.name());
        }
        html.close("select").leaf("button", &[("type", "submit"), ("class", "plain")], "Show").close("form");
        html.leaf("button", &[("type", "button"), ("id", "pause"), ("aria-pressed", "false"), ("hidden", "")], "Pause").close("div");
        html.open("ol", &[("id", "entries"), ("aria-label", "Entries, newest first")]);
        let entries = entries(self.picture, feed);
        for entry in &entries {
            entry_item(html, entry, self.now);
        }
        html.close("ol");
        let hidden = [("id", "quiet"), ("class", "hint"), ("hidden", "")];
        html.leaf("p", &hidden[..if entries.is_empty() { 2 } else { 3 }], "Nothing asks for anybody's attention.").close("section");
    }
}

/// What an empty tab says.
const fn none(tab: Tab) -> &'static str {
    match tab {
        Tab::All => "No conversation yet: they appear as soon as the snapshot service writes them.",
        Tab::Awaiting => "Nobody waits for an answer.",
        Tab::Unread => "Everything is read.",
        Tab::Priority | Tab::Tips | Tab::HighValue => "No conversation in this tab.",
    }
}

/// The beginning of a page; one that has no script renews itself.
pub(super) fn head(html: &mut Html, nonce: &str, title: &str, renews: bool) {
    // A doctype is no element, so it is not the writer's.
    html.open("!doctype html", &[]).open("html", &[("lang", "en")]).open("head", &[]).open("meta", &[("charset", "utf-8")]);
    html.open("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.open("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.open("meta", &[("name", "robots"), ("content", "noindex")]);
    if renews {
        html.open("noscript", &[]).open("meta", &[("http-equiv", "refresh"), ("content", "10")]).close("noscript");
    }
    html.leaf("title", &[], &format!("{title} · convpipe"));
    html.open("link", &[("rel", "icon"), ("href", "data:,")]);
    html.open("link", &[("rel", "stylesheet"), ("href", "/assets/dashboard.css"), ("nonce", nonce)]);
    html.open("script", &[("src", "/assets/dashboard.js"), ("nonce", nonce), ("defer", "")]).close("script").close("head");
}

/// A tier worth a word.
fn has_tier(tier: &str) -> bool {
    !tier.is_empty() && tier != "none"
}

/// What stands for a message that is nothing but pictures.
const NO_TEXT: &str = "(no text)";
const UNREADABLE: &str = "what stands in Redis cannot be read; this is what was known before";

/// A line of the inbox. `rowNode` in `assets/dashboard.js` writes the same.
fn row_item(html: &mut Html, row: &Row, now: Millis) {
    let path = conversation_path(row.account.raw(), row.id.raw());
    html.open("li", &[]).open("a", &[("class", "row"), ("href", &path)]);
    html.open("span", &[("class", "line")]).open("span", &[("class", "who")]).foreign("name", &row.name);
    if has_tier(&row.tier) {
        html.leaf("span", &[("class", "tier")], &row.tier);
    }
    if row.high_value {
        html.leaf("span", &[("class", "badge high-value"), ("title", "high-value"), ("aria-hidden", "true")], "★").said("high-value");
    }
    if let Some(level) = row.level.filter(|level| *level > Level::Low) {
        html.leaf("span", &[("class", &format!("badge level-{}", level.name()))], level.name());
    }
    if row.typing_until.is_some_and(|until| until > now) {
        html.leaf("span", &[("class", "typing")], "typing…");
    } else if row.online_at.is_some_and(|at| now.since(at) < ONLINE_MS) {
        html.leaf("span", &[("class", "online")], "online");
    }
    html.close("span").open("span", &[("class", "side")]);
    match row.at {
        Some(at) => html.ago(at, now),
        None => html.ago(row.activity, now),
    };
    if row.unread > 0 {
        let more = if row.unread_more { "+" } else { "" };
        html.leaf("span", &[("class", "badge unread"), ("title", "unread")], &format!("{}{more}", row.unread)).said("unread");
    }
    if let Some(since) = row.waiting_since {
        let ms = now.since(since);
        html.said("waiting").leaf("span", &[("class", &format!("wait {}", waiting_class(ms))), ("title", "waiting")], &waiting(ms));
    }
    html.close("span").close("span").open("span", &[("class", "line")]).open("span", &[("class", "what")]);
    match row.direction {
        Some(Direction::In) => {
            html.leaf("span", &[("class", "way"), ("title", "from the fan"), ("aria-hidden", "true")], "←").said("from the fan:");
        }
        Some(Direction::Out) => {
            html.leaf("span", &[("class", "way"), ("title", "from the account"), ("aria-hidden", "true")], "→").said("from the account:");
        }
        _ => {}
    }
    match row.preview.as_ref() {
        Some(preview) if !preview.as_untrusted().is_blank() => html.foreign("preview", preview),
        Some(_) => html.leaf("span", &[("class", "preview")], NO_TEXT),
        None => html,
    };
    html.close("span").open("span", &[("class", "marks")]);
    if let Some(ppv) = &row.ppv {
        let price = ppv.price.map_or_else(String::new, |price| format!(" {}", brief(price)));
        let state = if ppv.state == PpvState::Unlocked { "unlocked" } else { "sent" };
        html.leaf("span", &[("class", &format!("ppv ppv-{state}"))], &format!("PPV{price} {state}"));
    }
    if row.spent > 0 {
        html.leaf("span", &[("class", "spent"), ("title", "spent, as observed")], &brief(row.spent));
    }
    if row.unreadable {
        html.leaf("span", &[("class", "badge unreadable"), ("title", UNREADABLE)], "unreadable");
    }
    if row.stale {
        html.leaf("span", &[("class", "badge stale"), ("title", "frames may have been missed since")], "stale");
    }
    html.close("span").close("span").close("a").close("li");
}

/// A line of the feed. `entryNode` in `assets/dashboard.js` writes the same.
fn entry_item(html: &mut Html, entry: &Arc<Entry>, now: Millis) {
    html.open("li", &[("class", "entry")]);
    html.leaf("span", &[("class", &format!("badge level-{}", entry.level.name()))], entry.level.name());
    match (&entry.conversation, &entry.name) {
        (Some(id), name) => {
            let path = conversation_path(entry.account.raw(), id.raw());
            html.open("a", &[("href", &path)]).foreign("name", name.as_ref().unwrap_or(id)).close("a");
        }
        (None, _) => {
            html.foreign("name", &entry.account);
        }
    }
    if let Some(paid) = entry.money {
        html.leaf("span", &[("class", "spent")], &amount(paid.minor));
    }
    html.ago(entry.received_at, now);
    html.foreign("preview", entry.preview.as_ref().unwrap_or(&OwnedText::default()));
    html.leaf("span", &[("class", "reasons")], &entry.reasons.join(", ").replace('_', " "));
    html.leaf("span", &[("class", "lag"), ("title", "from the frame to Redis")], &lag(entry.lag_ms)).close("li");
}

/// Money where there is little room: from a thousand on without the cents.
fn brief(minor: i64) -> String {
    let text = money(minor);
    match text.split_once('.') {
        Some((whole, _)) if minor.abs() >= 100_000 => whole.to_owned(),
        _ => text,
    }
}

/// What was paid; a source that says 0 means that nothing was asked for.
fn amount(minor: i64) -> String {
    if minor == 0 { "free".to_owned() } else { money(minor) }
}

/// The page that asks for the token.
pub(super) fn sign_in(nonce: &str, is_wrong: bool) -> String {
    let mut html = Html::default();
    head(&mut html, nonce, "Sign in", false);
    html.open("body", &[("data-view", "login")]).open("main", &[("id", "main"), ("class", "notice")]).leaf("h1", &[], "convpipe");
    html.open("form", &[("id", "login"), ("method", "get"), ("action", "/login")]);
    html.leaf("label", &[("for", "token")], "Token");
    // For password managers, which keep nothing without a name.
    html.open("input", &[("type", "text"), ("autocomplete", "username"), ("value", "convpipe"), ("hidden", "")]);
    let token = [
        ("id", "token"),
        ("name", "token"),
        ("type", "password"),
        ("autocomplete", "current-password"),
        ("required", ""),
        ("autofocus", ""),
    ];
    html.open("input", &token);
    html.leaf("button", &[("type", "submit")], "Sign in");
    html.leaf("p", &[("id", "wrong"), ("role", "alert")], if is_wrong { "That is not the token." } else { "" });
    html.close("form").close("main").close("body").close("html");
    html.finish()
}

/// A page that says one thing.
pub(super) fn notice(nonce: &str, title: &str, text: &str) -> String {
    let mut html = Html::default();
    head(&mut html, nonce, title, false);
    html.open("body", &[("data-view", "notice")]).open("main", &[("id", "main"), ("class", "notice")]);
    html.leaf("h1", &[], title).leaf("p", &[], text).leaf("a", &[("href", "/")], "To the inbox").close("main").close("body").close("html");
    html.finish()
}
