//! `foveal summary`: prints the layers of a network and the memory of a training step.

use std::path::Path;

use anyhow::{Result, bail};
use foveal_coco::{Classes, CocoFile};
use foveal_data::Source;
use foveal_detector::{InputSize, NetworkCount};
use foveal_image::padded_length;
use foveal_nn::LayerCount;
use foveal_train::{RunConfig, TrainingMemory};
use serde::Serialize;

use crate::args::{Common, SummaryArgs};
use crate::config::{self, Loaded, checkpoint};
use crate::failure::DONE;
use crate::output;
use crate::outputs::Files;

const MIB: f64 = (1u64 << 20) as f64;
/// Bytes of an `f32`.
const F32: u64 = 4;

/// Sums over several layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Totals {
    /// Number of parameters, including those of frozen layers.
    parameters: u64,
    /// Number of stored values that are never trained: running statistics, and all vectors of frozen batch norms.
    buffers: u64,
    /// Multiply-adds of one forward pass.
    multiply_adds: u64,
}

impl Totals {
    fn of<'a>(layers: impl Iterator<Item = &'a LayerCount>) -> Self {
        layers.fold(Self::default(), |sum, layer| Self {
            parameters: sum.parameters + layer.parameters,
            buffers: sum.buffers + layer.buffers,
            multiply_adds: sum.multiply_adds + layer.multiply_adds,
        })
    }
}

/// Sums for each part of the network. The part of a layer is determined by the prefix of its name.
#[derive(Debug, Serialize)]
struct PartTotals {
    backbone: Totals,
    pyramid: Totals,
    heads: Totals,
    total: Totals,
}

impl PartTotals {
    fn of(layers: &[LayerCount]) -> Self {
        let part = |prefix: &str| Totals::of(layers.iter().filter(|layer| layer.name.starts_with(prefix)));
        Self {
            backbone: part("backbone.body."),
            pyramid: part("backbone.fpn."),
            heads: part("head."),
            total: Totals::of(layers.iter()),
        }
    }
}

/// The output of `--json`.
#[derive(Debug, Serialize)]
struct Summary {
    backbone: &'static str,
    classes: usize,
    batch: usize,
    height: usize,
    width: usize,
    anchors: usize,
    layers: Vec<LayerCount>,
    parts: PartTotals,
    trained_parameters: u64,
    /// Expected memory of a training step in bytes, by purpose.
    training_memory: TrainingMemory,
    /// Sum of `training_memory` in bytes.
    training_memory_total: u64,
    /// Memory in bytes that a training step takes at least on a GPU, by purpose.
    gpu_training_memory: TrainingMemory,
    /// Sum of `gpu_training_memory` in bytes.
    gpu_training_memory_total: u64,
    /// The largest tensors of a step in bytes. A GPU refuses a batch if one of them is larger than what it can bind,
    /// which `foveal devices` lists.
    largest_tensors: LargestTensors,
}

/// Bytes of the largest tensors of a training step on a GPU, for the whole batch.
#[derive(Debug, Serialize)]
struct LargestTensors {
    /// The largest feature map.
    feature_map: u64,
    /// The largest unfolded input of a convolution (im2col).
    unfolded_input: u64,
    /// The class logits.
    class_logits: u64,
}

/// Prints the layers of a network with their parameters and multiply-adds, and the expected memory of a training step.
///
/// # Errors
/// If the configuration or the checkpoint cannot be used, or the number of classes is unknown.
pub(super) fn run(args: &SummaryArgs, common: &Common) -> Result<u8> {
    Files::new().read("configuration or checkpoint", [&args.input]).write("--json", &args.json).check()?;
    let (Loaded { config, files }, classes, batch) = network(args, common)?;
    Files::new().read("configuration", &files).read_config(&config).write("--json", &args.json).check()?;
    let requested = match args.size {
        Some(size) => size,
        None => config.data.fixed_size.unwrap_or([config.data.min_size, config.data.max_size]),
    };
    let [height, width] = requested.map(|side| padded_length(side as usize));
    let size = InputSize { batch, height, width };
    let count = config.model.count(classes, size);
    let memory = TrainingMemory::expected(&config, &count, classes, size);
    let gpu = TrainingMemory::expected_on_gpu(&config, &count, classes, size);
    let largest_tensors = LargestTensors {
        feature_map: count.largest_map_bytes / F32 * config.train.precision.bytes(),
        unfolded_input: gpu.columns,
        class_logits: F32 * (batch * count.anchors * config.model.channels(classes)) as u64,
    };
    let NetworkCount { layers, anchors, trained_parameters, .. } = count;
    let summary = Summary {
        backbone: config.model.backbone.name(),
        classes,
        batch,
        height,
        width,
        anchors,
        parts: PartTotals::of(&layers),
        layers,
        trained_parameters,
        training_memory: memory,
        training_memory_total: memory.total(),
        gpu_training_memory: gpu,
        gpu_training_memory_total: gpu.total(),
        largest_tensors,
    };
    output::emit(args.json.as_deref(), &summary, &table(&summary))?;
    Ok(DONE)
}

/// The configuration with the files that it was read from, the number of classes and the batch size.
fn network(args: &SummaryArgs, common: &Common) -> Result<(Loaded, usize, usize)> {
    if args.input.extension().is_some_and(|extension| extension == "safetensors") {
        let (meta, config) = checkpoint::read(&args.input, &common.set)?;
        let classes = args.classes.map_or(meta.categories.len(), |n| n as usize);
        let loaded = Loaded { config, files: Vec::new() };
        return Ok((loaded, classes, args.batch.unwrap_or(1) as usize));
    }
    let loaded = config::open(Some(&args.input), &common.set)?;
    let classes = match args.classes {
        Some(classes) => classes as usize,
        None => classes_of(&loaded.config, &args.input)?,
    };
    let batch = args.batch.map_or(loaded.config.train.batch_size, |n| n as usize);
    Ok((loaded, classes, batch))
}

/// The number of classes of a configuration's training set.
fn classes_of(config: &RunConfig, file: &Path) -> Result<usize> {
    if config.data.maps_classes()
        && let Some(labels) = config.data.training_labels()?
    {
        return Ok(labels.len());
    }
    let annotations = match (config.data.source, &config.data.train.annotations) {
        (Source::Shapes, _) => return Ok(config.data.shapes.classes),
        (Source::Coco, Some(path)) => path,
        (Source::Coco, None) => bail!(
            "{}: the number of classes is unknown, because data.train.annotations is not set; pass it with --classes N",
            file.display()
        ),
    };
    Ok(Classes::of(&CocoFile::read(annotations)?.dataset, None)?.labels.len())
}

/// The output on stdout.
fn table(summary: &Summary) -> String {
    let mut rows = vec![["layer", "kind", "output", "parameters", "multiply-adds"].map(str::to_owned)];
    for layer in &summary.layers {
        let shapes: Vec<String> = layer.outputs.iter().map(|[_, c, h, w]| format!("{c}x{h}x{w}")).collect();
        let shape = match shapes.as_slice() {
            [first, .., last] => format!("{first} .. {last}"),
            _ => shapes.concat(),
        };
        let numbers = if layer.buffers > 0 && layer.parameters == 0 {
            format!("({})", grouped(layer.buffers))
        } else {
            grouped(layer.parameters)
        };
        rows.push([layer.name.clone(), layer.kind.clone(), shape, numbers, grouped(layer.multiply_adds)]);
    }
    let mut text = columns(&rows, 3);
    let Summary { batch, height, width, anchors, classes, .. } = summary;
    text += &format!(
        "\n{}, {classes} classes, batch {batch}, {height}x{width} pixels (height x width), {anchors} anchors per \
         image\n\n",
        summary.backbone
    );
    let mut rows = vec![["part", "parameters", "buffers", "multiply-adds"].map(str::to_owned)];
    let parts = &summary.parts;
    for (name, part) in
        [("backbone", parts.backbone), ("pyramid", parts.pyramid), ("heads", parts.heads), ("total", parts.total)]
    {
        let giga = format!("{:.2} G", part.multiply_adds as f64 / 1e9);
        rows.push([name.to_owned(), grouped(part.parameters), grouped(part.buffers), giga]);
    }
    text += &columns(&rows, 1);
    text += &format!(
        "\n{} parameters are trained. Multiply-adds are those of one forward pass over the batch. \
         Numbers in brackets are buffers, which are never trained.\n",
        grouped(summary.trained_parameters)
    );
    text + &memory_table(summary)
}

/// The part of the output on memory.
fn memory_table(summary: &Summary) -> String {
    let (cpu, gpu) = (&summary.training_memory, &summary.gpu_training_memory);
    let mib = |bytes: u64| format!("{:.0}", bytes as f64 / MIB);
    let mut rows = vec![["memory of a training step (MiB)", "CPU", "GPU, at least"].map(str::to_owned)];
    for (name, on_cpu, on_gpu) in [
        ("weights", cpu.weights, gpu.weights),
        ("gradients", cpu.gradients, gpu.gradients),
        ("optimizer", cpu.optimizer, gpu.optimizer),
        ("moving average", cpu.average, gpu.average),
        ("activations", cpu.activations, gpu.activations),
        ("losses", cpu.losses, gpu.losses),
        ("working buffers", cpu.working, gpu.working),
        ("unfolded input", cpu.columns, gpu.columns),
        ("program", cpu.process, gpu.process),
        ("total", summary.training_memory_total, summary.gpu_training_memory_total),
    ] {
        rows.push([format!("  {name}"), mib(on_cpu), mib(on_gpu)]);
    }
    let LargestTensors { feature_map, unfolded_input, class_logits } = summary.largest_tensors;
    format!(
        "\nexpected {}\nlargest tensors of the batch (MiB): feature map {}, unfolded input of a convolution {}, class logits \
         {}\n",
        columns(&rows, 1),
        mib(feature_map),
        mib(unfolded_input),
        mib(class_logits)
    )
}

/// Formats rows in aligned columns. The first `texts` columns are aligned to the left, the others to the right.
fn columns<const N: usize>(rows: &[[String; N]], texts: usize) -> String {
    let widths: [usize; N] = std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            text += &if i < texts { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            text += if i + 1 < N { "  " } else { "\n" };
        }
    }
    text
}

/// Formats a number with a comma between groups of three digits: 34,014,999.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_in_threes() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(34_014_999), "34,014,999");
    }
}
