//! Foreign text made safe for a terminal and for JSON on a terminal.
//!
//! Owns: which characters a stranger's text may bring to a screen. Invariant: what [`term_safe`] returns holds no control or bidi
//! character, nothing invisible but what joins emoji and letters, and is its own result when it is made safe again.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Most combining marks on one character. Vietnamese needs two, Hebrew with cantillation three or four; what is beyond them only
/// paints over the lines above and below.
const MARKS_MAX: usize = 4;

/// Foreign text as one line that is safe to show.
///
/// Control characters (line breaks and tabs too), bidi controls, zero-width characters, tag characters, line separators, private
/// and unassigned code points become visible escapes: `\n`, `\u{202e}`. Kept are zero-width joiners between two emoji, the emoji
/// variation selectors right after one, and joiners between two letters that are not ASCII, which Persian and Indic scripts need. So
/// families and keycaps stay readable, and flags of regions, which are made of tag characters, show theirs. A run of more than four
/// combining marks ends in U+FFFD; a mark with nothing before it gets a dotted circle.
#[must_use]
pub fn term_safe(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    // The character that stands before, as it is shown; an escape ends in a brace.
    let mut before = None;
    let mut marks = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let shown = match kind(c) {
            Kind::Plain => Some(c),
            Kind::Joiner => joins(before, c, chars.peek().copied()).then_some(c),
            Kind::Selector => before.is_some_and(takes_selector).then_some(c),
            Kind::Mark => {
                marks += 1;
                if marks > MARKS_MAX {
                    if marks == MARKS_MAX + 1 {
                        out.push('\u{fffd}');
                    }
                    continue;
                }
                if before.is_none() {
                    out.push('\u{25cc}');
                }
                out.push(c);
                // What the mark stands on counts for a joiner behind it, the mark does not.
                before = before.or(Some('\u{25cc}'));
                continue;
            }
            Kind::Unsafe => None,
        };
        marks = 0;
        match shown {
            Some(c) => out.push(c),
            None => escape(c, &mut out),
        }
        before = Some(shown.unwrap_or('}'));
    }
    Cow::Owned(out)
}

/// Serialized JSON in which nothing can disturb a terminal: control, bidi, zero-width and other invisible characters, which can only
/// stand inside its strings, as `\uXXXX`. It reads back as the same JSON.
#[must_use]
pub fn json_safe(json: &str) -> Cow<'_, str> {
    let is_safe = |c: char| c == '\n' || matches!(kind(c), Kind::Plain | Kind::Mark);
    if json.chars().all(is_safe) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if is_safe(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(out)
}

/// Columns that a text takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// A text that is already safe, cut to a number of columns; the last is an ellipsis where something was cut. Emoji sequences and
/// marks are not torn apart.
#[must_use]
pub fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if text.width() <= columns {
        return Cow::Borrowed(text);
    }
    let mut end = 0;
    for (at, c) in text.char_indices() {
        if text[..at].width() + 1 > columns {
            break;
        }
        if matches!(kind(c), Kind::Plain) && !text[..at].ends_with('\u{200d}') {
            end = at;
        }
    }
    let ellipsis = if columns == 0 { "" } else { "…" };
    Cow::Owned(format!("{}{ellipsis}", &text[..end]))
}

enum Kind {
    /// Shown as it is.
    Plain,
    /// Stands on the character before it.
    Mark,
    /// U+200C and U+200D.
    Joiner,
    /// U+FE0E and U+FE0F: text or emoji form of the character before.
    Selector,
    /// Never shown.
    Unsafe,
}

fn kind(c: char) -> Kind {
    match c {
        ' '..='~' => Kind::Plain,
        '\u{200c}' | '\u{200d}' => Kind::Joiner,
        '\u{fe0e}' | '\u{fe0f}' => Kind::Selector,
        // Printable by category and yet invisible: grapheme joiner, Hangul fillers, Khmer inherent vowels, Mongolian and other
        // variation selectors.
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => Kind::Unsafe,
        '\u{3164}' | '\u{ffa0}' | '\u{fe00}'..='\u{fe0d}' | '\u{e0000}'..='\u{e0fff}' => Kind::Unsafe,
        '\u{2028}' | '\u{2029}' => Kind::Unsafe,
        // The spaces of all scripts, which std does not count as printable.
        _ if c.is_whitespace() && !c.is_control() => Kind::Plain,
        _ if !is_printable(c) => Kind::Unsafe,
        _ if c.width() == Some(0) => Kind::Mark,
        _ => Kind::Plain,
    }
}

/// Whether std counts a character as printable: not control, format, private use, unassigned or a separator. It says so by what it
/// escapes; behind another character it does not escape combining marks.
fn is_printable(c: char) -> bool {
    let mut buffer = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..len]).is_ok_and(|text| text.escape_debug().nth(1) != Some('\\'))
}

fn joins(before: Option<char>, joiner: char, after: Option<char>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    let is_letter = |c: char| !c.is_ascii() && c.is_alphabetic();
    // The selector or skin tone that may stand between an emoji and its joiner is one itself, or was let through because of one.
    let ends_emoji = is_emoji(before) || matches!(before, '\u{fe0e}' | '\u{fe0f}');
    (joiner == '\u{200d}' && ends_emoji && is_emoji(after)) || (is_letter(before) && is_letter(after))
}

/// The blocks in which emoji stand. Wider than the emoji property, which is fine: it decides only whether a joiner stays.
fn is_emoji(c: char) -> bool {
    matches!(c, '©' | '®' | '‼' | '⁉' | '™' | 'ℹ' | '〰' | '〽' | '㊗' | '㊙')
        || matches!(c, '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{23ff}' | '\u{2460}'..='\u{24ff}' | '\u{25a0}'..='\u{27bf}')
        || matches!(c, '\u{2900}'..='\u{297f}' | '\u{2b00}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}

fn takes_selector(c: char) -> bool {
    is_emoji(c) || matches!(c, '#' | '*' | '0'..='9')
}

fn escape(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ => out.extend(c.escape_unicode()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_disturb_is_visible() {
        for (text, expected) in [
            ("plain \\ text", "plain \\ text"),
            ("ünïcödé שלום مرحبا 你好 🙂", "ünïcödé שלום مرحبا 你好 🙂"),
            ("a\nb\r\nc\td", "a\\nb\\r\\nc\\td"),
            ("\u{1b}[31mred\u{1b}]0;title\u{7}", "\\u{1b}[31mred\\u{1b}]0;title\\u{7}"),
            ("\u{0}\u{7f}\u{9b}31m\u{85}", "\\u{0}\\u{7f}\\u{9b}31m\\u{85}"),
            ("a\u{202e}b\u{2066}c\u{200e}d\u{61c}", "a\\u{202e}b\\u{2066}c\\u{200e}d\\u{61c}"),
            ("z\u{200b}w\u{200d}x\u{2060}\u{feff}\u{ad}", "z\\u{200b}w\\u{200d}x\\u{2060}\\u{feff}\\u{ad}"),
            ("\u{2028}\u{2029}\u{e000}\u{10ffff}\u{378}", "\\u{2028}\\u{2029}\\u{e000}\\u{10ffff}\\u{378}"),
            ("tag\u{e0041}\u{e007f} vs\u{e0100} \u{fe00}", "tag\\u{e0041}\\u{e007f} vs\\u{e0100} \\u{fe00}"),
            ("filler\u{3164}\u{34f}", "filler\\u{3164}\\u{34f}"),
            ("nbsp\u{a0}ideographic\u{3000}", "nbsp\u{a0}ideographic\u{3000}"),
            ("👩‍👩‍👧 👍🏽 ❤️ 1️⃣ 🏳️‍🌈", "👩‍👩‍👧 👍🏽 ❤️ 1️⃣ 🏳️‍🌈"),
            ("a\u{fe0f} 👩\u{200d}a", "a\\u{fe0f} 👩\\u{200d}a"),
            ("می\u{200c}خواهم क्\u{200d}ष", "می\u{200c}خواهم क्\u{200d}ष"),
            ("e\u{301}", "e\u{301}"),
            ("\u{301}e", "\u{25cc}\u{301}e"),
            ("e\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}x", "e\u{301}\u{302}\u{303}\u{304}\u{fffd}x"),
        ] {
            assert_eq!(term_safe(text), expected, "{text:?}");
        }
    }

    #[test]
    fn cuts_fall_between_what_people_see() {
        for (text, columns, expected) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 4, "abc…"),
            ("你好世界", 5, "你好…"),
            ("你好世界", 4, "你…"),
            ("ab👩‍👩‍👧cd", 4, "ab…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
            ("abc", 0, ""),
        ] {
            let cut = fit(text, columns);
            assert_eq!(cut, expected, "{text:?} to {columns}");
            assert!(width(&cut) <= columns);
        }
    }

    #[test]
    fn json_says_the_same_with_escapes() {
        let json = "{\n \"a\": \"x\u{202e}\u{7f}\u{9b}👩‍👧\u{e0041}\u{a0}é\"\n}";
        let safe = json_safe(json);
        assert_eq!(safe, "{\n \"a\": \"x\\u202e\\u007f\\u009b👩\\u200d👧\\udb40\\udc41\u{a0}é\"\n}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(read(&safe), read(json));
    }

    /// Text that is likely to be trouble: any character, and more of those that the rules are about.
    fn hostile() -> impl Strategy<Value = String> {
        let special = "\u{1b}\n\r\t\u{7f}\u{9b}\u{202e}\u{2066}\u{2069}\u{200b}\u{200c}\u{200d}\u{200e}\u{2028}\u{fe0e}\u{fe0f}\u{e0041}\u{301}\u{302}\u{20e3}👩👧❤🏽1#کa{}\\";
        let special: Vec<char> = special.chars().collect();
        proptest::collection::vec(prop_oneof![any::<char>(), proptest::sample::select(special)], 0..60).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left_and_safe_text_stays(text in hostile()) {
            let safe = term_safe(&text);
            let is_bidi = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            let is_hidden = |c: char| matches!(c, '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
            let unsafe_char = safe.chars().find(|&c| c.is_control() || is_bidi(c) || is_hidden(c));
            prop_assert_eq!(unsafe_char, None);
            prop_assert_eq!(term_safe(&safe), &*safe, "made safe twice");
            // Each mark is two bytes or more, and a base of a byte carries at most four.
            prop_assert!(safe.len() <= text.len() * 10 + 3);
        }

        #[test]
        fn json_is_unchanged_in_meaning(text in hostile()) {
            let json = serde_json::to_string(&text).expect("a string serializes");
            let safe = json_safe(&json);
            prop_assert_eq!(serde_json::from_str::<String>(&safe).expect("still JSON"), text);
            let unsafe_char = safe.chars().find(|&c| c.is_control() || c == '\u{202e}' || c == '\u{200d}');
            prop_assert_eq!(unsafe_char, None);
        }

        #[test]
        fn a_cut_text_fits(text in hostile(), columns in 0usize..20) {
            let safe = term_safe(&text);
            prop_assert!(width(&fit(&safe, columns)) <= columns);
        }
    }
}
