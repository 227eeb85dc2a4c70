//! EndpointSlices, changed as little as possible.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::address::{AddressFamily, PodEndpoint, pod_endpoint};
use super::ports::ports_of;
use super::{HEADLESS, is_headless};

/// The label that names the Service of a slice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that names who keeps a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who keeps the slices that follow from pods.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";

/// As many endpoints as one slice may hold.
const CAPACITY: usize = 100;
/// The longest name of a Service leaves room for this.
const SUFFIX: usize = 5;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum SliceChange {
    Create(EndpointSlice),
    /// Replaces the slice of the same name and resource version.
    Update(EndpointSlice),
    Delete(EndpointSlice),
}

/// Endpoints that can share a slice: one family, the same ports.
type Group = (AddressFamily, Vec<EndpointPort>);

/// The writes that make the slices of a Service with a selector right. `zones` gives a node's zone.
pub fn plan_slices(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    zones: &dyn Fn(&str) -> Option<String>,
) -> Vec<SliceChange> {
    let mut groups = desired(service, pods, zones);
    let mut plan = Planned { names: slices.iter().filter_map(|slice| slice.metadata.name.clone()).collect(), ..Planned::default() };
    for slice in slices {
        plan.keep_what_can_stay(service, slice, &mut groups);
    }
    for (group, missing) in groups {
        plan.place(group, missing);
    }
    plan.changes(service)
}

/// The endpoints by group, sorted, each pod once in a family. A Service without pods keeps an empty slice per family.
fn desired(service: &Service, pods: &[Arc<Pod>], zones: &dyn Fn(&str) -> Option<String>) -> Vec<(Group, Vec<Endpoint>)> {
    let mut groups: Vec<(Group, Vec<Endpoint>)> = Vec::new();
    for family in AddressFamily::of_service(service) {
        for pod in pods {
            let Some(found) = pod_endpoint(service, pod, family) else { continue };
            let group = (family, ports_of(service, pod));
            let endpoint = endpoint(found, zones);
            match groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, endpoints)) => endpoints.push(endpoint),
                None => groups.push((group, vec![endpoint])),
            }
        }
        if !groups.iter().any(|((known, _), _)| *known == family) {
            groups.push(((family, Vec::new()), Vec::new()));
        }
    }
    groups
}

fn endpoint(pod: PodEndpoint, zones: &dyn Fn(&str) -> Option<String>) -> Endpoint {
    Endpoint {
        addresses: vec![pod.address],
        conditions: Some(EndpointConditions { ready: Some(pod.ready), serving: Some(pod.serving), terminating: Some(pod.terminating) }),
        hostname: pod.hostname,
        zone: pod.node.as_deref().and_then(zones),
        node_name: pod.node,
        target_ref: Some(pod.target),
        ..Endpoint::default()
    }
}

/// What tells endpoints apart: the pod behind them and the address.
fn identity(endpoint: &Endpoint) -> (Option<&str>, Option<&str>) {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref());
    (uid, endpoint.addresses.first().map(String::as_str))
}

#[derive(Default)]
struct Planned {
    /// Each slice there is, beside what it should hold.
    kept: Vec<(Arc<EndpointSlice>, Group, Vec<Endpoint>)>,
    created: Vec<(Group, Vec<Endpoint>)>,
    deleted: Vec<Arc<EndpointSlice>>,
    /// Names that are taken.
    names: BTreeSet<String>,
}

impl Planned {
    /// Leaves endpoints in the slice they are in, and takes them off the list of what is missing.
    fn keep_what_can_stay(&mut self, service: &Service, slice: &Arc<EndpointSlice>, groups: &mut [(Group, Vec<Endpoint>)]) {
        let family = [AddressFamily::V4, AddressFamily::V6].into_iter().find(|family| family.name() == slice.address_type);
        let group = family.map(|family| (family, slice.ports.clone().unwrap_or_default()));
        let found = groups.iter_mut().find(|(known, _)| Some(known) == group.as_ref());
        let ours = slice.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == service.metadata.uid.as_ref());
        let (Some((group, missing)), true) = (found, ours && slice.metadata.deletion_timestamp.is_none()) else {
            self.deleted.push(slice.clone());
            return;
        };
        let mut wanted: HashMap<_, usize> = missing.iter().enumerate().map(|(at, endpoint)| (identity(endpoint), at)).collect();
        let places: Vec<usize> = slice.endpoints.iter().flatten().filter_map(|old| wanted.remove(&identity(old))).collect();
        let stay: Vec<_> = places.iter().map(|place| missing[*place].clone()).collect();
        let placed: BTreeSet<usize> = places.into_iter().collect();
        let mut at = 0..;
        missing.retain(|_| at.next().is_none_or(|at: usize| !placed.contains(&at)));
        self.kept.push((slice.clone(), group.clone(), stay));
    }

    /// Puts new endpoints where there is room, first into slices that change anyway, then into the fullest that takes them
    /// all, and the rest into new slices. Slices that became empty go, but the last.
    fn place(&mut self, group: Group, mut missing: Vec<Endpoint>) {
        let changing = |slice: &EndpointSlice, stay: &[Endpoint]| slice.endpoints.as_deref().unwrap_or_default() != stay;
        for (slice, _, stay) in self.kept.iter_mut().filter(|(_, known, _)| *known == group) {
            if changing(slice, stay) && !stay.is_empty() {
                let room = CAPACITY.saturating_sub(stay.len()).min(missing.len());
                stay.extend(missing.drain(..room));
            }
        }
        let fullest = self.kept.iter_mut().filter(|(_, known, stay)| *known == group && stay.len() + missing.len() <= CAPACITY);
        if let Some((_, _, stay)) = fullest.max_by_key(|(_, _, stay)| stay.len()) {
            stay.append(&mut missing);
        }
        while !missing.is_empty() {
            let rest = missing.split_off(missing.len().min(CAPACITY));
            self.created.push((group.clone(), std::mem::replace(&mut missing, rest)));
        }
        self.drop_empty(group);
    }

    fn drop_empty(&mut self, group: Group) {
        let published = |known: &Group, stay: &Vec<Endpoint>| *known == group && !stay.is_empty();
        let any = self.kept.iter().any(|(_, known, stay)| published(known, stay))
            || self.created.iter().any(|(known, stay)| published(known, stay));
        // An empty Service is shown by one empty slice without ports.
        let mut keep_one = !any && group.1.is_empty();
        let (gone, kept) = std::mem::take(&mut self.kept).into_iter().partition(|(_, known, stay)| {
            let empty = *known == group && stay.is_empty();
            empty && !std::mem::take(&mut keep_one)
        });
        let gone: Vec<(Arc<EndpointSlice>, Group, Vec<Endpoint>)> = gone;
        self.kept = kept;
        self.deleted.extend(gone.into_iter().map(|(slice, _, _)| slice));
        if keep_one && !self.created.iter().any(|(known, _)| *known == group) {
            self.created.push((group, Vec::new()));
        }
    }

    fn changes(mut self, service: &Service) -> Vec<SliceChange> {
        let mut changes = Vec::new();
        for (old, (family, ports), endpoints) in std::mem::take(&mut self.kept) {
            let mut new = slice_of(service, family, ports, endpoints);
            new.metadata =
                ObjectMeta { labels: new.metadata.labels, owner_references: new.metadata.owner_references, ..old.metadata.clone() };
            if new != normal(&old) {
                changes.push(SliceChange::Update(new));
            }
        }
        for ((family, ports), endpoints) in std::mem::take(&mut self.created) {
            let mut new = slice_of(service, family, ports, endpoints);
            new.metadata.name = Some(self.free_name(service, family));
            changes.push(SliceChange::Create(new));
        }
        changes.extend(self.deleted.into_iter().map(|slice| SliceChange::Delete((*slice).clone())));
        changes
    }

    /// A name that follows from the Service and what is taken, so that a repeated creation meets itself.
    fn free_name(&mut self, service: &Service, family: AddressFamily) -> String {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let uid = service.metadata.uid.as_deref().unwrap_or_default();
        for serial in 0_u32.. {
            let candidate = format!("{name}-{}", suffix(&format!("{uid}/{}/{serial}", family.name())));
            if self.names.insert(candidate.clone()) {
                return candidate;
            }
        }
        unreachable!("some serial number is free: a Service has far fewer slices than there are numbers")
    }
}

/// A few characters that follow from the text: FNV-1a in the alphabet of generated names.
fn suffix(text: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let base = ALPHABET.len() as u64;
    let digit = |place: usize| {
        let digit = (hash >> 8) / base.pow(u32::try_from(place).unwrap_or(0)) % base;
        char::from(ALPHABET[usize::try_from(digit).unwrap_or(0)])
    };
    (0..SUFFIX).map(digit).collect()
}

/// What the server may show in two ways, in the way it is planned.
fn normal(slice: &EndpointSlice) -> EndpointSlice {
    EndpointSlice {
        endpoints: Some(slice.endpoints.clone().unwrap_or_default()),
        ports: Some(slice.ports.clone().unwrap_or_default()),
        ..slice.clone()
    }
}

fn slice_of(service: &Service, family: AddressFamily, ports: Vec<EndpointPort>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let meta = &service.metadata;
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), meta.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    EndpointSlice {
        address_type: family.name().to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports),
        metadata: ObjectMeta {
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner(service)]),
            ..ObjectMeta::default()
        },
    }
}

fn owner(service: &Service) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name: service.metadata.name.clone().unwrap_or_default(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
