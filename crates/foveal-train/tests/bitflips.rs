//! Single flipped bits in a checkpoint and in a training state: each must be an error when the file is read, or change
//! nothing that is read. No flip may cause a panic.
//!
//! A few flips are part of the tests. The full number is
//! `cargo test --release -p foveal -p foveal-train --test bitflips -- --include-ignored`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use foveal_detector::{Checkpoint, CheckpointMeta};
use foveal_train::{OptimizerKind, RunConfig, RunDir, Silent, Start, TrainState, train};
use foveal_weights::{TensorMap, named_tensors};
use tempfile::TempDir;

/// Number of flips in each file in every run of the tests.
const SOME: usize = 120;
/// Number of flips in each file in the full test.
const MANY: usize = 1000;

/// SplitMix64 (Steele et al., 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// Trains a tiny network for one epoch. Its state has all parts: weights, moving average and both moments.
fn trained() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    let mut config = RunConfig::from_toml(include_str!("tiny.toml")).unwrap();
    (config.model.base_width, config.model.fpn_channels) = (4, 8);
    (config.train.epochs, config.train.ema, config.train.optimizer) = (1, 0.9, OptimizerKind::AdamW);
    let run = RunDir::create(&root).unwrap();
    train(&config, &Device::flex(), &run, Start::New, &mut Silent, &AtomicBool::new(false)).unwrap();
    (folder, root)
}

/// What is read of a checkpoint.
fn checkpoint(path: &Path) -> Result<(CheckpointMeta, TensorMap), String> {
    let read = Checkpoint::load(path, &Device::flex()).map_err(|e| e.to_string())?;
    Ok((read.meta, named_tensors(&read.model)))
}

fn state(path: &Path) -> Result<TrainState, String> {
    TrainState::load(path).map_err(|e| e.to_string())
}

/// Flips single bits of a file and reads it after each flip. Every second bit is in the header, which is small and
/// holds the metadata; the others are anywhere in the file.
fn flip<T: PartialEq>(file: &Path, count: usize, read: impl Fn(&Path) -> Result<T, String>) {
    let whole = std::fs::read(file).unwrap();
    let expected = read(file).unwrap_or_else(|e| panic!("{e}"));
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let damaged = file.with_file_name("damaged.safetensors");
    let (mut random, mut silent, mut panics, mut unnamed) = (Random(12), Vec::new(), Vec::new(), Vec::new());
    for case in 0..count {
        let bit = random.below(8 * if case % 2 == 0 { header } else { whole.len() });
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&damaged, &bytes).unwrap();
        match catch_unwind(AssertUnwindSafe(|| read(&damaged))) {
            Err(_) => panics.push(bit),
            Ok(Ok(found)) if found != expected => silent.push(bit),
            Ok(Err(message)) if !message.contains("damaged.safetensors") => unnamed.push(message),
            Ok(_) => {}
        }
    }
    assert!(
        silent.is_empty() && panics.is_empty() && unnamed.is_empty(),
        "{count} flipped bits of {} ({} bytes, header {header}): {} silent {silent:?}, {} panics {panics:?}, {} errors \
         without the path {unnamed:?}",
        file.display(),
        whole.len(),
        silent.len(),
        panics.len(),
        unnamed.len()
    );
}

#[test]
fn some_flipped_bits_of_a_checkpoint_are_errors() {
    let (_folder, root) = trained();
    flip(&root.join("checkpoints/last.safetensors"), SOME, checkpoint);
}

#[test]
fn some_flipped_bits_of_a_state_are_errors() {
    let (_folder, root) = trained();
    flip(&root.join("state/last.safetensors"), SOME, state);
}

#[test]
#[ignore = "takes about a minute"]
fn a_thousand_flipped_bits_of_a_checkpoint_are_errors() {
    let (_folder, root) = trained();
    flip(&root.join("checkpoints/last.safetensors"), MANY, checkpoint);
}

#[test]
#[ignore = "takes about a minute"]
fn a_thousand_flipped_bits_of_a_state_are_errors() {
    let (_folder, root) = trained();
    flip(&root.join("state/last.safetensors"), MANY, state);
}
