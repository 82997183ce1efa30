//! Export of a checkpoint to ONNX, for other runtimes.
//!
//! The graph has one input, `images [batch, 3, height, width]`: `f32` RGB images in 0..1, already resized to the size
//! that the network expects; batch, height and width are free. The graph normalises the images, pads them with zeros
//! to a multiple of 32 pixels and clips the boxes to the input size. It uses operators of ONNX opset 17 and no
//! subgraphs.

mod boxes;
mod builder;
mod error;
mod input;
mod layers;
mod metadata;
mod network;
mod schema;
mod select;
mod verify;

use std::path::Path;

use foveal_base::write_atomically;
use prost::Message;

pub use error::OnnxError;
pub use verify::verify;

use crate::Checkpoint;
use builder::{Builder, Value};
use schema::{
    DataType, Dimension, DimensionProto, GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};

/// Version of ONNX's operator set that exported graphs use.
pub const OPSET: i64 = 17;
/// Version of ONNX's file format that was released with opset 17.
const IR_VERSION: i64 = 8;

/// Options of [`export`]: the outputs of the graph and the precision of the stored weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// Whether the graph includes post-processing with non-maximum suppression. If true, the outputs are the
    /// detections, image by image and in descending order of score: `boxes [detections, 4]`, `scores [detections]`,
    /// `classes [detections]` and `batch_index [detections]`. If false (the default), the outputs are
    /// `logits [batch, anchors, classes]` and `boxes [batch, anchors, 4]` of all anchors.
    pub nms: bool,
    /// Whether weights are stored as 16-bit numbers, which halves the file size. The graph casts them to 32 bit and
    /// computes in single precision. Default: false.
    pub half: bool,
}

/// Converts a checkpoint to the bytes of an ONNX file. Boxes in the graph's output are x1, y1, x2, y2 in pixels of the
/// input image. Equal checkpoints and options give equal bytes.
pub fn export(checkpoint: &Checkpoint, options: &OnnxOptions) -> Vec<u8> {
    model(checkpoint, options).encode_to_vec()
}

/// Writes the bytes of an ONNX file to `path`. The file is written under a temporary name, synced and then renamed, so
/// that a crash leaves no partial file.
///
/// # Errors
/// [`OnnxError::Write`] if the file cannot be written; an existing file at `path` is then unchanged.
pub fn write(bytes: &[u8], path: &Path) -> Result<(), OnnxError> {
    Ok(write_atomically(path, bytes)?)
}

fn model(checkpoint: &Checkpoint, options: &OnnxOptions) -> ModelProto {
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "foveal".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string:
            "RetinaNet. Input: RGB images in 0..1, resized to the model's input size. Boxes are in input pixels."
                .to_owned(),
        graph: Some(graph(checkpoint, options)),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata::metadata(&checkpoint.meta),
    }
}

fn graph(checkpoint: &Checkpoint, options: &OnnxOptions) -> GraphProto {
    let meta = &checkpoint.meta;
    let mut builder = Builder::new(options.half);
    let b = &mut builder;
    let input = input::input(b, &meta.preprocess, &Value("images".to_owned()));
    let levels: Vec<(Value, Value)> = network::network(b, checkpoint, &input.images)
        .into_iter()
        .enumerate()
        .map(|(level, out)| {
            let boxes = boxes::level_boxes(b, &meta.model.anchors, level, &out.map, &out.deltas, &input);
            (out.logits, boxes)
        })
        .collect();
    let classes = meta.categories.len();
    let outputs = if options.nms {
        let found = select::select(b, &levels, classes, &meta.post);
        let detections = || Dimension::Param("detections".to_owned());
        vec![
            (found.boxes, info("boxes", DataType::Float, [detections(), Dimension::Value(4)])),
            (found.scores, info("scores", DataType::Float, [detections()])),
            (found.classes, info("classes", DataType::Int64, [detections()])),
            (found.batch_index, info("batch_index", DataType::Int64, [detections()])),
        ]
    } else {
        let (logits, boxes): (Vec<&Value>, Vec<&Value>) = levels.iter().map(|(l, b)| (l, b)).unzip();
        let (logits, boxes) = (b.concat(&logits, 1), b.concat(&boxes, 1));
        let shape = |last: usize| {
            let [batch, anchors] = ["batch", "anchors"].map(|n| Dimension::Param(n.to_owned()));
            [batch, anchors, Dimension::Value(last as i64)]
        };
        vec![
            (logits, info("logits", DataType::Float, shape(classes))),
            (boxes, info("boxes", DataType::Float, shape(4))),
        ]
    };
    for (value, info) in &outputs {
        b.output(value, &info.name);
    }
    let [batch, height, width] = ["batch", "height", "width"].map(|n| Dimension::Param(n.to_owned()));
    let images = info("images", DataType::Float, [batch, Dimension::Value(3), height, width]);
    GraphProto {
        name: "retinanet".to_owned(),
        input: vec![images],
        output: outputs.into_iter().map(|(_, info)| info).collect(),
        ..builder.finish()
    }
}

fn info(name: &str, kind: DataType, shape: impl IntoIterator<Item = Dimension>) -> ValueInfoProto {
    let dim = shape.into_iter().map(|d| DimensionProto { value: Some(d) }).collect();
    let tensor_type = TensorTypeProto { elem_type: kind as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
        ..ValueInfoProto::default()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use foveal_backbone::BackboneKind;
    use foveal_coco::CategoryInfo;
    use foveal_image::Preprocess;
    use foveal_weights::{load_tensors, named_tensors};

    use super::*;
    use crate::{CheckpointMeta, ModelConfig, PostprocessConfig};

    fn checkpoint() -> Checkpoint {
        let config = ModelConfig {
            backbone: BackboneKind::ResNet18,
            base_width: 8,
            fpn_channels: 8,
            head: foveal_heads::HeadConfig { convs: 1, ..Default::default() },
            ..ModelConfig::default()
        };
        let categories = vec![CategoryInfo { id: 7, name: "ü \"x\"".into() }, CategoryInfo { id: 9, name: "b".into() }];
        let model = config.seeded(2, 0, &Device::flex());
        Checkpoint {
            meta: CheckpointMeta::new(config, categories, Preprocess::default(), PostprocessConfig::default()),
            model,
        }
    }

    fn shape(info: &ValueInfoProto) -> String {
        let tensor = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        let dims = tensor.shape.as_ref().unwrap().dim.iter().map(|d| match d.value.as_ref().unwrap() {
            Dimension::Value(n) => n.to_string(),
            Dimension::Param(name) => name.clone(),
        });
        format!("{} {:?} [{}]", info.name, tensor.elem_type(), dims.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn the_face_of_a_file_is_the_documented_one() {
        let checkpoint = checkpoint();
        let read = |options| ModelProto::decode(export(&checkpoint, &options).as_slice()).unwrap();
        let raw = read(OnnxOptions::default());
        let graph = raw.graph.as_ref().unwrap();
        assert_eq!(graph.input.iter().map(shape).collect::<Vec<_>>(), ["images Float [batch, 3, height, width]"]);
        let outputs = ["logits Float [batch, anchors, 2]", "boxes Float [batch, anchors, 4]"];
        assert_eq!(graph.output.iter().map(shape).collect::<Vec<_>>(), outputs);
        let entry = |key: &str| raw.metadata_props.iter().find(|e| e.key == key).unwrap().value.clone();
        assert_eq!(entry("class_names"), r#"["ü \"x\"","b"]"#);
        assert_eq!(entry("category_ids"), "[7,9]");
        assert_eq!(serde_json::from_str::<Preprocess>(&entry("preprocess")).unwrap(), checkpoint.meta.preprocess);

        let nms = read(OnnxOptions { nms: true, half: false });
        let outputs = [
            "boxes Float [detections, 4]",
            "scores Float [detections]",
            "classes Int64 [detections]",
            "batch_index Int64 [detections]",
        ];
        assert_eq!(nms.graph.unwrap().output.iter().map(shape).collect::<Vec<_>>(), outputs);
    }

    #[test]
    fn every_variant_is_sound_and_repeatable_and_half_is_smaller() {
        let checkpoint = checkpoint();
        for nms in [false, true] {
            let size = [false, true].map(|half| {
                let options = OnnxOptions { nms, half };
                let bytes = export(&checkpoint, &options);
                verify(&bytes).unwrap();
                assert_eq!(bytes, export(&checkpoint, &options), "same content, same bytes");
                bytes.len() as f64
            });
            assert!(size[1] < 0.65 * size[0], "{size:?}");
        }
    }

    #[test]
    fn broken_files_are_told() {
        assert!(verify(b"no file").unwrap_err().to_string().contains("do not decode"));
        assert!(verify(b"").unwrap_err().to_string().contains("no graph"));
        let mut checkpoint = checkpoint();
        let mut tensors = named_tensors(&checkpoint.model);
        tensors.get_mut("head.regression_head.bbox_reg.bias").unwrap().values[3] = f32::NAN;
        checkpoint.model = load_tensors(checkpoint.model, &tensors).0;
        for half in [false, true] {
            let error = verify(&export(&checkpoint, &OnnxOptions { nms: false, half })).unwrap_err().to_string();
            assert!(error.contains("head.regression_head.bbox_reg.bias"), "{error}");
        }
    }
}
