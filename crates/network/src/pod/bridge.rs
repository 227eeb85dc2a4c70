//! The bridge of an instance: its address is the pods' gateway, and the route to the Services' network leads to it.

use nix::errno::Errno;
use plan::service::Cidr;

use super::{gateway_of, settings};
use crate::links::{self, Route};
use crate::netlink::{Bus, Socket};
use crate::{NetworkConfig, NetworkError};

/// The groups of our links begin with this; the rest is the bridge's index, so that two instances never share one.
const GROUP: u32 = 0x5f00_0000;
const DEFAULT_MTU: u32 = 1500;
/// An IPv4 link may not be smaller than this.
const LEAST_MTU: u32 = 576;

/// The bridge as it is in the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bridge {
    pub(super) index: u32,
    /// All links of the instance are in this group, so that they can be deleted together.
    pub(super) group: u32,
    pub(super) mtu: u32,
}

/// Makes the bridge, or adopts the one that is there.
pub(super) fn establish(config: &NetworkConfig) -> Result<Bridge, NetworkError> {
    let mut socket = open()?;
    let routes = links::routes(&mut socket)?;
    let existing = links::by_name(&mut socket, &config.name)?;
    refuse_overlap(config, &routes, existing.as_ref().map(|link| link.index))?;
    let gateway = gateway_of(config);
    let link = match existing {
        Some(link) if link.kind != "bridge" => return Err(taken(&config.name, &link.kind)),
        Some(link) => link,
        None => {
            let mtu = uplink_mtu(&mut socket, &routes)?;
            socket.request(vec![links::make_bridge(&config.name, mtu, links::mac_of(gateway))])?;
            links::by_name(&mut socket, &config.name)?.ok_or_else(|| taken(&config.name, "no link"))?
        }
    };
    let group = group_of(link.index);
    socket.request(vec![
        links::set_group(link.index, group),
        links::set_up(link.index),
        links::add_address(link.index, gateway, config.pod_cidr.prefix),
        links::add_network_route(link.index, config.service_cidr, gateway),
    ])?;
    settings::establish(&mut socket, &link)?;
    // Told to send directly, pods would miss the rules of Services. The kernel sends redirects if this or the shared one says so.
    settings::set(&format!("conf/{}/send_redirects", config.name), "0")?;
    Ok(Bridge { index: link.index, group, mtu: link.mtu })
}

/// Deletes the bridge and every link on it.
pub(super) fn remove(config: &NetworkConfig) -> Result<(), NetworkError> {
    let mut socket = open()?;
    let Some(link) = links::by_name(&mut socket, &config.name)?.filter(|link| link.kind == "bridge") else { return Ok(()) };
    let group = group_of(link.index);
    socket.request(vec![links::set_group(link.index, group)])?;
    let before = settings::hand_over(&mut socket, &link)?;
    match socket.request(vec![links::delete_group(group)]) {
        Err(refused) if refused.is(Errno::ENODEV) => {}
        other => other?,
    }
    before.restore()
}

/// The group of the links of the instance whose bridge has this index.
pub(super) fn group_of(bridge: u32) -> u32 {
    GROUP | bridge
}

pub(super) fn open() -> Result<Socket, NetworkError> {
    Socket::open(Bus::Route).map_err(|source| NetworkError::Kernel { action: "opening rtnetlink".to_owned(), source })
}

fn taken(name: &str, kind: &str) -> NetworkError {
    let kind = if kind.is_empty() { "device" } else { kind };
    NetworkError::Kernel { action: format!("making bridge {name}, where a {kind} is"), source: Errno::EEXIST.into() }
}

/// Another instance's networks show as routes, as do those the machine is connected to.
fn refuse_overlap(config: &NetworkConfig, routes: &[Route], own: Option<u32>) -> Result<(), NetworkError> {
    let foreign = || routes.iter().filter(|route| route.destination.prefix > 0 && (own.is_none() || route.link != own));
    let overlap = |network: Cidr| foreign().find(|route| route.destination.overlaps(network)).map(|route| (network, route.destination));
    match overlap(config.pod_cidr).or_else(|| overlap(config.service_cidr)) {
        Some((network, other)) => Err(NetworkError::Overlap { cidr: network.to_string(), other: other.to_string() }),
        None => Ok(()),
    }
}

/// The size of packets on the way out, so that pods never send what would have to be cut.
fn uplink_mtu(socket: &mut Socket, routes: &[Route]) -> Result<u32, NetworkError> {
    let default = routes.iter().find(|route| route.destination.prefix == 0).and_then(|route| route.link);
    let link = match default {
        Some(index) => links::by_index(socket, index)?,
        None => None,
    };
    Ok(link.map_or(DEFAULT_MTU, |link| link.mtu.clamp(LEAST_MTU, 65_535)))
}
