//! `foveal doctor`: describes the machine and the build, and says what would make training slow.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::devices::{self, Listing};
use crate::args::DoctorArgs;
use crate::device::{self, AdapterKind, TUNING_IS_KEPT};
use crate::failure::{DONE, FAILED};
use crate::output;
use crate::outputs::Files;

const GIB: f64 = (1u64 << 30) as f64;
/// Free bytes of main memory below which the machine may begin to move memory to disk.
const LITTLE_MEMORY: u64 = 2 << 30;
/// Free bytes of a disk below which a run of many epochs may fill it. A run keeps two training states and two
/// checkpoints, which are about 1.3 GB together for a ResNet-50 with AdamW.
const LITTLE_DISK: u64 = 5 << 30;

/// The output of `--json`.
#[derive(Debug, Serialize)]
struct Findings {
    /// Version of foveal.
    version: &'static str,
    /// Operating system and processor that the binary was built for.
    platform: String,
    /// Optional features of the build.
    features: Vec<&'static str>,
    /// Whether the build is optimised.
    optimised: bool,
    /// Vector instructions that the kernels for CPUs use.
    simd: &'static str,
    /// Number of computation threads.
    threads: usize,
    /// Number of processors that this process may use; null if the system does not state it.
    processors: Option<usize>,
    /// Mean number of processes that were running or waiting in the last minute; null if the system does not state it.
    load: Option<f64>,
    /// Bytes of the main memory, and those that are free; null if the system does not state them.
    memory_bytes: Option<u64>,
    free_memory_bytes: Option<u64>,
    /// Free bytes of the disk of `--out`; null if the system does not state them.
    free_disk_bytes: Option<u64>,
    /// The devices with the results of their self tests.
    #[serde(flatten)]
    devices: Listing,
    /// What would make training slow or end it, each as a sentence with what to do.
    advice: Vec<String>,
}

/// Examines the machine and prints what was found.
///
/// # Errors
/// If the output cannot be written.
pub(super) fn run(args: &DoctorArgs) -> Result<u8> {
    Files::new().write("--json", &args.json).check()?;
    let memory = device::main_memory();
    let mut findings = Findings {
        version: env!("CARGO_PKG_VERSION"),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        features: features(),
        optimised: !cfg!(debug_assertions),
        simd: foveal_nn::instruction_set(),
        threads: rayon::current_num_threads(),
        processors: std::thread::available_parallelism().ok().map(usize::from),
        load: load(),
        memory_bytes: memory.map(|memory| memory.total),
        free_memory_bytes: memory.map(|memory| memory.free),
        free_disk_bytes: free_disk(&args.out),
        devices: devices::list(true),
        advice: Vec::new(),
    };
    findings.advice = advice(&findings, &args.out);
    output::emit(args.json.as_deref(), &findings, &text(&findings))?;
    Ok(if findings.devices.has_failure() { FAILED } else { DONE })
}

/// The optional features that this binary was built with.
fn features() -> Vec<&'static str> {
    let mut features = Vec::new();
    if cfg!(feature = "wgpu") {
        features.push("wgpu");
    }
    if cfg!(feature = "tuning-cache") {
        features.push("tuning-cache");
    }
    features
}

/// The load of the last minute, where the operating system states it in a file.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// The bytes that this process may still write to the disk of a folder, or of the nearest folder above it that exists.
#[cfg(unix)]
fn free_disk(folder: &Path) -> Option<u64> {
    let folder = std::path::absolute(folder).ok()?;
    let known = folder.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    Some(known.f_bavail.saturating_mul(known.f_frsize))
}

#[cfg(not(unix))]
fn free_disk(_folder: &Path) -> Option<u64> {
    None
}

/// What would make training slow or end it.
fn advice(found: &Findings, out: &Path) -> Vec<String> {
    let mut advice = Vec::new();
    if !found.optimised {
        advice.push("this is a debug build, which is many times slower: build with --release".to_owned());
    }
    let gpus: Vec<_> = found.devices.gpus().collect();
    if !found.features.contains(&"wgpu") {
        advice.push(
            "this binary was built without the feature wgpu, so that it finds no GPU: build with the default features"
                .to_owned(),
        );
    } else if gpus.is_empty() {
        advice.push(
            "no GPU was found, so that training runs on the CPU; a GPU needs a driver for Vulkan, Metal or DirectX 12"
                .to_owned(),
        );
    } else if gpus.iter().all(|gpu| gpu.kind == AdapterKind::IntegratedGpu) && !cfg!(target_os = "macos") {
        advice.push(
            "the only GPU is an integrated one, which --device auto does not take; compare `foveal bench --device wgpu` \
             with `foveal bench --device flex`"
                .to_owned(),
        );
    }
    if !gpus.is_empty() && !TUNING_IS_KEPT {
        advice.push(
            "kernels are tuned anew in every run on a GPU, which can take minutes: a build with --features tuning-cache \
             keeps the results"
                .to_owned(),
        );
    }
    if let Some(processors) = found.processors.filter(|processors| found.threads < *processors) {
        advice.push(format!("{} of {processors} processors are used: --threads sets the number", found.threads));
    }
    if let (Some(load), Some(processors)) = (found.load, found.processors)
        && load > 0.5 + processors as f64 / 2.0
    {
        advice.push(format!(
            "other programs are using this machine: the load was {load:.1} in the last minute, with {processors} processors"
        ));
    }
    if let Some(free) = found.free_memory_bytes.filter(|free| *free < LITTLE_MEMORY) {
        advice.push(format!(
            "only {} of memory are free: lower train.batch_size, data.queue or the size of the images, or end other \
             programs",
            gib(free)
        ));
    }
    if let Some(free) = found.free_disk_bytes.filter(|free| *free < LITTLE_DISK) {
        advice.push(format!(
            "only {} are free on the disk of {}: keep train.keep low, or choose another folder with --out",
            gib(free),
            out.display()
        ));
    }
    advice
}

/// The output on stdout.
fn text(found: &Findings) -> String {
    let known = |bytes: Option<u64>| bytes.map_or("not stated by the system".to_owned(), gib);
    let features = if found.features.is_empty() { "none".to_owned() } else { found.features.join(", ") };
    let processors = found.processors.map_or(String::new(), |count| format!(" on {count} processors"));
    let load = found.load.map_or(String::new(), |load| format!(", load {load:.1}"));
    let mut text = format!(
        "foveal    {} for {}, features {features}\nCPU       {} threads{processors}, {} kernels{load}\nmemory    {}, of \
         which {} are free\ndisk      free: {}\n\n{}",
        found.version,
        found.platform,
        found.threads,
        found.simd,
        known(found.memory_bytes),
        known(found.free_memory_bytes),
        known(found.free_disk_bytes),
        found.devices.table()
    );
    text += "\n";
    if found.advice.is_empty() {
        text += "Nothing was found that would make training slow.\n";
    } else {
        text += "What would make training slow:\n";
        found.advice.iter().for_each(|line| text += &format!("- {line}\n"));
    }
    text
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / GIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        Findings {
            version: "1.2.3",
            platform: "linux x86_64".to_owned(),
            features: vec!["wgpu"],
            optimised: true,
            simd: "AVX2",
            threads: 2,
            processors: Some(2),
            load: Some(0.2),
            memory_bytes: Some(16 << 30),
            free_memory_bytes: Some(8 << 30),
            free_disk_bytes: Some(50 << 30),
            devices: Listing::default(),
            advice: Vec::new(),
        }
    }

    #[test]
    fn each_cause_of_slowness_is_named_with_what_to_do() {
        let named = |change: fn(&mut Findings), words: &str| {
            let mut found = findings();
            change(&mut found);
            let advice = advice(&found, Path::new("runs"));
            assert!(advice.iter().any(|line| line.contains(words)), "{words}: {advice:?}");
        };
        named(|found| found.optimised = false, "--release");
        named(|found| found.features.clear(), "feature wgpu");
        named(|_| (), "no GPU was found");
        named(|found| found.processors = Some(4), "2 of 4 processors");
        named(|found| found.load = Some(2.5), "load was 2.5");
        named(|found| found.free_memory_bytes = Some(1 << 30), "1.00 GiB of memory");
        named(|found| found.free_disk_bytes = Some(1 << 30), "disk of runs");
        assert_eq!(advice(&findings(), Path::new(".")).len(), 1);
    }

    #[test]
    fn the_text_has_what_was_found_and_what_the_system_does_not_state() {
        let mut found = findings();
        found.free_disk_bytes = None;
        let expected = "foveal    1.2.3 for linux x86_64, features wgpu\nCPU       2 threads on 2 processors, AVX2 kernels, \
                        load 0.2\nmemory    16.00 GiB, of which 8.00 GiB are free\ndisk      free: not stated by the system";
        assert!(text(&found).starts_with(expected), "{}", text(&found));
        assert!(text(&found).ends_with("Nothing was found that would make training slow.\n"));
        found.advice.push("do this".to_owned());
        assert!(text(&found).ends_with("slow:\n- do this\n"));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_does_not_exist_yet_has_the_disk_of_the_one_above() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_disk(&dir.path().join("new/deep")).is_some_and(|free| free > 0));
    }
}
