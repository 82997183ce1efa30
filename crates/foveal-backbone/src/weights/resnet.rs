//! A classification network's file into a backbone.

use std::path::Path;

use super::{LoadReport, TensorMap, WeightsError, load_tensors, read_weights};
use crate::ResNet;

/// A backbone with a file's weights in it.
pub struct LoadedResNet {
    /// The network.
    pub net: ResNet,
    /// What became of each tensor.
    pub report: LoadReport,
    /// Norms (torchvision's names) whose statistics the file did not supply; they must not be frozen.
    pub norms_without_statistics: Vec<String>,
}

/// Loads a torchvision-layout ResNet, whole or in part, from `.pth` or `.safetensors`. Prefixes that wrappers
/// and detectors put before the names (`module.`, `backbone.body.`) are taken off.
///
/// # Errors
/// As [`read_weights`], and [`WeightsError::NoMatch`] when not one tensor fits.
pub fn load_resnet(net: ResNet, path: &Path, network: &str) -> Result<LoadedResNet, WeightsError> {
    let source = strip_prefixes(read_weights(path)?);
    let (net, report) = load_tensors(net, &source);
    if report.loaded.is_empty() {
        let found = source.into_keys().collect();
        return Err(WeightsError::NoMatch { path: path.to_owned(), network: network.to_owned(), found });
    }
    let norms_without_statistics =
        report.missing.iter().filter_map(|n| n.strip_suffix(".running_var")).map(str::to_owned).collect();
    Ok(LoadedResNet { net, report, norms_without_statistics })
}

fn strip_prefixes(mut tensors: TensorMap) -> TensorMap {
    for prefix in ["module.", "model.", "backbone.body.", "backbone.", "body."] {
        if tensors.keys().any(|k| k.starts_with(prefix)) {
            tensors =
                tensors.into_iter().map(|(k, v)| (k.strip_prefix(prefix).map(str::to_owned).unwrap_or(k), v)).collect();
        }
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{HostTensor, named_tensors};
    use crate::{BackboneKind, NormChoice};
    use burn::tensor::{Device, Tensor};
    use foveal_kernels::Init;

    const NAME: &str = "resnet18";

    fn narrow(seed: u64) -> ResNet {
        let device = Device::flex();
        ResNet::new(BackboneKind::ResNet18, 8, NormChoice::FrozenBatch, &mut Init::seeded(seed), &device)
    }

    fn write(tensors: &TensorMap, name: &str, dir: &Path) -> std::path::PathBuf {
        let path = dir.join(name);
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .iter()
            .map(|(k, t)| (k.clone(), t.shape.clone(), t.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let views = bytes.iter().map(|(k, s, b)| {
            (k.as_str(), safetensors::tensor::TensorView::new(safetensors::Dtype::F32, s.clone(), b).unwrap())
        });
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        path
    }

    #[test]
    fn names_are_torchvisions() {
        let names: Vec<String> = named_tensors(&narrow(1)).into_keys().collect();
        for name in ["conv1.weight", "bn1.running_var", "layer2.0.downsample.0.weight", "layer2.0.downsample.1.bias"] {
            assert!(names.iter().any(|n| n == name), "{name} not among {names:?}");
        }
        // torchvision's ResNet-18 has 122, of which 20 are counters (num_batches_tracked) and 2 the classifier.
        assert_eq!(names.len(), 100);
    }

    #[test]
    fn a_whole_file_gives_the_same_features() {
        let dir = tempfile::tempdir().unwrap();
        let source = narrow(1);
        let prefixed = named_tensors(&source).into_iter().map(|(k, v)| (format!("module.{k}"), v)).collect();
        let loaded = load_resnet(narrow(2), &write(&prefixed, "w.safetensors", dir.path()), NAME).unwrap();
        assert!(loaded.report.missing.is_empty() && loaded.report.unused.is_empty());
        let x = Tensor::<4>::ones([1, 3, 64, 64], &Device::flex());
        let (a, b) = (source.forward(x.clone()).c5, loaded.net.forward(x).c5);
        assert_eq!(a.into_data(), b.into_data());
    }

    #[test]
    fn a_partial_file_says_what_it_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut tensors = named_tensors(&narrow(1));
        tensors.retain(|k, _| !k.starts_with("layer4.1.bn2"));
        tensors.insert("fc.weight".into(), HostTensor { shape: vec![1], values: vec![0.0] });
        tensors.insert("layer1.0.conv1.weight".into(), HostTensor { shape: vec![2], values: vec![0.0; 2] });
        let loaded = load_resnet(narrow(2), &write(&tensors, "w.safetensors", dir.path()), NAME).unwrap();
        assert_eq!(loaded.norms_without_statistics, ["layer4.1.bn2"]);
        assert_eq!(loaded.report.unused, ["fc.weight"]);
        assert_eq!(loaded.report.mismatched[0].expected, [8, 8, 3, 3]);
        assert_eq!(loaded.report.missing.len(), 4);
    }

    #[test]
    fn a_foreign_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let foreign = TensorMap::from([("a.b".into(), HostTensor { shape: vec![1], values: vec![0.0] })]);
        let path = write(&foreign, "w.safetensors", dir.path());
        assert!(matches!(load_resnet(narrow(1), &path, NAME), Err(WeightsError::NoMatch { .. })));
        std::fs::write(&path, b"not weights").unwrap();
        assert!(matches!(load_resnet(narrow(1), &path, NAME), Err(WeightsError::Format { .. })));
        let nan = TensorMap::from([("conv1.weight".into(), HostTensor { shape: vec![1], values: vec![f32::NAN] })]);
        let path = write(&nan, "n.safetensors", dir.path());
        assert!(matches!(load_resnet(narrow(1), &path, NAME), Err(WeightsError::NonFinite { .. })));
    }
}
