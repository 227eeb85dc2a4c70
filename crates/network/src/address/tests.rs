use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::book::Book;
use super::*;
use crate::Keep;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn pod(name: &str, uid: &str, keep: Keep) -> PodIdentity {
    PodIdentity { key: key(name), uid: uid.into(), keep }
}

#[test]
fn the_address_that_was_released_first_is_given_first() {
    let mut book = Book::new(cidr("10.77.0.0/29"));
    let take = |book: &mut Book, name: &str| book.reserve(&key(name), name, Keep::WhilePodExists).map(|address| address.octets()[3]);
    let given: Vec<_> = ["a", "b", "c", "d", "e", "f"].into_iter().map(|name| take(&mut book, name)).collect();
    assert_eq!(given, [Some(2), Some(3), Some(4), Some(5), Some(6), None]);
    for name in ["c", "a", "e"] {
        assert!(book.detach(&key(name), name));
    }
    let again: Vec<_> = ["x", "y", "z"].into_iter().map(|name| take(&mut book, name)).collect();
    assert_eq!(again, [Some(4), Some(2), Some(6)]);
}

#[test]
fn an_ordinal_finds_its_address_again_until_it_is_released() {
    let mut book = Book::new(cidr("10.77.0.0/29"));
    let first = book.reserve(&key("redis-0"), "u1", Keep::UntilReleased);
    book.detach(&key("redis-0"), "u1");
    for other in ["a", "b", "c", "d"] {
        assert_ne!(book.reserve(&key(other), other, Keep::WhilePodExists), first);
    }
    assert_eq!(book.reserve(&key("e"), "e", Keep::WhilePodExists), None);
    assert_eq!(book.reserve(&key("redis-0"), "u2", Keep::UntilReleased), first);
    assert_eq!(book.kept(), [key("redis-0")]);
    book.release(&key("redis-0"));
    assert_eq!(book.reserve(&key("e"), "e", Keep::WhilePodExists), None);
    book.detach(&key("redis-0"), "u2");
    assert_eq!(book.reserve(&key("e"), "e", Keep::WhilePodExists), first);
}

#[test]
fn a_pod_that_lingers_shares_its_address_with_no_namesake() {
    let mut book = Book::new(cidr("10.77.0.0/24"));
    let old = book.reserve(&key("web"), "old", Keep::WhilePodExists);
    let new = book.reserve(&key("web"), "new", Keep::WhilePodExists);
    assert_ne!(old, new);
    book.detach(&key("web"), "old");
    assert_eq!(book.reserve(&key("web"), "new", Keep::WhilePodExists), new);
}

#[test]
fn a_file_of_another_network_or_with_an_address_twice_is_refused() {
    let mut book = Book::new(cidr("10.77.0.0/24"));
    book.reserve(&key("a"), "a", Keep::UntilReleased);
    let text = String::from_utf8(book.to_json()).unwrap();
    assert!(Book::from_json(text.as_bytes(), cidr("10.78.0.0/24")).unwrap_err().to_string().contains("--pod-cidr 10.77.0.0/24"));
    let twice = text.replace("\"released\":[]", "\"released\":[\"10.77.0.2\"]");
    assert!(Book::from_json(twice.as_bytes(), cidr("10.77.0.0/24")).is_err());
    assert!(Book::from_json(b"{", cidr("10.77.0.0/24")).is_err());
}

#[tokio::test]
async fn addresses_survive_a_restart_in_a_private_file() {
    let directory = tempfile::tempdir().unwrap();
    let ordinal = pod("redis-0", "u1", Keep::UntilReleased);
    let first = Addresses::open(directory.path(), cidr("10.77.0.0/24")).await.unwrap();
    let address = first.reserve(&ordinal).await.unwrap();
    first.reserve(&pod("other", "u2", Keep::WhilePodExists)).await.unwrap();
    first.detach(&ordinal).await.unwrap();
    drop(first);
    let mode = std::fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = Addresses::open(directory.path(), cidr("10.77.0.0/24")).await.unwrap();
    assert_eq!(second.kept(), [key("redis-0")]);
    assert_eq!(second.holders(), [pod("other", "u2", Keep::WhilePodExists)]);
    assert_eq!(second.reserve(&pod("redis-0", "u3", Keep::UntilReleased)).await.unwrap(), address);
}

#[tokio::test]
async fn every_answer_of_many_at_once_is_on_disk_when_it_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let addresses = Addresses::open(directory.path(), cidr("10.77.0.0/24")).await.unwrap();
    let names: Vec<_> = (0..50).map(|number| format!("p{number}")).collect();
    let reserve = |name: &String| {
        let (pod, addresses, directory) = (pod(name, name, Keep::UntilReleased), &addresses, directory.path());
        async move {
            addresses.reserve(&pod).await.unwrap();
            let text = std::fs::read(directory.join(FILE)).unwrap();
            Book::from_json(&text, cidr("10.77.0.0/24")).unwrap().kept().contains(&pod.key)
        }
    };
    assert!(futures::future::join_all(names.iter().map(reserve)).await.into_iter().all(|written| written));
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(u8, u8, bool),
    Detach(u8, u8),
    Release(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, 0..3_u8, any::<bool>()).prop_map(|(name, uid, sticky)| Step::Reserve(name, uid, sticky)),
        3 => (0..6_u8, 0..3_u8).prop_map(|(name, uid)| Step::Detach(name, uid)),
        1 => (0..6_u8).prop_map(Step::Release),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// The model: who holds what, and what is kept for whom.
    #[test]
    fn nobody_is_given_what_another_holds_or_what_is_kept(steps in proptest::collection::vec(step(), 0..60)) {
        let network = cidr("10.77.0.0/29");
        let mut book = Book::new(network);
        let (mut held, mut kept) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Reserve(name, uid, sticky) => {
                    let keep = if sticky { Keep::UntilReleased } else { Keep::WhilePodExists };
                    let Some(address) = book.reserve(&key(&name.to_string()), &uid.to_string(), keep) else {
                        prop_assert_eq!(book.used(), 5);
                        continue;
                    };
                    prop_assert!(address > network.first() && address < network.last() && address.octets()[3] != 1);
                    prop_assert!(held.get(&(name, uid)).is_none_or(|before| *before == address));
                    prop_assert!(kept.iter().all(|(other, owned)| *other == name || *owned != address));
                    prop_assert!(held.iter().all(|((other, _), owned)| *other == name || *owned != address));
                    held.retain(|_, owned| *owned != address);
                    held.insert((name, uid), address);
                    if sticky {
                        kept.entry(name).or_insert(address);
                    }
                }
                Step::Detach(name, uid) => {
                    prop_assert_eq!(book.detach(&key(&name.to_string()), &uid.to_string()), held.remove(&(name, uid)).is_some());
                }
                Step::Release(name) => {
                    book.release(&key(&name.to_string()));
                    kept = book.kept().into_iter().map(|key| key.name.parse().unwrap()).map(|name: u8| (name, kept[&name])).collect();
                }
                Step::Restart => book = Book::from_json(&book.to_json(), network).unwrap(),
            }
            prop_assert_eq!(book.holders().len(), held.len());
            prop_assert_eq!(book.kept().len(), kept.len());
        }
    }
}
