//! Fuzzing of the readers of weight files, checkpoints and training states: every reader must answer every damaged file
//! with a result or with an error that names the file, must not panic, and must not use much more memory than the file
//! has bytes. A state that can be read is resumed.
//!
//! A short run is part of the tests. The long run is
//! `FOVEAL_FUZZ_SECONDS=600 cargo test --release -p foveal -p foveal-train --test fuzz -- --ignored --nocapture`;
//! `FOVEAL_FUZZ_FIRST` sets the number of the first case. Each case depends only on its number.

mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use foveal_backbone::{BackboneKind, BackboneNorm, Body};
use foveal_detector::{Checkpoint, ModelConfig, TorchvisionArch, import_torchvision};
use foveal_image::IMAGENET_STD;
use foveal_nn::Init;
use foveal_train::{OptimizerKind, RunConfig, RunDir, Silent, Start, TrainError, TrainState, train};
use foveal_weights::{BackboneFile, TensorMap, WeightsConvention, load_backbone, read_weight_file, read_weights};
use mutate::{Kind, Random, mutate};
use safetensors::{Dtype, tensor::TensorView};

/// Limit of the process's peak memory in KiB; the files have a few hundred KiB.
const MEMORY_KIB: u64 = 1 << 20;
/// Number of readers that a file is given to.
const READERS: usize = 8;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// The architecture with the small widths of the fixtures.
fn narrow(arch: TorchvisionArch) -> ModelConfig {
    let mut model = arch.model();
    (model.backbone, model.base_width, model.fpn_channels, model.norm) =
        (BackboneKind::ResNet18, 4, 8, BackboneNorm::FrozenBatch);
    model.head.groups = 4;
    model
}

fn safetensors_bytes(tensors: &TensorMap) -> Vec<u8> {
    let bytes: Vec<(&String, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(k, t)| (k, t.shape.as_slice(), t.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(k, s, b)| (k.as_str(), TensorView::new(Dtype::F32, s.to_vec(), b).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// Converts a name of torchvision to Detectron2's.
fn detectron(name: &str) -> String {
    let name = if name.starts_with("layer") { name.to_owned() } else { format!("stem.{name}") };
    let name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm");
    let name = (1..3).fold(name, |name, i| name.replace(&format!("bn{i}"), &format!("conv{i}.norm")));
    (1..5).fold(name, |name, i| name.replace(&format!("layer{i}"), &format!("res{}", i + 1)))
}

/// A run of one epoch, whose state has weights, a moving average and both moments.
struct Trained {
    config: RunConfig,
    run: RunDir,
}

impl Trained {
    fn new(dir: &Path) -> Self {
        let mut config = RunConfig::from_toml(include_str!("../tiny.toml")).unwrap();
        (config.model.base_width, config.model.fpn_channels) = (4, 8);
        (config.train.epochs, config.train.ema, config.train.optimizer) = (1, 0.9, OptimizerKind::AdamW);
        let run = RunDir::create(&dir.join("run")).unwrap();
        train(&config, &Device::flex(), &run, Start::New, &mut Silent, &AtomicBool::new(false)).unwrap();
        Self { config, run }
    }

    /// Reads a training state, and resumes the run with it until its first step.
    fn read(&self, path: &Path) -> Result<(), String> {
        TrainState::load(path).map_err(|e| e.to_string())?;
        let mut config = self.config.clone();
        config.train.epochs = 2;
        // Without an older state, from which the run would go on instead.
        let _ = std::fs::remove_file(self.run.previous_state());
        std::fs::copy(path, self.run.state()).unwrap();
        let stop = AtomicBool::new(true);
        let start = Start::Resume { allow_changes: true };
        match train(&config, &Device::flex(), &self.run, start, &mut Silent, &stop) {
            Ok(_) => Ok(()),
            // Settings that differ are named with the folder of the run.
            Err(e @ TrainError::Refused { .. }) => Err(format!("case.pth: {e}")),
            Err(e) => Err(e.to_string().replace("last.safetensors", "case.pth")),
        }
    }
}

/// Undamaged files of each kind.
fn seeds(dir: &Path, trained: &Trained) -> Vec<(Kind, Vec<u8>)> {
    let (v1, v2) = (fixture("import_v1.pth"), fixture("import_v2.pth"));
    let tensors = read_weights(&v2).unwrap();
    let body = tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix("backbone.body.")?, t)));
    let detectron = body.map(|(name, t)| (format!("backbone.bottom_up.{}", detectron(name)), t.clone())).collect();
    let imported = import_torchvision(&v2, &narrow(TorchvisionArch::V2), None, &Device::flex()).unwrap();
    let path = dir.join("seed.safetensors");
    imported.meta.save(&imported.model, &path).unwrap();
    vec![
        (Kind::Stream, std::fs::read(&v1).unwrap()),
        (Kind::Zip, std::fs::read(&v2).unwrap()),
        (Kind::SafeTensors, safetensors_bytes(&tensors)),
        (Kind::SafeTensors, safetensors_bytes(&detectron)),
        (Kind::SafeTensors, std::fs::read(&path).unwrap()),
        (Kind::SafeTensors, std::fs::read(trained.run.state()).unwrap()),
    ]
}

/// Reads a file with every reader and returns the errors.
fn read(path: &Path, trained: &Trained) -> Vec<String> {
    let device = Device::flex();
    let mut errors = Vec::new();
    match read_weight_file(path) {
        Ok(file) => assert!(file.tensors.values().all(|t| t.values.iter().all(|v| v.is_finite()))),
        Err(e) => errors.push(e.to_string()),
    }
    for convention in [WeightsConvention::Auto, WeightsConvention::Msra] {
        let (kind, norm) = (BackboneKind::ResNet18, BackboneNorm::FrozenBatch);
        let net = Body::new(kind, 4, norm, &mut Init::seeded(1), &device);
        let file = BackboneFile { path, kind, norm, convention, input_std: IMAGENET_STD };
        errors.extend(load_backbone(net, &file).err().map(|e| e.to_string()));
    }
    for arch in [TorchvisionArch::V1, TorchvisionArch::V2] {
        errors.extend(import_torchvision(path, &narrow(arch), None, &device).err().map(|e| e.to_string()));
    }
    errors.extend(Checkpoint::load(path, &device).err().map(|e| e.to_string()));
    let model = ModelConfig { weights: Some(path.to_owned()), ..narrow(TorchvisionArch::V2) };
    errors.extend(model.build(2, 1, &device).err().map(|e| e.to_string()));
    errors.extend(trained.read(path).err());
    errors
}

/// Peak memory of this process in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

struct Outcome {
    cases: u64,
    accepted: u64,
    slowest: Duration,
}

/// Runs cases from number `first` on while `more(number of cases so far)` is true.
fn run(first: u64, mut more: impl FnMut(u64) -> bool) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let trained = Trained::new(dir.path());
    let seeds = seeds(dir.path(), &trained);
    for (i, (_, whole)) in seeds.iter().enumerate() {
        let path = dir.path().join("whole.pth");
        std::fs::write(&path, whole).unwrap();
        let errors = read(&path, &trained);
        assert!(errors.len() < READERS, "seed {i} is refused by every reader: {errors:?}");
    }
    let path = dir.path().join("case.pth");
    let mut outcome = Outcome { cases: 0, accepted: 0, slowest: Duration::ZERO };
    while more(outcome.cases) {
        let case = first + outcome.cases;
        let mut random = Random(case.wrapping_mul(0xd134_2543_de82_ef95));
        let (kind, whole) = random.one(&seeds);
        let bytes = mutate(whole, *kind, &mut random);
        std::fs::write(&path, &bytes).unwrap();
        let start = Instant::now();
        let errors = catch_unwind(AssertUnwindSafe(|| read(&path, &trained)));
        outcome.slowest = outcome.slowest.max(start.elapsed());
        let Ok(errors) = errors else {
            let kept = std::env::temp_dir().join(format!("foveal-fuzz-{case}.bin"));
            std::fs::write(&kept, &bytes).unwrap();
            panic!("case {case} panics; the file is {}", kept.display());
        };
        for error in &errors {
            assert!(error.contains("case.pth"), "case {case}: `{error}` names no file");
            assert!(error.len() < 4000, "case {case}: an error of {} bytes: {:.600}", error.len(), error);
        }
        outcome.accepted += u64::from(errors.len() < READERS);
        outcome.cases += 1;
        let peak = peak();
        assert!(peak < MEMORY_KIB, "case {case}: {peak} KiB of memory");
    }
    outcome
}

#[test]
fn some_damaged_files() {
    let outcome = run(0, |cases| cases < 1500);
    // The mutations must neither damage all files beyond recognition nor leave all readable.
    let (cases, accepted) = (outcome.cases, outcome.accepted);
    assert!(accepted > cases / 50 && accepted < cases * 49 / 50, "{accepted} of {cases} accepted");
}

#[test]
#[ignore = "takes FOVEAL_FUZZ_SECONDS"]
fn many_damaged_files() {
    let number = |key: &str, default: u64| std::env::var(key).map_or(default, |v| v.parse().expect("a number"));
    let (seconds, first) = (number("FOVEAL_FUZZ_SECONDS", 20), number("FOVEAL_FUZZ_FIRST", 1_000_000));
    println!("weight files from case {first} on");
    let start = Instant::now();
    let outcome = run(first, |_| start.elapsed().as_secs() < seconds);
    println!(
        "{} cases in {seconds} s; {} readable by at least one reader; slowest case {} ms; peak memory {} MiB",
        outcome.cases,
        outcome.accepted,
        outcome.slowest.as_millis(),
        peak() / 1024
    );
}
