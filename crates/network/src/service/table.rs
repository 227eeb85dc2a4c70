//! The rules of Services as nf_tables has them: one map from address, protocol and port to a chain per frontend, which
//! chooses an endpoint; and, for whatever is sent to the Services' network and found no chain, a refusal.

use std::net::{Ipv4Addr, SocketAddrV4};

use plan::service::{Backend, Change, Frontend, Ruleset};

use crate::netlink::Socket;
use crate::nft::{self, Element, Expression, Header, Hook, Register, SetSpec, SetType, Transaction, Unreachable, Verdict};
use crate::pod::{in_network, name_bytes};
use crate::{NetworkConfig, NetworkError};

const SERVICES: &str = "services";
/// Each endpoint's address, twice: who is on both ends of a connection.
const SELF: &str = "self";
const TCP: u8 = 6;

const FRONTEND: [SetType; 3] = [SetType::Address, SetType::Protocol, SetType::Port];
const ENDPOINT: [SetType; 2] = [SetType::Address, SetType::Port];

/// The client's address while an endpoint is chosen; the endpoint's address and port; the random number.
const CLIENT: Register = Register(0);
const ADDRESS: Register = Register(1);
const PORT: Register = Register(2);
const CHOICE: Register = Register(3);

/// Replaces all rules, whoever made those that are there.
pub(super) fn replace(socket: &mut Socket, config: &NetworkConfig, rules: &Ruleset) -> Result<(), NetworkError> {
    let mut transaction = Transaction::replacing(&table_of(config), socket)?;
    transaction.set(SERVICES, SetSpec::Verdicts(&FRONTEND));
    transaction.set(SELF, SetSpec::Keys(&[SetType::Address, SetType::Address]));
    dispatch(&mut transaction);
    come_back(&mut transaction, &config.name);
    refuse(&mut transaction, config);
    for (frontend, backend) in rules.frontends() {
        make(&mut transaction, frontend, backend);
    }
    transaction.add_elements(SERVICES, rules.frontends().keys().map(entry).collect());
    transaction.add_elements(SELF, rules.addresses().into_iter().map(twice).collect());
    transaction.commit(socket)
}

/// Does the steps from what is loaded to what is desired.
pub(super) fn change(socket: &mut Socket, config: &NetworkConfig, changes: Vec<Change>) -> Result<(), NetworkError> {
    let mut transaction = Transaction::new(&table_of(config));
    for change in changes {
        match change {
            Change::Add { frontend, backend } => {
                make(&mut transaction, &frontend, &backend);
                transaction.add_elements(SERVICES, vec![entry(&frontend)]);
            }
            Change::Replace { frontend, old, new, gone } => remake(&mut transaction, &frontend, &old, &new, &gone),
            Change::Remove { frontend, backend } => unmake(&mut transaction, &frontend, &backend),
            Change::LearnAddress(address) => transaction.add_elements(SELF, vec![twice(address)]),
            Change::ForgetAddress(address) => transaction.delete_elements(SELF, vec![twice(address)]),
        }
    }
    transaction.commit(socket)
}

/// Takes all rules away.
pub(crate) fn remove(config: &NetworkConfig) -> Result<(), NetworkError> {
    let mut socket = nft::open()?;
    Transaction::deleting(&table_of(config), &mut socket)?.commit(&mut socket)
}

/// A table apart from the pods', so that each can be replaced without the other.
fn table_of(config: &NetworkConfig) -> String {
    format!("{}-services", config.name)
}

/// What pods and the node send to a frontend goes to its chain.
fn dispatch(transaction: &mut Transaction) {
    let rule = [
        Expression::Load { field: Header::Destination, into: Register(0) },
        Expression::LoadProtocol(Register(1)),
        Expression::Load { field: Header::DestinationPort, into: Register(2) },
        Expression::Dispatch { map: SERVICES.to_owned(), key: Register(0) },
    ];
    for (chain, hook) in [("prerouting", Hook::NatPrerouting), ("output", Hook::NatOutput)] {
        transaction.base_chain(chain, hook);
        transaction.rule(chain, &rule);
    }
}

/// A pod that reaches itself would answer itself directly, and not recognize the answer: it sees the node instead.
fn come_back(transaction: &mut Transaction, bridge: &str) {
    transaction.base_chain("postrouting", Hook::NatPostrouting);
    let rule = [
        Expression::LoadOutputName(Register(0)),
        Expression::Equal { register: Register(0), value: name_bytes(bridge) },
        Expression::Load { field: Header::Source, into: Register(0) },
        Expression::Load { field: Header::Destination, into: Register(1) },
        Expression::Contains { set: SELF.to_owned(), key: Register(0) },
        Expression::Masquerade,
    ];
    transaction.rule("postrouting", &rule);
}

/// Nobody has an address of the Services' network: what still goes there found no endpoint.
fn refuse(transaction: &mut Transaction, config: &NetworkConfig) {
    for (chain, hook) in [("refuse-forward", Hook::FilterForward), ("refuse-output", Hook::FilterOutput)] {
        transaction.base_chain(chain, hook);
        let mut tcp = in_network(Header::Destination, config.service_cidr).to_vec();
        let mut other = tcp.clone();
        tcp.extend(Expression::protocol(TCP, Register(0)));
        tcp.push(Expression::Reject(Unreachable::TcpReset));
        other.push(Expression::Reject(Unreachable::IcmpPort));
        transaction.rule(chain, &tcp);
        transaction.rule(chain, &other);
    }
}

fn make(transaction: &mut Transaction, frontend: &Frontend, backend: &Backend) {
    transaction.chain(&chain_of(frontend));
    if backend.affinity.is_some() {
        make_memory(transaction, frontend);
    }
    choose(transaction, frontend, backend);
}

fn make_memory(transaction: &mut Transaction, frontend: &Frontend) {
    transaction.set(&memory_of(frontend), SetSpec::Remembered(&[SetType::Address], &ENDPOINT));
}

fn remake(transaction: &mut Transaction, frontend: &Frontend, old: &Backend, new: &Backend, gone: &[SocketAddrV4]) {
    let memory = memory_of(frontend);
    transaction.flush_chain(&chain_of(frontend));
    match (old.affinity, new.affinity) {
        (Some(_), None) => transaction.delete_set(&memory),
        (None, Some(_)) => make_memory(transaction, frontend),
        // Clients of an endpoint that is gone must choose again; the map can't be searched by endpoint, so all do. It is
        // another map of the same name, since the old rules go on writing to theirs until the very end.
        (Some(_), Some(_)) if !gone.is_empty() => {
            transaction.delete_set(&memory);
            make_memory(transaction, frontend);
        }
        _ => {}
    }
    choose(transaction, frontend, new);
}

fn unmake(transaction: &mut Transaction, frontend: &Frontend, backend: &Backend) {
    transaction.delete_elements(SERVICES, vec![Element::Key(key_of(frontend))]);
    transaction.delete_chain(&chain_of(frontend));
    if backend.affinity.is_some() {
        transaction.delete_set(&memory_of(frontend));
    }
}

/// The rules of a frontend's chain: the endpoint that is remembered for the client, else any.
fn choose(transaction: &mut Transaction, frontend: &Frontend, backend: &Backend) {
    let chain = chain_of(frontend);
    let load_client = Expression::Load { field: Header::Source, into: CLIENT };
    let remember = backend.affinity.map(|seconds| Expression::Remember {
        map: memory_of(frontend),
        key: CLIENT,
        value: ADDRESS,
        milliseconds: u64::from(seconds) * 1000,
    });
    let go = Expression::DestinationNat { address: ADDRESS, port: PORT };
    if let Some(remember) = &remember {
        let recall = Expression::Translate { map: memory_of(frontend), id: 0, key: CLIENT, into: ADDRESS };
        transaction.rule(&chain, &[load_client.clone(), recall, remember.clone(), go.clone()]);
    }
    let numbered = (0_u32..).zip(&backend.endpoints);
    let elements: Vec<_> = numbered.map(|(number, endpoint)| Element::Value(number.to_ne_bytes().to_vec(), value_of(endpoint))).collect();
    let below = u32::try_from(elements.len()).unwrap_or(u32::MAX);
    let (map, id) = transaction.anonymous_map(&[SetType::Number], &ENDPOINT, elements);
    let mut rule =
        vec![load_client, Expression::Random { below, into: CHOICE }, Expression::Translate { map, id, key: CHOICE, into: ADDRESS }];
    rule.extend(remember);
    rule.push(go);
    transaction.rule(&chain, &rule);
}

fn chain_of(frontend: &Frontend) -> String {
    format!("to-{}-{}-{}", frontend.address, frontend.protocol.name(), frontend.port)
}

fn memory_of(frontend: &Frontend) -> String {
    format!("clients-{}-{}-{}", frontend.address, frontend.protocol.name(), frontend.port)
}

fn entry(frontend: &Frontend) -> Element {
    Element::Verdict(key_of(frontend), Verdict::GoTo(chain_of(frontend)))
}

/// Each part fills a register.
fn key_of(frontend: &Frontend) -> Vec<u8> {
    let mut key = frontend.address.octets().to_vec();
    key.extend_from_slice(&[frontend.protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&frontend.port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    key
}

fn value_of(endpoint: &SocketAddrV4) -> Vec<u8> {
    let mut value = endpoint.ip().octets().to_vec();
    value.extend_from_slice(&endpoint.port().to_be_bytes());
    value.extend_from_slice(&[0, 0]);
    value
}

fn twice(address: Ipv4Addr) -> Element {
    Element::Key([address.octets(), address.octets()].concat())
}
