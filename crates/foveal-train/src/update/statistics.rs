//! The running statistics of trained batch norms, which a forward pass updates. They are kept from before a step, so
//! that a step whose loss or gradient norm is not finite leaves nothing behind.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Bool, Tensor};
use foveal_backbone::STAGES;
use foveal_detector::RetinaNet;
use foveal_weights::ParamPath;

use super::broadcast::Broadcast;
use super::params::{ParamTensors, param_tensors};
use crate::device::is_host;

/// Ends of the paths of running statistics.
const NAMES: [&str; 2] = [".running_mean", ".running_var"];

/// The running statistics of a network at some time, by parameter path; empty for a network whose forward pass does not
/// update them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunningStatistics(ParamTensors);

impl RunningStatistics {
    /// The present statistics of `model`. Nothing is read from the device.
    pub(crate) fn of(model: &RetinaNet) -> Self {
        match (0..STAGES).any(|stage| model.backbone.body.keeps_statistics(stage)) {
            true => Self(param_tensors(model, |path| NAMES.iter().any(|end| path.ends_with(end)))),
            false => Self::default(),
        }
    }

    /// Sets the statistics of `model` to these.
    pub(crate) fn put_back(self, model: RetinaNet) -> RetinaNet {
        self.replace(model, None)
    }

    /// Sets the statistics of `model` to these if `finite` is false. The call does not wait for an accelerator.
    ///
    /// # Shapes
    /// - finite: `[1]`, on the device of the network
    pub(crate) fn put_back_unless(self, finite: &Tensor<1, Bool>, model: RetinaNet) -> RetinaNet {
        match is_host(&finite.device()) {
            // In host memory no device is waited for.
            true if self.0.is_empty() || finite.clone().into_scalar::<bool>() => model,
            true => self.put_back(model),
            false => self.replace(model, Some(finite)),
        }
    }

    fn replace(self, model: RetinaNet, unless: Option<&Tensor<1, Bool>>) -> RetinaNet {
        if self.0.is_empty() {
            return model;
        }
        // Pending updates would replace the statistics later; a copy by `valid` applies them now.
        let _ = model.valid();
        model.map(&mut Replace { path: ParamPath::default(), before: self.0, unless: unless.map(Broadcast::new) })
    }
}

struct Replace {
    path: ParamPath,
    before: ParamTensors,
    /// Where this is true, the present statistics are kept.
    unless: Option<Broadcast<Bool>>,
}

impl ModuleMapper for Replace {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(before) = self.before.remove(&self.path.name()) else { return param };
        let (before, unless) = (before.into_rank::<D>(), self.unless.as_mut());
        param.map(|tensor| {
            Tensor::from_inner(match unless {
                Some(finite) => before.mask_where(finite.of_rank(), tensor.without_autodiff()),
                None => before,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use foveal_backbone::BackboneNorm;
    use foveal_criterion::Normalizer;
    use foveal_data::Batch;
    use foveal_detector::image_tensor;
    use foveal_weights::{TensorMap, named_tensors};

    use crate::device::tests::as_accelerator;
    use crate::pass::Activations;
    use crate::testing::{first_batch, tiny};
    use crate::update::{Ema, GradientOptions, Gradients, Learner, Optimizer, to_host};

    /// Everything that an update changes: weights and running statistics, moving average, optimizer.
    #[derive(PartialEq)]
    struct Everything([TensorMap; 3]);

    fn everything(learner: &Learner) -> Everything {
        let average = &learner.ema.as_ref().unwrap().average;
        Everything([named_tensors(learner.model()), to_host(average), to_host(&learner.optimizer.first)])
    }

    fn learner() -> Learner {
        let mut config = tiny();
        config.model.norm = BackboneNorm::Batch;
        let model = config.model.seeded(3, 0, &Device::flex().autodiff());
        let ema = Ema::new(0.5, &model);
        Learner::new(model, Optimizer::new(&config.train), Some(ema))
    }

    fn gradients(learner: &Learner, batch: Batch) -> Gradients {
        let (config, device) = (tiny(), Device::flex().autodiff());
        let options = GradientOptions {
            loss: &config.loss,
            normalizer: Normalizer::of(config.loss.normalizer, &batch.targets),
            anchors_per_location: config.model.anchors.anchors_per_location(),
            activations: Activations::Kept,
            breakdown: false,
            first_loss: None,
            clip_norm: 0.0,
        };
        learner.gradients([(image_tensor(batch.images, &device), batch.targets)], &options, &device)
    }

    fn bad_batch() -> Batch {
        let mut batch = first_batch(&tiny());
        let mut images = batch.images.into_normalised();
        images.data[5] = f32::NAN;
        batch.images = images.into();
        batch
    }

    #[test]
    fn nothing_changes_from_the_first_step_that_is_not_finite() {
        let test = || {
            let mut learner = learner();
            let new = everything(&learner);
            let good = gradients(&learner, first_batch(&tiny()));
            learner.apply(good, 0.01);
            let before = everything(&learner);
            assert!(before != new);
            for batch in [bad_batch(), first_batch(&tiny())] {
                let next = gradients(&learner, batch);
                learner.apply(next, 0.01);
                assert!(everything(&learner) == before);
            }
        };
        test();
        as_accelerator(test);
    }

    #[test]
    fn a_step_that_is_left_out_leaves_nothing_and_the_next_one_counts() {
        let (mut with, mut without) = (learner(), learner());
        let bad = gradients(&with, bad_batch());
        with.discard(bad);
        assert!(everything(&with) == everything(&without));
        for learner in [&mut with, &mut without] {
            let good = gradients(learner, first_batch(&tiny()));
            learner.apply(good, 0.01);
        }
        assert!(everything(&with) == everything(&without));
        assert_eq!(with.optimizer.updates, 1);
    }
}
