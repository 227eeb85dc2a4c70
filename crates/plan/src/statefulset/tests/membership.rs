//! Which pods and revisions are the set's.

use super::super::plan;
use super::builders::*;

#[test]
fn a_matching_orphan_is_adopted_before_anything_else() {
    assert_eq!(planned(set(2), vec![pod("web-0").orphan()]), ["adopt pod web-0"]);
}

#[test]
fn an_orphan_that_leaves_or_does_not_match_or_has_another_name_is_not_adopted() {
    assert_eq!(planned(set(1), vec![pod("web-0").orphan().terminating()]), ["waits for web-0 to be gone"]);
    let stranger = pod("web-0").orphan().label("app", Some("other"));
    assert_eq!(planned(set(1), vec![stranger]), ["waits for the name web-0: a pod that does not match the selector has it"]);
    let named = vec![pod("web2-0").orphan(), pod("web-01").orphan(), pod("web-0")];
    assert_eq!(planned(set(1), named), Vec::<String>::new());
}

#[test]
fn a_pod_that_no_longer_matches_is_released() {
    assert_eq!(planned(set(1), vec![pod("web-0").label("app", None)]), ["release pod web-0"]);
}

#[test]
fn a_lost_name_label_is_restored() {
    let nameless = pod("web-0").label("statefulset.kubernetes.io/pod-name", None);
    assert_eq!(planned(set(1), vec![nameless]), ["repair the labels of pod web-0"]);
}

#[test]
fn an_orphan_revision_is_adopted() {
    let mut orphan = revision("rev-1", 1, "v1");
    orphan.metadata.owner_references = None;
    assert_eq!(lines(&plan(&observed(set(1), vec![orphan], vec![]), now())), ["adopt revision rev-1"]);
}

#[test]
fn a_set_that_selects_everything_or_nothing_does_nothing() {
    let mut empty = set(1);
    empty.0.spec.as_mut().unwrap().selector.match_labels = None;
    assert_eq!(planned(empty, vec![]), ["waits for a valid selector: it is empty"]);
}
