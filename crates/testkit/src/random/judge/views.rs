//! Lists are the state at their revision; watches tell the sequence, once and in order, with nothing left out.

use super::truth::Truth;
use crate::random::history::{End, Form, History, Listing, Told, Watching};
use crate::random::model::State;

pub fn judge(history: &History, truth: &Truth) -> Vec<String> {
    let lists = history.listings.iter().filter_map(|listing| list(history, listing, truth).map(|why| format!("{why}: {listing:?}")));
    let watches = history.watchings.iter().filter_map(|watching| {
        let Watching { kind, selector, after, end, .. } = watching;
        watch(history, watching, truth).map(|why| format!("{why}: a watch of {} {selector:?} after {after}, {end:?}", kind.plural))
    });
    lists.chain(watches).collect()
}

fn list(history: &History, listing: &Listing, truth: &Truth) -> Option<String> {
    let Some(first) = listing.pages.first() else {
        return listing.expired.map(|_| "the first page is said to be too old".to_owned());
    };
    let (floor, ceiling) = (truth.floor(first.begin), truth.ceiling(first.end));
    if first.revision < floor || first.revision >= ceiling {
        return Some(format!("its revision is below {floor} or not below {ceiling}"));
    }
    if listing.pages.iter().any(|page| page.revision != first.revision) {
        return Some("its pages are of several revisions".to_owned());
    }
    if let Some(moment) = listing.expired.filter(|moment| !may_be_expired(history, first.revision, *moment)) {
        return Some(format!("its revision is said to be too old at {moment}, and is not"));
    }
    let items: Vec<_> = listing.pages.iter().flat_map(|page| &page.items).map(|(name, state)| (name.as_str(), state)).collect();
    let mut expected = truth.all_at(listing.kind, first.revision);
    expected.retain(|(_, state)| state.is_selected(listing.selector.as_ref()));
    if !listing.whole {
        expected.truncate(items.len());
    }
    (items != expected).then(|| format!("at its revision there was {expected:?}"))
}

/// Whether what is before a revision was forgotten by then.
fn may_be_expired(history: &History, revision: u64, moment: u64) -> bool {
    history.compactions.iter().any(|(at, before)| *at < moment && *before > revision)
}

fn watch(history: &History, watching: &Watching, truth: &Truth) -> Option<String> {
    let until = watching.until();
    match watching.end {
        End::Stalled => return Some("nothing more was told, though more was to tell".to_owned()),
        End::Expired if !may_be_expired(history, until, watching.at) => {
            return Some(format!("revision {until} is said to be too old, and is not"));
        }
        End::Cut | End::Expired => {}
    }
    let expected = expected(watching, until, truth);
    let mut rest = expected.iter();
    let mut position = watching.after;
    for told in &watching.told {
        match told {
            Told::Event { form, name, state } => {
                let found = (*form, name.as_str(), state.clone());
                match rest.next() {
                    Some(next) if *next == found => {}
                    other => return Some(format!("it told {found:?}, where the sequence has {other:?}")),
                }
            }
            Told::Bookmark(revision) if *revision < position => return Some(format!("its bookmark goes back to {revision}")),
            Told::Bookmark(revision) => {
                if let Some(next) = rest.clone().next().filter(|(_, _, state)| state.revision <= *revision) {
                    return Some(format!("its bookmark {revision} passes over {next:?}"));
                }
            }
        }
        position = told.revision();
    }
    rest.next().map(|left| format!("it passed over {left:?}"))
}

type Expected = (Form, &'static str, State);

/// The events of a watch, by the sequence.
fn expected(watching: &Watching, until: u64, truth: &Truth) -> Vec<Expected> {
    let event = |(revision, object)| {
        let selected = |state: Option<&State>| state.filter(|state| state.is_selected(watching.selector.as_ref())).cloned();
        let (before, after) = (selected(truth.before(object, revision)), selected(truth.at(object, revision)));
        let (form, state) = match (before, after) {
            (None, None) => return None,
            (None, Some(after)) => (Form::Added, after),
            (Some(_), Some(after)) => (Form::Modified, after),
            (Some(before), None) => (Form::Deleted, State { revision, ..before }),
        };
        Some((form, object.name, state))
    };
    truth.commits(watching.kind, watching.after, until).into_iter().filter_map(event).collect()
}
