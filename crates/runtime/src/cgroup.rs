//! Control groups, version 1, version 2, and machines that have both.
//!
//! ```text
//! <parent>/@shims             the shims, so that ending the server's own group does not end them
//! <parent>/<pod>              limits of the whole pod; no process is directly in it
//! <parent>/<pod>/<container>  limits of a container, its processes
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Resources;

mod discover;
mod settings;
mod usage;

pub(crate) use discover::discover;

/// The group of all shims. No pod can have this name.
const SHIMS: &str = "@shims";

/// What a pod's pause process is in, beside its containers. No container can have this name.
pub(crate) const PAUSE: &str = "@pause";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Version {
    One,
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Controller {
    Memory,
    Cpu,
    CpuAccounting,
    Pids,
    Devices,
}

impl Controller {
    const ALL: [Self; 5] = [Self::Memory, Self::Cpu, Self::CpuAccounting, Self::Pids, Self::Devices];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::CpuAccounting => "cpuacct",
            Self::Pids => "pids",
            Self::Devices => "devices",
        }
    }
}

/// One mounted tree of groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hierarchy {
    mount: PathBuf,
    version: Version,
    controllers: Vec<Controller>,
}

impl Hierarchy {
    fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }
}

/// Where this instance's groups are. Found once per server, told to every shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cgroups {
    parent: PathBuf,
    /// Those with controllers that are used here.
    hierarchies: Vec<Hierarchy>,
    /// Those without: service supervisors know their processes by them.
    tracking: Vec<PathBuf>,
}

impl Cgroups {
    /// Moves this process, which has one thread, out of the server's group in the trees that supervisors kill by.
    pub(crate) fn join_shims(&self) -> io::Result<()> {
        for mount in self.shim_trees() {
            let directory = mount.join(&self.parent).join(SHIMS);
            fs::create_dir_all(&directory)?;
            enter(&directory)?;
        }
        Ok(())
    }

    fn shim_trees(&self) -> impl Iterator<Item = &PathBuf> {
        let unified = self.hierarchies.iter().filter(|hierarchy| hierarchy.version == Version::Two);
        self.tracking.iter().chain(unified.map(|hierarchy| &hierarchy.mount))
    }

    pub(crate) fn pod(&self, uid: &str) -> Group {
        Group { cgroups: self.clone(), path: self.parent.join(uid) }
    }

    /// Removes the groups of the whole instance, as far as no process is in them.
    pub(crate) fn remove(&self) {
        for mount in self.shim_trees().chain(self.hierarchies.iter().map(|hierarchy| &hierarchy.mount)) {
            // Not there, or still in use: both are fine.
            let _unused = fs::remove_dir(mount.join(&self.parent).join(SHIMS));
            for directory in self.parent.ancestors().filter(|directory| directory.parent().is_some()) {
                let _unused = fs::remove_dir(mount.join(directory));
            }
        }
    }
}

/// A pod's or a container's group in every hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    cgroups: Cgroups,
    path: PathBuf,
}

impl Group {
    pub(crate) fn container(&self, id: &str) -> Self {
        Self { cgroups: self.cgroups.clone(), path: self.path.join(id) }
    }

    /// Makes the group and sets its limits. Returns what could not be enforced, in words.
    pub(crate) fn create(&self, resources: &Resources) -> io::Result<Vec<String>> {
        for hierarchy in &self.cgroups.hierarchies {
            if hierarchy.version == Version::Two {
                self.delegate(hierarchy);
            }
            fs::create_dir_all(hierarchy.mount.join(&self.path))?;
        }
        Ok(settings::limits(resources).into_iter().filter_map(|limit| self.apply(&limit).err()).collect())
    }

    /// In version 2 a group has a controller if all groups above say so. Where they can't, limits become warnings.
    fn delegate(&self, hierarchy: &Hierarchy) {
        let names: Vec<String> = hierarchy.controllers.iter().map(|controller| format!("+{}", controller.name())).collect();
        let mut directory = hierarchy.mount.clone();
        for part in self.path.iter() {
            let _refused = fs::write(directory.join("cgroup.subtree_control"), names.join(" "));
            directory.push(part);
            let _exists = fs::create_dir(&directory);
        }
    }

    fn apply(&self, limit: &settings::Limit) -> Result<(), String> {
        let (controller, subject) = (limit.controller, limit.subject);
        let Some(hierarchy) = self.hierarchy(controller) else {
            return Err(format!("{subject} is not enforced: this machine has no {} control group", controller.name()));
        };
        let writes = match hierarchy.version {
            Version::One => &limit.version_1,
            Version::Two => &limit.version_2,
        };
        for (file, value) in writes {
            let path = hierarchy.mount.join(&self.path).join(file);
            match fs::write(&path, value) {
                Err(error) if !settings::is_optional(file) => return Err(format!("{subject} is not enforced: {file}: {error}")),
                _ => {}
            }
        }
        Ok(())
    }

    /// What containers need beyond limits.
    pub(crate) fn prepare_container(&self, privileged: bool) -> io::Result<()> {
        if let Some(hierarchy) = self.hierarchy(Controller::Memory).filter(|hierarchy| hierarchy.version == Version::Two) {
            // All of a container ends with one of its processes, not half of it. Old kernels end one.
            let _unsupported = fs::write(hierarchy.mount.join(&self.path).join("memory.oom.group"), "1");
        }
        if privileged { Ok(()) } else { self.restrict_devices() }
    }

    /// Refuses all devices but the harmless ones (version 1; mounts without devices do the same everywhere).
    fn restrict_devices(&self) -> io::Result<()> {
        let Some(hierarchy) = self.hierarchy(Controller::Devices).filter(|hierarchy| hierarchy.version == Version::One) else {
            return Ok(());
        };
        let directory = hierarchy.mount.join(&self.path);
        fs::write(directory.join("devices.deny"), "a")?;
        settings::ALLOWED_DEVICES.iter().try_for_each(|rule| fs::write(directory.join("devices.allow"), rule))
    }

    /// Moves this process, which has one thread, into the group.
    pub(crate) fn join(&self) -> io::Result<()> {
        self.directories().try_for_each(|directory| enter(&directory))
    }

    /// The group's directory for each mount, with the directory's name below `/sys/fs/cgroup`; the unified tree has an empty name.
    pub(crate) fn views(&self) -> impl Iterator<Item = (PathBuf, Vec<String>)> {
        self.cgroups.hierarchies.iter().map(|hierarchy| {
            let names = match hierarchy.version {
                Version::One => hierarchy.controllers.iter().map(|controller| controller.name().to_owned()).collect(),
                Version::Two => Vec::new(),
            };
            (hierarchy.mount.join(&self.path), names)
        })
    }

    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        self.cgroups.hierarchies.iter().map(|hierarchy| hierarchy.mount.join(&self.path))
    }

    fn hierarchy(&self, controller: Controller) -> Option<&Hierarchy> {
        self.cgroups.hierarchies.iter().find(|hierarchy| hierarchy.has(controller))
    }

    /// All processes in the group and in the groups below it.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut found: Vec<i32> = self.directories().flat_map(|directory| processes_below(&directory)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Removes the group and the groups below it. Fails while a process is in them.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.directories().try_for_each(|directory| remove_tree(&directory))
    }
}

/// Moves this process, which has one thread, into a group. In version 1 by the file for threads: to move a whole process the kernel
/// waits until no process of the machine forks, for milliseconds; a thread that moves itself waits for nobody.
fn enter(directory: &Path) -> io::Result<()> {
    let opened = OpenOptions::new().write(true).open(directory.join("tasks"));
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::write(directory.join("cgroup.procs"), "0"),
        tasks => tasks?.write_all(b"0"),
    }
}

fn subdirectories(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn processes_below(directory: &Path) -> Vec<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    found.extend(subdirectories(directory).flat_map(|below| processes_below(&below)));
    found
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        // The kernel calls a group with groups below it busy too.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => return done,
    }
    subdirectories(directory).try_for_each(|below| remove_tree(&below))?;
    fs::remove_dir(directory)
}
