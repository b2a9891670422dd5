//! Chat HTML to plain text.
//!
//! Owns: which tags break a line, what is dropped, how broken markup reads. Does not own: making text safe to show (whoever shows it
//! does that) and entities (`html_escape` decodes them). Invariant: linear in the input, whatever the input.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem};

/// The text that a reader of the HTML would see: tags are gone, `<br>` and the borders of blocks are line breaks, entities are decoded,
/// scripts, styles and comments are dropped with their contents, as a browser does.
///
/// What only looks like markup stays: `a < b`, `<3`, a tag that never closes. Borrows where there is nothing to do.
#[must_use]
pub fn to_text(html: &str) -> Cow<'_, str> {
    if memchr2(b'<', b'&', html.as_bytes()).is_none() {
        return Cow::Borrowed(html);
    }
    if memchr(b'<', html.as_bytes()).is_none() {
        return html_escape::decode_html_entities(html);
    }
    let stripped = strip_tags(html);
    match html_escape::decode_html_entities(&stripped) {
        Cow::Borrowed(_) => Cow::Owned(stripped),
        Cow::Owned(decoded) => Cow::Owned(decoded),
    }
}

fn strip_tags(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    let mut after_break = true;
    while let Some(at) = memchr(b'<', rest.as_bytes()) {
        put_text(&mut out, &rest[..at], &mut after_break);
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            // An unclosed comment hides the rest in a browser too.
            rest = memmem::find(comment.as_bytes(), b"-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let Some(end) = tag_end(rest) else {
            put_text(&mut out, "<", &mut after_break);
            rest = &rest[1..];
            continue;
        };
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        match Tag::of(tag) {
            Tag::Break => {
                trim_spaces(&mut out);
                out.push('\n');
                after_break = true;
            }
            Tag::Block => {
                trim_spaces(&mut out);
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push('\n');
                }
                after_break = true;
            }
            Tag::Hidden(name) => rest = after_closing(rest, name),
            Tag::Other => {}
        }
    }
    put_text(&mut out, rest, &mut after_break);
    let text = out.trim_matches('\n');
    if text.len() == out.len() { out } else { text.to_owned() }
}

/// Appends text. Directly after a break the source's own line feed belongs to the markup (`<br />\n`).
fn put_text(out: &mut String, text: &str, after_break: &mut bool) {
    if text.is_empty() {
        return;
    }
    let text = if *after_break { text.strip_prefix("\r\n").or_else(|| text.strip_prefix('\n')).unwrap_or(text) } else { text };
    out.push_str(text);
    *after_break = false;
}

fn trim_spaces(out: &mut String) {
    let len = out.trim_end_matches([' ', '\t']).len();
    out.truncate(len);
}

enum Tag {
    Break,
    Block,
    /// Its contents are not text; the name to look for at its end.
    Hidden(&'static str),
    Other,
}

impl Tag {
    /// The kind of a tag, from what stands between its angle brackets.
    fn of(tag: &str) -> Self {
        let closing = tag.starts_with('/');
        let name = tag.trim_start_matches('/');
        let name = &name[..name.bytes().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(name.len())];
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        let blocks = ["p", "div", "li", "ul", "ol", "tr", "blockquote", "pre", "h1", "h2", "h3", "h4", "h5", "h6"];
        if is("br") {
            Self::Break
        } else if blocks.into_iter().any(is) {
            Self::Block
        } else if closing {
            Self::Other
        } else {
            ["script", "style"].into_iter().find(|hidden| is(hidden)).map_or(Self::Other, Self::Hidden)
        }
    }
}

/// Where the tag that `text` begins with ends (the index of its `>`); `None` where the `<` begins none.
fn tag_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if !matches!(bytes.get(1), Some(b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'!' | b'?')) {
        return None;
    }
    let (mut quote, mut first_close) = (None, None);
    for (at, &byte) in bytes.iter().enumerate().skip(1) {
        match (byte, quote) {
            (b'>', None) => return Some(at),
            (b'>', Some(_)) => first_close = first_close.or(Some(at)),
            // The next tag begins before this one ends, so this one was a "less than".
            (b'<', None) => return None,
            (b'"' | b'\'', None) if bytes[at - 1] == b'=' => quote = Some(byte),
            (_, Some(open)) if byte == open => quote = None,
            _ => {}
        }
    }
    // The quote never closed: it was an apostrophe.
    first_close
}

/// What follows the closing tag of that name; nothing where it never comes, as in a browser.
fn after_closing<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some(at) = memmem::find(rest.as_bytes(), b"</") {
        rest = &rest[at + 2..];
        if rest.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return memchr(b'>', rest.as_bytes()).map_or("", |end| &rest[end + 1..]);
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_as_a_browser_shows_it() {
        for (html, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("<p>hi <br />there</p>", "hi\nthere"),
            ("<p>one</p><p>two</p>", "one\ntwo"),
            ("<p>one</p>\n<p>two</p>", "one\ntwo"),
            ("one<br>\ntwo<BR/>three", "one\ntwo\nthree"),
            ("a<br><br>b", "a\n\nb"),
            ("<ul><li>x</li><li>y</li></ul>", "x\ny"),
            ("<div>a<div>b</div></div>c", "a\nb\nc"),
            ("fish &amp; chips &#128512; &#x1F600; caf&eacute;", "fish & chips 😀 😀 café"),
            ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
            ("&lt;b&gt;not a tag&lt;/b&gt;", "<b>not a tag</b>"),
            ("&nosuch; &amp", "&nosuch; &amp"),
            ("a < b", "a < b"),
            ("1 <2 and 3> 2", "1 <2 and 3> 2"),
            ("i <3 you", "i <3 you"),
            ("a <b", "a <b"),
            ("a <b and <i>c</i>", "a <b and c"),
            ("<b>bold</b> and <a href=\"https://x/?a>b\">link</a>", "bold and link"),
            ("<img alt='a>b'>after", "after"),
            ("<b it's>after", "after"),
            ("<a href='x>after", "after"),
            ("x<script>alert('<p>')</script>y", "xy"),
            ("x<STYLE type=a>p{}</sTyle >y", "xy"),
            ("x<script>never closed", "x"),
            ("x<!-- a > b -->y<!-- open", "xy"),
            ("<!DOCTYPE html>x<?php y ?>z", "xz"),
            ("</p>end</p>", "end"),
            ("مرحبا<br>שלום", "مرحبا\nשלום"),
            ("\u{202e}evil &#x202e;", "\u{202e}evil \u{202e}"),
            ("<", "<"),
            ("<>", "<>"),
        ] {
            assert_eq!(to_text(html), expected, "{html:?}");
        }
    }

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(to_text("nothing to do here > at all"), Cow::Borrowed(_)));
    }

    /// What backs up over its input would take minutes here.
    #[test]
    fn a_megabyte_of_hostile_repetition_comes_to_its_end() {
        for unit in ["<a", "<a ='", "<!--", "<script>", "</", "<a '>", "&", "&#", "<p>", "<a=\"<b='"] {
            let html = unit.repeat(1_000_000 / unit.len());
            assert!(to_text(&html).len() <= html.len(), "{unit:?}");
        }
    }

    proptest! {
        #[test]
        fn never_grows(html in "(<|>|/|&|;|!|-|#|'|\"|=| |\n|script|style|p|br|é|🙂|lt|x){0,60}") {
            let text = to_text(&html);
            prop_assert!(text.len() <= html.len());
        }
    }
}
