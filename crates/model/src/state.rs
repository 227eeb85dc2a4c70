//! Where an exploration stands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use plan::forecast::World;
use plan::statefulset::{Observed, is_hook_pod};

use crate::Configuration;
use crate::canonical::{self, Sum};

/// Objects of one kind by name.
pub(crate) type Objects<K> = BTreeMap<String, Arc<K>>;

/// A kind of object that the controller has a view of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Set,
    Pods,
    Claims,
    Revisions,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Set, Self::Pods, Self::Claims, Self::Revisions];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "the set",
            Self::Pods => "pods",
            Self::Claims => "claims",
            Self::Revisions => "revisions",
        })
    }
}

/// What the controller sees of each kind; `None` is all there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Views {
    pub(crate) set: Option<Arc<StatefulSet>>,
    pub(crate) pods: Option<Objects<Pod>>,
    pub(crate) claims: Option<Objects<PersistentVolumeClaim>>,
    pub(crate) revisions: Option<Objects<ControllerRevision>>,
}

impl Views {
    /// From now on the view of a kind is the one of this world.
    pub(crate) fn hold(&mut self, kind: Kind, world: &World) {
        match kind {
            Kind::Set => self.set = Some(world.set.clone()),
            Kind::Pods => self.pods = Some(world.pods.clone()),
            Kind::Claims => self.claims = Some(world.claims.clone()),
            Kind::Revisions => self.revisions = Some(world.revisions.clone()),
        }
    }

    pub(crate) fn catch_up(&mut self, kind: Kind) {
        match kind {
            Kind::Set => self.set = None,
            Kind::Pods => self.pods = None,
            Kind::Claims => self.claims = None,
            Kind::Revisions => self.revisions = None,
        }
    }

    pub(crate) fn lags(&self, kind: Kind) -> bool {
        match kind {
            Kind::Set => self.set.is_some(),
            Kind::Pods => self.pods.is_some(),
            Kind::Claims => self.claims.is_some(),
            Kind::Revisions => self.revisions.is_some(),
        }
    }

    pub(crate) fn are_fresh(&self) -> bool {
        !Kind::ALL.into_iter().any(|kind| self.lags(kind))
    }
}

/// One state of everything.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) views: Views,
    /// An old view that the controller may be given when it starts anew.
    pub(crate) memory: Option<Arc<World>>,
    /// The names of pods whose node is not heard of.
    pub(crate) lost: Vec<String>,
    /// How many changes of each list the user has made.
    pub(crate) progress: Vec<u8>,
    pub(crate) faults_left: u8,
}

impl State {
    pub(crate) fn first(configuration: &Configuration) -> Self {
        let set = Arc::new(configuration.set.clone());
        let observed = Observed {
            kind: Default::default(),
            set,
            pods: Vec::new(),
            claims: Default::default(),
            revisions: Vec::new(),
            running_hooks: Default::default(),
            hook_pods: Default::default(),
        };
        let mut world = World::new(observed, Timestamp::UNIX_EPOCH);
        canonical::set(&mut world.set);
        let progress = vec![0; configuration.changes.len()];
        let faults_left = configuration.faults;
        Self { world, views: Views::default(), memory: None, lost: Vec::new(), progress, faults_left }
    }

    /// What the controller sees.
    pub(crate) fn observed(&self) -> Observed {
        let (world, views) = (&self.world, &self.views);
        let set = views.set.as_ref().unwrap_or(&world.set);
        let is_foreign = |owner: &OwnerReference| owner.controller == Some(true) && Some(&owner.uid) != set.metadata.uid.as_ref();
        let is_own = |pod: &&Arc<Pod>| !pod.metadata.owner_references.iter().flatten().any(is_foreign);
        let pods = || views.pods.as_ref().unwrap_or(&world.pods).values();
        let name = set.metadata.name.as_deref().unwrap_or_default();
        Observed {
            kind: Default::default(),
            set: set.clone(),
            pods: pods().filter(is_own).cloned().collect(),
            claims: views.claims.as_ref().unwrap_or(&world.claims).clone().into_iter().collect(),
            revisions: views.revisions.as_ref().unwrap_or(&world.revisions).values().cloned().collect(),
            running_hooks: Default::default(),
            hook_pods: pods().filter(|pod| is_hook_pod(name, pod)).cloned().collect(),
        }
    }

    /// Equal for what the controller can't tell apart.
    pub(crate) fn view_sum(&self) -> u64 {
        let (world, views) = (&self.world, &self.views);
        let mut sum = Sum::default();
        add(&mut sum, &views.set.as_ref().unwrap_or(&world.set).metadata);
        add_all(&mut sum, views.pods.as_ref().unwrap_or(&world.pods));
        add_all(&mut sum, views.claims.as_ref().unwrap_or(&world.claims));
        add_all(&mut sum, views.revisions.as_ref().unwrap_or(&world.revisions));
        sum.value()
    }

    /// Equal for states from which the same can happen.
    pub(crate) fn sum(&self) -> u64 {
        let mut sum = Sum::default();
        sum.number(world_sum(&self.world));
        let views = &self.views;
        sum.number(views.set.as_ref().map_or(1, |set| canonical::version(&set.metadata)));
        views.pods.iter().for_each(|pods| add_all(&mut sum, pods));
        sum.number(2);
        views.claims.iter().for_each(|claims| add_all(&mut sum, claims));
        sum.number(3);
        views.revisions.iter().for_each(|revisions| add_all(&mut sum, revisions));
        sum.number(self.memory.as_ref().map_or(4, |world| world_sum(world)));
        self.lost.iter().for_each(|name| sum.text(name));
        self.progress.iter().for_each(|done| sum.number(u64::from(*done)));
        sum.number(u64::from(self.faults_left));
        sum.value()
    }

    /// Whether an object with this uid is known, or owned something.
    pub(crate) fn mentions(&self, uid: &str) -> bool {
        let in_world = |world: &World| has(&world.pods, uid) || has(&world.claims, uid) || has(&world.revisions, uid);
        let views = &self.views;
        let viewed = views.pods.iter().any(|pods| has(pods, uid))
            || views.claims.iter().any(|claims| has(claims, uid))
            || views.revisions.iter().any(|revisions| has(revisions, uid));
        viewed || in_world(&self.world) || self.memory.iter().any(|world| in_world(world))
    }
}

fn has<K: Metadata<Ty = ObjectMeta>>(objects: &Objects<K>, uid: &str) -> bool {
    objects.values().map(|object| object.metadata()).any(|meta| {
        let owners = meta.owner_references.iter().flatten();
        meta.uid.as_deref() == Some(uid) || owners.into_iter().any(|owner| owner.uid == uid)
    })
}

/// Equal for worlds with the same objects.
pub(crate) fn world_sum(world: &World) -> u64 {
    let mut sum = Sum::default();
    add(&mut sum, &world.set.metadata);
    add_all(&mut sum, &world.pods);
    add_all(&mut sum, &world.claims);
    add_all(&mut sum, &world.revisions);
    sum.value()
}

fn add_all<K: Metadata<Ty = ObjectMeta>>(sum: &mut Sum, objects: &Objects<K>) {
    objects.values().for_each(|object| add(sum, object.metadata()));
    sum.number(objects.len() as u64);
}

fn add(sum: &mut Sum, meta: &ObjectMeta) {
    sum.number(canonical::version(meta));
}
