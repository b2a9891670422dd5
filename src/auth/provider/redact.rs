//! What a provider said, without secrets.
//!
//! Known secrets go first: those of the artifact that is there, and whatever the provider just answered. Then what looks like one: a long run of
//! letters and digits, and what stands behind a word such as `token=`. Too much is hidden rather than too little.

use secrecy::zeroize::Zeroizing;
use serde_json::Value;

use super::answer;
use crate::schema::artifact::Artifact;

/// What is shown instead.
const HIDDEN: &str = "***";
/// Shorter texts occur by chance.
const KNOWN_MIN: usize = 6;
/// A run of letters and digits that is at least this long and has both is no word.
const RUN_MIN: usize = 16;
/// Most lines that are shown, and characters of each.
const LINES_MAX: usize = 50;
const LINE_CHARS_MAX: usize = 500;
/// What secrets are called.
const NAMES: [&str; 10] = ["token", "secret", "password", "passwd", "cookie", "authorization", "bearer", "api_key", "apikey", "sess"];
/// Fields of an answer that everybody may see.
const PUBLIC: [&str; 9] = ["schema", "account_id", "generation", "platform", "expires_at", "prepared_at", "origin", "user_agent", "status"];

/// Takes secrets out of lines.
#[derive(Default)]
pub(super) struct Redactor {
    known: Vec<Zeroizing<String>>,
}

impl Redactor {
    /// Learns the secrets of the artifact that is there.
    pub(super) fn artifact(&mut self, artifact: &Artifact) {
        answer::secrets(artifact).for_each(|secret| self.secret(secret));
    }

    /// Learns what a provider wrote as its answer: every text that is not public, or where it is no JSON every word.
    pub(super) fn answer(&mut self, bytes: &[u8]) {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Object(fields)) => {
                fields.iter().filter(|(name, _)| !PUBLIC.contains(&name.as_str())).for_each(|(_, value)| self.value(value));
            }
            Ok(value) => self.value(&value),
            Err(_) => self.secret(&Zeroizing::new(String::from_utf8_lossy(bytes).into_owned())),
        }
    }

    /// The lines of what was said, shortened. `is_whole` says that nothing was cut off: else the last line may end in half a secret and is left out.
    pub(super) fn lines(mut self, said: &[u8], is_whole: bool) -> Vec<String> {
        // The longest first, so that none is left in part because a shorter one was found inside it.
        self.known.sort_unstable_by_key(|known| std::cmp::Reverse(known.len()));
        let text = Zeroizing::new(String::from_utf8_lossy(said).into_owned());
        let text = if is_whole { text.as_str() } else { text.rsplit_once('\n').map_or("", |(whole, _)| whole) };
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let mut shown: Vec<String> = lines.by_ref().take(LINES_MAX).map(|line| self.line(line)).collect();
        if !is_whole || lines.next().is_some() {
            shown.push("(there is more, which is left out)".to_owned());
        }
        shown
    }

    fn line(&self, line: &str) -> String {
        let known = self.known.iter().fold(line.to_owned(), |line, known| line.replace(known.as_str(), HIDDEN));
        runs(&named(&known)).chars().take(LINE_CHARS_MAX).collect()
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.secret(text),
            Value::Array(items) => items.iter().for_each(|item| self.value(item)),
            Value::Object(fields) => fields.values().for_each(|field| self.value(field)),
            Value::Number(_) | Value::Bool(_) | Value::Null => {}
        }
    }

    /// A secret, and its parts: of `a=b; c=d` and of a URL the values.
    fn secret(&mut self, secret: &str) {
        let parts = secret.split(|c: char| c.is_whitespace() || ";,&?=\"'".contains(c));
        for part in std::iter::once(secret.trim()).chain(parts).filter(|part| part.len() >= KNOWN_MIN) {
            self.known.push(Zeroizing::new(part.to_owned()));
        }
    }
}

/// Hides what stands behind a name of a secret: `token=x`, `"token": "x"`, `Authorization: Bearer x`.
fn named(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let (mut out, mut at) = (String::with_capacity(line.len()), 0);
    while let Some((found, name)) = NAMES.iter().filter_map(|name| Some((at + lower[at..].find(name)?, name))).min() {
        let behind = found + name.len();
        let gap = lower[behind..].find(|c: char| !"\"' \t:=".contains(c)).map_or(lower.len(), |gap| behind + gap);
        // `Authorization: Bearer x`: the name behind the name is looked at next.
        let is_assigned = lower[behind..gap].contains([':', '=']) || (*name == "bearer" && gap > behind);
        let is_name = NAMES.iter().any(|name| lower[gap..].starts_with(name));
        let ends = |c: char| c.is_whitespace() || "\"',;&".contains(c);
        let end = if is_assigned && !is_name { lower[gap..].find(ends).map_or(lower.len(), |end| gap + end) } else { gap };
        out.push_str(&line[at..gap]);
        out.push_str(if end > gap { HIDDEN } else { "" });
        at = end;
    }
    out + &line[at..]
}

/// Hides long runs of letters and digits that have both.
fn runs(line: &str) -> String {
    let is_of_run = |c: char| c.is_ascii_alphanumeric() || "+_-~".contains(c);
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_of_run) {
        let end = rest[start..].find(|c| !is_of_run(c)).map_or(rest.len(), |end| start + end);
        let run = &rest[start..end];
        let is_secret =
            run.len() >= RUN_MIN && run.contains(|c: char| c.is_ascii_digit()) && run.contains(|c: char| c.is_ascii_alphabetic());
        out.push_str(&rest[..start]);
        out.push_str(if is_secret { HIDDEN } else { run });
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(answer: &str) -> Redactor {
        let mut redactor = Redactor::default();
        redactor.answer(answer.as_bytes());
        redactor
    }

    #[test]
    fn secrets_are_hidden_and_the_rest_stays() {
        let answer = r#"{"account_id":"200000001","status":"ready","token":"canary-1","ws_url":"wss://h/?key=canary-2","headers":{"Cookie":"a=canary-3; b=canary-4"}}"#;
        for (line, expected) in [
            ("got canary-1 for 200000001", "got *** for 200000001"),
            ("url wss://h/?key=canary-2 ok", "url *** ok"),
            ("key canary-2, cookie parts canary-3 and canary-4", "key ***, cookie parts *** and ***"),
            ("ready to go", "ready to go"),
            ("token=abc done", "token=*** done"),
            (r#"{"token": "abc", "n": 1}"#, r#"{"token": "***", "n": 1}"#),
            ("> Authorization: Bearer abc.def", "> Authorization: Bearer ***"),
            ("the token is old", "the token is old"),
            ("Set-Cookie: sess=abc; path=/", "Set-Cookie: sess=***; path=/"),
            ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.x", "jwt ***.***.x"),
            (
                "2026-07-23T12:00:00Z connect /usr/lib/python3/dist-packages/x.py failed",
                "2026-07-23T12:00:00Z connect /usr/lib/python3/dist-packages/x.py failed",
            ),
            ("Größe: token=ß€ ü", "Größe: token=*** ü"),
        ] {
            assert_eq!(redactor(answer).lines(line.as_bytes(), true), [expected]);
        }
        assert_eq!(redactor("no json: canary-9").lines(b"saw canary-9", true), ["saw ***"]);
    }

    #[test]
    fn what_is_said_is_bounded_and_no_secret_is_cut_in_half() {
        let lines = redactor("{}").lines("line\n".repeat(1000).as_bytes(), true);
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (51, "(there is more, which is left out)"));
        assert_eq!(redactor("{}").lines(&[b'x'; 9000], true)[0].len(), 500);
        assert_eq!(redactor(r#"{"token":"canary-1"}"#).lines(b"one\nuse canar", false), ["one", "(there is more, which is left out)"]);
    }

    proptest! {
        #[test]
        fn a_known_secret_never_shows(secret in "[!-~]{6,40}", before in ".{0,40}", after in ".{0,40}") {
            let answer = serde_json::json!({ "token": secret.clone() }).to_string();
            let said = format!("{before}{secret}{after}");
            for line in redactor(&answer).lines(said.as_bytes(), true) {
                prop_assert!(!line.contains(&secret), "{line}");
            }
        }
    }
}
