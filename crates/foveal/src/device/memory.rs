//! The main memory of the machine.

/// The main memory that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MainMemory {
    /// Bytes of the machine, or of the control group if that is less.
    pub total: u64,
    /// Bytes that can be taken without moving other memory to disk.
    pub free: u64,
}

/// The main memory of this machine; `None` where the operating system does not state it in a file. On Linux, the limit
/// of the process's control group (a container) counts if it is lower.
pub(crate) fn main_memory() -> Option<MainMemory> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = of_machine(&read("/proc/meminfo")?)?;
    let group = read("/sys/fs/cgroup/memory.max").zip(read("/sys/fs/cgroup/memory.current"));
    Some(match group.and_then(|(most, used)| of_group(&most, &used)) {
        Some(group) => MainMemory { total: machine.total.min(group.total), free: machine.free.min(group.free) },
        None => machine,
    })
}

/// The memory that Linux states in `/proc/meminfo`.
fn of_machine(text: &str) -> Option<MainMemory> {
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(1024 * line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?)
    };
    Some(MainMemory { total: bytes("MemTotal:")?, free: bytes("MemAvailable:")? })
}

/// The memory of a control group (version 2); `None` if it has no limit.
fn of_group(most: &str, used: &str) -> Option<MainMemory> {
    let (total, used) = (most.trim().parse::<u64>().ok()?, used.trim().parse::<u64>().ok()?);
    Some(MainMemory { total, free: total.saturating_sub(used) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_states_its_memory() {
        let text = "MemTotal:       16384 kB\nMemFree:         1024 kB\nMemAvailable:    8192 kB\n";
        assert_eq!(of_machine(text), Some(MainMemory { total: 16 << 20, free: 8 << 20 }));
        assert_eq!(of_machine("MemTotal: 16384 kB\n"), None);
    }

    #[test]
    fn a_control_group_may_have_a_limit() {
        assert_eq!(of_group("4096\n", "1024\n"), Some(MainMemory { total: 4096, free: 3072 }));
        assert_eq!(of_group("4096\n", "5000\n"), Some(MainMemory { total: 4096, free: 0 }));
        assert_eq!(of_group("max\n", "1024\n"), None);
    }
}
