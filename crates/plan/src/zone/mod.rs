//! Names and addresses, as DNS answers them: an index from name to records that follows Services and EndpointSlices
//! one at a time, and answers from memory.

mod records;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kinds::ObjectKey;

use crate::service::Cidr;

/// The label that says which Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How many aliases inside the zone are followed.
const MAX_ALIASES: usize = 8;
/// The version of the DNS schema that is followed.
const SCHEMA_VERSION: &str = "1.1.0";
const REVERSE: &str = "in-addr.arpa";

/// What a record says. Names are in lower case, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    Address(Ipv4Addr),
    Service { port: u16, target: Arc<str> },
    Pointer(Arc<str>),
    Alias(Arc<str>),
    Text(Arc<str>),
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Address,
    Service,
    Pointer,
    Alias,
    Text,
    /// Of a kind that exists nowhere in the zone.
    Other,
}

impl Data {
    /// The kind of question this answers.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Address(_) => Kind::Address,
            Self::Service { .. } => Kind::Service,
            Self::Pointer(_) => Kind::Pointer,
            Self::Alias(_) => Kind::Alias,
            Self::Text(_) => Kind::Text,
        }
    }
}

/// A record and its owner's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub name: Arc<str>,
    pub data: Data,
}

/// How a question ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The records say it.
    Found,
    /// The name exists, and has no such record.
    NoData,
    /// There is no such name.
    NoName,
    /// The last record is an alias of a name outside, which has to be asked for elsewhere.
    Outside(Arc<str>),
    /// The name is not of the cluster.
    NotOurs,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub outcome: Outcome,
    pub records: Vec<Record>,
    /// The addresses of names the records point to.
    pub additional: Vec<Record>,
    /// The top of the zone that answers.
    pub apex: Arc<str>,
}

/// The records of a cluster. [`Zone::update`] follows the objects; [`Zone::answer`] is a lookup.
#[derive(Debug)]
pub struct Zone {
    domain: Arc<str>,
    /// The networks whose reverse names nobody else may answer, with their reverse zones.
    reverse: Vec<(Cidr, Arc<str>)>,
    names: HashMap<Arc<str>, Entry>,
    services: HashMap<ObjectKey, Member>,
    /// The Service each slice belonged to when it was last seen.
    owners: HashMap<ObjectKey, ObjectKey>,
}

#[derive(Debug, Default)]
struct Entry {
    records: Vec<Data>,
    /// How many records are at names below this one: with any, the name exists.
    below: usize,
}

/// What is known of one Service, and the records that follow from it.
#[derive(Debug, Default)]
struct Member {
    service: Option<Arc<Service>>,
    slices: BTreeMap<String, Arc<EndpointSlice>>,
    records: BTreeSet<Record>,
}

/// Objects that changed: what each is now, or `None` if it is gone.
#[derive(Clone, Debug, Default)]
pub struct Update {
    pub services: Vec<(ObjectKey, Option<Arc<Service>>)>,
    pub slices: Vec<(ObjectKey, Option<Arc<EndpointSlice>>)>,
}

impl Zone {
    /// An empty zone for a domain such as `cluster.local`, and the networks of pods and Services.
    pub fn new(domain: &str, networks: &[Cidr]) -> Self {
        let domain: Arc<str> = domain.trim_end_matches('.').to_ascii_lowercase().into();
        let reverse = networks.iter().map(|network| (*network, reverse_zone(*network))).collect();
        let mut zone = Self { domain, reverse, names: HashMap::new(), services: HashMap::new(), owners: HashMap::new() };
        let version = format!("dns-version.{}", zone.domain);
        zone.insert(&Record { name: version.into(), data: Data::Text(SCHEMA_VERSION.into()) });
        for branch in ["svc", "pod"] {
            zone.names.entry(format!("{branch}.{}", zone.domain).into()).or_default().below += 1;
        }
        zone
    }

    /// Takes changed objects in; only the Services they concern are looked at again.
    pub fn update(&mut self, update: Update) {
        let mut concerned = BTreeSet::new();
        for (key, service) in update.services {
            self.services.entry(key.clone()).or_default().service = service;
            concerned.insert(key);
        }
        for (key, slice) in update.slices {
            concerned.extend(self.move_slice(key, slice));
        }
        for key in concerned {
            self.refresh(&key);
        }
    }

    /// Answers for a name in lower case without a final dot. `seed` decides the order of addresses.
    pub fn answer(&self, name: &str, kind: Kind, seed: u64) -> Answer {
        let mut answer = Answer { outcome: Outcome::NoName, records: Vec::new(), additional: Vec::new(), apex: self.domain.clone() };
        let mut name: Arc<str> = name.into();
        for _ in 0..MAX_ALIASES {
            let Some(target) = self.step(&name, kind, &mut answer) else { break };
            name = target;
        }
        shuffle(&mut answer.records, kind, seed);
        self.add_targets(&mut answer);
        answer
    }

    /// Whether a name is one that a pod of a headless Service would have: if it is absent, it may be about to come.
    pub fn may_come(&self, name: &str) -> bool {
        let head = name.strip_suffix(&*self.domain).and_then(|head| head.strip_suffix(".svc."));
        let labels: Vec<_> = head.map(|head| head.split('.').collect()).unwrap_or_default();
        let [_, service, namespace] = labels.as_slice() else { return false };
        let member = self.services.get(&ObjectKey::new(*namespace, *service));
        let spec = member.and_then(|member| member.service.as_ref()?.spec.as_ref());
        spec.is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
    }

    /// Looks one name up; the target, if it is an alias to follow.
    fn step(&self, name: &Arc<str>, kind: Kind, answer: &mut Answer) -> Option<Arc<str>> {
        let Some(zone) = self.zone_of(name) else {
            answer.outcome = if answer.records.is_empty() { Outcome::NotOurs } else { Outcome::Outside(name.clone()) };
            return None;
        };
        if answer.records.is_empty() {
            answer.apex = zone;
        }
        let Some(entry) = self.names.get(name) else {
            answer.outcome = self.pod_answer(name, kind, answer);
            return None;
        };
        let alias = entry.records.iter().find_map(|data| match data {
            Data::Alias(target) if kind != Kind::Alias => Some(target.clone()),
            _ => None,
        });
        let fitting = entry.records.iter().filter(|data| data.kind() == kind || alias.is_some());
        let before = answer.records.len();
        answer.records.extend(fitting.map(|data| Record { name: name.clone(), data: data.clone() }));
        answer.outcome = if answer.records.len() > before { Outcome::Found } else { Outcome::NoData };
        alias
    }

    /// `10-77-0-5.<namespace>.pod.<domain>` says its own address.
    fn pod_answer(&self, name: &Arc<str>, kind: Kind, answer: &mut Answer) -> Outcome {
        let labels = name.strip_suffix(&*self.domain).and_then(|head| head.strip_suffix(".pod."));
        let address = match labels.map(|labels| labels.split_once('.')) {
            Some(None) => return Outcome::NoData,
            Some(Some((dashed, namespace))) if !namespace.contains('.') => records::address_of_dashed(dashed),
            _ => None,
        };
        match address {
            None => Outcome::NoName,
            Some(_) if kind != Kind::Address => Outcome::NoData,
            Some(address) => {
                answer.records.push(Record { name: name.clone(), data: Data::Address(address) });
                Outcome::Found
            }
        }
    }

    /// The top of the zone a name belongs to; none if others have to answer.
    fn zone_of(&self, name: &str) -> Option<Arc<str>> {
        if is_under(name, &self.domain) {
            return Some(self.domain.clone());
        }
        let zone = self.reverse.iter().find(|(_, zone)| is_under(name, zone));
        match (zone, self.names.get(name)) {
            (Some((network, zone)), entry) if entry.is_some() || could_be_in(name, *network) => Some(zone.clone()),
            (_, Some(entry)) if !entry.records.is_empty() => Some(REVERSE.into()),
            _ => None,
        }
    }

    fn add_targets(&self, answer: &mut Answer) {
        let targets: BTreeSet<_> = answer.records.iter().filter_map(target_of).cloned().collect();
        for name in targets {
            let found = self.names.get(&name).into_iter().flat_map(|entry| &entry.records);
            let addresses = found.filter(|data| data.kind() == Kind::Address);
            answer.additional.extend(addresses.map(|data| Record { name: name.clone(), data: data.clone() }));
        }
    }

    /// Files a slice under its Service; the Services that gained or lost by it.
    fn move_slice(&mut self, key: ObjectKey, slice: Option<Arc<EndpointSlice>>) -> Vec<ObjectKey> {
        let service = slice.as_ref().and_then(|slice| slice.metadata.labels.as_ref()?.get(SERVICE_NAME));
        let owner = service.map(|name| ObjectKey::new(key.namespace.clone(), name.clone()));
        let before = match owner.clone() {
            Some(owner) => self.owners.insert(key.clone(), owner),
            None => self.owners.remove(&key),
        };
        if let Some(member) = before.as_ref().and_then(|before| self.services.get_mut(before)) {
            member.slices.remove(&key.name);
        }
        if let (Some(owner), Some(slice)) = (&owner, slice) {
            self.services.entry(owner.clone()).or_default().slices.insert(key.name, slice);
        }
        before.into_iter().chain(owner).collect()
    }

    fn refresh(&mut self, key: &ObjectKey) {
        let Some(mut member) = self.services.remove(key) else { return };
        let records = match &member.service {
            Some(service) => records::of_service(service, member.slices.values(), &self.domain),
            None => BTreeSet::new(),
        };
        for record in member.records.difference(&records) {
            self.remove(record);
        }
        for record in records.difference(&member.records) {
            self.insert(record);
        }
        if member.service.is_some() || !member.slices.is_empty() {
            member.records = records;
            self.services.insert(key.clone(), member);
        }
    }

    fn insert(&mut self, record: &Record) {
        self.names.entry(record.name.clone()).or_default().records.push(record.data.clone());
        for ancestor in ancestors(&record.name) {
            match self.names.get_mut(ancestor) {
                Some(entry) => entry.below += 1,
                None => drop(self.names.insert(ancestor.into(), Entry { records: Vec::new(), below: 1 })),
            }
        }
    }

    fn remove(&mut self, record: &Record) {
        if let Some(entry) = self.names.get_mut(&record.name)
            && let Some(position) = entry.records.iter().position(|data| *data == record.data)
        {
            entry.records.swap_remove(position);
        }
        self.forget_if_empty(&record.name);
        for ancestor in ancestors(&record.name) {
            if let Some(entry) = self.names.get_mut(ancestor) {
                entry.below -= 1;
            }
            self.forget_if_empty(ancestor);
        }
    }

    fn forget_if_empty(&mut self, name: &str) {
        if self.names.get(name).is_some_and(|entry| entry.records.is_empty() && entry.below == 0) {
            self.names.remove(name);
        }
    }
}

/// The names above a name, nearest first.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(name.split_once('.').map(|(_, above)| above), |name| name.split_once('.').map(|(_, above)| above))
}

fn is_under(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

/// Whether a reverse name is one of the network's, or above or below such a name. A network that does not end at a
/// whole number of bytes shares its reverse zone with others.
fn could_be_in(name: &str, network: Cidr) -> bool {
    let octets: Option<Vec<u8>> =
        name.trim_end_matches(REVERSE).split('.').rev().filter(|label| !label.is_empty()).map(|label| label.parse().ok()).collect();
    match octets {
        Some(octets) if octets.len() == 4 => network.contains(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
        _ => network.prefix.is_multiple_of(8),
    }
}

fn reverse_zone(network: Cidr) -> Arc<str> {
    let octets = network.first().octets();
    let known = &octets[..usize::from(network.prefix / 8).min(4)];
    let labels: String = known.iter().rev().map(|octet| format!("{octet}.")).collect();
    format!("{labels}{REVERSE}").into()
}

fn target_of(record: &Record) -> Option<&Arc<str>> {
    match &record.data {
        Data::Service { target, .. } => Some(target),
        _ => None,
    }
}

/// Brings the records that answer the question into an order that follows from the seed; aliases stay in front.
fn shuffle(records: &mut [Record], kind: Kind, mut seed: u64) {
    let first = records.iter().position(|record| record.data.kind() == kind).unwrap_or(records.len());
    let records = &mut records[first..];
    for unplaced in (2..=records.len()).rev() {
        seed = scramble(seed);
        let chosen = usize::try_from(seed % unplaced as u64).unwrap_or(0);
        records.swap(unplaced - 1, chosen);
    }
}

/// One step of the SplitMix64 generator.
fn scramble(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
