//! The learning rate schedule. It is a function of the step alone, so that a resumed run needs no saved state.

use crate::config::{ScheduleKind, TrainConfig};

/// The learning rate of optimizer step `step`, counted from 0, in a run with `steps_per_epoch` steps in an epoch.
///
/// `position` is the number of steps that the epochs before this step have at `steps_per_epoch`, plus the steps of the
/// current epoch. It equals `step` unless an epoch had another number of steps, because the batch size was changed or
/// no image of a batch could be loaded: the schedule follows epochs, and the warm-up steps.
///
/// It is [`TrainConfig::base_lr`] times the factor of the warm-up times the factor of the schedule. The warm-up rises
/// linearly from `warmup_factor` to 1 (`torch.optim.lr_scheduler.LinearLR`). A `step` schedule decreases at the first
/// step at or after each milestone; a `cosine` schedule runs from the end of the warm-up to 0 at
/// [`TrainConfig::cosine_end`].
pub fn learning_rate(config: &TrainConfig, steps_per_epoch: usize, step: u64, position: u64) -> f64 {
    config.base_lr() * warmup_at(config, step) * schedule_at(config, steps_per_epoch, position)
}

/// Factor of the warm-up at a step, from `warmup_factor` to 1.
fn warmup_at(config: &TrainConfig, step: u64) -> f64 {
    let steps = config.warmup_steps as u64;
    if step >= steps {
        return 1.0;
    }
    config.warmup_factor + (1.0 - config.warmup_factor) * step as f64 / steps as f64
}

/// Factor of the learning rate that the schedule gives at a position in steps of whole epochs.
fn schedule_at(config: &TrainConfig, steps_per_epoch: usize, position: u64) -> f64 {
    match config.schedule {
        ScheduleKind::Constant => 1.0,
        ScheduleKind::Step => {
            let epoch = position as f64 / steps_per_epoch.max(1) as f64;
            let passed = config.milestones.iter().filter(|m| epoch >= **m).count();
            config.gamma.powi(passed as i32)
        }
        ScheduleKind::Cosine => {
            let total = config.cosine_end() * steps_per_epoch as f64;
            let start = (config.warmup_steps as f64).min(total);
            let progress = (position as f64 - start).max(0.0) / (total - start).max(1.0);
            0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-12), "{a} is not {b}");
    }

    #[test]
    fn the_rate_scales_with_the_images_of_an_update() {
        let mut config =
            TrainConfig { lr: 0.01, batch_size: 4, accumulate: 2, warmup_steps: 0, ..TrainConfig::default() };
        close(learning_rate(&config, 10, 0, 0), 0.005);
        config.scale_lr = false;
        close(learning_rate(&config, 10, 0, 0), 0.01);
    }

    #[test]
    fn steps_fall_at_their_milestones() {
        let config = TrainConfig {
            scale_lr: false,
            lr: 1.0,
            warmup_steps: 0,
            milestones: vec![2.0, 3.5],
            gamma: 0.1,
            ..TrainConfig::default()
        };
        let rates: Vec<f64> = [0, 19, 20, 34, 35, 99].iter().map(|s| learning_rate(&config, 10, *s, *s)).collect();
        for (rate, expected) in rates.iter().zip([1.0, 1.0, 0.1, 0.1, 0.01, 0.01]) {
            close(*rate, expected);
        }
    }

    #[test]
    fn a_milestone_stays_at_its_epoch_when_epochs_have_other_steps() {
        let config = TrainConfig {
            scale_lr: false,
            lr: 1.0,
            warmup_steps: 0,
            milestones: vec![2.0],
            gamma: 0.1,
            ..TrainConfig::default()
        };
        // Twenty steps were made in the first epoch. At step 20 the second epoch begins.
        close(learning_rate(&config, 10, 20, 10), 1.0);
        close(learning_rate(&config, 10, 30, 20), 0.1);
    }

    #[test]
    fn warm_up_is_linear_and_multiplies() {
        let config = TrainConfig {
            scale_lr: false,
            lr: 2.0,
            warmup_steps: 4,
            warmup_factor: 0.5,
            schedule: ScheduleKind::Constant,
            ..TrainConfig::default()
        };
        for (step, expected) in [1.0, 1.25, 1.5, 1.75, 2.0, 2.0].into_iter().enumerate() {
            close(learning_rate(&config, 10, step as u64, step as u64), expected);
        }
    }

    #[test]
    fn a_cosine_starts_after_the_warm_up_and_ends_near_zero() {
        let config = TrainConfig {
            scale_lr: false,
            lr: 1.0,
            epochs: 11,
            warmup_steps: 10,
            schedule: ScheduleKind::Cosine,
            ..TrainConfig::default()
        };
        close(learning_rate(&config, 10, 10, 10), 1.0);
        close(learning_rate(&config, 10, 60, 60), 0.5);
        assert!(learning_rate(&config, 10, 109, 109) < 3e-4);
        assert!(learning_rate(&config, 10, 1000, 1000) < 1e-12);
    }

    #[test]
    fn a_cosine_can_end_inside_an_epoch() {
        let mut config = TrainConfig {
            scale_lr: false,
            lr: 1.0,
            epochs: 11,
            warmup_steps: 10,
            schedule: ScheduleKind::Cosine,
            ..TrainConfig::default()
        };
        config.cosine_epochs = 5.1;
        close(learning_rate(&config, 10, 10, 10), 1.0);
        assert!((learning_rate(&config, 10, 30, 30) - 0.5).abs() < 0.02);
        assert!(learning_rate(&config, 10, 50, 50) < 2e-3);
        config.cosine_epochs = 11.0;
        let whole = TrainConfig { cosine_epochs: 0.0, ..config.clone() };
        for step in 0..120 {
            assert_eq!(learning_rate(&config, 10, step, step), learning_rate(&whole, 10, step, step));
        }
    }
}
