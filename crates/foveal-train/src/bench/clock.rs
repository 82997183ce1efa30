//! The clock of a benchmark: warm-up, timed turns, and the memory of the device.

use std::time::Instant;

use burn::tensor::Device;

use crate::config::BenchConfig;
use crate::device::is_host;

/// Fewest repetitions of the warm-up on a GPU. Training steps that complete a log line run other kernels than the steps
/// in between; the first repetition is of the one kind and the second of the other, so that the timed ones tune
/// neither.
const GPU_WARMUP: usize = 2;

/// How often a phase runs, and how many repetitions run between two waits for the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock<'a> {
    /// The sizes and numbers of `[bench]`.
    pub(super) bench: &'a BenchConfig,
    /// Without autodiff.
    pub(super) device: &'a Device,
    /// Number of repetitions of a turn. The device is waited for before and after a turn, and not in between.
    pub(super) turn: usize,
}

/// The kind of a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// The first one of the phase.
    First,
    /// One that a line of the log ends with in training: the last one of a full turn.
    Logged,
    /// Any other.
    Plain,
}

/// What the clock measured in a phase.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Timed {
    /// Mean time in milliseconds of the repetitions of each timed turn.
    pub(super) ms: Vec<f64>,
    /// Seconds of the first repetition, in which a GPU compiles and tunes its kernels.
    pub(super) first_seconds: f64,
    /// Minor page faults of the process in a timed repetition, on average; -1 where they are not known.
    pub(super) minor_faults: f64,
    /// Largest memory in MiB that the device's allocator held after the warm-up or a turn; -1 where it is not known.
    pub(super) device_mb: f64,
}

impl Clock<'_> {
    /// Runs `step` for the warm-up and the timed turns. On a GPU, `check` reads the result of the last repetition after
    /// the warm-up and after each turn, outside the clock: a wait reports only that the device is lost, and work that
    /// failed is reported by a read of what it, or work that depends on it, should have written.
    ///
    /// # Panics
    /// When the device fails.
    pub(super) fn run<T>(self, mut step: impl FnMut(Repetition) -> T, check: impl Fn(T)) -> Timed {
        let Self { bench, device, turn } = self;
        let wait = || device.sync().expect("the device works");
        let host = is_host(device);
        let warmup = if host { bench.warmup } else { bench.warmup.max(GPU_WARMUP) };
        let mut last = None;
        let ms = Vec::with_capacity(bench.steps.div_ceil(turn));
        let mut timed = Timed { ms, first_seconds: -1.0, minor_faults: -1.0, device_mb: -1.0 };
        for i in 0..warmup {
            drop(last.take());
            let started = Instant::now();
            last = Some(step(if i == 0 { Repetition::First } else { Repetition::Plain }));
            wait();
            if i == 0 {
                timed.first_seconds = started.elapsed().as_secs_f64();
            }
        }
        timed.device_mb = timed.device_mb.max(device_mb(device));
        last.take().filter(|_| !host).map(&check);
        let faults = minor_faults();
        let mut done = 0;
        while done < bench.steps {
            let count = turn.min(bench.steps - done);
            let started = Instant::now();
            for i in 1..=count {
                drop(last.take());
                last = Some(step(match (warmup + done, i == turn) {
                    (0, _) if i == 1 => Repetition::First,
                    (_, true) => Repetition::Logged,
                    _ => Repetition::Plain,
                }));
            }
            wait();
            let seconds = started.elapsed().as_secs_f64();
            if warmup + done == 0 {
                timed.first_seconds = seconds / count as f64;
            }
            timed.ms.push(seconds * 1e3 / count as f64);
            done += count;
            timed.device_mb = timed.device_mb.max(device_mb(device));
            last.take().filter(|_| !host).map(&check);
        }
        if let (Some(before), Some(after)) = (faults, minor_faults()) {
            timed.minor_faults = (after - before) as f64 / done.max(1) as f64;
        }
        timed
    }
}

/// Memory in MiB that the allocator of the device holds: tensors, and pages that are kept for reuse. -1 for devices
/// that do not report it, which are the CPU backends.
fn device_mb(device: &Device) -> f64 {
    device.memory_pool_usage().map_or(-1.0, |usage| usage.bytes_reserved as f64 / f64::from(1 << 20))
}

/// Largest resident memory of the process in MiB: `VmHWM` of `/proc/self/status` on Linux, `None` elsewhere.
pub(super) fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

/// Minor page faults of all threads of the process so far: the field `minflt` of `/proc/self/stat` on Linux, which is
/// also `ru_minflt` of getrusage; `None` elsewhere.
fn minor_faults() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may have spaces. The fields behind it begin with the third.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(10 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::device::tests::as_accelerator;

    fn kinds(warmup: usize, steps: usize, turn: usize) -> (Timed, Vec<Repetition>) {
        let bench = BenchConfig { warmup, steps, ..BenchConfig::default() };
        let mut seen = Vec::new();
        let clock = Clock { bench: &bench, device: &Device::flex(), turn };
        let timed = clock.run(|kind| seen.push(kind), |()| panic!("nothing is checked on a CPU"));
        (timed, seen)
    }

    #[test]
    fn the_last_repetition_of_each_turn_is_read_on_a_gpu() {
        let bench = BenchConfig { warmup: 0, steps: 5, ..BenchConfig::default() };
        let (mut count, checked) = (0, RefCell::new(Vec::new()));
        let step = |_| {
            count += 1;
            count
        };
        let clock = Clock { bench: &bench, device: &Device::flex(), turn: 3 };
        as_accelerator(|| clock.run(step, |repetition| checked.borrow_mut().push(repetition)));
        // Two repetitions for warming up, a full turn of three, and one of two.
        assert_eq!(checked.into_inner(), [2, 5, 7]);
    }

    #[test]
    fn each_full_turn_ends_with_a_logged_repetition() {
        use Repetition::{First, Logged, Plain};
        let (timed, seen) = kinds(2, 7, 3);
        assert_eq!(seen, [First, Plain, Plain, Plain, Logged, Plain, Plain, Logged, Plain]);
        assert_eq!(timed.ms.len(), 3);
        assert!(timed.first_seconds >= 0.0 && timed.ms.iter().all(|ms| *ms >= 0.0), "{timed:?}");
    }

    #[test]
    fn without_warm_up_the_first_timed_repetition_is_the_first() {
        let (timed, seen) = kinds(0, 2, 1);
        assert_eq!(seen, [Repetition::First, Repetition::Logged]);
        assert!((timed.first_seconds - timed.ms[0] / 1e3).abs() < 1e-9, "{timed:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn each_new_page_is_a_fault() {
        let bench = BenchConfig { warmup: 1, steps: 4, ..BenchConfig::default() };
        let clock = Clock { bench: &bench, device: &Device::flex(), turn: 1 };
        // A buffer of this size comes from the operating system each time; with large pages it has 32 of them.
        let step = |_| std::hint::black_box(vec![1u8; 64 << 20]).len();
        let found = clock.run(step, |_| ()).minor_faults;
        assert!(found >= 32.0, "{found}");
    }

    #[test]
    fn the_memory_of_the_host_is_not_that_of_a_device() {
        assert_eq!(kinds(1, 1, 1).0.device_mb, -1.0);
    }
}
