//! The precision of `foveal predict` and `foveal eval` (`--precision`).

use anyhow::Result;
use burn::tensor::Device;
use foveal_detector::ComputePrecision;

use crate::args::InferencePrecision;
use crate::failure::Usage;

/// The precision that `--precision` selects.
///
/// # Errors
/// [`Usage`] if the device does not support it.
pub(crate) fn supported(chosen: InferencePrecision, device: &Device) -> Result<ComputePrecision> {
    let precision = match chosen {
        InferencePrecision::F32 => ComputePrecision::F32,
        InferencePrecision::F16 => ComputePrecision::F16,
    };
    match precision.check(device) {
        Ok(()) => Ok(precision),
        Err(expected) => Err(Usage(format!("--precision {}: expected {expected}", precision.name())).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_on_a_cpu_is_a_usage_error() {
        let device = Device::flex();
        assert_eq!(supported(InferencePrecision::F32, &device).unwrap(), ComputePrecision::F32);
        let error = supported(InferencePrecision::F16, &device).unwrap_err();
        assert!(error.is::<Usage>());
        let text = error.to_string();
        assert!(text.starts_with("--precision f16: expected f32 on the CPU device flex"), "{text}");
    }
}
