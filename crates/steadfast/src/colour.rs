//! Colour, where the terminal has it and the user wants it.

use std::fmt::Display;
use std::io::IsTerminal;

/// What a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Comes into being, or is well.
    Good,
    /// Changes, or is waited for.
    Change,
    /// Goes, or fails.
    Bad,
    /// Is there for completeness.
    Faint,
    Title,
    Plain,
}

/// Paints texts, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    colours: bool,
}

impl Palette {
    /// Colours if standard output is a terminal that has them and NO_COLOR is not set.
    pub fn of_standard_output() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Self { colours: std::io::stdout().is_terminal() && !dumb && !set("NO_COLOR") }
    }

    /// No colours.
    pub fn none() -> Self {
        Self { colours: false }
    }

    /// Texts come from servers and manifests: what a terminal would obey is left out of them.
    pub fn paint(self, tone: Tone, text: impl Display) -> String {
        let mut text = text.to_string();
        text.retain(|letter| !letter.is_control());
        let code = match tone {
            Tone::Plain => return text,
            _ if !self.colours => return text,
            Tone::Good => "32",
            Tone::Change => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Title => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_codes_reach_the_terminal() {
        let evil = "\u{1b}[2Jgone\n";
        assert_eq!(Palette { colours: true }.paint(Tone::Bad, evil), "\u{1b}[31m[2Jgone\u{1b}[0m");
        assert_eq!(Palette::none().paint(Tone::Bad, evil), "[2Jgone");
        assert_eq!(Palette { colours: true }.paint(Tone::Plain, evil), "[2Jgone");
    }
}
