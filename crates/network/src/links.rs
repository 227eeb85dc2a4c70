//! Links, addresses, routes and neighbours: what is said to the kernel about each.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use plan::service::Cidr;

use crate::netlink::{Message, Refused, Socket, attributes, find, number_of, text_of};

const NEW_LINK: u16 = libc::RTM_NEWLINK;
const SET_LINK: u16 = libc::RTM_SETLINK;
const INET: u8 = libc::AF_INET as u8;
const BRIDGE: u8 = libc::AF_BRIDGE as u8;
const UP: u32 = libc::IFF_UP as u32;
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;

const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const PORT_HAIRPIN: u16 = 4;
const OPERATES: u8 = 6;
const ON_LINK: u32 = 4;
const UNIVERSE: u8 = 0;
const LINK_SCOPE: u8 = 253;
const MAIN_TABLE: u8 = 254;
const BY_BOOT: u8 = 3;
const UNICAST: u8 = 1;
const NEIGHBOUR_STATIC: u16 = 0x40;
/// The entry belongs to the bridge the link is a port of.
const OF_MASTER: u8 = 0x04;
/// The entry stays though another port shows the same hardware address.
const STICKY: u8 = 0x40;

/// What is known of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) mtu: u32,
    pub(crate) group: u32,
    /// The text people see next to it; ours carry the pod's uid.
    pub(crate) alias: String,
    /// `bridge`, `veth` ...; empty for hardware.
    pub(crate) kind: String,
    /// Whether it carries packets.
    pub(crate) operates: bool,
}

/// An end of a pair of links that is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) name: &'a str,
    pub(crate) bridge: u32,
    pub(crate) group: u32,
    pub(crate) mtu: u32,
    pub(crate) peer_netns: BorrowedFd<'a>,
    pub(crate) peer_mac: [u8; 6],
}

/// A route that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: Cidr,
    pub(crate) link: Option<u32>,
}

/// The hardware address of whoever has this address: it never changes, so no neighbour table goes stale.
pub(crate) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x57, a, b, c, d]
}

pub(crate) fn make_bridge(name: &str, mtu: u32, mac: [u8; 6]) -> Message {
    Message::new(NEW_LINK, &link_header(0, 0, UP), format!("making bridge {name}"))
        .create()
        .text(libc::IFLA_IFNAME, name)
        .number(libc::IFLA_MTU, mtu)
        .bytes(libc::IFLA_ADDRESS, &mac)
        .nest(libc::IFLA_LINKINFO, |info| info.bytes(INFO_KIND, b"bridge"))
}

/// Makes a pair with one end on the bridge and the other as `eth0` in another namespace. That one can
/// only come up when the pair is complete.
pub(crate) fn make_pair(pair: Pair<'_>) -> Message {
    let peer = |data: Message| {
        data.nest(VETH_PEER, |peer| {
            peer.raw(&link_header(0, 0, 0))
                .text(libc::IFLA_IFNAME, "eth0")
                .number(libc::IFLA_MTU, pair.mtu)
                .bytes(libc::IFLA_ADDRESS, &pair.peer_mac)
                .number(libc::IFLA_NET_NS_FD, pair.peer_netns.as_raw_fd().cast_unsigned())
        })
    };
    Message::new(NEW_LINK, &link_header(0, 0, UP), format!("making link {}", pair.name))
        .create()
        .text(libc::IFLA_IFNAME, pair.name)
        .number(libc::IFLA_MTU, pair.mtu)
        .number(libc::IFLA_MASTER, pair.bridge)
        .number(libc::IFLA_GROUP, pair.group)
        .nest(libc::IFLA_LINKINFO, |info| info.bytes(INFO_KIND, b"veth").nest(INFO_DATA, peer))
}

pub(crate) fn set_up(index: u32) -> Message {
    Message::new(NEW_LINK, &link_header(0, index, UP), format!("bringing link {index} up"))
}

pub(crate) fn set_group(index: u32, group: u32) -> Message {
    Message::new(SET_LINK, &link_header(0, index, 0), format!("setting the group of link {index}")).number(libc::IFLA_GROUP, group)
}

pub(crate) fn set_alias(index: u32, alias: &str) -> Message {
    let message = Message::new(SET_LINK, &link_header(0, index, 0), format!("describing link {index}"));
    message.bytes(libc::IFLA_IFALIAS, alias.as_bytes())
}

/// Lets the bridge send a frame back through the port it came from: a pod that reaches itself through a Service, where
/// the bridge hands its frames to the IP rules.
pub(crate) fn set_hairpin(index: u32) -> Message {
    Message::new(SET_LINK, &link_header(BRIDGE, index, 0), format!("setting port {index}"))
        .nest(libc::IFLA_PROTINFO, |port| port.bytes(PORT_HAIRPIN, &[1]))
}

pub(crate) fn delete_link(index: u32) -> Message {
    Message::new(libc::RTM_DELLINK, &link_header(0, index, 0), format!("deleting link {index}"))
}

/// Deletes all links of a group together, which takes no longer than one.
pub(crate) fn delete_group(group: u32) -> Message {
    Message::new(libc::RTM_DELLINK, &link_header(0, 0, 0), format!("deleting links of group {group:#x}")).number(libc::IFLA_GROUP, group)
}

pub(crate) fn add_address(index: u32, address: Ipv4Addr, prefix: u8) -> Message {
    let mut header = vec![INET, prefix, 0, UNIVERSE];
    header.extend_from_slice(&index.to_ne_bytes());
    Message::new(libc::RTM_NEWADDR, &header, format!("giving address {address}/{prefix} to link {index}"))
        .create_or_replace()
        .bytes(libc::IFA_LOCAL, &address.octets())
        .bytes(libc::IFA_ADDRESS, &address.octets())
}

/// Everything goes to the gateway, though it shares no network with the pod: pods meet in the node's IP layer, where
/// the rules are, and never behind its back on the bridge.
pub(crate) fn add_default_route(index: u32, gateway: Ipv4Addr) -> Message {
    Message::new(libc::RTM_NEWROUTE, &route_header(0, UNIVERSE, ON_LINK), format!("adding the default route by {gateway}"))
        .create_or_replace()
        .bytes(libc::RTA_GATEWAY, &gateway.octets())
        .number(libc::RTA_OIF, index)
}

/// The network is behind a link; who talks to it from here does so under the address `source`.
pub(crate) fn add_network_route(index: u32, network: Cidr, source: Ipv4Addr) -> Message {
    Message::new(libc::RTM_NEWROUTE, &route_header(network.prefix, LINK_SCOPE, 0), format!("adding the route to {network}"))
        .create_or_replace()
        .bytes(libc::RTA_DST, &network.first().octets())
        .bytes(libc::RTA_PREFSRC, &source.octets())
        .number(libc::RTA_OIF, index)
}

/// Tells the bridge behind which port a hardware address is, even if an earlier pod of that address is still there.
pub(crate) fn pin_to_port(index: u32, mac: [u8; 6]) -> Message {
    let mut header = vec![BRIDGE, 0, 0, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    header.extend_from_slice(&NEIGHBOUR_STATIC.to_ne_bytes());
    header.extend_from_slice(&[OF_MASTER | STICKY, 0]);
    Message::new(libc::RTM_NEWNEIGH, &header, format!("pinning a hardware address to port {index}"))
        .create_or_replace()
        .bytes(libc::NDA_LLADDR, &mac)
}

/// The link with a name.
pub(crate) fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>, Refused> {
    let message = Message::new(libc::RTM_GETLINK, &link_header(0, 0, 0), format!("looking for link {name}")).text(libc::IFLA_IFNAME, name);
    Ok(socket.get(message)?.as_deref().and_then(link_of))
}

/// The link with an index.
pub(crate) fn by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>, Refused> {
    let message = Message::new(libc::RTM_GETLINK, &link_header(0, index, 0), format!("looking for link {index}"));
    Ok(socket.get(message)?.as_deref().and_then(link_of))
}

/// All links.
pub(crate) fn all(socket: &mut Socket) -> Result<Vec<Link>, Refused> {
    let mut links = Vec::new();
    let message = Message::new(libc::RTM_GETLINK, &link_header(0, 0, 0), "listing links");
    socket.dump(message, |content| links.extend(link_of(content)))?;
    Ok(links)
}

/// All IPv4 routes, the default routes among them.
pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<Route>, Refused> {
    let mut routes = Vec::new();
    let header = [INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    socket.dump(Message::new(libc::RTM_GETROUTE, &header, "listing routes"), |content| routes.extend(route_of(content)))?;
    Ok(routes)
}

fn link_header(family: u8, index: u32, flags: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn route_header(prefix: u8, scope: u8, flags: u32) -> [u8; ROUTE_HEADER] {
    let mut header = [INET, prefix, 0, 0, MAIN_TABLE, BY_BOOT, scope, UNICAST, 0, 0, 0, 0];
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn link_of(content: &[u8]) -> Option<Link> {
    let index = number_of(content.get(4..8)?)?;
    let mut link = Link { index, mtu: 0, group: 0, alias: String::new(), kind: String::new(), operates: false };
    for (attribute, value) in attributes(content.get(LINK_HEADER..)?) {
        match attribute {
            libc::IFLA_MTU => link.mtu = number_of(value)?,
            libc::IFLA_GROUP => link.group = number_of(value)?,
            libc::IFLA_OPERSTATE => link.operates = value == [OPERATES],
            libc::IFLA_IFALIAS => link.alias = text_of(value),
            libc::IFLA_LINKINFO => link.kind = find(value, INFO_KIND).map(text_of).unwrap_or_default(),
            _ => {}
        }
    }
    Some(link)
}

/// A route to other machines or to a network of this one; what the kernel keeps for itself is left out.
fn route_of(content: &[u8]) -> Option<Route> {
    let (prefix, kind) = (*content.get(1)?, *content.get(7)?);
    let content = content.get(ROUTE_HEADER..)?;
    let address = match find(content, libc::RTA_DST) {
        Some(octets) => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?),
        None => Ipv4Addr::UNSPECIFIED,
    };
    let link = find(content, libc::RTA_OIF).and_then(number_of);
    (kind == UNICAST && prefix <= 32).then_some(Route { destination: Cidr { address, prefix }, link })
}
