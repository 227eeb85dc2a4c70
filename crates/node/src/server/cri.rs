//! The format of log files: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`, one entry a line.

use jiff::Timestamp;

/// One entry. A partial one (`P`) is continued by the next of its stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub time: &'a str,
    pub partial: bool,
    pub text: &'a [u8],
}

/// Reads a line without its line feed; `None` if it is not an entry.
pub(super) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let _stream = fields.next()?;
    let partial = fields.next()?.starts_with(b"P");
    Some(Entry { time, partial, text: fields.next().unwrap_or_default() })
}

/// Turns entries into what a reader gets.
#[derive(Debug)]
pub(super) struct Renderer {
    timestamps: bool,
    since: Option<Timestamp>,
    /// Bytes that may still be given.
    left: u64,
    at_line_start: bool,
}

impl Renderer {
    pub fn new(timestamps: bool, since: Option<Timestamp>, limit: Option<u64>) -> Self {
        Self { timestamps, since, left: limit.unwrap_or(u64::MAX), at_line_start: true }
    }

    /// Nothing more may be given.
    pub fn is_exhausted(&self) -> bool {
        self.left == 0
    }

    /// Appends what the reader gets of a line.
    pub fn render(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(entry) = parse(line) else { return };
        if self.is_too_old(entry.time) {
            return;
        }
        let before = out.len();
        if self.timestamps && self.at_line_start {
            out.extend_from_slice(entry.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.text);
        if !entry.partial {
            out.push(b'\n');
        }
        self.at_line_start = !entry.partial;
        let grown = u64::try_from(out.len() - before).unwrap_or(u64::MAX);
        if grown > self.left {
            out.truncate(before + usize::try_from(self.left).unwrap_or(usize::MAX));
        }
        self.left = self.left.saturating_sub(grown);
    }

    /// Times only grow, so the first that is young enough ends the comparison.
    fn is_too_old(&mut self, time: &str) -> bool {
        let Some(since) = self.since else { return false };
        let old = time.parse::<Timestamp>().is_ok_and(|time| time < since);
        if !old {
            self.since = None;
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 4] = [
        "2026-01-02T03:04:05.000000001Z stdout F one",
        "2026-01-02T03:04:06Z stdout P par",
        "2026-01-02T03:04:06Z stderr F tial",
        "2026-01-02T03:04:07Z stdout F  spaced  ",
    ];

    fn render(renderer: &mut Renderer) -> String {
        let mut out = Vec::new();
        LINES.iter().for_each(|line| renderer.render(line.as_bytes(), &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn entries_become_the_text_that_was_written() {
        assert_eq!(render(&mut Renderer::new(false, None, None)), "one\npartial\n spaced  \n");
        let timed = render(&mut Renderer::new(true, None, None));
        assert!(timed.contains("2026-01-02T03:04:06Z partial\n") && timed.starts_with("2026-01-02T03:04:05.000000001Z one\n"));
    }

    #[test]
    fn old_entries_and_surplus_bytes_are_left_out() {
        let since = "2026-01-02T03:04:06Z".parse().unwrap();
        assert_eq!(render(&mut Renderer::new(false, Some(since), None)), "partial\n spaced  \n");
        let mut limited = Renderer::new(false, None, Some(6));
        assert_eq!(render(&mut limited), "one\npa");
        assert!(limited.is_exhausted());
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            Renderer::new(true, Some(Timestamp::UNIX_EPOCH), Some(3)).render(&line, &mut Vec::new());
        }
    }
}
