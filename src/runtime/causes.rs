//! An error told with its causes.

use std::error::Error;

/// An error with its causes, in one line. Libraries say what failed and leave it to their sources to say why; some repeat these in their own text.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn every_cause_is_told_once() {
        let told = |text, source: Option<Told>| Told { text, source: source.map(Box::new) };
        let repeated = told("cannot connect: refused", Some(told("refused", Some(told("os error 111", None)))));
        assert_eq!(chain(&told("no token", Some(repeated))), "no token: cannot connect: refused: os error 111");
    }
}
