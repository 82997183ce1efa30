//! Backbone, pyramid and heads.

use foveal_backbone::{Block, Fpn, P6From, ResNet};
use foveal_heads::{Head, Tower};
use foveal_nn::Conv2d;

use super::builder::{Builder, Value};
use super::layers::{ConvLayer, flatten_level, max_pool_3x3_s2_p1, relu, upsample_add};
use crate::Checkpoint;

/// Numbers that a box delta has.
const BOX_VALUES: usize = 4;

/// What the heads say of one level, and its map.
pub(super) struct LevelOutput {
    /// `[batch, channels, height, width]`
    pub map: Value,
    /// `[batch, anchors of the level, classes]`
    pub logits: Value,
    /// `[batch, anchors of the level, 4]`
    pub deltas: Value,
}

/// The whole network over normalised, padded images. Class channels that stand for no class are left out.
pub(super) fn network(builder: &mut Builder, checkpoint: &Checkpoint, images: &Value) -> Vec<LevelOutput> {
    let model = &checkpoint.model;
    let stages = resnet(builder, &model.backbone.body, images);
    let levels = pyramid(builder, &model.backbone.fpn, &stages);
    let channels: Vec<usize> = match &checkpoint.meta.model.class_channels {
        Some(channels) => channels.of_class.iter().map(|c| *c as usize).collect(),
        None => (0..model.head.classes).collect(),
    };
    heads(builder, &model.head, &channels, levels)
}

/// C3, C4, C5.
fn resnet(builder: &mut Builder, body: &ResNet, images: &Value) -> [Value; 3] {
    let prefix = "backbone.body";
    let stem = ConvLayer::new(builder, &format!("{prefix}.conv1"), &body.conv1, Some(&body.bn1));
    let x = stem.apply(builder, images);
    let x = relu(builder, &x);
    let mut x = max_pool_3x3_s2_p1(builder, &x);
    let layers = [&body.layer1, &body.layer2, &body.layer3, &body.layer4];
    let [_, c3, c4, c5] = [1, 2, 3, 4].map(|stage| {
        for (i, b) in layers[stage - 1].iter().enumerate() {
            x = block(builder, &format!("{prefix}.layer{stage}.{i}"), b, &x);
        }
        x.clone()
    });
    [c3, c4, c5]
}

fn block(builder: &mut Builder, name: &str, block: &Block, x: &Value) -> Value {
    let shortcut = match &block.downsample {
        Some(d) => {
            let layer = ConvLayer::new(builder, &format!("{name}.downsample.0"), &d.index0, Some(&d.index1));
            layer.apply(builder, x)
        }
        None => x.clone(),
    };
    let convs = [(&block.conv1, &block.bn1), (&block.conv2, &block.bn2)];
    let convs = convs.into_iter().chain(block.conv3.as_ref().zip(block.bn3.as_ref()));
    let mut y = x.clone();
    for (i, (conv, norm)) in convs.enumerate() {
        if i > 0 {
            y = relu(builder, &y);
        }
        let layer = ConvLayer::new(builder, &format!("{name}.conv{}", i + 1), conv, Some(norm));
        y = layer.apply(builder, &y);
    }
    let sum = builder.node("Add", &[&y, &shortcut], vec![]);
    relu(builder, &sum)
}

/// P3 to P7.
fn pyramid(builder: &mut Builder, fpn: &Fpn, [c3, c4, c5]: &[Value; 3]) -> Vec<Value> {
    let conv = |builder: &mut Builder, name: String, conv: &Conv2d, x: &Value| {
        ConvLayer::new(builder, &format!("backbone.fpn.{name}"), conv, None).apply(builder, x)
    };
    let inner = |builder: &mut Builder, i: usize, x: &Value| {
        conv(builder, format!("inner_blocks.{i}.0"), &fpn.inner_blocks[i].index0, x)
    };
    let outer = |builder: &mut Builder, i: usize, x: &Value| {
        conv(builder, format!("layer_blocks.{i}.0"), &fpn.layer_blocks[i].index0, x)
    };
    let top = inner(builder, 2, c5);
    let p5 = outer(builder, 2, &top);
    let lateral = inner(builder, 1, c4);
    let mid = upsample_add(builder, &lateral, &top);
    let p4 = outer(builder, 1, &mid);
    let lateral = inner(builder, 0, c3);
    let low = upsample_add(builder, &lateral, &mid);
    let p3 = outer(builder, 0, &low);
    let source = match fpn.p6_from {
        P6From::P5 => &p5,
        P6From::C5 => c5,
    };
    let p6 = conv(builder, "extra_blocks.p6".into(), &fpn.extra_blocks.p6, source);
    let rectified = relu(builder, &p6);
    let p7 = conv(builder, "extra_blocks.p7".into(), &fpn.extra_blocks.p7, &rectified);
    vec![p3, p4, p5, p6, p7]
}

/// A head's layers, put into the graph once and used on every level.
struct HeadLayers {
    tower: Vec<ConvLayer>,
    last: ConvLayer,
}

impl HeadLayers {
    fn new(builder: &mut Builder, name: &str, tower: &Tower, last: ConvLayer) -> Self {
        let tower = tower
            .iter()
            .enumerate()
            .map(|(i, l)| ConvLayer::new(builder, &format!("{name}.conv.{i}.0"), &l.index0, l.index1.as_ref()))
            .collect();
        Self { tower, last }
    }

    fn apply(&self, builder: &mut Builder, x: &Value) -> Value {
        let mut y = x.clone();
        for layer in &self.tower {
            y = layer.apply(builder, &y);
            y = relu(builder, &y);
        }
        self.last.apply(builder, &y)
    }
}

fn heads(builder: &mut Builder, head: &Head, channels: &[usize], levels: Vec<Value>) -> Vec<LevelOutput> {
    let (name, class) = ("head.classification_head", &head.classification_head);
    // The class layer's outputs are ordered (cell, channel).
    let anchors_per_location = class.cls_logits.weight.dims()[0] / head.classes;
    let outputs: Vec<usize> = (0..anchors_per_location)
        .flat_map(|cell| channels.iter().map(move |channel| cell * head.classes + channel))
        .collect();
    let last = ConvLayer::of_outputs(builder, &format!("{name}.cls_logits"), &class.cls_logits, &outputs);
    let class = HeadLayers::new(builder, name, &class.conv, last);
    let (name, boxes) = ("head.regression_head", &head.regression_head);
    let last = ConvLayer::new(builder, &format!("{name}.bbox_reg"), &boxes.bbox_reg, None);
    let boxes = HeadLayers::new(builder, name, &boxes.conv, last);
    let level = |map: Value| {
        let logits = class.apply(builder, &map);
        let logits = flatten_level(builder, &logits, channels.len());
        let deltas = boxes.apply(builder, &map);
        let deltas = flatten_level(builder, &deltas, BOX_VALUES);
        LevelOutput { map, logits, deltas }
    };
    levels.into_iter().map(level).collect()
}
