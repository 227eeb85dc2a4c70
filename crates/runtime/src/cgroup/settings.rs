//! Which files of a group say what, in both versions.

use super::Controller;
use crate::Resources;

/// A limit as writes to files of a group.
pub(super) struct Limit {
    /// For people.
    pub(super) subject: &'static str,
    pub(super) controller: Controller,
    pub(super) version_1: Vec<(&'static str, String)>,
    pub(super) version_2: Vec<(&'static str, String)>,
}

/// Devices that every container may use, and node creation, which is harmless since mounts allow no devices.
pub(super) const ALLOWED_DEVICES: [&str; 11] = [
    "c *:* m",
    "b *:* m", // mknod
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm", // null zero full random urandom
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm", // tty console ptmx pts
];

/// Files that some kernels don't have (no swap accounting), without harm.
pub(super) fn is_optional(file: &str) -> bool {
    matches!(file, "memory.memsw.limit_in_bytes" | "memory.swap.max")
}

pub(super) fn limits(resources: &Resources) -> Vec<Limit> {
    [memory(resources), cpu_shares(resources), cpu_quota(resources), pids(resources)].into_iter().flatten().collect()
}

fn memory(resources: &Resources) -> Option<Limit> {
    let limit = resources.memory_limit?.to_string();
    Some(Limit {
        subject: "the memory limit",
        controller: Controller::Memory,
        version_1: vec![("memory.limit_in_bytes", limit.clone()), ("memory.memsw.limit_in_bytes", limit.clone())],
        version_2: vec![("memory.max", limit), ("memory.swap.max", "0".to_owned())],
    })
}

fn cpu_shares(resources: &Resources) -> Option<Limit> {
    let shares = resources.cpu_shares?.clamp(2, 262_144);
    // Both scales are mapped linearly onto each other: 2..262144 to 1..10000.
    let weight = 1 + (shares - 2) * 9999 / 262_142;
    Some(Limit {
        subject: "the CPU request",
        controller: Controller::Cpu,
        version_1: vec![("cpu.shares", shares.to_string())],
        version_2: vec![("cpu.weight", weight.to_string())],
    })
}

fn cpu_quota(resources: &Resources) -> Option<Limit> {
    let quota = resources.cpu_quota_us.filter(|quota| *quota > 0)?;
    let period = resources.cpu_period_us.unwrap_or(100_000);
    Some(Limit {
        subject: "the CPU limit",
        controller: Controller::Cpu,
        version_1: vec![("cpu.cfs_period_us", period.to_string()), ("cpu.cfs_quota_us", quota.to_string())],
        version_2: vec![("cpu.max", format!("{quota} {period}"))],
    })
}

fn pids(resources: &Resources) -> Option<Limit> {
    let limit = resources.pids_limit.filter(|limit| *limit > 0)?.to_string();
    Some(Limit {
        subject: "the limit of processes",
        controller: Controller::Pids,
        version_1: vec![("pids.max", limit.clone())],
        version_2: vec![("pids.max", limit)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_for_sets_nothing() {
        assert!(limits(&Resources::default()).is_empty());
    }

    #[test]
    fn one_core_is_1024_shares_and_weight_39() {
        let resources = Resources { cpu_shares: Some(1024), ..Resources::default() };
        let limit = &limits(&resources)[0];
        assert_eq!(limit.version_1, [("cpu.shares", "1024".to_owned())]);
        assert_eq!(limit.version_2, [("cpu.weight", "39".to_owned())]);
    }

    #[test]
    fn swap_never_extends_a_memory_limit() {
        let resources = Resources { memory_limit: Some(4096), ..Resources::default() };
        let limit = &limits(&resources)[0];
        assert!(limit.version_1.contains(&("memory.memsw.limit_in_bytes", "4096".to_owned())));
        assert!(limit.version_2.contains(&("memory.swap.max", "0".to_owned())));
    }
}
