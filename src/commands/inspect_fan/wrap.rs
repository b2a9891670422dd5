//! Text that goes on below itself.

use unicode_width::UnicodeWidthChar;

use crate::commands::output::width;

/// Safe text in lines of at most so many columns, broken at spaces, and inside a word only where it alone is too long. At least one line.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    // Spaces at the end would be a line of their own where they do not fit.
    let text = text.trim_end_matches(' ');
    for (place, word) in text.split(' ').enumerate() {
        let mut word = word;
        let last = lines.len() - 1;
        let space = usize::from(place > 0);
        if width(&lines[last]) + space + width(word) <= columns {
            lines[last].push_str(&" "[..space]);
            lines[last].push_str(word);
            continue;
        }
        if !lines[last].is_empty() {
            lines.push(String::new());
        }
        while width(word) > columns {
            let (head, tail) = word.split_at(cut(word, columns));
            let last = lines.len() - 1;
            lines[last].push_str(head);
            lines.push(String::new());
            word = tail;
        }
        let last = lines.len() - 1;
        lines[last].push_str(word);
    }
    lines
}

/// Where the part that fits ends; never inside an emoji sequence or before a mark, and always behind the first character.
fn cut(word: &str, columns: usize) -> usize {
    let mut end = 0;
    let mut joined = false;
    for (at, c) in word.char_indices() {
        let stands_alone = c.width().unwrap_or(0) > 0 && !joined;
        if stands_alone {
            if at > 0 && width(&word[..at]) > columns {
                break;
            }
            end = at;
        }
        joined = c == '\u{200d}';
    }
    if end == 0 { word.chars().next().map_or(word.len(), char::len_utf8) } else { end }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_break_at_spaces() {
        for (text, columns, expected) in [
            ("", 5, &[""][..]),
            ("one two three", 7, &["one two", "three"]),
            ("one two", usize::MAX, &["one two"]),
            ("abcdefgh ij", 3, &["abc", "def", "gh", "ij"]),
            ("a  b", 9, &["a  b"]),
            ("one two ", 7, &["one two"]),
            ("你好世界", 5, &["你好", "世界"]),
            ("👩‍👩‍👧👩‍👩‍👧", 2, &["👩‍👩‍👧", "👩‍👩‍👧"]),
            ("e\u{301}e\u{301}e\u{301}", 2, &["e\u{301}e\u{301}", "e\u{301}"]),
        ] {
            assert_eq!(wrap(text, columns), expected, "{text:?} in {columns}");
        }
    }

    proptest! {
        #[test]
        fn lines_fit_and_nothing_is_lost(text in "[a-z 你👍🏽é\u{301}]{0,60}", columns in 2usize..30) {
            let lines = wrap(&text, columns);
            let joined: String = lines.concat().split(' ').collect();
            prop_assert_eq!(joined, text.split(' ').collect::<String>());
            prop_assert!(lines.iter().all(|line| width(line) <= columns), "{:?}", lines);
        }
    }
}
