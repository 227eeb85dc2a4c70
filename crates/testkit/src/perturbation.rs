//! What can go wrong between a controller and its server.

use std::fmt;
use std::str::FromStr;

/// One thing that goes wrong. Writes and events are counted from one, from when the [`Wire`](crate::Wire) is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perturbation {
    Nothing,
    /// The controller dies after this write, before it hears of it, and starts anew.
    Crash {
        write: usize,
    },
    /// The same; then its lists are as they were after an earlier write, 0 being when the wire was armed. Its watches begin
    /// when it has done what it could by them.
    OldLists {
        write: usize,
        list: usize,
    },
    /// A watch ends before it tells this event, and is resumed when the controller rests.
    Broken {
        event: usize,
    },
    /// The same; but it can't be resumed, and the objects are listed again.
    Expired {
        event: usize,
    },
    /// This event is never told. When the controller rests, its watches end and can't be resumed.
    Lost {
        event: usize,
    },
}

impl fmt::Display for Perturbation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Crash { write } => write!(f, "crash-{write}"),
            Self::OldLists { write, list } => write!(f, "old-{write}-{list}"),
            Self::Broken { event } => write!(f, "broken-{event}"),
            Self::Expired { event } => write!(f, "expired-{event}"),
            Self::Lost { event } => write!(f, "lost-{event}"),
        }
    }
}

impl FromStr for Perturbation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split('-').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).ok_or_else(|| format!("{text:?} lacks a number"));
        Ok(match words[0] {
            "nothing" => Self::Nothing,
            "crash" => Self::Crash { write: number(1)? },
            "old" => Self::OldLists { write: number(1)?, list: number(2)? },
            "broken" => Self::Broken { event: number(1)? },
            "expired" => Self::Expired { event: number(1)? },
            "lost" => Self::Lost { event: number(1)? },
            _ => return Err(format!("{text:?} is no perturbation")),
        })
    }
}
