//! Small builders: `pod("web-1").at("rev-2").unready()`.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kinds::SetKind;
use serde_json::{Value, json};

use super::super::{Observed, Plan, plan, template};

pub(super) const SET_UID: &str = "set-uid";

/// The time of all table tests.
pub(super) fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

pub(super) fn ago(seconds: i64) -> Time {
    Time(now() - SignedDuration::from_secs(seconds))
}

#[derive(Clone)]
pub(super) struct SetBuilder(pub(super) StatefulSet);

/// A set named `web`, ordered, with an update block, at image `v1`.
pub(super) fn set(replicas: i32) -> SetBuilder {
    let set = json!({"metadata": {"name": "web", "namespace": "default", "uid": SET_UID, "generation": 1}, "spec": {
        "replicas": replicas, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "v1"}]}}}});
    SetBuilder(serde_json::from_value(set).unwrap())
}

impl SetBuilder {
    fn spec(mut self, change: impl FnOnce(&mut StatefulSetSpec)) -> Self {
        change(self.0.spec.as_mut().unwrap());
        self
    }

    pub(super) fn image(self, image: &str) -> Self {
        self.spec(|spec| spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned()))
    }

    pub(super) fn parallel(self) -> Self {
        self.spec(|spec| spec.pod_management_policy = Some("Parallel".to_owned()))
    }

    pub(super) fn strategy(self, strategy: Value) -> Self {
        self.spec(|spec| spec.update_strategy = Some(serde_json::from_value(strategy).unwrap()))
    }

    pub(super) fn partition(self, partition: i32) -> Self {
        self.strategy(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}))
    }

    pub(super) fn max_unavailable(self, most: Value) -> Self {
        self.strategy(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": most}}))
    }

    pub(super) fn on_delete(self) -> Self {
        self.strategy(json!({"type": "OnDelete"}))
    }

    pub(super) fn start(self, start: i32) -> Self {
        self.spec(|spec| spec.ordinals = Some(serde_json::from_value(json!({"start": start})).unwrap()))
    }

    pub(super) fn min_ready(self, seconds: i32) -> Self {
        self.spec(|spec| spec.min_ready_seconds = Some(seconds))
    }

    pub(super) fn history(self, limit: i32) -> Self {
        self.spec(|spec| spec.revision_history_limit = Some(limit))
    }

    /// With a claim template named `data`.
    pub(super) fn claims(self) -> Self {
        let claim = json!({"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}});
        self.spec(|spec| spec.volume_claim_templates = Some(vec![serde_json::from_value(claim).unwrap()]))
    }

    pub(super) fn retention(self, deleted: &str, scaled: &str) -> Self {
        let policy = json!({"whenDeleted": deleted, "whenScaled": scaled});
        self.spec(|spec| spec.persistent_volume_claim_retention_policy = Some(serde_json::from_value(policy).unwrap()))
    }

    pub(super) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    pub(super) fn deleting(mut self) -> Self {
        self.0.metadata.deletion_timestamp = Some(ago(1));
        self
    }

    pub(super) fn annotated(mut self, name: &str, value: &str) -> Self {
        self.0.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a status that names these revisions.
    pub(super) fn at(mut self, current: &str, update: &str) -> Self {
        let status = self.0.status.get_or_insert_default();
        (status.current_revision, status.update_revision) = (Some(current.to_owned()), Some(update.to_owned()));
        self
    }
}

/// A revision of an image.
pub(super) fn revision(name: &str, number: i64, image: &str) -> ControllerRevision {
    let data = template::record(&set(0).image(image).0.spec.unwrap().template);
    let mut revision = ControllerRevision { data: Some(RawExtension(data)), revision: number, ..ControllerRevision::default() };
    revision.metadata.name = Some(name.to_owned());
    revision.metadata.uid = Some(format!("uid-{name}"));
    revision.metadata.resource_version = Some("1".to_owned());
    revision.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    revision.metadata.owner_references = Some(vec![owner("apps/v1", "StatefulSet", "web", SET_UID)]);
    revision
}

pub(super) fn owner(api_version: &str, kind: &str, name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[derive(Clone)]
pub(super) struct PodBuilder(pub(super) Pod);

/// A pod of the set at `rev-1`, running and ready for an hour.
pub(super) fn pod(name: &str) -> PodBuilder {
    let index = name.rsplit_once('-').map_or("", |(_, index)| index);
    let pod = json!({"metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1",
        "labels": {"app": "web", "statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": index,
            "controller-revision-hash": "rev-1"},
        "ownerReferences": [owner("apps/v1", "StatefulSet", "web", SET_UID)]},
        "spec": {"containers": [], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": format!("data-{name}")}}]},
        "status": {"phase": "Running"}});
    PodBuilder(serde_json::from_value(pod).unwrap()).condition("True", 3600)
}

impl PodBuilder {
    fn condition(mut self, status: &str, seconds_ago: i64) -> Self {
        let condition = json!([{"type": "Ready", "status": status, "lastTransitionTime": ago(seconds_ago)}]);
        let pod = self.0.status.get_or_insert_default();
        pod.conditions = Some(serde_json::from_value(condition).unwrap());
        pod.start_time = Some(ago(3600));
        self
    }

    fn phase(mut self, phase: &str) -> Self {
        self.0.status.get_or_insert_default().phase = Some(phase.to_owned());
        self
    }

    pub(super) fn at(mut self, revision: &str) -> Self {
        self.0.metadata.labels.get_or_insert_default().insert("controller-revision-hash".to_owned(), revision.to_owned());
        self
    }

    pub(super) fn ready_for(self, seconds: i64) -> Self {
        self.condition("True", seconds)
    }

    /// Was ready, and is not any more.
    pub(super) fn unready(self) -> Self {
        self.condition("False", 60)
    }

    pub(super) fn never_ready(self) -> Self {
        self.condition("False", 3600)
    }

    /// Its node remembers that it was ready within the second of its start.
    pub(super) fn briefly_ready(self) -> Self {
        let mut pod = self.never_ready();
        let remembered = json!({"type": kinds::extensions::HAS_BEEN_READY, "status": "True"});
        let conditions = pod.0.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions.push(serde_json::from_value(remembered).unwrap());
        pod
    }

    /// Was ready; now its container ends again and again.
    pub(super) fn crashing(self) -> Self {
        let mut pod = self.unready();
        let statuses = json!([{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}}]);
        pod.0.status.get_or_insert_default().container_statuses = Some(serde_json::from_value(statuses).unwrap());
        pod
    }

    pub(super) fn pending(self) -> Self {
        self.phase("Pending").never_ready()
    }

    pub(super) fn failed(self) -> Self {
        self.phase("Failed").unready()
    }

    pub(super) fn terminating(mut self) -> Self {
        self.0.metadata.deletion_timestamp = Some(ago(1));
        self
    }

    pub(super) fn annotated(mut self, name: &str, value: &str) -> Self {
        self.0.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn orphan(mut self) -> Self {
        self.0.metadata.owner_references = None;
        self
    }

    pub(super) fn label(mut self, key: &str, value: Option<&str>) -> Self {
        let labels = self.0.metadata.labels.get_or_insert_default();
        labels.remove(key);
        labels.extend(value.map(|value| (key.to_owned(), value.to_owned())));
        self
    }
}

/// What a controller would see, with the claims of all pods of ordinals below ten.
pub(super) fn observed(set: SetBuilder, revisions: Vec<ControllerRevision>, pods: Vec<PodBuilder>) -> Observed {
    Observed {
        kind: SetKind::Apps,
        set: Arc::new(set.0),
        pods: pods.into_iter().map(|pod| Arc::new(pod.0)).collect(),
        claims: (0..10).map(|ordinal| claim(&format!("data-web-{ordinal}"))).map(|claim| (name_of(&claim), Arc::new(claim))).collect(),
        revisions: revisions.into_iter().map(Arc::new).collect(),
        running_hooks: HashSet::new(),
        hook_pods: Vec::new(),
    }
}

pub(super) fn claim(name: &str) -> PersistentVolumeClaim {
    serde_json::from_value(
        json!({"metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1"}}),
    )
    .unwrap()
}

fn name_of(claim: &PersistentVolumeClaim) -> String {
    claim.metadata.name.clone().unwrap()
}

/// One line per action, and one for what is waited for.
pub(super) fn lines(plan: &Plan) -> Vec<String> {
    plan.actions.iter().map(ToString::to_string).chain(plan.waiting_on.iter().map(ToString::to_string)).collect()
}

/// The lines of the plan for a set at `v1`, known as `rev-1`.
pub(super) fn planned(set: SetBuilder, pods: Vec<PodBuilder>) -> Vec<String> {
    lines(&plan(&observed(set.at("rev-1", "rev-1"), vec![revision("rev-1", 1, "v1")], pods), now()))
}

/// The lines of the plan for a set on its way from `v1`, known as `rev-1`, to `v2`, known as `rev-2`.
pub(super) fn planned_update(set: SetBuilder, pods: Vec<PodBuilder>) -> Vec<String> {
    let revisions = vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")];
    lines(&plan(&observed(set.image("v2").at("rev-1", "rev-2"), revisions, pods), now()))
}
