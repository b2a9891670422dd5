//! Whether there are colours, and which.

use anstyle::{AnsiColor, Style};

use crate::config::Environment;

/// What `--color` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl ColorChoice {
    /// Whether a stream has colours. What was typed wins over the environment.
    #[must_use]
    pub fn decide(self, environment: &Environment, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && is_lively(environment),
        }
    }
}

/// Whether the environment lets a terminal have colours and moving bars: <https://no-color.org>, and TERM for terminals that can do neither.
pub(super) fn is_lively(environment: &Environment) -> bool {
    environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb")
}

/// What a piece of output means; the one place that says how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// What the eye should find first.
    Strong,
    /// What is there for completeness.
    Faint,
    /// As it should be.
    Good,
    /// Wants attention.
    Warning,
    /// Wants attention now.
    Bad,
}

impl Tone {
    /// The look on a line.
    #[must_use]
    pub fn style(self) -> Style {
        match self {
            Self::Strong => Style::new().bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        }
    }

    /// The same look in a table.
    pub(super) fn on_cell(self, cell: comfy_table::Cell) -> comfy_table::Cell {
        use comfy_table::{Attribute, Color};
        match self {
            Self::Strong => cell.add_attribute(Attribute::Bold),
            Self::Faint => cell.add_attribute(Attribute::Dim),
            Self::Good => cell.fg(Color::DarkGreen),
            Self::Warning => cell.fg(Color::DarkYellow),
            Self::Bad => cell.fg(Color::DarkRed).add_attribute(Attribute::Bold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let none: &[(&str, &str)] = &[];
        for (choice, variables, is_terminal, expected) in [
            (ColorChoice::Auto, none, true, true),
            (ColorChoice::Auto, none, false, false),
            (ColorChoice::Auto, &[("NO_COLOR", "1")], true, false),
            (ColorChoice::Auto, &[("NO_COLOR", "")], true, true),
            (ColorChoice::Auto, &[("TERM", "dumb")], true, false),
            (ColorChoice::Always, &[("NO_COLOR", "1")], false, true),
            (ColorChoice::Never, none, true, false),
        ] {
            let environment: Environment = variables.iter().copied().collect();
            assert_eq!(choice.decide(&environment, is_terminal), expected, "{choice:?} {variables:?} {is_terminal}");
        }
    }
}
