//! Adapters of the graphics APIs: finds and opens them.

use std::panic::catch_unwind;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};

use anyhow::{Context, Result, anyhow, bail};
use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device, DeviceKind};
use foveal_train::DeviceLimits;

use super::adapter::{AdapterInfo, AdapterKind, Capabilities};

/// An adapter that was found.
pub(crate) struct Adapter {
    pub info: AdapterInfo,
    kind: DeviceKind,
    api: WgpuBackend,
}

/// An opened adapter.
pub(crate) struct Opened {
    /// The device, without autodiff.
    pub device: Device,
    /// What it can do.
    pub can: Capabilities,
}

impl Adapter {
    /// Opens the adapter. This can be done once in a process.
    ///
    /// # Errors
    /// If the driver or Burn refuses it; the error names the adapter and the reason.
    pub(crate) fn open(&self) -> Result<Opened> {
        super::OPENED_ADAPTER.store(true, std::sync::atomic::Ordering::Relaxed);
        let (kind, api) = (self.kind.clone(), self.api);
        // Some drivers make Burn panic instead of returning an error.
        let opened = catch_unwind(|| Device::wgpu_options().graphics_api(api).device_kind(kind).init_with_setup());
        let (device, setup) = match opened {
            Ok(opened) => opened.map_err(anyhow::Error::from),
            Err(payload) => {
                let text = payload.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("unknown reason");
                Err(anyhow!("{}", text.split_whitespace().collect::<Vec<_>>().join(" ")))
            }
        }
        .with_context(|| format!("cannot open the device {}", self.info.label()))?;
        let limits = setup.device.limits();
        // The limits that batches are compared with. With 64-bit addresses CubeCL binds any size, but allocates no more
        // than the largest heap at once.
        let DeviceLimits { tensor_bytes, memory_bytes } = DeviceLimits::of(&device);
        let can = Capabilities {
            compiler: foveal_kernels::kernel_language(&device).unwrap_or("none").to_owned(),
            memory_bytes,
            largest_buffer_bytes: limits.max_buffer_size,
            largest_binding_bytes: tensor_bytes.unwrap_or(u64::MAX).min(limits.max_storage_buffer_binding_size),
        };
        Ok(Opened { device, can })
    }
}

/// The adapters of one graphics API, or of all APIs for `wgpu`: discrete GPUs first, then integrated ones, virtual ones
/// and software adapters. The position in the list is the index of `--device`.
pub(crate) fn adapters(name: &str) -> Vec<Adapter> {
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
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::DiscreteGpu,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::IntegratedGpu,
            wgpu::DeviceType::VirtualGpu => AdapterKind::VirtualGpu,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => continue,
        };
        // Burn numbers the adapters of each type and API separately, and opens only the first software adapter.
        let same = adapters.iter().filter(|a| a.info.kind == kind && a.api == api).count();
        let burn_kind = match kind {
            AdapterKind::DiscreteGpu => DeviceKind::DiscreteGpu(same),
            AdapterKind::IntegratedGpu => DeviceKind::IntegratedGpu(same),
            AdapterKind::VirtualGpu => DeviceKind::VirtualGpu(same),
            AdapterKind::Software if same == 0 => DeviceKind::Cpu,
            AdapterKind::Software => continue,
        };
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
        let info = AdapterInfo { name: info.name, kind, driver, api: info.backend.to_string() };
        adapters.push(Adapter { info, kind: burn_kind, api });
    }
    adapters.sort_by_key(|adapter| adapter.info.kind);
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

/// The adapter of a graphics API with this index, 0 if none is given.
///
/// # Errors
/// If there is no such adapter; the error lists those that were found.
pub(super) fn find(name: &str, index: Option<usize>) -> Result<Adapter> {
    let found = adapters(name);
    let count = found.len();
    let listing: Vec<String> =
        found.iter().enumerate().map(|(i, a)| format!("{i}: {} ({})", a.info.name, a.info.api)).collect();
    match found.into_iter().nth(index.unwrap_or(0)) {
        Some(adapter) => Ok(adapter),
        None if count == 0 => bail!("device `{name}` is not available: this machine has no adapter for it"),
        None => {
            bail!("device `{name}:{}` is not available: found the adapters {}", index.unwrap_or(0), listing.join(", "))
        }
    }
}
