//! Settings of the kernel that the instances of a machine share: changed when they are needed, put back when the last instance goes.
//!
//! What a setting was before is written on a bridge, as its alias, so that it is known for exactly as long as the change lasts.

use std::collections::BTreeMap;

use super::bridge::group_of;
use crate::NetworkError;
use crate::links::{self, Link};
use crate::netlink::Socket;

/// A node is a router for its pods, and one they always need: a pod that is being told of a shorter way is told nothing else, such
/// as that a port is closed.
const SHARED: [(&str, &str); 2] = [("ip_forward", "1"), ("conf/all/send_redirects", "0")];

/// What settings were before an instance changed them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Before(BTreeMap<String, String>);

impl Before {
    fn on(link: &Link) -> Self {
        let entries = link.alias.split_whitespace().filter_map(|entry| entry.split_once('='));
        let shared = entries.filter(|(setting, _)| SHARED.iter().any(|(own, _)| own == setting));
        Self(shared.map(|(setting, value)| (setting.to_owned(), value.to_owned())).collect())
    }

    fn write_on(&self, socket: &mut Socket, link: &Link) -> Result<(), NetworkError> {
        let entries: Vec<_> = self.0.iter().map(|(setting, value)| format!("{setting}={value}")).collect();
        Ok(socket.request(vec![links::set_alias(link.index, &entries.join(" "))])?)
    }

    /// Makes the settings what they were.
    pub(super) fn restore(self) -> Result<(), NetworkError> {
        self.0.iter().try_for_each(|(setting, value)| set(setting, value))
    }
}

/// Makes the settings what pods need, and writes on the bridge what they were, first.
pub(super) fn establish(socket: &mut Socket, bridge: &Link) -> Result<(), NetworkError> {
    let mut before = Before::on(bridge);
    for (setting, wanted) in SHARED {
        let found = get(setting)?;
        if found != wanted {
            before.0.entry(setting.to_owned()).or_insert(found);
        }
    }
    if before != Before::on(bridge) {
        before.write_on(socket, bridge)?;
    }
    SHARED.iter().try_for_each(|(setting, wanted)| set(setting, wanted))
}

/// What is to be put back once the bridge is gone: nothing if another instance still needs the settings, which then knows of it.
pub(super) fn hand_over(socket: &mut Socket, bridge: &Link) -> Result<Before, NetworkError> {
    let before = Before::on(bridge);
    let is_another = |link: &Link| link.kind == "bridge" && link.index != bridge.index && link.group == group_of(link.index);
    let Some(heir) = links::all(socket)?.into_iter().find(is_another) else { return Ok(before) };
    let mut known = Before::on(&heir);
    for (setting, value) in before.0 {
        known.0.entry(setting).or_insert(value);
    }
    if known != Before::on(&heir) {
        known.write_on(socket, &heir)?;
    }
    Ok(Before::default())
}

fn get(setting: &str) -> Result<String, NetworkError> {
    let path = path_of(setting);
    let failed = |source| NetworkError::Kernel { action: format!("reading {path}"), source };
    Ok(std::fs::read_to_string(&path).map_err(failed)?.trim_end().to_owned())
}

/// Changes a setting of the network namespace the thread is in, unless it is so already.
pub(super) fn set(setting: &str, value: &str) -> Result<(), NetworkError> {
    if get(setting)? == value {
        return Ok(());
    }
    let path = path_of(setting);
    std::fs::write(&path, value).map_err(|source| NetworkError::Kernel { action: format!("writing {value} to {path}"), source })
}

fn path_of(setting: &str) -> String {
    format!("/proc/sys/net/ipv4/{setting}")
}
