//! What kernels are compiled to on a GPU.
use burn::backend::DispatchDevice;
use burn::tensor::{Device, DeviceKind, Tensor};
use cubecl::client::Client;

/// The environment variable that names the kernel language of the tests.
const TEST_LANGUAGE: &str = "FOVEAL_TEST_LANGUAGE";

/// The language that Burn compiles kernels to on an opened device: `SPIR-V`, `MSL`, `WGSL`, or the name of CubeCL's
/// runtime. `None` for a CPU backend.
pub fn kernel_language(device: &Device) -> Option<&'static str> {
    let device = device.clone().without_autodiff();
    let DispatchDevice::Cube(device) = device.as_dispatch() else { return None };
    Some(language(&device.client()))
}

/// The language that kernels of a client are compiled to. CubeCL states it in the name of its runtime.
pub(crate) fn language(client: &Client) -> &'static str {
    match client.name() {
        "wgpu<spirv>" => "SPIR-V",
        "wgpu<msl>" => "MSL",
        "wgpu<wgsl>" => "WGSL",
        other => other,
    }
}

/// Opens the default adapter for a test.
///
/// # Panics
/// If there is no adapter that computes, or if its kernels are in another language than the tests are for: SPIR-V on
/// Linux, or the one that the environment variable `FOVEAL_TEST_LANGUAGE` names.
#[doc(hidden)]
pub fn test_adapter() -> Device {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let trial = std::panic::catch_unwind(|| (Tensor::<1>::ones([1], &device) + 1.0).into_scalar::<f32>());
    assert!(trial.is_ok_and(|v| v == 2.0), "no usable wgpu adapter: install one, or point VK_ICD_FILENAMES at one");
    let wanted = std::env::var(TEST_LANGUAGE).ok().or(cfg!(target_os = "linux").then(|| "SPIR-V".to_owned()));
    if let Some(wanted) = wanted {
        assert_eq!(kernel_language(&device), Some(wanted.as_str()), "language of the kernels ({TEST_LANGUAGE})");
    }
    device
}
