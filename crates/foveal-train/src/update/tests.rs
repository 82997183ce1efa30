//! Updates with a loss scale, with half precision simulated on a CPU.

use foveal_backbone::BackboneNorm;
use foveal_data::Batch;
use foveal_detector::{image_tensor, with_simulated_f16};
use foveal_weights::{TensorMap, load_tensors, named_tensors};

use super::*;
use crate::config::RunConfig;
use crate::device::tests::as_accelerator;
use crate::testing::{first_batch, tiny};

/// A loss scale at which no gradient of the tiny network overflows.
const SCALE: f64 = 1024.0;

/// A configuration with trained batch norms, clipping and momentum.
fn config() -> RunConfig {
    let mut config = tiny();
    (config.model.norm, config.train.clip_norm) = (BackboneNorm::Batch, 1.0);
    config
}

/// A learner in half precision with [`SCALE`]. `plant` changes its weights.
fn learner(plant: impl FnOnce(&mut TensorMap)) -> Learner {
    let (config, device) = (config(), Device::flex().autodiff());
    let model = config.model.seeded(3, 0, &device);
    let mut weights = named_tensors(&model);
    plant(&mut weights);
    let model = load_tensors(model, &weights).0;
    let ema = Ema::new(0.5, &model);
    let learner = Learner::new(model, Optimizer::new(&config.train), Some(ema));
    learner.in_precision(ComputePrecision::F16, SCALE, &device)
}

/// The weights, running statistics, moving average and momentum of a learner.
fn everything(learner: &Learner) -> [TensorMap; 3] {
    let average = &learner.ema.as_ref().unwrap().average;
    [named_tensors(learner.model()), to_host(average), to_host(&learner.optimizer.first)]
}

fn gradients(learner: &Learner, batch: Batch) -> Gradients {
    let (config, device) = (config(), Device::flex().autodiff());
    let options = GradientOptions {
        loss: &config.loss,
        normalizer: Normalizer::of(config.loss.normalizer, &batch.targets),
        anchors_per_location: config.model.anchors.anchors_per_location(),
        activations: Activations::Kept,
        breakdown: false,
        first_loss: None,
        clip_norm: config.train.clip_norm,
    };
    learner.gradients([(image_tensor(batch.images, &device), batch.targets)], &options, &device)
}

/// Makes an update. Returns the values of its step.
fn update(learner: &mut Learner, batch: Batch) -> Vec<f32> {
    let gradients = gradients(learner, batch);
    let values = gradients.values.clone().into_data().try_to_vec().unwrap();
    learner.apply(gradients, 0.01);
    values
}

fn scale(learner: &Learner) -> f64 {
    learner.scaler.as_ref().unwrap().read()
}

fn on_slices_and_tensors(test: impl Fn()) {
    with_simulated_f16(|| {
        test();
        as_accelerator(&test);
    });
}

#[test]
fn a_step_that_is_not_finite_changes_only_the_scale_and_the_next_one_counts() {
    on_slices_and_tensors(|| {
        for value in [f32::NAN, f32::INFINITY] {
            let mut learner = learner(|_| ());
            let first = update(&mut learner, first_batch(&config()));
            assert!(first.iter().all(|v| v.is_finite()), "{first:?}");
            let before = everything(&learner);
            let mut bad = first_batch(&config());
            let mut images = bad.images.into_normalised();
            images.data[5] = value;
            bad.images = images.into();
            let grown = scale(&learner);
            assert!(!update(&mut learner, bad)[TOTAL].is_finite());
            assert!(everything(&learner) == before);
            assert_eq!(scale(&learner), grown / 2.0);
            update(&mut learner, first_batch(&config()));
            assert!(everything(&learner) != before);
        }
    });
}

#[test]
fn infinite_logits_leave_the_weights_unchanged() {
    // The bias is finite, but not in half precision.
    let bias = "head.classification_head.cls_logits.bias";
    on_slices_and_tensors(|| {
        let mut learner = learner(|weights| weights.get_mut(bias).unwrap().values[0] = 1e5);
        let before = everything(&learner);
        let values = update(&mut learner, first_batch(&config()));
        assert!(!values[TOTAL].is_finite(), "{values:?}");
        // The momentum, which has no entries before the first update, is 0 after it.
        let [weights, average, momentum] = everything(&learner);
        assert!([weights, average] == before[..2]);
        assert!(momentum.values().flat_map(|tensor| &tensor.values).all(|value| *value == 0.0));
        assert_eq!(scale(&learner), SCALE / 2.0);
    });
}

#[test]
fn norm_and_update_do_not_depend_on_the_scale() {
    on_slices_and_tensors(|| {
        let run = |scale: f64| {
            let mut learner = learner(|_| ());
            learner.scaler = Some(LossScaler::new(scale, &Device::flex()));
            let values = update(&mut learner, first_batch(&config()));
            (values, named_tensors(learner.model()))
        };
        // Powers of two leave the rounding as it is, except for numbers near the ends of the range.
        let ((high, high_weights), (low, low_weights)) = (run(SCALE), run(SCALE / 16.0));
        assert!((high[5] - low[5]).abs() <= 1e-2 * high[5] && high[..5] == low[..5], "{high:?} {low:?}");
        for (name, a) in &high_weights {
            let off = a.values.iter().zip(&low_weights[name].values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off <= 1e-4, "{name}: {off}");
        }
    });
}

/// Logits that are trained as they are.
#[cfg(feature = "wgpu")]
#[derive(Module, Debug)]
struct Logits {
    values: burn::module::Param<Tensor<3>>,
}

/// The update by tensor operations on a GPU: the loss and its gradient, the norm, clipping, the loss scale and the
/// mask.
#[cfg(feature = "wgpu")]
#[test]
fn logits_that_are_not_finite_leave_the_weights_unchanged_on_wgpu() {
    use burn::module::Param;
    use burn::tensor::TensorData;

    const SHAPE: [usize; 3] = [1, 16, 4];
    let device = foveal_kernels::test_adapter().autodiff();
    let targets = [ImageTargets { classes: vec![foveal_anchors::BACKGROUND; SHAPE[1]], positives: Vec::new() }];
    let values = |model: &Logits| -> Vec<f32> { model.values.val().into_data().try_to_vec().unwrap() };
    for planted in [f32::NAN, f32::INFINITY, 0.5] {
        let mut model = Logits { values: Param::from_tensor(Tensor::zeros(SHAPE, &device)) };
        let mut scaler = LossScaler::new(FIRST_SCALE, &device);
        let mut fixed = vec![-1.0; SHAPE.iter().product()];
        fixed[7] = planted;
        let logits = model.values.val() + Tensor::from_data(TensorData::new(fixed, SHAPE), &device);
        let deltas = Tensor::zeros([1, SHAPE[1], 4], &device);
        let total = LossConfig::default().forward(logits, deltas, &targets, Normalizer::Positives(1)).total;
        let mut grads = Grads::default();
        grads.accumulate(&model, scaler.scaled(total.clone()).backward());
        let norm = scaler.unscaled(grads.norm(&device));
        let clipping = Clipping::new(total.without_autodiff(), norm, 1.0).of_scaled(&scaler);
        scaler.update(&clipping.finite);
        model = Optimizer::new(&tiny().train).step(model, grads, 0.1, &clipping);
        let changed = values(&model).iter().any(|value| *value != 0.0);
        assert_eq!((changed, scaler.read() < FIRST_SCALE), (planted.is_finite(), !planted.is_finite()), "{planted}");
    }
}
