//! The one task that serves all simulated nodes: changes come in, decisions go out, and a bounded number of requests is under way.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use informer::Change;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kinds::ObjectKey;
use kube::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Views;
use super::addresses::Addresses;
use super::execute::{Action, RequestError, execute, version};
use super::pod::{Observed, Plan, plan};
use super::queue::Queue;
use super::volume::{ClaimView, plan_claim, plan_volume, volume_name};

/// Requests under way at most.
const CONCURRENCY: usize = 64;

/// What is looked at as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Pod(ObjectKey),
    Claim(ObjectKey),
    Volume(ObjectKey),
}

/// A pod of a simulated node.
#[derive(Debug)]
struct Known {
    uid: Option<String>,
    since: Instant,
    /// The version our last write gave it. Until the view shows that, there is nothing to decide.
    written: u64,
}

type Finished = (Target, Option<Duration>, Result<Option<u64>, RequestError>);

pub(super) struct Agent {
    client: Client,
    views: Views,
    /// The nodes and their addresses.
    hosts: HashMap<String, Ipv4Addr>,
    addresses: Addresses,
    pods: HashMap<ObjectKey, Known>,
    /// Pods that wait for an address.
    starved: HashSet<ObjectKey>,
    queue: Queue<Target>,
    requests: JoinSet<Finished>,
}

impl Agent {
    pub(super) fn new(client: Client, views: Views, hosts: HashMap<String, Ipv4Addr>, addresses: Addresses) -> Self {
        let (pods, starved, queue, requests) = (HashMap::new(), HashSet::new(), Queue::default(), JoinSet::new());
        Self { client, views, hosts, addresses, pods, starved, queue, requests }
    }

    /// Serves for ever.
    pub(super) async fn run(mut self) {
        let Views { pods, claims, volumes, storage_classes } = self.views.clone();
        tokio::join!(pods.synced(), claims.synced(), volumes.synced(), storage_classes.synced());
        let (mut pods, mut claims) = (pods.subscribe(), claims.subscribe());
        let (mut volumes, mut classes) = (volumes.subscribe(), storage_classes.subscribe());
        loop {
            self.start_requests();
            tokio::select! {
                changes = pods.changes() => self.pods_changed(changes),
                changes = claims.changes() => changes.into_iter().for_each(|change| self.queue.add(Target::Claim(change.key))),
                changes = volumes.changes() => changes.into_iter().for_each(|change| self.queue.add(Target::Volume(change.key))),
                _ = classes.changes() => self.look_at_claims(),
                Some(Ok(finished)) = self.requests.join_next() => self.finished(finished),
                () = at(self.queue.due()) => self.queue.release(Instant::now()),
            }
        }
    }

    /// Pods of an earlier run keep their addresses, so those are taken in before any is given out.
    fn pods_changed(&mut self, changes: Vec<Change<Pod>>) {
        let (living, gone): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.new.as_ref().is_some_and(|pod| self.host_of(pod).is_some()));
        gone.iter().for_each(|change| self.forget(&change.key));
        for change in &living {
            if let Some(pod) = &change.new {
                self.remember(&change.key, pod);
            }
        }
        living.into_iter().for_each(|change| self.queue.add(Target::Pod(change.key)));
    }

    fn remember(&mut self, key: &ObjectKey, pod: &Pod) {
        if self.pods.get(key).is_some_and(|known| known.uid == pod.metadata.uid) {
            return;
        }
        self.pods.insert(key.clone(), Known { uid: pod.metadata.uid.clone(), since: Instant::now(), written: 0 });
        let reported = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse().ok());
        if let Some(address) = reported.filter(|_| !is_on_host_network(pod)) {
            self.addresses.adopt(key, address, is_ordinal(pod));
        }
    }

    fn forget(&mut self, key: &ObjectKey) {
        if self.pods.remove(key).is_some() {
            self.starved.remove(key);
            self.addresses.release(key);
            self.starved.drain().for_each(|waiting| self.queue.add(Target::Pod(waiting)));
        }
    }

    /// A claim may have been seen before its class.
    fn look_at_claims(&mut self) {
        for claim in self.views.claims.list() {
            let meta = &claim.metadata;
            let key = ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
            self.queue.add(Target::Claim(key));
        }
    }

    fn start_requests(&mut self) {
        while self.requests.len() < CONCURRENCY {
            let Some(target) = self.queue.take() else { return };
            let Plan { action, recheck_after } = self.decide(&target);
            match action {
                Some(action) => self.start(target, action, recheck_after),
                None => self.queue.succeeded(target, recheck_after),
            }
        }
    }

    fn start(&mut self, target: Target, action: Action, recheck_after: Option<Duration>) {
        let client = self.client.clone();
        self.requests.spawn(async move {
            let result = execute(&client, &action).await;
            (target, recheck_after, result)
        });
    }

    fn finished(&mut self, (target, recheck_after, result): Finished) {
        match result {
            Ok(written) => {
                self.note_written(&target, written);
                self.queue.succeeded(target, recheck_after);
            }
            Err(error) if error.is_stale() => {
                tracing::debug!(?target, %error, "the view was old; looking again");
                self.queue.failed(target);
            }
            Err(error) => {
                tracing::warn!(?target, %error, "a write of a simulated node failed; it is tried again");
                self.queue.failed(target);
            }
        }
    }

    fn note_written(&mut self, target: &Target, written: Option<u64>) {
        if let (Target::Pod(key), Some(written)) = (target, written)
            && let Some(known) = self.pods.get_mut(key)
        {
            known.written = written;
        }
    }

    fn decide(&mut self, target: &Target) -> Plan {
        match target {
            Target::Pod(key) => self.decide_pod(key).unwrap_or_default(),
            Target::Claim(key) => Plan { action: self.decide_claim(key), recheck_after: None },
            Target::Volume(key) => {
                let volume = self.views.volumes.get(key);
                let action = volume.and_then(|volume| plan_volume(&volume, &|node| self.hosts.contains_key(node)));
                Plan { action, recheck_after: None }
            }
        }
    }

    /// `None` if another look follows by itself: the pod is gone, or the view is behind, and will tell of it.
    fn decide_pod(&mut self, key: &ObjectKey) -> Option<Plan> {
        let pod = self.views.pods.get(key)?;
        let host = self.host_of(&pod)?;
        let known = self.pods.get(key).filter(|known| known.uid == pod.metadata.uid)?;
        if version(&pod).is_some_and(|version| version < known.written) {
            return None;
        }
        let age = known.since.elapsed();
        let address = if is_on_host_network(&pod) { Some(host) } else { self.addresses.reserve(key, is_ordinal(&pod)) };
        if address.is_none() {
            self.starved.insert(key.clone());
        }
        Some(plan(&Observed { pod: &pod, host, address, age }, Timestamp::now()))
    }

    fn decide_claim(&self, key: &ObjectKey) -> Option<Action> {
        let claim = self.views.claims.get(key)?;
        let class = claim.spec.as_ref()?.storage_class_name.as_deref()?;
        let class = self.views.storage_classes.get(&ObjectKey::cluster(class));
        let made = self.views.volumes.get(&ObjectKey::cluster(volume_name(&claim)?)).is_some();
        let is_ours = |node: &str| self.hosts.contains_key(node);
        plan_claim(&ClaimView { claim: &claim, class: class.as_deref(), is_ours: &is_ours }).filter(|_| !made)
    }

    fn host_of(&self, pod: &Pod) -> Option<Ipv4Addr> {
        self.hosts.get(pod.spec.as_ref()?.node_name.as_deref()?).copied()
    }
}

/// Waits until then; for ever if there is no such time.
async fn at(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

fn is_on_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

/// Whether the pod is one of a StatefulSet, whose address is to stay with its name.
fn is_ordinal(pod: &Pod) -> bool {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.kind == "StatefulSet" && owner.api_version.starts_with("apps/"))
}
