//! Choice of the compute device and of the number of threads.

#[cfg_attr(not(feature = "wgpu"), allow(dead_code, reason = "only wgpu finds adapters"))]
mod adapter;
mod choice;
#[cfg(feature = "wgpu")]
mod gpu;
#[cfg(not(feature = "wgpu"))]
#[path = "no_gpu.rs"]
mod gpu;
mod memory;
mod selftest;
mod tuning;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use burn::tensor::Device;

use crate::console::note;
use crate::failure::Usage;

pub(crate) use adapter::{AdapterInfo, AdapterKind, Capabilities};
pub(crate) use gpu::{Adapter, Opened, adapters};
pub(crate) use memory::main_memory;
pub(crate) use selftest::{SelfTest, self_test};
pub(crate) use tuning::{TUNING_IS_KEPT, keep_tuning};

/// Whether this process has opened an adapter of a graphics API.
static OPENED_ADAPTER: AtomicBool = AtomicBool::new(false);

/// Ends the process with `code`. After an adapter was opened, on Unix, the exit handlers of libraries are skipped:
/// those of NVIDIA's Vulkan driver can crash while a thread of Burn still releases the device
/// (<https://github.com/gfx-rs/wgpu/issues/8365>), and a command that succeeded would end with a segmentation fault.
pub(crate) fn end_process(code: u8) -> ExitCode {
    #[cfg(unix)]
    if OPENED_ADAPTER.load(Ordering::Relaxed) {
        use std::io::Write as _;
        // Output that could not be written was reported by the command.
        drop(std::io::stdout().flush());
        signal_hook::low_level::exit(code.into());
    }
    ExitCode::from(code)
}

/// A device and its name.
pub(crate) struct Picked {
    /// The device, without autodiff.
    pub device: Device,
    /// Name for messages and logs, such as `flex` or `wgpu (NVIDIA …, Vulkan, SPIR-V)`.
    pub name: String,
    /// What is known of a GPU; `None` for a CPU backend.
    pub gpu: Option<Gpu>,
}

impl Picked {
    fn cpu(name: &str, device: Device) -> Self {
        Self { device, name: name.to_owned(), gpu: None }
    }
}

/// An opened adapter, without its device.
pub(crate) struct Gpu {
    /// Name, type, driver and API.
    pub info: AdapterInfo,
    /// Compiler, memory and limits.
    pub can: Capabilities,
}

impl Gpu {
    /// Driver and memory in messages.
    pub(crate) fn text(&self) -> String {
        let memory = match self.can.memory_bytes {
            Some(bytes) => format!("{:.1} GiB of memory", bytes as f64 / (1u64 << 30) as f64),
            None => "a memory that the driver does not state".to_owned(),
        };
        format!("driver {}, {memory}", self.info.driver)
    }
}

/// The values of `--device`; `index` is the position of an adapter among those of the graphics API, from 0.
const NAMES: &str = "auto, flex, ndarray, wgpu[:index], vulkan[:index], metal[:index], dx12[:index]";

/// Sets the number of threads of the pool that all CPU work shares; `None` keeps rayon's default, one per core.
///
/// # Errors
/// If the pool already exists or its threads cannot be started.
pub(crate) fn set_threads(threads: Option<u32>) -> Result<()> {
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build_global()?;
    }
    Ok(())
}

/// Opens the device that `spec` names.
///
/// `auto` selects a discrete or virtual GPU, on macOS also an integrated one, else `flex`; it says on stderr what it
/// selects and why, and which adapters could not be opened.
///
/// # Errors
/// [`Usage`] if `spec` is not the name of a device; another error if the device is not available on this machine.
pub(crate) fn pick(spec: &str) -> Result<Picked> {
    let (name, index) = match spec.split_once(':') {
        None => (spec, None),
        Some((name, index)) => match index.parse::<usize>() {
            Ok(index) => (name, Some(index)),
            Err(_) => return Err(unknown(spec)),
        },
    };
    match (name, index) {
        ("auto", None) => Ok(auto()),
        ("flex", None) => Ok(Picked::cpu("flex", flex())),
        ("ndarray", None) => Ok(Picked::cpu("ndarray", ndarray())),
        ("wgpu" | "vulkan" | "metal" | "dx12", index) => {
            let adapter = gpu::find(name, index)?;
            keep_tuning();
            Ok(named(name, &adapter, adapter.open()?))
        }
        _ => Err(unknown(spec)),
    }
}

fn unknown(spec: &str) -> anyhow::Error {
    Usage(format!("--device {spec}: unknown device; expected one of {NAMES}")).into()
}

/// Selects the device of `--device auto`.
fn auto() -> Picked {
    let adapters = adapters("wgpu");
    let infos: Vec<&AdapterInfo> = adapters.iter().map(|adapter| &adapter.info).collect();
    let mut failed = 0;
    for index in choice::candidates(&infos, cfg!(target_os = "macos")) {
        let adapter = &adapters[index];
        keep_tuning();
        match adapter.open() {
            Ok(opened) => {
                let picked = named("wgpu", adapter, opened);
                note!("--device auto takes wgpu:{index}, a {}: {}", adapter.info.kind.name(), picked.name);
                return picked;
            }
            Err(error) => {
                failed += 1;
                note!("warning: {error:#}");
            }
        }
    }
    note!("--device auto takes the CPU (flex), because {}", choice::why_cpu(&infos, failed));
    Picked::cpu("flex", flex())
}

fn named(name: &str, adapter: &Adapter, opened: Opened) -> Picked {
    let name = format!("{name} ({}, {})", adapter.info.label(), opened.can.compiler);
    let Opened { device, can } = opened;
    Picked { device, name, gpu: Some(Gpu { info: adapter.info.clone(), can }) }
}

/// The CPU backend that `auto` falls back to.
pub(crate) fn flex() -> Device {
    Device::flex()
}

/// The other CPU backend. Burn deprecates it in favour of flex; foveal keeps it to cross-check results.
#[allow(deprecated)]
pub(crate) fn ndarray() -> Device {
    Device::ndarray()
}
