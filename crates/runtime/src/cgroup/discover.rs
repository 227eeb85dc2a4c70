//! Which hierarchies this machine has mounted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Cgroups, Controller, Hierarchy, Version};

/// Finds the mounted hierarchies. `parent` is relative to each of them.
pub(crate) fn discover(parent: &str) -> io::Result<Cgroups> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let unified = |mount: &Path| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    Ok(from_mounts(parent, &mounts, unified))
}

/// `unified` gives the controllers of a version 2 mount.
fn from_mounts(parent: &str, mounts: &str, unified: impl Fn(&Path) -> String) -> Cgroups {
    let mut cgroups = Cgroups { parent: PathBuf::from(parent.trim_matches('/')), hierarchies: Vec::new(), tracking: Vec::new() };
    for line in mounts.lines() {
        let Some((version, mount, options)) = cgroup_mount(line) else { continue };
        let available = if version == Version::Two { unified(&mount) } else { options.to_owned() };
        let controllers = controllers(version, &available);
        let known = cgroups.hierarchies.iter().any(|other| other.controllers == controllers && other.version == version);
        if controllers.is_empty() && (version == Version::Two || options.contains("name=")) {
            cgroups.tracking.push(mount);
        } else if !controllers.is_empty() && !known {
            cgroups.hierarchies.push(Hierarchy { mount, version, controllers });
        }
    }
    if cgroups.hierarchies.is_empty() {
        // Without any controller, groups still tell which processes belong to a pod.
        cgroups.hierarchies.extend(unified_tree(mounts).map(|mount| Hierarchy { mount, version: Version::Two, controllers: Vec::new() }));
    }
    cgroups.hierarchies.sort_by_key(|hierarchy| !hierarchy.has(Controller::Memory));
    cgroups
}

fn unified_tree(mounts: &str) -> Option<PathBuf> {
    let mut found = mounts.lines().filter_map(cgroup_mount).filter(|(version, ..)| *version == Version::Two);
    found.next().map(|(_, mount, _)| mount)
}

/// Version, mount point and options of a line of `/proc/self/mountinfo` about a cgroup hierarchy.
fn cgroup_mount(line: &str) -> Option<(Version, PathBuf, &str)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let version = match kind.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let mount = PathBuf::from(place.split(' ').nth(4)?);
    Some((version, mount, kind.nth(1)?))
}

fn controllers(version: Version, available: &str) -> Vec<Controller> {
    let names: Vec<&str> = available.split([',', ' ', '\n']).collect();
    let usable =
        |controller: &Controller| version == Version::One || !matches!(controller, Controller::Devices | Controller::CpuAccounting);
    Controller::ALL.into_iter().filter(usable).filter(|controller| names.contains(&controller.name())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
31 29 0:27 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
32 29 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 29 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
34 29 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
35 29 0:31 / /var rw,relatime - ext4 /dev/vda rw";

    #[test]
    fn a_hybrid_machine_has_version_1_controllers_and_two_tracking_trees() {
        let cgroups = from_mounts("/steadfast/a/", HYBRID, |_| String::new());
        let mounts: Vec<_> = cgroups.hierarchies.iter().map(|hierarchy| hierarchy.mount.to_str()).collect();
        assert_eq!(mounts, [Some("/sys/fs/cgroup/memory"), Some("/sys/fs/cgroup/cpu,cpuacct")]);
        assert_eq!(cgroups.tracking, [Path::new("/sys/fs/cgroup/systemd"), Path::new("/sys/fs/cgroup/unified")]);
        assert_eq!(cgroups.parent, Path::new("steadfast/a"));
    }

    #[test]
    fn a_unified_machine_has_one_hierarchy_with_its_controllers() {
        let mounts = "30 29 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw";
        let cgroups = from_mounts("steadfast", mounts, |_| "cpuset cpu io memory pids\n".to_owned());
        assert_eq!(cgroups.hierarchies.len(), 1);
        assert_eq!(cgroups.hierarchies[0].controllers, [Controller::Memory, Controller::Cpu, Controller::Pids]);
        assert!(cgroups.tracking.is_empty());
    }

    #[test]
    fn a_machine_without_controllers_has_groups_all_the_same() {
        let mounts = "30 29 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw";
        let cgroups = from_mounts("steadfast", mounts, |_| String::new());
        assert_eq!(cgroups.hierarchies.len(), 1);
        assert!(cgroups.hierarchies[0].controllers.is_empty());
    }

    #[test]
    fn the_same_hierarchy_mounted_twice_counts_once() {
        let twice = "30 29 0:26 / /a rw - cgroup cgroup rw,memory\n31 29 0:26 / /b rw - cgroup cgroup rw,memory";
        assert_eq!(from_mounts("p", twice, |_| String::new()).hierarchies.len(), 1);
    }
}
