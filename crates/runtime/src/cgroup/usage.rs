//! What a group has used.

use std::fs;

use super::{Controller, Group, Version};

impl Group {
    /// CPU time in nanoseconds and memory in bytes, without the file cache that can be dropped at once. 0 where nothing is counted.
    pub(crate) fn usage(&self) -> (u64, u64) {
        (self.cpu_time().unwrap_or(0), self.memory().unwrap_or(0))
    }

    /// How many processes the kernel has ended because memory was short.
    pub(crate) fn out_of_memory_kills(&self) -> u64 {
        let file = match self.hierarchy(Controller::Memory).map(|hierarchy| hierarchy.version) {
            Some(Version::One) => "memory.oom_control",
            _ => "memory.events",
        };
        self.read(Controller::Memory, file).and_then(|text| field(&text, "oom_kill")).unwrap_or(0)
    }

    fn cpu_time(&self) -> Option<u64> {
        match self.read(Controller::CpuAccounting, "cpuacct.usage") {
            Some(text) => text.trim().parse().ok(),
            None => field(&self.read(Controller::Cpu, "cpu.stat")?, "usage_usec").map(|microseconds| microseconds.saturating_mul(1000)),
        }
    }

    fn memory(&self) -> Option<u64> {
        let (current, cache) = match self.hierarchy(Controller::Memory)?.version {
            Version::One => ("memory.usage_in_bytes", "total_inactive_file"),
            Version::Two => ("memory.current", "inactive_file"),
        };
        let used: u64 = self.read(Controller::Memory, current)?.trim().parse().ok()?;
        let droppable = field(&self.read(Controller::Memory, "memory.stat")?, cache).unwrap_or(0);
        Some(used.saturating_sub(droppable))
    }

    fn read(&self, controller: Controller, file: &str) -> Option<String> {
        fs::read_to_string(self.hierarchy(controller)?.mount.join(&self.path).join(file)).ok()
    }
}

/// The number after a name in lines of `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), Some(3));
        assert_eq!(field(text, "oom"), None);
    }
}
