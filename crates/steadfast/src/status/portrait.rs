//! How a set is, as one value. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kinds::{Extensions, Ordinals};
use plan::forecast::is_ready;
use plan::statefulset::{Observed, WaitingOn, health_of, may_claim, ordinal_of, plan};
use serde::{Serialize, Serializer};

const REVISION_LABEL: &str = "controller-revision-hash";
/// So many ordinals are shown at most.
const MOST_TILES: usize = 5_000;

/// How a set is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Portrait {
    pub namespace: String,
    pub name: String,
    pub replicas: u32,
    pub ready: usize,
    /// The revision a rollout goes to, and the one it comes from where that is another.
    pub update_revision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<String>,
    /// What is not as desired, and why no more is done about it now.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub waiting_on: Option<WaitingOn>,
    /// What the controller is about to do.
    pub next: Vec<String>,
    pub tiles: Vec<Tile>,
}

/// One ordinal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tile {
    pub pod: String,
    pub ordinal: u32,
    pub state: State,
    /// The end of its revision's name.
    pub revision: String,
    pub age: Revision,
    pub restarts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub claims: Vec<ClaimTile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// How a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Ready,
    NotReady,
    Pending,
    Terminating,
    Ended,
    Missing,
}

/// How a pod's revision stands in the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revision {
    /// There is no rollout, or it has reached this pod.
    Update,
    Current,
    Older,
    None,
}

/// A claim of an ordinal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimTile {
    pub name: String,
    pub phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

fn as_text<S: Serializer>(waiting: &Option<WaitingOn>, serializer: S) -> Result<S::Ok, S::Error> {
    waiting.as_ref().map(ToString::to_string).serialize(serializer)
}

/// How a set is, with what the planner says of it.
pub fn portray(observed: &Observed, now: Timestamp) -> Portrait {
    let set = &observed.set;
    let plan = plan(observed, now);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (update, current) = (text(&plan.status.update_revision), text(&plan.status.current_revision));
    let name = text(&set.metadata.name);
    let spec = set.spec.as_ref();
    let replicas = spec.and_then(|spec| spec.replicas).map_or(1, |count| u32::try_from(count).unwrap_or(0));
    let start = spec.and_then(|spec| spec.ordinals.as_ref()?.start).map_or(0, |start| u32::try_from(start).unwrap_or(0));
    let pods = own_pods(observed, &name);
    let (extensions, _) = Extensions::read(set.metadata.annotations.as_ref());
    let wanted = Ordinals::new(start, replicas, extensions.reserved_ordinals);
    let ordinals: BTreeSet<u32> = wanted.iter().take(MOST_TILES).chain(pods.keys().copied()).collect();
    let claims = claims(observed, &name);
    let tile = |ordinal: &u32| {
        let tile = tile(format!("{name}-{ordinal}"), *ordinal, pods.get(ordinal).copied(), now);
        let age = age(&tile.revision, &update, &current);
        Tile { claims: claims.get(ordinal).cloned().unwrap_or_default(), age, revision: short(&tile.revision, &name), ..tile }
    };
    Portrait {
        namespace: text(&set.metadata.namespace),
        replicas,
        ready: pods.values().filter(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none()).count(),
        tiles: ordinals.iter().map(tile).collect(),
        waiting_on: plan.waiting_on,
        next: plan.actions.iter().map(ToString::to_string).collect(),
        current_revision: Some(current).filter(|current| *current != update),
        update_revision: update,
        name,
    }
}

fn own_pods<'a>(observed: &'a Observed, name: &str) -> BTreeMap<u32, &'a Pod> {
    let uid = observed.set.metadata.uid.as_deref();
    let is_own = |pod: &Pod| {
        let mut owners = pod.metadata.owner_references.iter().flatten();
        owners.any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == uid)
    };
    let own = observed.pods.iter().filter(|pod| is_own(pod));
    own.filter_map(|pod| Some((ordinal_of(name, pod.metadata.name.as_deref()?)?.0, &**pod))).collect()
}

/// The claims of the set by the ordinal they are for.
fn claims(observed: &Observed, name: &str) -> BTreeMap<u32, Vec<ClaimTile>> {
    let mut tiles: BTreeMap<u32, Vec<ClaimTile>> = BTreeMap::new();
    for (claim_name, claim) in observed.claims.iter().filter(|(claim, _)| may_claim(&observed.set, claim)) {
        let infix = format!("-{name}-");
        let ordinal = claim_name.rsplit_once(&infix).and_then(|(_, digits)| digits.parse().ok());
        tiles.entry(ordinal.unwrap_or_default()).or_default().push(claim_tile(claim_name, claim));
    }
    tiles.values_mut().for_each(|claims| claims.sort_by(|a, b| a.name.cmp(&b.name)));
    tiles
}

fn claim_tile(name: &str, claim: &PersistentVolumeClaim) -> ClaimTile {
    let status = claim.status.as_ref();
    let granted = status.and_then(|status| status.capacity.as_ref());
    let asked = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let size = granted.or(asked).and_then(|amounts| Some(amounts.get("storage")?.0.clone()));
    let leaves = claim.metadata.deletion_timestamp.is_some();
    let phase = status.and_then(|status| status.phase.clone()).unwrap_or_else(|| "Pending".to_owned());
    ClaimTile { name: name.to_owned(), phase: if leaves { "Terminating".to_owned() } else { phase }, size }
}

/// A tile with the whole name of the revision, and without claims.
fn tile(name: String, ordinal: u32, pod: Option<&Pod>, now: Timestamp) -> Tile {
    let status = pod.and_then(|pod| pod.status.as_ref());
    let containers = status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let text = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let state = pod.map_or(State::Missing, state);
    let troubled = matches!(state, State::NotReady | State::Pending);
    Tile {
        state,
        revision: pod.and_then(|pod| pod.metadata.labels.as_ref()?.get(REVISION_LABEL).cloned()).unwrap_or_default(),
        age: Revision::None,
        restarts: containers.map(|container| container.restart_count).sum(),
        address: text(status.and_then(|status| status.pod_ip.as_ref())),
        node: text(pod.and_then(|pod| pod.spec.as_ref()?.node_name.as_ref())),
        claims: Vec::new(),
        trouble: pod.filter(|_| troubled).and_then(|pod| health_of(pod, now).trouble),
        pod: name,
        ordinal,
    }
}

fn state(pod: &Pod) -> State {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    match phase {
        _ if pod.metadata.deletion_timestamp.is_some() => State::Terminating,
        "Failed" | "Succeeded" => State::Ended,
        _ if is_ready(pod) => State::Ready,
        "Running" => State::NotReady,
        _ => State::Pending,
    }
}

fn age(revision: &str, update: &str, current: &str) -> Revision {
    match revision {
        "" => Revision::None,
        _ if revision == update => Revision::Update,
        _ if revision == current => Revision::Current,
        _ => Revision::Older,
    }
}

/// The hash at the end of a revision's name.
fn short(revision: &str, set: &str) -> String {
    revision.strip_prefix(set).and_then(|rest| rest.strip_prefix('-')).unwrap_or(revision).to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn observed(pods: Vec<Value>) -> Observed {
        let set = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u", "generation": 2}, "spec": {
            "replicas": 3, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "v2"}]}}},
            "status": {"replicas": 2, "currentRevision": "web-1"}});
        let revision = |number: i64| {
            let template = json!({"metadata": {"labels": {"app": "web"}}, "$patch": "replace",
                "spec": {"containers": [{"name": "main", "image": format!("v{number}")}]}});
            let meta = json!({"name": format!("web-{number}"), "labels": {"app": "web"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true}]});
            Arc::new(
                serde_json::from_value(json!({"metadata": meta, "revision": number, "data": {"spec": {"template": template}}})).unwrap(),
            )
        };
        let claim = json!({"metadata": {"name": "data-web-1"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        Observed {
            kind: Default::default(),
            set: Arc::new(serde_json::from_value(set).unwrap()),
            pods: pods.into_iter().map(|pod| Arc::new(serde_json::from_value(pod).unwrap())).collect(),
            claims: [("data-web-1".to_owned(), Arc::new(serde_json::from_value(claim).unwrap()))].into(),
            revisions: vec![revision(1), revision(2)],
            running_hooks: Default::default(),
            hook_pods: Default::default(),
        }
    }

    fn pod(ordinal: u32, revision: &str, ready: &str) -> Value {
        let name = format!("web-{ordinal}");
        json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web", REVISION_LABEL: revision,
            "statefulset.kubernetes.io/pod-name": name},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true}]},
            "spec": {"nodeName": "a", "containers": [],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": format!("data-{name}")}}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "startTime": "2030-01-01T00:00:00Z",
                "conditions": [{"type": "Ready", "status": ready, "message": "probe failed", "lastTransitionTime": "2030-01-01T00:01:00Z"}],
                "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 2}]}})
    }

    #[test]
    fn every_ordinal_has_a_tile_and_the_planner_says_what_is_waited_for() {
        let portrait = portray(&observed(vec![pod(0, "web-1", "True"), pod(1, "web-2", "False")]), Timestamp::now());
        let states: Vec<_> = portrait.tiles.iter().map(|tile| (tile.state, tile.age, tile.revision.as_str(), tile.restarts)).collect();
        let expected = [
            (State::Ready, Revision::Current, "1", 2),
            (State::NotReady, Revision::Update, "2", 2),
            (State::Missing, Revision::None, "", 0),
        ];
        assert_eq!(states, expected);
        assert_eq!((portrait.ready, portrait.replicas), (1, 3));
        assert_eq!((portrait.update_revision.as_str(), portrait.current_revision.as_deref()), ("web-2", Some("web-1")));
        let trouble = Some("probe failed".to_owned());
        assert_eq!(portrait.waiting_on, Some(WaitingOn::PodReady { pod: "web-1".into(), trouble: trouble.clone() }));
        assert_eq!(portrait.tiles[1].trouble, trouble);
        assert_eq!(portrait.tiles[1].claims, [ClaimTile { name: "data-web-1".into(), phase: "Bound".into(), size: Some("1Gi".into()) }]);
    }
}
