//! What requests do to pods that live on.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateRunning, ContainerStatus, Pod};

use super::pods::set_condition;
use crate::statefulset::{Marking, REVISION_LABEL};

/// Sets annotations, or takes them off.
pub(crate) fn annotate(pod: &mut Pod, markings: &[Marking]) {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    for (name, value) in markings {
        annotations.remove(*name);
        annotations.extend(value.clone().map(|value| ((*name).to_owned(), value)));
    }
}

/// Gives containers other images: each is another container from now on, and the pod is not ready before they are.
pub(super) fn update(pod: &mut Pod, revision: &str, images: &[(String, String)], now: Timestamp) {
    pod.metadata.labels.get_or_insert_default().insert(REVISION_LABEL.to_owned(), revision.to_owned());
    for (name, image) in images {
        let containers = pod.spec.iter_mut().flat_map(|spec| &mut spec.containers);
        containers.filter(|container| container.name == *name).for_each(|container| container.image = Some(image.clone()));
        statuses(pod).filter(|status| status.name == *name).for_each(|status| {
            (status.ready, status.container_id) = (false, Some(format!("foreseen://{name}/{image}")));
        });
    }
    set_condition(pod, "Ready", false, now);
}

/// All containers run, and whatever troubled them is over.
pub(super) fn heal(pod: &mut Pod) {
    for status in statuses(pod) {
        status.ready = true;
        status.state = Some(ContainerState { running: Some(ContainerStateRunning::default()), ..ContainerState::default() });
        status.last_state = None;
    }
    // Those of a pod that is ready have ended well.
    pod.status.get_or_insert_default().init_container_statuses = None;
}

fn statuses(pod: &mut Pod) -> impl Iterator<Item = &mut ContainerStatus> {
    pod.status.iter_mut().flat_map(|status| status.container_statuses.iter_mut().flatten())
}
