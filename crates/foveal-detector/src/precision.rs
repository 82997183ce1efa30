//! The data type in which a network computes its convolutions and feature maps.

use std::cell::Cell;

use burn::backend::DispatchDevice;
use burn::tensor::{Device, FloatDType, Tensor};
use foveal_nn::Simulated;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The data type in which a network computes its convolutions and feature maps. Parameters, the statistics of norms,
/// losses and detections are f32 in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputePrecision {
    /// Single precision.
    #[default]
    F32,
    /// Half precision: 11 significant bits, numbers up to 65504. It needs a GPU.
    F16,
    /// bfloat16: 8 significant bits, numbers up to 3.4e38. It needs a GPU.
    Bf16,
}

thread_local! {
    /// Set while half precision is simulated on the CPU devices.
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `run` with half precision simulated on the CPU devices: in this thread, [`ComputePrecision::F16`] is accepted
/// there, and training computes in f32 and rounds to f16 where the kernels of a GPU do ([`Simulated`]). Evaluations
/// round only their images. It is meant for tests of training in half precision on machines without a GPU, and is
/// slower than f32.
pub fn with_simulated_f16<T>(run: impl FnOnce() -> T) -> T {
    /// Ends the simulation, also after a panic.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            SIMULATED.set(self.0);
        }
    }
    let _restore = Restore(SIMULATED.replace(true));
    run()
}

impl ComputePrecision {
    /// The name in configurations and on the command line: `f32`, `f16` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The largest finite number of the data type, as text.
    pub fn largest(self) -> &'static str {
        match self {
            Self::F32 | Self::Bf16 => "3.4e38",
            Self::F16 => "65504",
        }
    }

    /// Number of bytes of a number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// Whether gradients need a loss scale, because small ones would become 0 in this data type.
    pub fn scales_loss(self) -> bool {
        self == Self::F16
    }

    /// Whether training computes by [`Simulated`], because [`with_simulated_f16`] runs.
    pub fn is_simulated(self) -> bool {
        self == Self::F16 && SIMULATED.get()
    }

    /// Checks that `device` can compute in this precision.
    ///
    /// # Errors
    /// The precisions that the device has and why it does not have this one, as a phrase that follows "expected".
    pub fn check(self, device: &Device) -> Result<(), String> {
        let device = device.clone().without_autodiff();
        let cpu = match device.as_dispatch() {
            DispatchDevice::Flex(_) => Some("flex"),
            DispatchDevice::NdArray(_) => Some("ndarray"),
            _ => None,
        };
        match cpu {
            _ if self == Self::F32 => Ok(()),
            Some(_) if self.is_simulated() => Ok(()),
            Some(name) => Err(format!(
                "f32 on the CPU device {name}, which has no kernels for {0}; for {0}, choose a GPU that supports it with \
                 --device, such as --device vulkan",
                self.name()
            )),
            None if device.supports_dtype(self.dtype()) => Ok(()),
            None => {
                let others = match self {
                    Self::Bf16 if device.supports_dtype(FloatDType::F16) => "f32 or f16",
                    _ => "f32",
                };
                Err(format!(
                    "{others} on this device, whose adapter, driver or compiler does not support computing with {}; \
                     choose another precision or another device with --device",
                    self.name()
                ))
            }
        }
    }

    /// Converts the images of a batch to this precision. The network then computes its feature maps in it, and returns
    /// logits and deltas in f32. Images in f32 are returned as they are.
    ///
    /// # Shapes
    /// - images, result: `[batch, 3, height, width]`
    pub fn cast(self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::F32 => images,
            _ if self.is_simulated() => Simulated::rounded(images),
            _ => images.cast(self.dtype()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_refuses_16_bit_numbers_and_says_what_to_do() {
        #[allow(deprecated, reason = "ndarray stays supported here")]
        let devices = [("flex", Device::flex()), ("ndarray", Device::ndarray())];
        for (name, device) in devices {
            assert_eq!(ComputePrecision::F32.check(&device), Ok(()));
            for precision in [ComputePrecision::F16, ComputePrecision::Bf16] {
                for device in [device.clone(), device.clone().autodiff()] {
                    let error = precision.check(&device).unwrap_err();
                    let parts = ["f32 on the CPU", name, precision.name(), "--device vulkan"];
                    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_simulation_ends_with_its_call() {
        let device = Device::flex();
        with_simulated_f16(|| {
            assert_eq!(ComputePrecision::F16.check(&device), Ok(()));
            assert!(ComputePrecision::Bf16.check(&device).is_err());
        });
        assert!(ComputePrecision::F16.check(&device).is_err());
        let panics = std::panic::catch_unwind(|| with_simulated_f16(|| panic!("expected by the test")));
        assert!(panics.is_err() && ComputePrecision::F16.check(&device).is_err());
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        for precision in [ComputePrecision::F32, ComputePrecision::F16, ComputePrecision::Bf16] {
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.name());
        }
    }
}
