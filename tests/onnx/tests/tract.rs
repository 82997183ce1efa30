//! Runs exported ONNX files in tract with several batch and image sizes, and compares the outputs with foveal's.
//!
//! The environment variable `FOVEAL_ONNX_CASES` names the folder written by the example `onnx_cases` of foveal-detector.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tract_onnx::prelude::*;

/// Tolerance of max |difference| / max |reference| in single precision, where sums are computed in another order.
const TOLERANCE: f32 = 1e-4;
/// Tolerance of max |difference| / max |reference| for weights in half precision (11 significant bits) in about thirty
/// layers.
const HALF_TOLERANCE: f32 = 3e-2;

/// The folders of the models.
fn models() -> Vec<PathBuf> {
    let folder = std::env::var_os("FOVEAL_ONNX_CASES").expect("FOVEAL_ONNX_CASES must name the folder of the cases");
    let entries = std::fs::read_dir(&folder).expect("a folder");
    let models: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    assert!(!models.is_empty(), "no models in {folder:?}");
    models
}

/// Shape and values of a tensor of type `f32`.
fn array(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let view = file.tensor(name).unwrap();
    let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (view.shape().to_vec(), values)
}

/// max |difference| / max |reference|.
fn difference(found: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(found.len(), reference.len());
    let peak = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, f32::max);
    let difference = peak(&mut found.iter().zip(reference).map(|(a, b)| (a - b).abs()));
    difference / peak(&mut reference.iter().map(|v| v.abs()))
}

/// Asserts that the outputs of an ONNX file in tract agree with foveal's for all cases.
fn agrees(folder: &Path, file: &str, tolerance: f32) {
    let bytes = std::fs::read(folder.join("cases.safetensors")).unwrap();
    let cases = SafeTensors::deserialize(&bytes).unwrap();
    let names: Vec<String> = cases.names().iter().filter_map(|n| Some(n.strip_suffix(".images")?.to_owned())).collect();
    assert_eq!(names.len(), 12, "three batch sizes, four image sizes");
    for name in names {
        let (shape, images) = array(&cases, &format!("{name}.images"));
        let model = tract_onnx::onnx()
            .model_for_path(folder.join(file))
            .and_then(|m| m.with_input_fact(0, f32::fact(&shape).into()))
            .and_then(|m| m.into_optimized())
            .and_then(|m| m.into_runnable())
            .unwrap_or_else(|e| panic!("{}/{file} {name}: {e:?}", folder.display()));
        let input = Tensor::from_shape(&shape, &images).unwrap();
        let out = model.run(tvec!(input.into())).unwrap();
        for (found, output) in out.iter().zip(["logits", "boxes"]) {
            let (shape, reference) = array(&cases, &format!("{name}.{output}"));
            assert_eq!(found.shape(), shape);
            let found: Vec<f32> = found.to_plain_array_view::<f32>().unwrap().iter().copied().collect();
            let error = difference(&found, &reference);
            println!("{}/{file} {name} {output}: {error:.2e}", folder.display());
            assert!(error <= tolerance, "{}/{file} {name} {output}: {error:e}", folder.display());
        }
    }
}

#[test]
fn dense_predictions_equal_those_of_foveal_at_every_size() {
    for folder in models() {
        agrees(&folder, "raw.onnx", TOLERANCE);
    }
}

#[test]
fn half_precision_weights_change_predictions_little() {
    for folder in models() {
        agrees(&folder, "half.onnx", HALF_TOLERANCE);
    }
}
