//! Lists, in pages.

use std::sync::Arc;

use http::Request;
use serde_json::Value;
use tokio::sync::watch;

use super::Dice;
use super::door::{Door, Said};
use super::history::{Listing, Page, Record};
use super::model::{Kind, LABELS, NAMES, State};

/// Lists until all is written, and once after.
pub async fn run(kinds: &'static [Kind], mut dice: Dice, door: Arc<Door>, record: Arc<Record>, last: watch::Receiver<Option<u64>>) {
    loop {
        let ends = last.borrow().is_some();
        let kind = dice.pick(kinds);
        let selector = selector(&mut dice);
        let limit = dice.roll(4);
        list(kind, selector, limit, &door, &record).await;
        if ends {
            return;
        }
        // Others have their turns.
        for _ in 0..dice.roll(40) {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(dice.roll(3))).await;
    }
}

/// Selects by a label, or not at all.
pub fn selector(dice: &mut Dice) -> Option<(String, String)> {
    dice.one_in(2).then(|| ((*dice.pick(&LABELS)).to_owned(), (*dice.pick(&["1", "2"])).to_owned()))
}

pub fn query_of(selector: Option<&(String, String)>) -> String {
    selector.map(|(key, value)| format!("&labelSelector={key}%3D{value}")).unwrap_or_default()
}

/// Reads a whole list, so many items at a time, or 0 for all at once. The revision that it is at, if it was read to its end.
pub async fn list(kind: &'static Kind, selector: Option<(String, String)>, limit: u64, door: &Door, record: &Record) -> Option<u64> {
    let mut listing = Listing { kind, selector, pages: Vec::new(), expired: None, whole: false };
    let query = format!("limit={limit}{}", query_of(listing.selector.as_ref()));
    let mut token = String::new();
    while !listing.whole && listing.expired.is_none() {
        let begin = record.tick();
        let said = door.ask(get(&format!("{}?{query}{token}", kind.path()))).await;
        let end = record.tick();
        match said {
            Some(Said { status: 200, body }) => {
                let next = body.pointer("/metadata/continue").and_then(Value::as_str);
                token = next.map(|next| format!("&continue={next}")).unwrap_or_default();
                listing.whole = next.is_none();
                listing.pages.push(page(&body, begin, end));
                // So that the past can be forgotten between pages.
                for _ in 0..limit * 8 {
                    tokio::task::yield_now().await;
                }
            }
            Some(Said { status: 410, .. }) => listing.expired = Some(end),
            Some(said) => panic!("a list is refused: {said:?}"),
            None => break,
        }
    }
    let revision = listing.pages.first().filter(|_| listing.whole).map(|page| page.revision);
    record.note(|history| history.listings.push(listing));
    revision
}

fn page(body: &Value, begin: u64, end: u64) -> Page {
    let revision = body.pointer("/metadata/resourceVersion").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let items = body["items"].as_array().into_iter().flatten().filter_map(|item| Some((name(item), State::of(item)?)));
    // Others may have objects there, too.
    let items = items.filter(|(name, _)| NAMES.contains(&name.as_str())).collect();
    Page { begin, end, revision: revision.unwrap_or_default(), items }
}

pub fn name(object: &Value) -> String {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub fn get(path: &str) -> Request<Vec<u8>> {
    Request::builder().uri(path).body(Vec::new()).expect("the request is one")
}

/// The newest revision, as lists tell it.
pub async fn newest(door: &Door, kinds: &'static [Kind]) -> u64 {
    loop {
        if let Some(Said { status: 200, body }) = door.ask(get(&format!("{}?limit=1", kinds[0].path()))).await {
            return page(&body, 0, 0).revision;
        }
    }
}
