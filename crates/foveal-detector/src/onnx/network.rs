//! The ONNX interpreter of the network's forward pass through backbone, pyramid and heads.

use std::fmt;

use burn::module::Param;
use burn::tensor::Tensor;
use foveal_nn::{Activation, Conv2d, Graph, Named, Norm};

use super::builder::{Builder, Value};
use super::layers::{ConvLayer, flatten_level, max_pool_3x3_s2_p1, relu, scale_levels, upsample_add};
use crate::Checkpoint;

/// Feature map, class logits and box deltas of one pyramid level.
pub(super) struct LevelOutput {
    /// Feature map of the level, `[batch, channels, height, width]`.
    pub map: Value,
    /// Class logits, `[batch, anchors of the level, classes]`.
    pub logits: Value,
    /// Box deltas, `[batch, anchors of the level, 4]`.
    pub deltas: Value,
}

/// Adds the whole network, applied to normalised, padded images. Class channels that stand for no class are left out.
pub(super) fn network(builder: &mut Builder, checkpoint: &Checkpoint, images: &Value) -> Vec<LevelOutput> {
    let mut model = checkpoint.model.clone();
    if let Some(channels) = &checkpoint.meta.model.class_channels {
        let channels: Vec<usize> = channels.of_class.iter().map(|channel| *channel as usize).collect();
        model.head = model.head.with_classes(&channels);
    }
    let output = model.run(&mut Emitter { builder, scopes: Vec::new() }, images.clone());
    let rows = output.rows.logits.into_iter().zip(output.rows.deltas);
    output.levels.into_iter().zip(rows).map(|(map, (logits, deltas))| LevelOutput { map, logits, deltas }).collect()
}

/// Adds the nodes of the forward pass to a graph.
struct Emitter<'a> {
    builder: &'a mut Builder,
    scopes: Vec<String>,
}

impl Emitter<'_> {
    /// The name of a layer in the network.
    fn path(&self, name: &str) -> String {
        let scopes = self.scopes.iter().map(String::as_str);
        scopes.chain([name]).collect::<Vec<_>>().join(".")
    }

    /// Adds a layer's weights to the graph, under the layer's name in the network.
    fn layer(&mut self, conv: Named<'_, Conv2d>, norm: Option<Named<'_, Norm>>) -> ConvLayer {
        let name = self.path(conv.name);
        ConvLayer::new(self.builder, &name, conv.layer, norm.map(|norm| norm.layer))
    }

    fn activate(&mut self, x: Value, activation: Activation) -> Value {
        match activation {
            Activation::None => x,
            Activation::Relu => relu(self.builder, &x),
        }
    }
}

impl Graph for Emitter<'_> {
    type Map = Value;
    type Levels = Vec<Value>;
    /// The rows of each level, because boxes are decoded level by level.
    type Rows = Vec<Value>;

    fn scope<T>(&mut self, name: fmt::Arguments<'_>, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.push(name.to_string());
        let out = inner(self);
        self.scopes.pop();
        out
    }

    fn conv(&mut self, conv: Named<'_, Conv2d>, x: Value) -> Value {
        self.layer(conv, None).apply(self.builder, &x)
    }

    fn conv_norm(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Named<'_, Norm>,
        x: Value,
        residual: Option<Value>,
        activation: Activation,
    ) -> Value {
        let mut y = self.layer(conv, Some(norm)).apply(self.builder, &x);
        if let Some(residual) = residual {
            y = self.builder.node("Add", &[&y, &residual], vec![]);
        }
        self.activate(y, activation)
    }

    fn max_pool(&mut self, x: Value) -> Value {
        max_pool_3x3_s2_p1(self.builder, &x)
    }

    fn relu(&mut self, x: Value) -> Value {
        relu(self.builder, &x)
    }

    fn upsample_add(&mut self, lateral: Value, top: Value) -> Value {
        upsample_add(self.builder, &lateral, &top)
    }

    fn levels(&mut self, maps: &[Value], _norms: bool) -> Vec<Value> {
        maps.to_vec()
    }

    fn conv_levels(
        &mut self,
        conv: Named<'_, Conv2d>,
        norm: Option<Named<'_, Norm>>,
        x: Vec<Value>,
        activation: Activation,
    ) -> Vec<Value> {
        // The weights are in the graph once and are shared by all levels.
        let layer = self.layer(conv, norm);
        x.into_iter()
            .map(|x| {
                let y = layer.apply(self.builder, &x);
                self.activate(y, activation)
            })
            .collect()
    }

    fn scale_levels(&mut self, factors: Named<'_, Param<Tensor<1>>>, x: Vec<Value>) -> Vec<Value> {
        let name = self.path(factors.name);
        scale_levels(self.builder, &name, &x, factors.layer.val())
    }

    fn rows(&mut self, x: Vec<Value>, values: usize) -> Vec<Value> {
        x.iter().map(|map| flatten_level(self.builder, map, values)).collect()
    }
}
