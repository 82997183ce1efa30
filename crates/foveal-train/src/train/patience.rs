//! `train.patience`: ends a run whose evaluations have not become better for some time.

use super::Trainer;
use crate::run::{EarlyStopEvent, EarlyStopRecord, Waiting};

impl Trainer<'_> {
    /// Counts an evaluation of the run with the value `value` of `train.best_by`, which is `None` if it is undefined.
    pub(super) fn count_patience(&mut self, value: Option<f64>) {
        let settings = &self.config.train;
        if settings.patience == 0 {
            return;
        }
        let mut waiting = self.evaluated.waiting.unwrap_or_default();
        waiting.count(value, settings.min_gain);
        self.evaluated.waiting = Some(waiting);
    }

    /// Whether the last `train.patience` evaluations were no gain.
    pub(super) fn has_lost_patience(&self) -> bool {
        let patience = self.config.train.patience;
        patience > 0 && self.evaluated.waiting.is_some_and(|waiting| waiting.evaluations >= patience)
    }

    /// Says why the run ends. A run that ended before and is resumed has it in its log already.
    pub(super) fn tell_of_early_stop(&mut self) {
        let Waiting { reference, evaluations } = self.evaluated.waiting.unwrap_or_default();
        let settings = &self.config.train;
        let by = &settings.best_by;
        let gain = match settings.min_gain {
            0.0 => String::new(),
            least => format!(" by more than {least} (train.min_gain)"),
        };
        let since = match reference.map(|value| by.shown(value)) {
            Some(value) => format!("{evaluations} evaluations have not been better than {value:.4}{gain}"),
            None => format!("it was undefined in {evaluations} evaluations"),
        };
        let (epoch, step) = (self.evaluated.epoch, self.session.meta.step);
        self.progress.message(&format!(
            "the run ends after epoch {epoch} of {} (train.patience = {}): {since}; the value is {by} (train.best_by)",
            settings.epochs, settings.patience
        ));
        if self.evaluation.is_some() {
            let best = reference.map(|value| by.shown(value));
            let event = EarlyStopEvent::EarlyStop;
            let record = EarlyStopRecord { event, epoch, step, best_by: by.clone(), best, evaluations };
            self.log.line(&record);
            self.tell_log_warnings();
        }
    }
}
