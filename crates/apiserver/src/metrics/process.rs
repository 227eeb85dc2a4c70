//! What the kernel says about this process.

use std::fs;

use super::Page;

/// The kernel counts processor time in hundredths of a second, whatever the machine.
const TICKS: f64 = 100.0;

/// Writes what can be found out.
pub fn tell(page: &mut Page) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
    if let Some((user, system)) = field(&stat, 14).zip(field(&stat, 15)) {
        let ticks = user + system;
        page.single("process_cpu_seconds_total", "counter", "Processor time, user and system, in seconds.", ticks / TICKS);
    }
    let boot = read("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    if let Some((boot, ticks)) = boot.zip(field(&stat, 22)) {
        page.single("process_start_time_seconds", "gauge", "When the process began, in seconds since 1970.", boot + ticks / TICKS);
    }
    for (key, name, help) in [
        ("VmRSS:", "process_resident_memory_bytes", "Memory in use, in bytes."),
        ("VmSize:", "process_virtual_memory_bytes", "Addresses in use, in bytes."),
    ] {
        if let Some(kibibytes) = kibibytes(&status, key) {
            page.single(name, "gauge", help, kibibytes * 1024.0);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        page.single("process_open_fds", "gauge", "Open file descriptors.", open.count() as f64);
    }
}

/// A numbered field of `/proc/self/stat`. The second one, in parentheses, may hold anything.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

fn kibibytes(status: &str, key: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 9000 1";
        assert_eq!((field(stat, 14), field(stat, 15), field(stat, 22)), (Some(250.0), Some(50.0), Some(9000.0)));
        assert_eq!(kibibytes("Name:\tx\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12.0));
    }
}
