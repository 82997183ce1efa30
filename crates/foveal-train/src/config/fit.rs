//! Fits the schedule of a configuration to a number of optimizer steps.

use super::{RunConfig, ScheduleKind};

impl RunConfig {
    /// Gives the run a number of optimizer steps, and fits the whole schedule of `epochs` epochs to them: milestones
    /// and the end of a cosine move with the length of the run, the last epochs without strong augmentation stay the
    /// same share of it, in whole epochs and at least one, and the warm-up is at most the same share as before.
    ///
    /// `epochs` is the length of the run before: `train.epochs`, or less if `train.max_steps` ends it earlier.
    pub fn fit_to_steps(&mut self, steps: u64, steps_per_epoch: usize, epochs: f64) {
        let train = &mut self.train;
        let fitted = steps as f64 / steps_per_epoch.max(1) as f64;
        let ratio = fitted / epochs;
        train.milestones.iter_mut().for_each(|milestone| *milestone *= ratio);
        if train.schedule == ScheduleKind::Cosine {
            train.cosine_epochs = train.cosine_end() * ratio;
        }
        let warm_up = (train.warmup_steps as f64 * ratio).round() as usize;
        train.warmup_steps = warm_up.min(train.warmup_steps);
        let closing = &mut self.data.augment.close_epochs;
        if *closing > 0 {
            *closing = ((*closing as f64 * ratio).round() as usize).max(1);
        }
        (train.epochs, train.max_steps) = (fitted.ceil() as usize, steps as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::learning_rate;

    #[test]
    fn the_whole_schedule_is_fitted_to_the_steps() {
        let mut config = RunConfig::default();
        let train = &mut config.train;
        (train.epochs, train.warmup_steps) = (12, 100);
        config.data.augment.close_epochs = 2;
        let train = &mut config.train;
        train.milestones = vec![8.0, 11.0];
        let same = |config: &RunConfig, factor: f64| {
            let found = &config.train.milestones;
            assert!((found[0] - 8.0 * factor).abs() < 1e-12 && (found[1] - 11.0 * factor).abs() < 1e-12, "{found:?}");
        };
        // A quarter of 12 epochs with 50 steps each.
        let mut short = config.clone();
        short.fit_to_steps(150, 50, 12.0);
        same(&short, 0.25);
        let train = &short.train;
        assert_eq!((train.epochs, train.max_steps, train.warmup_steps), (3, 150, 25));
        assert_eq!((train.cosine_epochs, short.data.augment.close_epochs), (0.0, 1));
        // Twice as long: the warm-up does not grow.
        let mut long = config.clone();
        long.fit_to_steps(1200, 50, 12.0);
        same(&long, 2.0);
        assert_eq!((long.train.epochs, long.train.max_steps, long.train.warmup_steps), (24, 1200, 100));
        assert_eq!(long.data.augment.close_epochs, 4);
        long.data.augment.close_epochs = 0;
        long.fit_to_steps(600, 50, 24.0);
        assert_eq!(long.data.augment.close_epochs, 0);
        // A part of an epoch. The cosine ends with the last step.
        config.train.schedule = ScheduleKind::Cosine;
        let mut limited = config.clone();
        config.fit_to_steps(170, 50, 12.0);
        let ends = |config: &RunConfig, last: u64| {
            let rate = learning_rate(&config.train, 50, last, last);
            assert!(rate > 0.0 && rate < 1e-3 * config.train.base_lr(), "{rate}");
        };
        assert_eq!((config.train.epochs, config.train.max_steps), (4, 170));
        assert!((config.train.cosine_epochs - 3.4).abs() < 1e-12);
        ends(&config, 169);
        config.validate().unwrap();
        // A cosine that ends with a run of 300 steps, which are 6 of its 12 epochs, ends with the shorter run too.
        (limited.train.max_steps, limited.train.cosine_epochs) = (300, 6.0);
        limited.fit_to_steps(200, 50, 6.0);
        assert!((limited.train.cosine_epochs - 4.0).abs() < 1e-12);
        ends(&limited, 199);
    }
}
