//! UDP has no connections that end: the kernel goes on sending a client's packets where the first one went. When an
//! endpoint goes, what the kernel remembers of it has to go too.

use std::net::{Ipv4Addr, SocketAddrV4};

use nix::errno::Errno;
use plan::service::{Cidr, Frontend, Protocol, Ruleset};

use crate::NetworkError;
use crate::netlink::{Bus, Message, Socket, find};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const FAMILY: [u8; 4] = [2, 0, 0, 0];
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;
const NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// One direction of a connection.
struct Tuple {
    source: SocketAddrV4,
    destination: SocketAddrV4,
    protocol: u8,
}

/// Forgets every UDP connection to the Services' network whose endpoint is not one of its frontend's.
pub(super) fn flush_stale(network: Cidr, rules: &Ruleset) -> Result<(), NetworkError> {
    let opening = |source| NetworkError::Kernel { action: "opening connection tracking".to_owned(), source };
    let mut socket = Socket::open(Bus::Netfilter).map_err(opening)?;
    let mut stale = Vec::new();
    socket.dump(Message::new(GET, &FAMILY, "listing connections"), |content| {
        stale.extend(content.get(FAMILY.len()..).filter(|content| is_stale(content, network, rules) == Some(true)).and_then(forget));
    })?;
    for message in stale {
        match socket.request(vec![message]) {
            Err(refused) if !refused.is(Errno::ENOENT) => return Err(refused.into()),
            _ => {}
        }
    }
    Ok(())
}

fn is_stale(content: &[u8], network: Cidr, rules: &Ruleset) -> Option<bool> {
    let (original, reply) = (tuple_of(find(content, ORIGINAL)?)?, tuple_of(find(content, REPLY)?)?);
    if original.protocol != Protocol::Udp.number() || !network.contains(*original.destination.ip()) {
        return Some(false);
    }
    let frontend = Frontend { address: *original.destination.ip(), protocol: Protocol::Udp, port: original.destination.port() };
    Some(!rules.frontends().get(&frontend).is_some_and(|backend| backend.endpoints.contains(&reply.source)))
}

fn forget(content: &[u8]) -> Option<Message> {
    let tuple = find(content, ORIGINAL)?;
    Some(Message::new(DELETE, &FAMILY, "forgetting a connection").nest(ORIGINAL, |message| message.raw(tuple)))
}

fn tuple_of(content: &[u8]) -> Option<Tuple> {
    let (addresses, protocol) = (find(content, TUPLE_ADDRESSES)?, find(content, TUPLE_PROTOCOL)?);
    let address =
        |attribute| find(addresses, attribute).and_then(|octets| octets.try_into().ok()).map(|octets: [u8; 4]| Ipv4Addr::from(octets));
    let port = |attribute| find(protocol, attribute).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    Some(Tuple {
        source: SocketAddrV4::new(address(SOURCE)?, port(SOURCE_PORT)?),
        destination: SocketAddrV4::new(address(DESTINATION)?, port(DESTINATION_PORT)?),
        protocol: *find(protocol, NUMBER)?.first()?,
    })
}
