//! Choice of the compute device and of the number of threads.

use anyhow::Result;
use burn::tensor::Device;

use crate::failure::Usage;

/// A device and its name.
pub(crate) struct Picked {
    /// The device, without autodiff.
    pub device: Device,
    /// Name for messages and logs, such as `flex` or `wgpu (NVIDIA …, Vulkan)`.
    pub name: String,
    /// What is known of a GPU; `None` for a CPU backend.
    pub gpu: Option<Gpu>,
}

/// An opened adapter, without its device.
pub(crate) struct Gpu {
    /// Name and driver.
    pub info: AdapterInfo,
    /// Compiler.
    pub can: Capabilities,
}

/// An adapter that was found.
pub(crate) struct AdapterInfo {
    /// Name of the adapter.
    pub name: String,
    /// Name and version of the driver, as the driver states them.
    pub driver: String,
}

/// What an opened adapter can do.
pub(crate) struct Capabilities {
    /// The language that kernels are compiled to: `SPIR-V`, `MSL` or `WGSL`.
    pub compiler: String,
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
/// `auto` selects the first GPU that can be opened, and `flex` if there is none; it never selects a software adapter.
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
        ("auto", None) => Ok(gpu::first_real().unwrap_or_else(flex)),
        ("flex", None) => Ok(flex()),
        ("ndarray", None) => Ok(ndarray()),
        ("wgpu" | "vulkan" | "metal" | "dx12", index) => gpu::pick(name, index),
        _ => Err(unknown(spec)),
    }
}

fn unknown(spec: &str) -> anyhow::Error {
    Usage(format!("--device {spec}: unknown device; expected one of {NAMES}")).into()
}

fn flex() -> Picked {
    Picked { device: Device::flex(), name: "flex".to_owned(), gpu: None }
}

// Burn deprecates this backend in favour of flex; foveal keeps it to cross-check results.
#[allow(deprecated)]
fn ndarray() -> Picked {
    Picked { device: Device::ndarray(), name: "ndarray".to_owned(), gpu: None }
}

#[cfg(feature = "wgpu")]
mod gpu {
    //! Adapters of the graphics APIs.

    use std::pin::pin;
    use std::task::{Context as TaskContext, Poll, Waker};

    use anyhow::{Context, Result, bail};
    use burn::backend::DispatchDevice;
    use burn::tensor::wgpu::{WgpuBackend, wgpu};
    use burn::tensor::{Device, DeviceKind};

    use super::{AdapterInfo, Capabilities, Gpu, Picked};

    struct Adapter {
        info: wgpu::AdapterInfo,
        kind: DeviceKind,
        api: WgpuBackend,
    }

    impl Adapter {
        fn is_real_gpu(&self) -> bool {
            matches!(self.kind, DeviceKind::DiscreteGpu(_) | DeviceKind::IntegratedGpu(_) | DeviceKind::VirtualGpu(_))
        }

        fn open(self, name: &str) -> Result<Picked> {
            let label = format!("{name} ({}, {})", self.info.name, self.info.backend);
            let device = Device::wgpu_options()
                .graphics_api(self.api)
                .device_kind(self.kind)
                .init()
                .with_context(|| format!("cannot open the device {label}"))?;
            let info = AdapterInfo {
                name: self.info.name,
                driver: format!("{} {}", self.info.driver, self.info.driver_info).trim().to_owned(),
            };
            let can = Capabilities { compiler: compiler(&device).to_owned() };
            Ok(Picked { device, name: label, gpu: Some(Gpu { info, can }) })
        }
    }

    /// The language that Burn compiles kernels to on an opened device. CubeCL states it in the name of its runtime.
    fn compiler(device: &Device) -> &'static str {
        let DispatchDevice::Cube(device) = device.as_dispatch() else { return "none" };
        match device.client().name() {
            "wgpu<spirv>" => "SPIR-V",
            "wgpu<msl>" => "MSL",
            "wgpu<wgsl>" => "WGSL",
            other => other,
        }
    }

    /// The adapters of one graphics API, or of all APIs for `wgpu`: discrete, integrated and virtual GPUs first, then
    /// software adapters.
    fn adapters(name: &str) -> Vec<Adapter> {
        let backends = match name {
            "vulkan" => wgpu::Backends::VULKAN,
            "metal" => wgpu::Backends::METAL,
            "dx12" => wgpu::Backends::DX12,
            _ => wgpu::Backends::PRIMARY,
        };
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        // Native enumeration never waits, so one poll returns the result.
        let found = pin!(instance.enumerate_adapters(backends));
        let Poll::Ready(found) = found.poll(&mut TaskContext::from_waker(Waker::noop())) else {
            return Vec::new();
        };
        let mut adapters: Vec<Adapter> = Vec::new();
        for adapter in found {
            let info = adapter.get_info();
            let Some(api) = api(info.backend) else {
                continue;
            };
            // Burn numbers the adapters of each type and API separately.
            let same = adapters
                .iter()
                .filter(|a| a.info.device_type == info.device_type && a.info.backend == info.backend)
                .count();
            let kind = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(same),
                wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(same),
                wgpu::DeviceType::VirtualGpu => DeviceKind::VirtualGpu(same),
                wgpu::DeviceType::Cpu if same == 0 => DeviceKind::Cpu,
                _ => continue,
            };
            adapters.push(Adapter { info, kind, api });
        }
        adapters.sort_by_key(|adapter| match adapter.kind {
            DeviceKind::DiscreteGpu(_) => 0,
            DeviceKind::IntegratedGpu(_) => 1,
            DeviceKind::VirtualGpu(_) => 2,
            _ => 3,
        });
        adapters
    }

    fn api(backend: wgpu::Backend) -> Option<WgpuBackend> {
        match backend {
            wgpu::Backend::Vulkan => Some(WgpuBackend::Vulkan),
            wgpu::Backend::Metal => Some(WgpuBackend::Metal),
            wgpu::Backend::Dx12 => Some(WgpuBackend::Dx12),
            _ => None,
        }
    }

    /// Opens the first GPU that can be opened; `None` if there is none.
    pub(super) fn first_real() -> Option<Picked> {
        adapters("wgpu").into_iter().filter(Adapter::is_real_gpu).find_map(|adapter| adapter.open("wgpu").ok())
    }

    /// Opens the adapter of a graphics API with this index, 0 if none is given.
    ///
    /// # Errors
    /// If there is no such adapter or it cannot be opened.
    pub(super) fn pick(name: &str, index: Option<usize>) -> Result<Picked> {
        let found = adapters(name);
        let count = found.len();
        let listing: Vec<String> =
            found.iter().enumerate().map(|(i, a)| format!("{i}: {} ({})", a.info.name, a.info.backend)).collect();
        match found.into_iter().nth(index.unwrap_or(0)) {
            Some(adapter) => adapter.open(name),
            None if count == 0 => bail!("device `{name}` is not available: this machine has no adapter for it"),
            None => bail!(
                "device `{name}:{}` is not available: found the adapters {}",
                index.unwrap_or(0),
                listing.join(", ")
            ),
        }
    }
}

#[cfg(not(feature = "wgpu"))]
mod gpu {
    //! Replacement for a build without the feature `wgpu`.

    use anyhow::{Result, bail};

    use super::Picked;

    pub fn first_real() -> Option<Picked> {
        None
    }

    pub fn pick(name: &str, _index: Option<usize>) -> Result<Picked> {
        bail!("device `{name}` is not available: this binary was built without the feature `wgpu`")
    }
}
