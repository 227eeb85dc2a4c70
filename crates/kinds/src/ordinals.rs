//! Which ordinals a set wants: the first so many from its start that are not reserved.

use std::ops::{Range, RangeInclusive};

/// The highest ordinal that can be reserved: no set begins beyond it.
const HIGHEST: u32 = i32::MAX as u32;

/// A count or ordinal of a specification. Negative ones are refused by the API server; they count as zero.
pub fn natural(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// Ordinals that a set passes over: sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved(Vec<RangeInclusive<u32>>);

impl Reserved {
    /// Reads ordinals and ranges of them: `1,3-5`.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let mut ranges = items.map(range).collect::<Result<Vec<_>, _>>()?;
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u32>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if *range.start() <= last.end() + 1 => *last = *last.start()..=*last.end().max(range.end()),
                _ => merged.push(range),
            }
        }
        Ok(Self(merged))
    }

    /// Whether an ordinal is passed over.
    pub fn contains(&self, ordinal: u32) -> bool {
        let after = self.0.partition_point(|range| *range.start() <= ordinal);
        after > 0 && self.0[after - 1].contains(&ordinal)
    }
}

fn range(item: &str) -> Result<RangeInclusive<u32>, String> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let (first, last) = (ordinal(first)?, ordinal(last)?);
    if first > last {
        return Err(format!("the range {item} ends before it begins"));
    }
    Ok(first..=last)
}

fn ordinal(digits: &str) -> Result<u32, String> {
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    number.filter(|ordinal| *ordinal <= HIGHEST).ok_or_else(|| format!("{digits:?} is no ordinal: must be a number of at most {HIGHEST}"))
}

/// The ordinals that a set wants. Nothing here takes time or memory by their number: there may be billions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordinals {
    start: u32,
    /// One past the last; the start if there are none.
    end: u32,
    reserved: Reserved,
}

impl Ordinals {
    /// So many ordinals from `start` on, those that are reserved passed over.
    pub fn new(start: u32, replicas: u32, reserved: Reserved) -> Self {
        let mut ordinals = Self { start, end: start, reserved };
        ordinals.end = match replicas.checked_sub(1) {
            None => start,
            Some(last) => ordinals.nth(last).saturating_add(1),
        };
        ordinals
    }

    /// Whether an ordinal is among them.
    pub fn contains(&self, ordinal: u32) -> bool {
        (self.start..self.end).contains(&ordinal) && !self.reserved.contains(ordinal)
    }

    /// The ordinal that has so many before it, also beyond the last one.
    pub fn nth(&self, index: u32) -> u32 {
        let mut ordinal = self.start.saturating_add(index);
        for range in self.reserved_from_start() {
            if range.start > ordinal {
                break;
            }
            ordinal = ordinal.saturating_add(range.end - range.start);
        }
        ordinal
    }

    /// The last one, if there is any.
    pub fn last(&self) -> Option<u32> {
        (self.start < self.end).then(|| self.end - 1)
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let reserved = self.reserved_from_start().chain(std::iter::once(self.end..self.end));
        let free = reserved.scan(self.start, |next, range| {
            let free = *next..range.start.min(self.end);
            *next = range.end;
            Some(free)
        });
        free.take_while(|free| free.start < self.end).flatten()
    }

    /// What is reserved at the start and after it.
    fn reserved_from_start(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let later = self.reserved.0.iter().filter(|range| *range.end() >= self.start);
        later.map(|range| *range.start().max(&self.start)..*range.end() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordinals(start: u32, replicas: u32, reserved: &str) -> Ordinals {
        Ordinals::new(start, replicas, Reserved::parse(reserved).unwrap())
    }

    #[test]
    fn a_set_has_as_many_as_it_wants_whatever_is_reserved() {
        let listed = |start, replicas, reserved| ordinals(start, replicas, reserved).iter().collect::<Vec<_>>();
        assert_eq!(listed(0, 3, ""), [0, 1, 2]);
        assert_eq!(listed(0, 3, "1"), [0, 2, 3]);
        assert_eq!(listed(0, 3, "0, 2-3, 5"), [1, 4, 6]);
        assert_eq!(listed(5, 2, "1,5-6,9"), [7, 8]);
        assert_eq!(listed(4, 3, "3-5,100"), [6, 7, 8]);
        assert_eq!(listed(2, 0, "2"), Vec::<u32>::new());
        assert_eq!((ordinals(0, 3, "1").last(), ordinals(2, 0, "").last()), (Some(3), None));
    }

    #[test]
    fn any_question_agrees_with_the_list() {
        for reserved in ["", "0", "1,2", "0-3,5,7-9", "4-6", "2,4,6"] {
            for (start, replicas) in [(0, 0), (0, 4), (3, 5), (6, 1), (9, 3)] {
                let ordinals = ordinals(start, replicas, reserved);
                let listed: Vec<_> = ordinals.iter().collect();
                assert_eq!(listed.len(), replicas as usize, "{ordinals:?}");
                assert_eq!((0..30).filter(|ordinal| ordinals.contains(*ordinal)).collect::<Vec<_>>(), listed, "{ordinals:?}");
                assert_eq!((0..replicas).map(|index| ordinals.nth(index)).collect::<Vec<_>>(), listed, "{ordinals:?}");
            }
        }
    }

    #[test]
    fn billions_cost_nothing() {
        let ordinals = ordinals(0, HIGHEST, "0-2147483647");
        assert_eq!((ordinals.iter().next(), ordinals.last()), (Some(HIGHEST + 1), Some(u32::MAX - 1)));
        assert_eq!(super::Ordinals::new(HIGHEST, HIGHEST, Reserved::default()).last(), Some(u32::MAX - 2));
    }

    #[test]
    fn what_is_no_list_of_ordinals_is_refused() {
        for wrong in ["a", "-1", "1-", "3-2", "1-2-3", "+1", "2147483648", "1 2"] {
            assert!(Reserved::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Reserved::parse("5-6,1,2,6-8"), Reserved::parse("1-2,5-8"));
    }
}
