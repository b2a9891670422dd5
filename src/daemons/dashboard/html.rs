//! The one writer of HTML.
//!
//! Owns escaping and how times, money and lengths of time look. Does not own what stands on a page. Invariant: whatever is written as text or as the
//! value of an attribute is escaped; tags and attribute names are constants of the program.

use std::fmt::Write as _;

use crate::runtime::units;
use crate::schema::text::OwnedText;
use crate::schema::time::Millis;

/// A page, or a part of it.
#[derive(Debug, Default)]
pub(super) struct Html {
    out: String,
}

impl Html {
    /// `<tag name="value" …>`.
    pub(super) fn open(&mut self, tag: &'static str, attributes: &[(&'static str, &str)]) -> &mut Self {
        self.out.push('<');
        self.out.push_str(tag);
        for (name, value) in attributes {
            self.out.push(' ');
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
        self.out.push('>');
        self
    }

    /// `</tag>`.
    pub(super) fn close(&mut self, tag: &'static str) -> &mut Self {
        // Writing to a String cannot fail.
        let _ = write!(self.out, "</{tag}>");
        self
    }

    /// Text.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        escape(&mut self.out, text);
        self
    }

    /// `<tag …>text</tag>`.
    pub(super) fn leaf(&mut self, tag: &'static str, attributes: &[(&'static str, &str)], text: &str) -> &mut Self {
        self.open(tag, attributes).text(text).close(tag)
    }

    /// What a stranger wrote, in a box of its own: its direction controls end with it.
    pub(super) fn foreign(&mut self, class: &str, text: &OwnedText) -> &mut Self {
        self.leaf("bdi", &[("class", class)], text.raw())
    }

    /// What only a screen reader says: for what others see as a colour or a sign.
    pub(super) fn said(&mut self, text: &str) -> &mut Self {
        self.text(" ").leaf("span", &[("class", "sr")], text).text(" ")
    }

    /// A point in time: exact for machines and on hover, as an age for people.
    pub(super) fn ago(&mut self, at: Millis, now: Millis) -> &mut Self {
        let exact = at.to_string();
        self.leaf("time", &[("datetime", &exact), ("title", &utc(at)), ("class", "ago")], &ago(now.since(at)))
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.out
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // HTML has no way to write it.
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// To the second, in UTC: `2026-07-23 12:00:01 UTC`.
pub(super) fn utc(at: Millis) -> String {
    format!("{} UTC", units::utc(at))
}

/// How long ago, in the largest unit: `now`, `45s`, `3m`, `2h`, `5d`; what is yet to come counts as now.
pub(super) fn ago(age_ms: i64) -> String {
    match u64::try_from(age_ms) {
        Ok(ms @ 1_000..) => units::short(ms),
        _ => "now".to_owned(),
    }
}

/// How long somebody has been waiting: `1:05`, `59:59`, `2h 05m`, `3d 4h`.
pub(super) fn waiting(ms: i64) -> String {
    match ms.max(0) / 1_000 {
        s @ 0..3_600 => format!("{}:{:02}", s / 60, s % 60),
        s @ 3_600..86_400 => format!("{}h {:02}m", s / 3_600, s / 60 % 60),
        s => format!("{}d {}h", s / 86_400, s / 3_600 % 24),
    }
}

/// Bytes: `512 B`, `1.5 MiB`.
pub(super) fn bytes(value: u64) -> String {
    let (mut amount, mut unit) = (value as f64, 0);
    while amount >= 1_024.0 && unit < 4 {
        (amount, unit) = (amount / 1_024.0, unit + 1);
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB"][unit];
    if unit == 0 { format!("{value} B") } else { format!("{amount:.1} {name}") }
}

/// Milliseconds: `350 ms`, `1.2 s`.
pub(super) fn lag(ms: i64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1_000, ms / 100 % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place() {
        let mut html = Html::default();
        html.open("a", &[("href", "\"><script>alert(1)</script>"), ("title", "' onclick='x")]);
        html.text("<img src=x onerror=alert(1)>&\0").close("a");
        let expected = "<a href=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\" title=\"&#39; onclick=&#39;x\">\
                        &lt;img src=x onerror=alert(1)&gt;&amp;\u{fffd}</a>";
        assert_eq!(html.finish(), expected);
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([ago(-5), ago(999), ago(61_000), ago(7_200_000), ago(172_800_000)], ["now", "now", "1m", "2h", "2d"]);
        assert_eq!([waiting(-1), waiting(65_000), waiting(7_500_000), waiting(273_600_000)], ["0:00", "1:05", "2h 05m", "3d 4h"]);
        assert_eq!([bytes(512), bytes(1_572_864)], ["512 B", "1.5 MiB"]);
        assert_eq!([lag(350), lag(1_250)], ["350 ms", "1.2 s"]);
        assert_eq!(utc(Millis(1_784_808_001_000)), "2026-07-23 12:00:01 UTC");
    }
}
