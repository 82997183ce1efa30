//! Writes small random models as checkpoints and ONNX files, with images and foveal's results for them, to compare
//! other runtimes with foveal: `onnx_cases DIR`. Used by `tests/onnx` (tract) and `scripts/reference/check_onnx.py`
//! (onnxruntime).
//!
//! Writes `checkpoint.safetensors`, `raw.onnx`, `nms.onnx`, `half.onnx` and `cases.safetensors` to `DIR/<model>/`. The
//! tensors in the last one are `<batch>x<height>x<width>.{images, logits, boxes, detections}`; a detection is x1, y1,
//! x2, y2, score, class, image.

// A tool for scripts, which read what it prints.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use foveal_anchors::{AnchorConfig, Rounding};
use foveal_backbone::{BackboneKind, BackboneNorm, P6From};
use foveal_boxes::{Delta, decode};
use foveal_coco::CategoryInfo;
use foveal_detector::onnx::{self, OnnxOptions};
use foveal_detector::{
    Checkpoint, CheckpointMeta, ClassChannels, ImageFrame, ModelConfig, PostprocessConfig, postprocess,
};
use foveal_heads::{HeadConfig, HeadNorm};
use foveal_image::{Preprocess, RgbImage, pad_batch};
use foveal_weights::{load_tensors, named_tensors};
use safetensors::tensor::{Dtype, TensorView};

/// Numbers of images in a batch.
const BATCHES: [usize; 3] = [1, 2, 3];
/// Heights and widths in pixels. Only the first pair consists of multiples of 32.
const SIZES: [[usize; 2]; 4] = [[64, 96], [100, 75], [97, 130], [160, 33]];
/// Number of classes of the models.
const CLASSES: usize = 7;
/// Standard deviation of the logits, so large that about a tenth of the pairs exceed the score threshold.
const LOGIT_DEVIATION: f32 = 1.5;
/// Standard deviation of the deltas, so large that boxes overlap and some leave the image.
const DELTA_DEVIATION: f32 = 0.3;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: onnx_cases DIR, where DIR is the folder to write to")?;
    for (name, config) in models() {
        let folder = Path::new(&folder).join(name);
        std::fs::create_dir_all(&folder)?;
        let checkpoint = folder.join("checkpoint.safetensors");
        save_random(&config, &checkpoint)?;
        let checkpoint = Checkpoint::load(&checkpoint, &Device::flex())?;
        let raw = OnnxOptions::default();
        let variants = [
            ("raw.onnx", raw),
            ("nms.onnx", OnnxOptions { nms: true, ..raw }),
            ("half.onnx", OnnxOptions { half: true, ..raw }),
        ];
        for (file, options) in variants {
            let bytes = onnx::export(&checkpoint, &options);
            onnx::verify(&bytes)?;
            onnx::write(&bytes, &folder.join(file))?;
        }
        let mut cases = Cases::default();
        for batch in BATCHES {
            for size in SIZES {
                cases.add(&checkpoint, batch, size);
            }
        }
        cases.save(&folder.join("cases.safetensors"))?;
        println!("{}", folder.display());
    }
    Ok(())
}

/// Models that together have every kind of norm, block, P6 and anchor rounding, class channels without a class, and
/// factors of the pyramid levels.
fn models() -> [(&'static str, ModelConfig); 7] {
    let narrow = ModelConfig {
        backbone: BackboneKind::ResNet18,
        base_width: 8,
        fpn_channels: 16,
        head: HeadConfig { convs: 2, groups: 4, ..HeadConfig::default() },
        ..ModelConfig::default()
    };
    // 16 is the smallest width at which each of ResNeXt's groups has a whole channel.
    let relative =
        |backbone| ModelConfig { backbone, base_width: 16, norm: BackboneNorm::FrozenBatch, ..narrow.clone() };
    let torchvision = AnchorConfig { rounding: Rounding::Torchvision, ..AnchorConfig::default() };
    // torchvision's background and an id that is not used.
    let channels = ClassChannels { count: CLASSES + 2, of_class: (1..=CLASSES as u32).map(|c| c + c / 4).collect() };
    let group_heads = HeadConfig { norm: HeadNorm::Group, ..narrow.head.clone() };
    [
        ("group", ModelConfig { norm: BackboneNorm::Group, p6_from: P6From::C5, ..narrow.clone() }),
        (
            "frozen",
            ModelConfig {
                norm: BackboneNorm::FrozenBatch,
                anchors: torchvision,
                class_channels: Some(channels),
                ..narrow.clone()
            },
        ),
        (
            "bottleneck",
            ModelConfig {
                backbone: BackboneKind::ResNet50,
                norm: BackboneNorm::Batch,
                head: group_heads,
                p6_from: P6From::C5,
                ..narrow.clone()
            },
        ),
        ("scaled", ModelConfig { head: HeadConfig { level_scales: true, ..narrow.head.clone() }, ..narrow.clone() }),
        ("resnext50", relative(BackboneKind::ResNeXt50_32x4d)),
        ("resnext101", relative(BackboneKind::ResNeXt101_64x4d)),
        ("wide", ModelConfig { norm: BackboneNorm::FrozenStatistics, ..relative(BackboneKind::WideResNet50_2) }),
    ]
}

/// Saves a random network whose norms and factors of levels are not the identity and whose heads give varied
/// predictions.
fn save_random(config: &ModelConfig, path: &Path) -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let model = config.seeded(CLASSES, 0, &device);
    let mut tensors = named_tensors(&model);
    let mut random = Random(7);
    for (name, tensor) in &mut tensors {
        for v in &mut tensor.values {
            match name.rsplit('.').next() {
                Some("running_mean") => *v = 0.4 * random.next() - 0.2,
                Some("running_var" | "level_scales") => *v = 0.5 + random.next(),
                _ => {}
            }
        }
    }
    let (model, _) = load_tensors(model, &tensors);
    let [height, width] = SIZES[0];
    let seen = Preprocess::default().apply_at(&image(0, height, width), width as u32, height as u32);
    let dense = model.valid().forward(Tensor::from_data(TensorData::new(seen.data, [1, 3, height, width]), &device));
    for (layer, output, wanted) in [
        ("head.classification_head.cls_logits.weight", dense.logits, LOGIT_DEVIATION),
        ("head.regression_head.bbox_reg.weight", dense.deltas, DELTA_DEVIATION),
    ] {
        let found: Vec<f32> = output.into_data().try_to_vec()?;
        let mean = found.iter().sum::<f32>() / found.len() as f32;
        let deviation = (found.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / found.len() as f32).sqrt();
        let weight = tensors.get_mut(layer).ok_or(layer)?;
        weight.values.iter_mut().for_each(|v| *v *= wanted / deviation);
    }
    let (model, _) = load_tensors(model, &tensors);
    let categories = (1..=CLASSES as i64).map(|id| CategoryInfo { id: id * 2, name: format!("class \"{id}\" ü") });
    let post =
        PostprocessConfig { score_threshold: 0.05, max_detections: 40, pre_nms: 60, ..PostprocessConfig::default() };
    CheckpointMeta::new(config.clone(), categories.collect(), Preprocess::default(), post).save(&model, path)?;
    Ok(())
}

/// Random numbers in 0..1 by SplitMix64 (Steele et al., 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// An array to be written.
struct Array {
    name: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The arrays of all batches.
#[derive(Default)]
struct Cases(Vec<Array>);

impl Cases {
    fn put(&mut self, name: String, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.0.push(Array { name, shape: shape.to_vec(), bytes });
    }

    /// Adds the images of one batch and foveal's results for them.
    fn add(&mut self, checkpoint: &Checkpoint, batch: usize, [height, width]: [usize; 2]) {
        let meta = &checkpoint.meta;
        let name = format!("{batch}x{height}x{width}");
        let images: Vec<RgbImage> = (0..batch).map(|seed| image(seed as u64, height, width)).collect();
        let planes = images.iter().flat_map(|p| (0..3).map(move |channel| (p, channel)));
        let values: Vec<f32> =
            planes.flat_map(|(p, channel)| p.pixels().map(move |v| f32::from(v.0[channel]) / 255.0)).collect();
        self.put(format!("{name}.images"), &[batch, 3, height, width], &values);

        let prepared: Vec<_> =
            images.iter().map(|p| meta.preprocess.apply_at(p, width as u32, height as u32)).collect();
        let padded = pad_batch(&prepared);
        let data = TensorData::new(padded.data, [batch, 3, padded.height, padded.width]);
        let dense = checkpoint.model.forward(Tensor::from_data(data, &Device::flex()));
        let anchors = meta.model.anchor_boxes(padded.height, padded.width, &dense.grids);
        let read = |t: Tensor<3>| t.into_data().try_to_vec::<f32>().expect("floats");
        let boxes: Vec<f32> = read(dense.deltas.clone())
            .as_chunks::<4>()
            .0
            .iter()
            .zip(anchors.boxes.iter().cycle())
            .map(|(d, anchor)| decode(anchor, Delta::from_array(*d)).clip(width as f32, height as f32))
            .flat_map(|b| [b.x1, b.y1, b.x2, b.y2])
            .collect();
        let count = anchors.boxes.len();
        let channels = meta.model.class_channels.as_ref();
        let logits = read(dense.logits.clone());
        let logits: Vec<f32> = match channels {
            Some(c) => logits.chunks(c.count).flat_map(|l| c.of_class.iter().map(|at| l[*at as usize])).collect(),
            None => logits,
        };
        self.put(format!("{name}.logits"), &[batch, count, CLASSES], &logits);
        self.put(format!("{name}.boxes"), &[batch, count, 4], &boxes);

        let frame = ImageFrame { width, height, original_width: width as u32, original_height: height as u32 };
        let found = postprocess(&dense, &anchors, &vec![frame; batch], &meta.post, channels).expect("finite outputs");
        let rows: Vec<[f32; 7]> = found
            .iter()
            .enumerate()
            .flat_map(|(image, found)| found.iter().map(move |d| (image, d)))
            .map(|(image, d)| {
                let b = d.bbox;
                [b.x1, b.y1, b.x2, b.y2, d.score, d.class as f32, image as f32]
            })
            .collect();
        self.put(format!("{name}.detections"), &[rows.len(), 7], rows.as_flattened());
    }

    fn save(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let views: Vec<(&str, TensorView<'_>)> = self
            .0
            .iter()
            .map(|a| Ok((a.name.as_str(), TensorView::new(Dtype::F32, a.shape.clone(), &a.bytes)?)))
            .collect::<Result<_, safetensors::SafeTensorError>>()?;
        std::fs::write(path, safetensors::serialize(views, None)?)?;
        Ok(())
    }
}

/// Blocks of random colours with noise on them.
fn image(seed: u64, height: usize, width: usize) -> RgbImage {
    let mut noise = Random(seed * 1000 + height as u64);
    let mut blocks = Random(seed + 1);
    let colours: Vec<f32> = (0..64 * 3).map(|_| blocks.next()).collect();
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let block = ((y / 20 % 8) * 8 + x / 20 % 8) as usize;
        image::Rgb(std::array::from_fn(|c| (colours[block * 3 + c] * 200.0 + noise.next() * 55.0) as u8))
    })
}
