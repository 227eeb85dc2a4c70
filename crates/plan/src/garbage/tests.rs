use std::collections::BTreeSet;

use kinds::{Uid, registry};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Action, FOREGROUND, Graph, Item, ORPHAN};

fn item(uid: &str, extra: Value) -> Item {
    let mut meta = json!({"namespace": "default", "name": uid, "uid": uid});
    meta.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Item::of(registry::find("", "v1", "pods").unwrap(), &serde_json::from_value(meta).unwrap())
}

fn owned_by(owners: &[(&str, bool)]) -> Value {
    let reference =
        |(uid, blocks): &(&str, bool)| json!({"apiVersion": "v1", "kind": "Pod", "name": uid, "uid": uid, "blockOwnerDeletion": blocks});
    json!({"ownerReferences": owners.iter().map(reference).collect::<Vec<_>>()})
}

fn leaving(finalizer: &str) -> Value {
    json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer]})
}

fn graph(items: Vec<Item>) -> Graph {
    let mut graph = Graph::default();
    items.into_iter().for_each(|item| drop(graph.put(item)));
    graph
}

fn uids(names: &[&str]) -> BTreeSet<Uid> {
    names.iter().map(|name| Uid::from(*name)).collect()
}

fn delete(uid: &str, foreground: bool) -> Vec<Action> {
    vec![Action::Delete { uid: uid.into(), foreground }]
}

#[test]
fn an_owner_that_was_never_seen_is_looked_for_before_anything_goes() {
    let mut graph = graph(vec![item("child", owned_by(&[("owner", false)]))]);
    let verdict = graph.judge(&"child".into());
    assert_eq!((verdict.actions.len(), verdict.unknown_owners.len()), (0, 1));
    graph.confirm_gone("owner".into());
    assert_eq!(graph.judge(&"child".into()).actions, delete("child", false));
}

#[test]
fn what_has_another_owner_stays_and_forgets_the_one_that_went() {
    let mut graph = graph(vec![item("a", json!({})), item("b", json!({})), item("child", owned_by(&[("a", false), ("b", false)]))]);
    assert_eq!(graph.judge(&"child".into()), Default::default());
    assert_eq!(graph.remove(&"a".into()), [Uid::from("child")]);
    let forget = Action::RemoveOwners { uid: "child".into(), owners: uids(&["a"]) };
    assert_eq!(graph.judge(&"child".into()).actions, [forget]);
}

#[test]
fn an_owner_in_the_foreground_waits_for_those_that_block_it() {
    let tree = vec![
        item("owner", leaving(FOREGROUND)),
        item("child", owned_by(&[("owner", true)])),
        item("leaf", owned_by(&[("child", true)])),
        item("free", owned_by(&[("owner", false)])),
    ];
    let mut graph = graph(tree);
    assert_eq!(graph.judge(&"owner".into()).actions, []);
    assert_eq!(graph.judge(&"child".into()).actions, delete("child", true), "its own leaf goes first");
    assert_eq!(graph.judge(&"free".into()).actions, [], "it goes when the owner is gone");
    assert_eq!(graph.remove(&"child".into()), [Uid::from("owner"), Uid::from("leaf")]);
    let done = Action::RemoveFinalizer { uid: "owner".into(), finalizer: FOREGROUND };
    assert_eq!(graph.judge(&"owner".into()).actions, [done]);
}

#[test]
fn an_owner_that_orphans_goes_after_every_dependent_has_forgotten_it() {
    let mut graph = graph(vec![item("owner", leaving(ORPHAN)), item("child", owned_by(&[("owner", true)]))]);
    let forget = Action::RemoveOwners { uid: "child".into(), owners: uids(&["owner"]) };
    assert_eq!(graph.judge(&"owner".into()).actions, [forget]);
    assert_eq!(graph.judge(&"child".into()).actions, []);
    graph.put(item("child", json!({})));
    let done = Action::RemoveFinalizer { uid: "owner".into(), finalizer: ORPHAN };
    assert_eq!(graph.judge(&"owner".into()).actions, [done]);
}

#[test]
fn an_owner_in_another_namespace_owns_nothing_and_loses_nothing() {
    let mut owner = item("owner", json!({}));
    owner.key.namespace = "other".into();
    let graph = graph(vec![owner, item("child", owned_by(&[("owner", false)]))]);
    let verdict = graph.judge(&"child".into());
    assert_eq!((verdict.actions.len(), verdict.foreign_owners.len()), (0, 1));
}

/// A graph of `links.len()` objects where each may be owned by earlier ones.
fn forest(links: &[Vec<usize>]) -> Graph {
    let name = |index: usize| format!("n{index}");
    let owners =
        |list: &Vec<usize>, at: usize| list.iter().filter(|_| at > 0).map(|owner| name(owner % at.max(1))).collect::<BTreeSet<_>>();
    let one = |(at, list): (usize, &Vec<usize>)| {
        let owners = owners(list, at);
        let pairs: Vec<_> = owners.iter().map(|owner| (owner.as_str(), true)).collect();
        item(&name(at), owned_by(&pairs))
    };
    graph(links.iter().enumerate().map(one).collect())
}

/// Carries verdicts out until nothing is left to do, as the API server would.
fn settle(graph: &mut Graph, mut queue: Vec<Uid>) {
    for _ in 0..10_000 {
        let Some(uid) = queue.pop() else { return };
        for action in graph.judge(&uid).actions {
            queue.extend(apply(graph, action));
        }
    }
    panic!("it never settles");
}

fn apply(graph: &mut Graph, action: Action) -> Vec<Uid> {
    match action {
        Action::Delete { uid, foreground: false } => graph.remove(&uid),
        Action::Delete { uid, foreground: true } => {
            let mut item = graph.get(&uid).unwrap().clone();
            (item.deleting, item.finalizers) = (true, vec![FOREGROUND.into()]);
            graph.put(item)
        }
        Action::RemoveOwners { uid, owners } => {
            let mut item = graph.get(&uid).unwrap().clone();
            item.owners.retain(|owner| !owners.contains(&owner.uid));
            graph.put(item)
        }
        Action::RemoveFinalizer { uid, .. } => graph.remove(&uid),
    }
}

proptest! {
    /// Background or foreground: exactly those go that no other root owns through any chain.
    #[test]
    fn what_is_left_is_what_another_root_still_owns(
        links in prop::collection::vec(prop::collection::vec(0_usize..100, 0..3), 1..25),
        foreground in any::<bool>(),
    ) {
        let mut graph = forest(&links);
        let root = Uid::from("n0");
        let deleted = Action::Delete { uid: root.clone(), foreground };
        let mut queue = apply(&mut graph, deleted);
        queue.push(root);
        settle(&mut graph, queue);
        let mut survives = vec![false; links.len()];
        for (at, list) in links.iter().enumerate().skip(1) {
            let owners: BTreeSet<_> = list.iter().map(|owner| owner % at).collect();
            survives[at] = owners.is_empty() || owners.iter().any(|owner| survives[*owner]);
        }
        for (at, survives) in survives.iter().enumerate() {
            prop_assert_eq!(graph.get(&Uid(format!("n{at}"))).is_some(), *survives, "n{}", at);
        }
    }
}
