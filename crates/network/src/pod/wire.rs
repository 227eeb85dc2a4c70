//! The pair of links between a pod and the bridge.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use kinds::ObjectKey;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::bridge::{Bridge, open};
use super::settings::set;
use crate::NetworkError;
use crate::links::{self, Link, Pair};
use crate::netlink::{Message, Refused, Socket};

/// How many names are tried when the first is another pod's.
const NAMES: u32 = 16;
const LOOPBACK: u32 = 1;
/// How long a pair of links may take until it carries packets.
const PATIENCE: Duration = Duration::from_secs(5);

/// What connects one pod.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    /// What the node's end is called begins with this.
    pub(super) prefix: String,
    pub(super) uid: String,
    pub(super) pod: ObjectKey,
    pub(super) bridge: Bridge,
    pub(super) address: Ipv4Addr,
    pub(super) gateway: Ipv4Addr,
}

/// What stands under a name a wire could have.
enum Place {
    Free,
    /// This pod's wire.
    Ours(Link),
    Others,
}

impl Wire {
    /// Connects the namespace. Ends in that namespace, so the thread must end too.
    pub(super) fn connect(&self, netns: &OwnedFd) -> Result<(), NetworkError> {
        let (mut host, mut changes) = (open()?, open()?);
        changes.watch_links().map_err(|source| NetworkError::Kernel { action: "watching links".to_owned(), source })?;
        let entering =
            |errno: Errno| NetworkError::Kernel { action: format!("entering the namespace of {}", self.pod), source: errno.into() };
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(entering)?;
        // A socket stays in the namespace it was opened in: from here on there is one on each side.
        let mut inside = open()?;
        let node_end = self.plug(&mut host, &mut inside, netns)?;
        host.request(vec![
            links::set_alias(node_end.index, &self.uid),
            links::set_hairpin(node_end.index),
            links::pin_to_port(node_end.index, links::mac_of(self.address)),
        ])?;
        let pod_end = links::by_name(&mut inside, "eth0")?.ok_or_else(|| self.vanished())?;
        inside.request(self.settings(pod_end.index))?;
        // As other runtimes have it: without privileges one may listen on every port, and ping.
        set("ip_unprivileged_port_start", "0")?;
        set("ping_group_range", "0 2147483647")?;
        self.await_operation(&mut host, &mut changes, node_end.index)
    }

    /// The kernel lets packets through a little after both ends are up. What the pod sent before that would be lost, and
    /// sent again only a second later.
    fn await_operation(&self, host: &mut Socket, changes: &mut Socket, index: u32) -> Result<(), NetworkError> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            match links::by_index(host, index)? {
                Some(link) if link.operates => return Ok(()),
                Some(_) => changes.link_change()?,
                None => return Err(self.vanished()),
            }
        }
        Err(NetworkError::Deadline { action: format!("connecting pod {}", self.pod), seconds: PATIENCE.as_secs() })
    }

    /// Takes the pod's link away if it is still there.
    pub(super) fn disconnect(&self) -> Result<(), NetworkError> {
        let mut host = open()?;
        for attempt in 0..NAMES {
            match self.look(&mut host, &self.name(attempt))? {
                Place::Free => return Ok(()),
                Place::Ours(link) => return Ok(gone_is_fine(host.request(vec![links::delete_link(link.index)]))?),
                Place::Others => {}
            }
        }
        Ok(())
    }

    /// The node's end, made now or earlier.
    fn plug(&self, host: &mut Socket, inside: &mut Socket, netns: &OwnedFd) -> Result<Link, NetworkError> {
        for attempt in 0..NAMES {
            let name = self.name(attempt);
            match host.request(vec![self.pair(&name, netns)]) {
                Ok(()) => return links::by_name(host, &name)?.ok_or_else(|| self.vanished()),
                Err(refused) if refused.is(Errno::EEXIST) => {}
                Err(refused) => return Err(refused.into()),
            }
            match self.look(host, &name)? {
                Place::Ours(link) if links::by_name(inside, "eth0")?.is_some() => return Ok(link),
                Place::Ours(link) => {
                    // Its other end is in a namespace the pod has no longer.
                    gone_is_fine(host.request(vec![links::delete_link(link.index)]))?;
                    host.request(vec![self.pair(&name, netns)])?;
                    return links::by_name(host, &name)?.ok_or_else(|| self.vanished());
                }
                Place::Free => return Err(self.occupied()),
                Place::Others => {}
            }
        }
        Err(self.occupied())
    }

    fn look(&self, host: &mut Socket, name: &str) -> Result<Place, NetworkError> {
        Ok(match links::by_name(host, name)? {
            None => Place::Free,
            // Without a description it is one whose making was interrupted.
            Some(link) if link.alias == self.uid || link.alias.is_empty() => Place::Ours(link),
            Some(_) => Place::Others,
        })
    }

    fn pair(&self, name: &str, netns: &OwnedFd) -> Message {
        links::make_pair(Pair {
            name,
            bridge: self.bridge.index,
            group: self.bridge.group,
            mtu: self.bridge.mtu,
            peer_netns: netns.as_fd(),
            peer_mac: links::mac_of(self.address),
        })
    }

    fn settings(&self, pod_end: u32) -> Vec<Message> {
        vec![
            links::set_up(LOOPBACK),
            links::set_up(pod_end),
            links::add_address(pod_end, self.address, 32),
            links::add_default_route(pod_end, self.gateway),
        ]
    }

    /// Five digits that follow from the uid, so that no list of names has to be kept.
    fn name(&self, attempt: u32) -> String {
        let hash = self.uid.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        format!("{}{:05x}", self.prefix, (hash ^ (hash >> 20)).wrapping_add(attempt) & 0xf_ffff)
    }

    fn vanished(&self) -> NetworkError {
        NetworkError::Kernel { action: format!("connecting pod {}", self.pod), source: Errno::ENODEV.into() }
    }

    fn occupied(&self) -> NetworkError {
        let action = format!("connecting pod {}, whose namespace has an eth0 of somebody else", self.pod);
        NetworkError::Kernel { action, source: Errno::EEXIST.into() }
    }
}

fn gone_is_fine(result: Result<(), Refused>) -> Result<(), Refused> {
    match result {
        Err(refused) if refused.is(Errno::ENODEV) => Ok(()),
        other => other,
    }
}
