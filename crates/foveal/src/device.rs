//! The one place that picks a device.

use anyhow::Result;
use burn::tensor::Device;

use crate::failure::Usage;

/// A device and how to call it.
pub struct Picked {
    /// The device, without autodiff.
    pub device: Device,
    /// Its name for people and logs, such as `flex` or `wgpu (NVIDIA …, Vulkan)`.
    pub name: String,
}

/// The devices that `--device` may name; an index counts a graphics API's adapters.
const NAMES: &str = "auto, flex, ndarray, wgpu[:index], vulkan[:index], metal[:index], dx12[:index]";

/// Sizes the thread pool that all CPU work shares.
///
/// # Errors
/// If the pool exists already or its threads cannot be started.
pub fn set_threads(threads: Option<u32>) -> Result<()> {
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build_global()?;
    }
    Ok(())
}

/// Picks the device that `spec` names.
///
/// `auto` takes the first real GPU, else `flex`; it never takes a software adapter.
///
/// # Errors
/// [`Usage`] if `spec` names no device; a plain error if the device is not there.
pub fn pick(spec: &str) -> Result<Picked> {
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
    Usage(format!("unknown device `{spec}`; expected one of {NAMES}")).into()
}

fn flex() -> Picked {
    Picked { device: Device::flex(), name: "flex".to_owned() }
}

// Burn deprecates this backend in favour of flex; foveal keeps it as a second opinion.
#[allow(deprecated)]
fn ndarray() -> Picked {
    Picked { device: Device::ndarray(), name: "ndarray".to_owned() }
}

#[cfg(feature = "wgpu")]
mod gpu {
    //! Adapters of the graphics APIs.

    use std::pin::pin;
    use std::task::{Context as TaskContext, Poll, Waker};

    use anyhow::{Context, Result, bail};
    use burn::tensor::wgpu::{WgpuBackend, wgpu};
    use burn::tensor::{Device, DeviceKind};

    use super::Picked;

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
            Ok(Picked { device, name: label })
        }
    }

    /// The adapters of one API (of all for `wgpu`): GPUs first, software last.
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
        // Native enumeration never waits: one poll answers.
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
            // Burn counts the adapters of each type and API by themselves.
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

    /// The first real GPU that opens.
    pub fn first_real() -> Option<Picked> {
        adapters("wgpu").into_iter().filter(Adapter::is_real_gpu).find_map(|adapter| adapter.open("wgpu").ok())
    }

    /// The adapter of an API by its index, 0 if none is given.
    pub fn pick(name: &str, index: Option<usize>) -> Result<Picked> {
        let found = adapters(name);
        let count = found.len();
        let listing: Vec<String> =
            found.iter().enumerate().map(|(i, a)| format!("{i}: {} ({})", a.info.name, a.info.backend)).collect();
        match found.into_iter().nth(index.unwrap_or(0)) {
            Some(adapter) => adapter.open(name),
            None if count == 0 => bail!("device `{name}` is not there: no adapter found"),
            None => bail!("device `{name}:{}` is not there: found {}", index.unwrap_or(0), listing.join(", ")),
        }
    }
}

#[cfg(not(feature = "wgpu"))]
mod gpu {
    //! A build without graphics APIs.

    use anyhow::{Result, bail};

    use super::Picked;

    pub fn first_real() -> Option<Picked> {
        None
    }

    pub fn pick(name: &str, _index: Option<usize>) -> Result<Picked> {
        bail!("device `{name}` is not there: this build was made without the feature `wgpu`")
    }
}
