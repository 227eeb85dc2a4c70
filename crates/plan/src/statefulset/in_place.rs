//! Updates inside living pods: where only the images of containers differ, a healthy pod gets the new ones and keeps its
//! name, address and volumes.
//!
//! The update is recorded on the pod with the identities of the containers that ran before. Until each of them has been
//! replaced the pod counts as not ready, whatever its Ready condition says, since that may still speak of the old ones;
//! and until it is ready again it counts as never ready at its revision.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodTemplateSpec};

use super::action::Mark;
use super::member::Member;
use super::template::{recorded, same, to_value};
use super::{Action, DeleteReason, Round, gate};

/// On a pod that was updated inside: the containers that were to be replaced, with the identity each had.
const REPLACING: &str = "steadfast.dev/in-place-replaces";

impl Round<'_> {
    /// What brings a pod to the wanted revision without replacing it, if that is asked for and possible.
    pub(super) fn update_in_place(&self, member: &Member<'_>, reason: &DeleteReason) -> Option<Action> {
        let DeleteReason::Outdated { wanted, .. } = reason else { return None };
        let applies = self.spec.extensions.in_place_update && member.is_available() && *wanted == self.revisions.update_name();
        let before = applies.then(|| self.template_of(member.revision)).flatten()?;
        if !differs_in_images_only(&before, &self.update_template) {
            return None;
        }
        let images = new_images(member.pod, &self.update_template);
        let mut annotations = gate::spent(member.pod);
        annotations.push((REPLACING, Some(replaced(member.pod, &images))));
        Some(Action::UpdateInPlace {
            ordinal: member.ordinal(),
            name: member.name().to_owned(),
            uid: member.uid().to_owned(),
            resource_version: member.pod.metadata.resource_version.clone().unwrap_or_default(),
            revision: wanted.clone(),
            images,
            annotations,
        })
    }

    fn template_of(&self, revision: &str) -> Option<PodTemplateSpec> {
        let named = |found: &&std::sync::Arc<_>| {
            let found: &k8s_openapi::api::apps::v1::ControllerRevision = found;
            found.metadata.name.as_deref() == Some(revision)
        };
        self.observed.revisions.iter().find(named).and_then(|found| recorded(found))
    }

    /// Pods that are ready again lose the record of their update.
    pub(super) fn settle_updates(&mut self) {
        for member in self.members.all() {
            let done = member.health.is_ready() && !member.terminating && !self.gated.contains(&member.ordinal);
            if done && is_updated_inside(member.pod) {
                self.mark(member, Mark::UpdatedInPlace, vec![(REPLACING, None)]);
            }
        }
    }
}

/// Whether the templates are the same but for the images of their containers.
fn differs_in_images_only(before: &PodTemplateSpec, after: &PodTemplateSpec) -> bool {
    let (Some(old), Some(new)) = (&before.spec, &after.spec) else { return false };
    let names = |containers: &[Container]| containers.iter().map(|container| container.name.clone()).collect::<Vec<_>>();
    if names(&old.containers) != names(&new.containers) {
        return false;
    }
    let mut moved = before.clone();
    let containers = moved.spec.iter_mut().flat_map(|spec| &mut spec.containers);
    containers.zip(&new.containers).for_each(|(old, new)| old.image.clone_from(&new.image));
    same(&to_value(&moved), &to_value(after))
}

/// Containers with the images they are to get, where they have others.
fn new_images(pod: &Pod, template: &PodTemplateSpec) -> Vec<(String, String)> {
    let present: BTreeMap<_, _> =
        pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| (container.name.as_str(), &container.image)).collect();
    let wanted = template.spec.iter().flat_map(|spec| &spec.containers);
    let changed = wanted.filter(|container| present.get(container.name.as_str()).is_none_or(|image| **image != container.image));
    changed.map(|container| (container.name.clone(), container.image.clone().unwrap_or_default())).collect()
}

fn replaced(pod: &Pod, images: &[(String, String)]) -> String {
    let identities = statuses(pod).map(|status| (status.name.as_str(), status.container_id.as_deref().unwrap_or_default()));
    let identities: BTreeMap<_, _> = identities.filter(|(name, _)| images.iter().any(|(changed, _)| changed == name)).collect();
    serde_json::to_string(&identities).expect("a map of texts")
}

/// Whether a pod was updated inside and was not ready since.
pub(super) fn is_updated_inside(pod: &Pod) -> bool {
    record(pod).is_some()
}

/// The first container that an update inside the pod has still to replace.
pub(super) fn unreplaced(pod: &Pod) -> Option<String> {
    let before: BTreeMap<String, String> = serde_json::from_str(record(pod)?).unwrap_or_default();
    let status = pod.status.as_ref();
    let seen = status.and_then(|status| status.observed_generation);
    // What a node reported before it saw the new image speaks of the old containers, even of one that has just restarted.
    let is_old = seen.is_some_and(|seen| pod.metadata.generation.is_some_and(|newest| seen < newest));
    let stays = |name: &str, identity: &str| {
        let now = statuses(pod).find(|status| status.name == name).and_then(|status| status.container_id.as_deref());
        is_old || now.is_none_or(|now| now == identity)
    };
    before.into_iter().find(|(name, identity)| stays(name, identity)).map(|(name, _)| name)
}

fn record(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(REPLACING).map(String::as_str)
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}
