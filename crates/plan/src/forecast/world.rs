//! The objects of one set, and what requests do to them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::{Metadata, Resource};
use kinds::SetKind;

use super::{Refused, living, pods};
use crate::statefulset::{Action, Observed, is_hook_pod, status_differs};

/// A copy of a set and of what belongs to it. Cheap to clone: objects are shared until they change.
#[derive(Clone, Debug)]
pub struct World {
    /// Under which name the set is served.
    pub kind: SetKind,
    pub set: Arc<StatefulSet>,
    /// By name.
    pub pods: BTreeMap<String, Arc<Pod>>,
    /// By name.
    pub claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// By name.
    pub revisions: BTreeMap<String, Arc<ControllerRevision>>,
    pub now: Timestamp,
    /// The newest resource version given out, of whatever object.
    version: u64,
}

/// Objects of one kind by name.
type Objects<K> = BTreeMap<String, Arc<K>>;

impl World {
    /// A world with these objects.
    pub fn new(observed: Observed, now: Timestamp) -> Self {
        // Whether hooks run at this moment is the controller's own affair: here they succeed at once.
        let Observed { kind, set, pods, claims, revisions, hook_pods, running_hooks: _ } = observed;
        let hook_pods = hook_pods.into_iter().map(|pod| Arc::new(succeeded(Pod::clone(&pod))));
        let mut world = Self {
            kind,
            set,
            pods: by_name(pods.into_iter().chain(hook_pods)),
            claims: by_name(claims.into_values()),
            revisions: by_name(revisions),
            now,
            version: 0,
        };
        world.version = world.newest_version();
        world
    }

    /// What a controller sees of it.
    pub fn observed(&self) -> Observed {
        let name = self.set.metadata.name.as_deref().unwrap_or_default();
        let (hook_pods, pods) = self.pods.values().cloned().partition(|pod| is_hook_pod(name, pod));
        Observed {
            kind: self.kind,
            set: self.set.clone(),
            pods,
            hook_pods,
            claims: self.claims.clone().into_iter().collect(),
            revisions: self.revisions.values().cloned().collect(),
            running_hooks: HashSet::new(),
        }
    }

    /// Does what an API server would do on this request, once or again.
    ///
    /// # Errors
    /// If the name is taken, or the object is not the one that was observed.
    pub fn apply(&mut self, action: &Action) -> Result<(), Refused> {
        let (version, now) = (self.next_version(), self.now);
        match action {
            Action::CreateRevision(revision) => insert(&mut self.revisions, (**revision).clone(), version, now),
            Action::CreateClaim { claim, .. } => insert(&mut self.claims, (**claim).clone(), version, now),
            Action::CreatePod { pod, .. } => {
                let mut pod = (**pod).clone();
                pod.status.get_or_insert_default().phase = Some("Pending".to_owned());
                insert(&mut self.pods, pod, version, now)
            }
            Action::CreateHookPod { pod, .. } => insert(&mut self.pods, succeeded((**pod).clone()), version, now),
            Action::RollBack { resource_version, template, .. } => self.roll_back(resource_version, template),
            Action::AdoptRevision { name, resource_version, owners } => {
                self.revise(name, resource_version, version, |revision| own(revision, owners))
            }
            Action::RenumberRevision { name, resource_version, number } => {
                self.revise(name, resource_version, version, |revision| revision.revision = *number)
            }
            Action::UpdateClaim { name, resource_version, owners, .. } => {
                let seen = Seen { name, uid: None, resource_version: Some(resource_version) };
                change(&mut self.claims, &seen, version, |claim| own(claim, owners))
            }
            Action::AdoptPod { name, uid, resource_version, owners } | Action::ReleasePod { name, uid, resource_version, owners } => {
                let seen = Seen { name, uid: Some(uid), resource_version: Some(resource_version) };
                change(&mut self.pods, &seen, version, |pod| own(pod, owners))
            }
            Action::UpdatePod { pod, .. } => {
                let seen = Seen::of(&pod.metadata);
                change(&mut self.pods, &seen, version, |current| *current = (**pod).clone())
            }
            Action::MarkPod { name, uid, resource_version, annotations, .. } => {
                let seen = Seen { name, uid: Some(uid), resource_version: Some(resource_version) };
                change(&mut self.pods, &seen, version, |pod| living::annotate(pod, annotations))
            }
            Action::RunGate { name, uid, resource_version, run, .. } => {
                let seen = Seen { name, uid: Some(uid), resource_version: Some(resource_version) };
                change(&mut self.pods, &seen, version, |pod| living::annotate(pod, &run.marks(Ok(()), now)))
            }
            Action::UpdateInPlace { name, uid, resource_version, revision, images, annotations, .. } => {
                let seen = Seen { name, uid: Some(uid), resource_version: Some(resource_version) };
                change(&mut self.pods, &seen, version, |pod| {
                    living::annotate(pod, annotations);
                    living::update(pod, revision, images, now);
                })
            }
            Action::DeleteRevision { name, uid } => match only(&self.revisions, name, uid) {
                Ok(()) => {
                    self.revisions.remove(name);
                    Ok(())
                }
                refused => gone_is_fine(refused),
            },
            Action::DeletePod { name, uid, .. } | Action::DeleteHookPod { name, uid, .. } => match only(&self.pods, name, uid) {
                Ok(()) => {
                    self.delete_pod(name);
                    Ok(())
                }
                refused => gone_is_fine(refused),
            },
        }
    }

    /// Asks a pod to go, as the API server does: one that was not given to a node yet or has ended is gone at once, any
    /// other when it has stopped. Whether that changed anything.
    pub fn delete_pod(&mut self, name: &str) -> bool {
        let Some(pod) = self.pods.get(name) else { return false };
        if pods::needs_no_grace(pod) {
            return self.pods.remove(name).is_some();
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return false;
        }
        let now = self.now;
        self.change_pod(name, |pod| pod.metadata.deletion_timestamp = Some(Time(now)))
    }

    /// Writes a status, if it is worth it; whether it was.
    pub fn write_status(&mut self, status: &StatefulSetStatus) -> bool {
        let differs = status_differs(self.set.status.as_ref(), status);
        if differs {
            self.change_set(|set| set.status = Some(status.clone()));
        }
        differs
    }

    /// Changes what the set asks for.
    pub fn change_spec(&mut self, change: impl FnOnce(&mut StatefulSetSpec)) {
        self.change_set(|set| {
            change(set.spec.get_or_insert_default());
            set.metadata.generation = Some(set.metadata.generation.unwrap_or(0).saturating_add(1));
        });
    }

    /// Sets an annotation of the set, which is no change of the specification.
    pub fn annotate(&mut self, key: &str, value: &str) {
        self.change_set(|set| drop(set.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned())));
    }

    fn roll_back(&mut self, resource_version: &str, template: &PodTemplateSpec) -> Result<(), Refused> {
        if self.set.metadata.resource_version.as_deref().unwrap_or_default() != resource_version {
            return Err(Refused::Conflict { kind: "StatefulSet", name: self.set.metadata.name.clone().unwrap_or_default() });
        }
        self.change_spec(|spec| spec.template = template.clone());
        Ok(())
    }

    /// Changes a pod, if it is there; whether it is.
    pub fn change_pod(&mut self, name: &str, alter: impl FnOnce(&mut Pod)) -> bool {
        let version = self.next_version();
        change(&mut self.pods, &Seen { name, uid: None, resource_version: None }, version, alter).is_ok()
    }

    /// Changes a claim, if it is there; whether it is.
    pub fn change_claim(&mut self, name: &str, alter: impl FnOnce(&mut PersistentVolumeClaim)) -> bool {
        let version = self.next_version();
        change(&mut self.claims, &Seen { name, uid: None, resource_version: None }, version, alter).is_ok()
    }

    fn change_set(&mut self, change: impl FnOnce(&mut StatefulSet)) {
        let version = self.next_version();
        let set = Arc::make_mut(&mut self.set);
        change(set);
        set.metadata.resource_version = Some(version.to_string());
    }

    fn revise(
        &mut self,
        name: &str,
        resource_version: &str,
        version: u64,
        alter: impl FnOnce(&mut ControllerRevision),
    ) -> Result<(), Refused> {
        let seen = Seen { name, uid: None, resource_version: Some(resource_version) };
        change(&mut self.revisions, &seen, version, alter)
    }

    fn next_version(&mut self) -> u64 {
        self.version = self.version.saturating_add(1);
        self.version
    }

    fn newest_version(&self) -> u64 {
        let pods = self.pods.values().map(|pod| &pod.metadata);
        let claims = self.claims.values().map(|claim| &claim.metadata);
        let revisions = self.revisions.values().map(|revision| &revision.metadata);
        let all = pods.chain(claims).chain(revisions).chain([&self.set.metadata]);
        all.filter_map(|meta| meta.resource_version.as_deref()?.parse().ok()).max().unwrap_or(0)
    }
}

/// A pod that has done its work.
fn succeeded(mut pod: Pod) -> Pod {
    pod.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
    pod
}

fn by_name<K: Metadata<Ty = ObjectMeta>>(objects: impl IntoIterator<Item = Arc<K>>) -> Objects<K> {
    objects.into_iter().map(|object| (object.metadata().name.clone().unwrap_or_default(), object)).collect()
}

fn own<K: Metadata<Ty = ObjectMeta>>(object: &mut K, owners: &[OwnerReference]) {
    object.metadata_mut().owner_references = Some(owners.to_vec());
}

fn insert<K: Metadata<Ty = ObjectMeta>>(objects: &mut Objects<K>, mut object: K, version: u64, now: Timestamp) -> Result<(), Refused> {
    let meta = object.metadata_mut();
    let name = meta.name.clone().unwrap_or_default();
    if objects.contains_key(&name) {
        return Err(Refused::AlreadyExists { kind: <K as Resource>::KIND, name });
    }
    meta.uid = Some(format!("foreseen-{version}"));
    meta.resource_version = Some(version.to_string());
    meta.creation_timestamp = Some(Time(now));
    objects.insert(name, Arc::new(object));
    Ok(())
}

/// An object as the one who asks saw it; what is `None` is not asked about.
struct Seen<'a> {
    name: &'a str,
    uid: Option<&'a str>,
    resource_version: Option<&'a str>,
}

impl<'a> Seen<'a> {
    fn of(meta: &'a ObjectMeta) -> Self {
        let name = meta.name.as_deref().unwrap_or_default();
        Self { name, uid: meta.uid.as_deref(), resource_version: meta.resource_version.as_deref() }
    }

    fn fits(&self, meta: &ObjectMeta) -> bool {
        let fits = |seen: Option<&str>, is: &Option<String>| seen.is_none_or(|seen| is.as_deref() == Some(seen));
        fits(self.uid, &meta.uid) && fits(self.resource_version, &meta.resource_version)
    }

    fn check<K: Metadata<Ty = ObjectMeta>>(&self, objects: &Objects<K>) -> Result<(), Refused> {
        let (kind, name) = (<K as Resource>::KIND, self.name.to_owned());
        match objects.get(self.name) {
            None => Err(Refused::NotFound { kind, name }),
            Some(object) if !self.fits(object.metadata()) => Err(Refused::Conflict { kind, name }),
            Some(_) => Ok(()),
        }
    }
}

/// Changes the object that was seen.
fn change<K: Metadata<Ty = ObjectMeta> + Clone>(
    objects: &mut Objects<K>,
    seen: &Seen<'_>,
    version: u64,
    change: impl FnOnce(&mut K),
) -> Result<(), Refused> {
    seen.check(objects)?;
    if let Some(object) = objects.get_mut(seen.name).map(Arc::make_mut) {
        change(object);
        object.metadata_mut().resource_version = Some(version.to_string());
    }
    Ok(())
}

fn only<K: Metadata<Ty = ObjectMeta>>(objects: &Objects<K>, name: &str, uid: &str) -> Result<(), Refused> {
    Seen { name, uid: Some(uid), resource_version: None }.check(objects)
}

/// Whoever deletes wants it to be gone.
fn gone_is_fine(refused: Result<(), Refused>) -> Result<(), Refused> {
    match refused {
        Err(Refused::NotFound { .. }) => Ok(()),
        other => other,
    }
}
