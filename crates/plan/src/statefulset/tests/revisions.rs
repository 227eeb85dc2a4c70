//! The history of templates.

use super::super::{Action, plan};
use super::builders::*;

fn planned(set: SetBuilder, revisions: Vec<k8s_openapi::api::apps::v1::ControllerRevision>, pods: Vec<PodBuilder>) -> Vec<String> {
    lines(&plan(&observed(set, revisions, pods), now()))
}

#[test]
fn a_new_template_is_recorded_before_anything_else() {
    let plan = plan(&observed(set(3).image("v2"), vec![revision("rev-1", 4, "v1")], vec![]), now());
    let [Action::CreateRevision(revision)] = plan.actions.as_slice() else { panic!("{plan:?}") };
    assert_eq!(revision.revision, 5);
    let data = revision.data.as_ref().unwrap().0.to_string();
    assert_eq!(
        data,
        r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"v2","name":"main"}]}}}}"#
    );
    assert_eq!(revision.metadata.owner_references.as_ref().unwrap()[0].uid, SET_UID);
    let labels = revision.metadata.labels.as_ref().unwrap();
    assert_eq!(format!("web-{}", labels["controller.kubernetes.io/hash"]), *revision.metadata.name.as_ref().unwrap());
}

#[test]
fn an_older_template_becomes_the_newest_revision_again() {
    let history = vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")];
    assert_eq!(planned(set(1), history, vec![]), ["make revision rev-1 number 3"]);
}

#[test]
fn a_name_that_another_revision_has_is_passed_over() {
    let create = |revisions| {
        let plan = plan(&observed(set(1).image("v2"), revisions, vec![]), now());
        let [Action::CreateRevision(revision)] = plan.actions.as_slice() else { panic!("{plan:?}") };
        (revision.metadata.name.clone().unwrap(), plan.status.collision_count)
    };
    let (first, none) = create(vec![]);
    let (second, one) = create(vec![revision(&first, 1, "v1")]);
    assert_ne!(first, second);
    assert_eq!([none, one], [Some(0), Some(1)]);
    assert_eq!(create(vec![revision(&first, 1, "v1"), revision("rev-9", 9, "v9")]).0, second);
}

#[test]
fn a_set_that_was_not_changed_has_the_template_it_had() {
    let mut unchanged = set(1).image("spelled anew by the server").at("rev-1", "rev-1");
    unchanged.0.status.as_mut().unwrap().observed_generation = Some(1);
    let revisions = || vec![revision("rev-1", 1, "v1")];
    assert_eq!(planned(unchanged.clone(), revisions(), vec![pod("web-0")]), Vec::<String>::new());
    unchanged.0.metadata.generation = Some(2);
    assert!(planned(unchanged, revisions(), vec![pod("web-0")])[0].starts_with("create revision web-"));
}

#[test]
fn a_status_is_not_believed_that_names_another_revision_than_the_newest() {
    let mut unchanged = set(1).at("rev-1", "rev-1");
    unchanged.0.status.as_mut().unwrap().observed_generation = Some(1);
    let revisions = vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")];
    assert_eq!(planned(unchanged, revisions, vec![pod("web-0")]), ["make revision rev-1 number 3"]);
}

#[test]
fn the_name_of_a_revision_fits_into_a_label() {
    for (length, kept) in [(3, 3), (52, 52), (53, 52), (63, 52)] {
        let mut long = set(1);
        long.0.metadata.name = Some("x".repeat(length));
        let plan = plan(&observed(long, vec![], vec![]), now());
        let [Action::CreateRevision(revision)] = plan.actions.as_slice() else { panic!("{plan:?}") };
        let name = revision.metadata.name.as_deref().unwrap();
        assert!(name.len() <= 63 && name.starts_with(&format!("{}-", "x".repeat(kept))), "{name}");
        assert!(name.starts_with(&super::super::revision_prefix(&"x".repeat(length))));
    }
}

#[test]
fn the_oldest_revisions_beyond_the_limit_go_unless_something_uses_them() {
    let history = || (1..=5).map(|number| revision(&format!("rev-{number}"), number, &format!("v{number}"))).collect();
    let at_five = |limit| set(2).image("v5").at("rev-2", "rev-5").history(limit).partition(2);
    let pods = || vec![pod("web-0").at("rev-2"), pod("web-1").at("rev-2")];
    let kept = "keeps 2 pods below the partition at the current revision";
    assert_eq!(planned(at_five(1), history(), pods()), ["delete revision rev-1", "delete revision rev-3", kept]);
    assert_eq!(planned(at_five(0), history(), pods()).len(), 4);
    assert_eq!(planned(at_five(3), history(), pods()), [kept]);
    assert_eq!(planned(at_five(-1), history(), pods()), [kept]);
}

#[test]
fn revisions_of_others_are_left_alone() {
    let mut foreign = revision("rev-2", 7, "v1");
    foreign.metadata.owner_references.as_mut().unwrap()[0].uid = "other".to_owned();
    let plan = plan(&observed(set(0).history(0), vec![foreign], vec![]), now());
    assert!(matches!(plan.actions.as_slice(), [Action::CreateRevision(revision)] if revision.revision == 1), "{plan:?}");
}
