//! The check of the first loss on random anchors, objects and heads: no false alarm, and every deliberate fault is
//! caught.

use burn::tensor::{Device, Tensor, TensorData};
use foveal_anchors::{AnchorConfig, ImageTargets, MatcherConfig, grid_sizes, image_targets};
use foveal_boxes::BBox;
use foveal_criterion::{
    BoxLossKind, BreakdownLayout, ClassLossKind, ClassWeights, Fault, FirstLossCheck, LossBreakdown, LossConfig,
    Normalizer, PerClass, prior_bias,
};

const KINDS: [ClassLossKind; 5] = [
    ClassLossKind::Focal,
    ClassLossKind::CrossEntropy,
    ClassLossKind::BalancedCrossEntropy,
    ClassLossKind::Ohem,
    ClassLossKind::QualityFocal,
];
const BOXES: [BoxLossKind; 5] =
    [BoxLossKind::L1, BoxLossKind::SmoothL1, BoxLossKind::Giou, BoxLossKind::Diou, BoxLossKind::Ciou];
/// Features of a location in the simulated heads.
const FEATURES: usize = 12;

/// A seeded generator (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.next()
    }

    /// Log-uniform: small values as often as large ones.
    fn scale(&mut self, low: f64, high: f64) -> f64 {
        self.range(low.ln(), high.ln()).exp()
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.next() * n as f64) as usize).min(n - 1)
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.next()).ln()).sqrt() * (std::f64::consts::TAU * self.next()).cos()
    }

    fn list(&mut self, n: usize, low: f64, high: f64) -> Vec<f64> {
        (0..n).map(|_| self.range(low, high)).collect()
    }
}

/// A random data set of a few images, and the output of a new head for it.
struct Trial {
    targets: Vec<ImageTargets>,
    layout: BreakdownLayout,
    outputs: usize,
    classes: usize,
    channels: usize,
    convs: usize,
    prior: f64,
    normalizer: Normalizer,
    logits: Vec<f32>,
    deltas: Vec<f32>,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let anchors = AnchorConfig {
            base_sizes: (0..5).map(|level| (random.scale(4.0, 48.0) * f64::from(1 << level)) as f32).collect(),
            scales: 1 + random.below(2),
            ratios: [0.5, 1.0, 2.0][..1 + random.below(3)].to_vec(),
            ..AnchorConfig::default()
        };
        let [height, width] = [0; 2].map(|_| 32 * (1 + random.below(3)));
        let grids = grid_sizes(height, width);
        let boxes = anchors.anchors(height, width, &grids);
        let (per_location, classes) = (anchors.anchors_per_location(), 1 + random.below(5));
        let matcher = MatcherConfig { low_quality: random.next() < 0.8, ..MatcherConfig::default() };
        // The sizes of all objects of a set are similar; many sets have only tiny ones.
        let largest = random.scale(2.0, 90.0);
        let targets: Vec<ImageTargets> = (0..1 + random.below(3))
            .map(|_| {
                let objects: Vec<BBox> = (0..random.below(7))
                    .map(|_| {
                        let [w, h] = [0; 2].map(|_| random.scale(1.0, largest));
                        let (x, y) = (random.range(0.0, width as f64 - 1.0), random.range(0.0, height as f64 - 1.0));
                        let end = |start: f64, side: f64, limit: usize| (start + side).min(limit as f64) as f32;
                        BBox::new(x as f32, y as f32, end(x, w, width), end(y, h, height))
                    })
                    .collect();
                let of: Vec<u32> = objects.iter().map(|_| random.below(classes) as u32).collect();
                image_targets(&boxes, &objects, &of, &[], &matcher)
            })
            .collect();
        let normalizer = match random.below(3) {
            0 => Normalizer::Positives(targets.iter().map(|t| t.positives.len()).sum()),
            1 => Normalizer::Images(targets.len()),
            _ => Normalizer::Smoothed(random.range(1.0, 200.0)),
        };
        let mut trial = Self {
            layout: BreakdownLayout { level_anchors: std::array::from_fn(|l| grids[l].positions() * per_location) },
            outputs: per_location * classes,
            classes,
            channels: [16, 64, 256][random.below(3)],
            convs: random.below(3),
            prior: [0.001, 0.01, 0.1, 0.5][random.below(4)],
            normalizer,
            targets,
            logits: Vec::new(),
            deltas: Vec::new(),
        };
        let bias = prior_bias(trial.prior);
        trial.logits = trial.head(&mut random, per_location, classes).iter().map(|n| (bias + n) as f32).collect();
        trial.deltas = trial.head(&mut random, per_location, 4).iter().map(|n| *n as f32).collect();
        trial
    }

    /// The noise of a layer of random weights with `values` values for each anchor. The features are those of a ReLU,
    /// equal everywhere or different at every location, and sometimes concentrated at a few locations.
    fn head(&self, random: &mut Random, per_location: usize, values: usize) -> Vec<f64> {
        let config = LossConfig::default();
        // Without norms the features shrink from layer to layer.
        let size = self.check(&config).spread() * if random.next() < 0.5 { 1.0 } else { random.scale(0.01, 1.0) };
        let weights: Vec<[f64; FEATURES]> = (0..per_location * values)
            .map(|_| std::array::from_fn(|_| size * random.normal() / (FEATURES as f64 / 2.0).sqrt()))
            .collect();
        let is_flat = random.next() < 0.2;
        let concentrated = random.next() < 0.2;
        let anchors: usize = self.layout.level_anchors.iter().sum();
        let mut noise = Vec::new();
        for _ in &self.targets {
            let mut features = [0.0; FEATURES];
            for location in 0..anchors / per_location {
                if location == 0 || !is_flat {
                    let scale = match (concentrated, random.next() < 0.1) {
                        (true, true) => 2.0,
                        (true, false) => 0.8,
                        _ => 1.0,
                    };
                    features = std::array::from_fn(|_| scale * random.normal().max(0.0));
                }
                noise.extend(weights.iter().map(|w| w.iter().zip(&features).map(|(w, f)| w * f).sum::<f64>()));
            }
        }
        noise
    }

    /// A random `[loss]` section with the given kind.
    fn config(&self, kind: ClassLossKind, random: &mut Random) -> LossConfig {
        let mut config = LossConfig { kind, ..LossConfig::default() };
        if random.next() < 0.5 {
            config.alpha = PerClass::Each(random.list(self.classes, 0.05, 0.95));
        }
        if random.next() < 0.5 {
            config.gamma = PerClass::Each(random.list(self.classes, 0.0, 5.0));
        }
        if random.next() < 0.5 {
            config.class_weights = ClassWeights::Each(random.list(self.classes, 0.1, 5.0));
        }
        config.ohem_ratio = random.scale(0.5, 10.0);
        // Drawn without a step of the generator, so that all other values stay the same.
        config.box_kind = BOXES[(random.0 >> 32) as usize % BOXES.len()];
        config
    }

    fn check<'a>(&self, config: &'a LossConfig) -> FirstLossCheck<'a> {
        let Self { prior, channels, convs, outputs, classes, .. } = *self;
        FirstLossCheck { config, prior, channels, convs, outputs, classes }
    }

    fn positives(&self) -> usize {
        self.targets.iter().map(|t| t.positives.len()).sum()
    }

    /// Checks the loss that is computed with the settings `computed` and the normalizer `used`, against the loss
    /// expected from `config`. Every image is a batch of its own if `split` is set.
    fn run(&self, config: &LossConfig, computed: &LossConfig, used: Normalizer, split: bool) -> Result<(), Fault> {
        let device = Device::flex();
        let anchors: usize = self.layout.level_anchors.iter().sum();
        let check = self.check(config);
        let (mut expected, mut found): (Option<_>, Option<LossBreakdown>) = (None, None);
        let size = if split { 1 } else { self.targets.len() };
        for (batch, targets) in self.targets.chunks(size).enumerate() {
            let of = |values: &[f32], columns: usize| {
                let length = targets.len() * anchors * columns;
                let values = values[batch * size * anchors * columns..][..length].to_vec();
                Tensor::<3>::from_data(TensorData::new(values, [targets.len(), anchors, columns]), &device)
            };
            let (logits, deltas) = (of(&self.logits, self.classes), of(&self.deltas, 4));
            expected = Some(check.expected(&logits, &deltas, targets, self.normalizer).after(expected));
            let breakdown = computed.forward_with(logits, deltas, targets, used, Some(self.layout)).breakdown.unwrap();
            let values: Vec<f32> = breakdown.values.into_data().try_to_vec().unwrap();
            let mut own = LossBreakdown::read(breakdown.counts, &values);
            if let Some(before) = &found {
                own.add(before);
                own.steps = 1;
            }
            found = Some(own);
        }
        check.check(&found.unwrap().record(), &expected.unwrap())
    }
}

#[test]
fn a_thousand_random_sets_raise_no_false_alarm() {
    let (mut with_positives, mut low_overlaps) = (0, 0);
    for seed in 0..1000 {
        let trial = Trial::new(seed);
        let mut random = Random(!seed);
        for kind in KINDS {
            let config = trial.config(kind, &mut random);
            let found = trial.run(&config, &config, trial.normalizer, random.next() < 0.3);
            found.unwrap_or_else(|fault| {
                panic!("set {seed}, {kind:?}, {:?}, {} positives: {fault}", trial.normalizer, trial.positives())
            });
        }
        let positives = trial.targets.iter().flat_map(|t| &t.positives);
        with_positives += usize::from(trial.positives() > 0);
        low_overlaps += positives.filter(|p| foveal_boxes::iou(&p.anchor_box, &p.object) < 0.1).count();
    }
    // The sets are those that the check has to cope with.
    assert!(
        with_positives > 700 && low_overlaps > 300,
        "{with_positives} sets with positives, {low_overlaps} overlaps"
    );
}

#[test]
fn every_deliberate_fault_is_caught_in_every_set() {
    let mut counts = [0; 5];
    for seed in 0..250 {
        let trial = Trial::new(seed);
        let mut random = Random(!seed);
        for kind in KINDS {
            let config = trial.config(kind, &mut random);
            let at = |change: &dyn Fn(usize, usize, f32) -> f32| {
                let mut changed = Trial::new(seed);
                let anchors = changed.targets[0].classes.len();
                for (i, x) in changed.logits.iter_mut().enumerate() {
                    let (row, class) = (i / trial.classes, i % trial.classes);
                    let id = trial.targets[row / anchors].classes[row % anchors];
                    *x = change(usize::from(id == class as i32), usize::from(id >= 0), *x);
                }
                changed.run(&config, &config, changed.normalizer, false)
            };

            // The class layer has no prior: its bias is 0.
            if trial.prior < 0.05 {
                let bias = prior_bias(trial.prior) as f32;
                let found = at(&|_, _, x| x - bias);
                assert!(
                    matches!(found, Err(Fault::Prior { bias, .. }) if bias.abs() < 2.0),
                    "{seed} {kind:?} {found:?}"
                );
                counts[0] += 1;
            }

            // Trained weights: the background is told from the objects.
            let found = at(&|own, _, x| if own == 1 { x + 5.0 } else { x - 3.0 });
            assert!(matches!(found, Err(Fault::Trained { .. })), "{seed} {kind:?} {found:?}");
            counts[1] += 1;

            // No normalizer, or another than the configured one.
            let divisor = trial.check(&config).expected(
                &Tensor::zeros([1, 1, trial.classes], &Device::flex()),
                &Tensor::zeros([1, 1, 4], &Device::flex()),
                &[ImageTargets { classes: vec![-1], positives: vec![] }],
                trial.normalizer,
            );
            let shared = !matches!(trial.normalizer, Normalizer::Images(_));
            if shared && divisor.divisor() > 2.0 {
                let found = trial.run(&config, &config, Normalizer::Positives(1), false);
                let wanted = divisor.divisor();
                let is_named = |factor: f64| (factor / wanted - 1.0).abs() < 0.05;
                assert!(
                    matches!(found, Err(Fault::Normalizer { factor, .. }) if is_named(factor)),
                    "{seed} {kind:?}, not {wanted}: {found:?}"
                );
                counts[2] += 1;
            }

            // Exchanged weights of positives and negatives.
            let has_alpha = matches!(kind, ClassLossKind::Focal | ClassLossKind::BalancedCrossEntropy);
            if has_alpha && trial.positives() > 0 {
                let config = LossConfig { alpha: 0.25.into(), ..config.clone() };
                let swapped = LossConfig { alpha: 0.75.into(), ..config.clone() };
                let found = trial.run(&config, &swapped, trial.normalizer, false);
                assert!(matches!(found, Err(Fault::AlphaSwapped { .. })), "{seed} {kind:?} {found:?}");
                counts[3] += 1;
            }

            // Quality targets that are not the overlaps of the predicted boxes.
            if kind == ClassLossKind::QualityFocal && trial.positives() > 0 {
                // With a gamma of 0 and scores of one half, the loss does not depend on the overlap.
                let config = LossConfig { gamma: 2.0.into(), ..config.clone() };
                let plain = LossConfig { kind: ClassLossKind::CrossEntropy, ..config.clone() };
                let found = trial.run(&config, &plain, trial.normalizer, false);
                assert!(found.is_err(), "{seed} {kind:?} {found:?}");
                counts[4] += 1;
            }
        }
    }
    assert!(counts.iter().all(|n| *n > 150), "{counts:?}");
}
