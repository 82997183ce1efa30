//! `foveal loss suggest`: start values for a data set, each with its reason; what is a heuristic is called one.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, bail};
use foveal_criterion::{PairLoss, Scores, effective_number, inverse_frequency, prior_bias};
use foveal_data::shapes::Split as Half;
use foveal_data::{Opened, Source, TargetCounts};
use foveal_train::RunConfig;
use serde_json::{Value, json};

use super::weights::{Repeats, beta_for, imbalance};
use crate::args::{Common, Split, SuggestArgs};
use crate::failure::DONE;
use crate::output::significant;
use crate::{config, output};

/// The paper's prior (arXiv 1708.02002, section 4.1), and smaller ones.
const PRIORS: [f64; 10] = [0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5];
/// Alpha and gamma of its table 1b.
const FOCAL: [[f64; 2]; 5] = [[0.75, 0.0], [0.5, 0.5], [0.25, 1.0], [0.25, 2.0], [0.25, 5.0]];
/// A state of training in which the choice of gamma matters: positives undecided, negatives easy.
const UNDECIDED: f64 = 0.5;
const EASY: f64 = 0.99;
/// Below this ratio of the most frequent to the rarest class no remedy is proposed.
const BALANCED: f64 = 10.0;
/// Sampling is proposed where it takes the ratio down by at least this factor.
const ENOUGH: f64 = 1.5;

/// Counts, and proposes.
///
/// # Errors
/// A configuration or annotations that cannot be used.
pub fn run(args: &SuggestArgs, common: &Common) -> Result<u8> {
    let config = config::load(Some(&args.config), &common.set)?;
    let opened = open(&config, args.annotations.as_deref(), args.split)?;
    if !opened.report.is_clean() {
        eprintln!("{}", opened.report.summary());
    }
    let counts = TargetCounts::new(&opened, &config.data, &config.model.anchors, &config.matcher, args.images as usize);
    if counts.objects == 0 {
        bail!("{}: expected objects that can be trained on, found no object", opened.report.set);
    }
    let prior = Prior::of(counts.negatives_per_positive());
    let focal = Focal::of(counts.negatives_per_positive());
    let classes = Classes::of(&counts);
    let mut text = describe(&counts);
    text += &prior.explain();
    text += &focal.explain();
    text += &classes.explain(&counts);
    text += &format!("\nTo put into the configuration:\n\n{}", snippet(&prior, &focal, &classes));
    text += "\nTo settle it by experiment: foveal lab CONFIG --arms gamma, alpha, pi or rare-classes.\n";
    let json = json!({
        "counts": counts, "negatives_per_positive": counts.negatives_per_positive(),
        "prior": prior.value, "alpha": focal.alpha, "gamma": focal.gamma,
        "imbalance": classes.ratio, "inverse_frequency": classes.inverse, "effective_number": classes.effective,
        "class_weight_beta": classes.beta, "repeat_factor": classes.repeats, "remedy": classes.remedy.key(),
    });
    output::emit::<Value>(args.json.as_deref(), &json, &text)?;
    Ok(DONE)
}

/// The set of a configuration, or of a file in its place, by its annotations alone.
fn open(config: &RunConfig, file: Option<&Path>, split: Split) -> Result<Opened> {
    let (set, half, key) = match split {
        Split::Train => (&config.data.train, Half::Train, "data.train.annotations"),
        Split::Val => (&config.data.val, Half::Val, "data.val.annotations"),
    };
    let path = match (file, config.data.source) {
        (Some(file), _) => file,
        (None, Source::Shapes) if split == Split::Train => return Ok(config.data.open_train()?),
        (None, Source::Shapes) => return Ok(config.data.open_val()?),
        (None, Source::Coco) => match &set.annotations {
            Some(path) => path,
            None => bail!("the configuration has no {key}; name a file by --annotations"),
        },
    };
    Ok(config.data.open_annotations(path, half)?)
}

fn describe(counts: &TargetCounts) -> String {
    let each = |n: usize| n as f64 / counts.matched_images.max(1) as f64;
    format!(
        "{} images ({} without objects), {} objects of {} classes.\nA image, after resizing (mean of {}): {:.0} anchors, \
         {:.1} positive, {:.1} ignored.\nPairs of anchor and class: {:.0} negative ones for each positive.\n",
        counts.images,
        counts.empty_images,
        counts.objects,
        counts.classes.len(),
        counts.matched_images,
        each(counts.positives + counts.background + counts.ignored),
        each(counts.positives),
        each(counts.ignored),
        counts.negatives_per_positive(),
    )
}

/// The prior of the class layer.
struct Prior {
    /// Negative pairs of anchor and class for each positive.
    negatives: f64,
    value: f64,
}

impl Prior {
    fn of(negatives: f64) -> Self {
        let fits = |pi: &&f64| Self::share(negatives, **pi, PairLoss::focal(0.25, 2.0)) >= 0.5;
        Self { negatives, value: *PRIORS.iter().find(fits).unwrap_or(&PRIORS[PRIORS.len() - 1]) }
    }

    fn share(negatives: f64, pi: f64, loss: PairLoss) -> f64 {
        loss.sums(&Scores { positives: 1.0, negatives, of_positives: pi, of_negatives: pi }).positive_share()
    }

    fn explain(&self) -> String {
        let rate = 1.0 / (1.0 + self.negatives);
        let mut text = format!(
            "\nPrior of the class layer (model.head.prior): {} (bias {:.3})\n  {:>10}  {:>34}\n  {:>10}  {:>16}  {:>16}\n",
            self.value,
            prior_bias(self.value),
            "pi",
            "positives' share of the first loss",
            "",
            "focal (.25, 2)",
            "cross entropy",
        );
        let mut rows = vec![(0.5, ""), (0.1, ""), (0.01, "")];
        if self.value != 0.01 {
            rows.push((self.value, ""));
        }
        rows.push((rate, " (positives over all pairs)"));
        for (pi, note) in rows {
            let share = |loss| significant(Self::share(self.negatives, pi, loss), 3, 1e-3);
            let (focal, plain) = (share(PairLoss::focal(0.25, 2.0)), share(PairLoss::cross_entropy()));
            let _ = writeln!(text, "  {:>10}  {focal:>16}  {plain:>16}{note}", significant(pi, 3, 1e-4));
        }
        text + "  Source: the paper takes 0.01 and finds the exact value uncritical (arXiv 1708.02002, section 4.1).\n  \
                Heuristic, foveal's own: the largest of 0.01, 0.005, 0.002, 0.001, ... at which positives make at least half \
                of\n  the first focal loss.\n"
    }
}

/// Alpha and gamma of the focal loss.
struct Focal {
    /// As in [`Prior`].
    negatives: f64,
    alpha: f64,
    gamma: f64,
}

impl Focal {
    fn share(negatives: f64, [alpha, gamma]: [f64; 2]) -> f64 {
        let scores = Scores { positives: 1.0, negatives, of_positives: UNDECIDED, of_negatives: 1.0 - EASY };
        PairLoss::focal(alpha, gamma).sums(&scores).positive_share()
    }

    fn of(negatives: f64) -> Self {
        // As far from one half to either side, in terms of odds.
        let distance = |pair: [f64; 2]| {
            let share = Self::share(negatives, pair);
            (share / (1.0 - share)).ln().abs()
        };
        let best = FOCAL.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        let [alpha, gamma] = best.unwrap_or(FOCAL[3]);
        Self { negatives, alpha, gamma }
    }

    fn explain(&self) -> String {
        let mut text = format!(
            "\nFocal loss (loss.alpha, loss.gamma): alpha {}, gamma {}\n  {:>6}  {:>6}  positives' share with positives at \
             p_t {UNDECIDED}, negatives at p_t {EASY}\n",
            self.alpha, self.gamma, "alpha", "gamma"
        );
        for pair in FOCAL {
            let _ = writeln!(
                text,
                "  {:>6}  {:>6}  {}",
                pair[0],
                pair[1],
                significant(Self::share(self.negatives, pair), 3, 1e-3)
            );
        }
        text + "  Source of the pairs: each gamma with its best alpha on COCO; .25 and 2 are best there (table 1b).\n  \
                Heuristic, foveal's own: the pair that divides the loss most evenly in that situation; with COCO's number of\n  \
                negatives it is the paper's.\n"
    }
}

/// Frequencies of classes and their remedies.
struct Classes {
    ratio: f64,
    inverse: Vec<f64>,
    effective: Vec<f64>,
    beta: f64,
    repeats: Repeats,
    sampled_ratio: f64,
    remedy: Remedy,
}

/// What is proposed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remedy {
    None,
    Sampling,
    Weights,
}

impl Remedy {
    fn key(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sampling => "repeat_factor",
            Self::Weights => "effective_number",
        }
    }
}

impl Classes {
    fn of(counts: &TargetCounts) -> Self {
        let objects: Vec<usize> = counts.classes.iter().map(|class| class.objects).collect();
        let mut on: Vec<usize> = counts.classes.iter().map(|class| class.images).filter(|n| *n > 0).collect();
        on.sort_unstable();
        let threshold = on[on.len() / 2] as f64 / counts.images.max(1) as f64;
        let threshold = (threshold * 100.0).round().max(1.0) / 100.0;
        let repeats = Repeats::new(counts, threshold);
        let ratio = imbalance(objects.iter().map(|n| *n as f64));
        let sampled_ratio = imbalance(repeats.objects.iter().copied());
        let remedy = match () {
            () if ratio < BALANCED => Remedy::None,
            () if ratio / sampled_ratio >= ENOUGH => Remedy::Sampling,
            () => Remedy::Weights,
        };
        let beta = beta_for(&objects);
        Self {
            ratio,
            inverse: inverse_frequency(&objects),
            effective: effective_number(&objects, beta),
            beta,
            repeats,
            sampled_ratio,
            remedy,
        }
    }

    fn explain(&self, counts: &TargetCounts) -> String {
        let mut text = format!(
            "\nClasses: the most frequent has {:.1} times the objects of the rarest\n  {:<24}{:>9}{:>10}{:>11}{:>10}{:>11}{:>9}\n",
            self.ratio, "class", "objects", "pictures", "positives", "inverse", "effective", "repeat"
        );
        for (i, class) in counts.classes.iter().enumerate() {
            let _ = writeln!(
                text,
                "  {:<24}{:>9}{:>10}{:>11}{:>10.3}{:>11.3}{:>9.2}",
                class.name,
                class.objects,
                class.images,
                class.positives,
                self.inverse[i],
                self.effective[i],
                self.repeats.factors[i]
            );
        }
        let _ = writeln!(
            text,
            "  inverse, effective: weights by inverse frequency and by effective number with beta {} (Cui et al., arXiv \
             1901.05555);\n  repeat: how often an image with that class is shown, threshold {} (Gupta et al., arXiv \
             1908.03195); the ratio\n  is then {:.1}, since images hold other classes too.",
            self.beta, self.repeats.threshold, self.sampled_ratio
        );
        let missing: Vec<&str> = counts.classes.iter().filter(|c| c.objects == 0).map(|c| c.name.as_str()).collect();
        if !missing.is_empty() {
            let _ = writeln!(text, "  without any object, so that they cannot be learned: {}", missing.join(", "));
        }
        text += match self.remedy {
            Remedy::None => "  Proposal: none; the ratio is below 10.\n",
            Remedy::Sampling => "  Proposal: repeated pictures.\n",
            Remedy::Weights => "  Proposal: weights by effective number; repeating images would change little.\n",
        };
        text + "  Heuristics, foveal's own: no remedy below a ratio of 10; repeated images where they lower the ratio by a \
                third,\n  with the threshold at the median class; else weights, with the smallest published beta whose limit \
                1/(1 - beta)\n  is not below the most frequent class's count. Never both: they would add up.\n"
    }
}

fn snippet(prior: &Prior, focal: &Focal, classes: &Classes) -> String {
    let mut text = format!(
        "[model.head]\nprior = {}\n\n[loss]\nkind = \"focal\"\nalpha = {:?}\ngamma = {:?}\n",
        prior.value, focal.alpha, focal.gamma
    );
    text += &match classes.remedy {
        Remedy::None => String::new(),
        Remedy::Weights => {
            format!("class_weights = \"effective_number\"\nclass_weight_beta = {:?}\n", classes.beta)
        }
        Remedy::Sampling => {
            format!("\n[data]\nsampler = \"repeat_factor\"\nrepeat_threshold = {:?}\n", classes.repeats.threshold)
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_cocos_negatives_the_proposals_are_the_papers() {
        // The step-0 example: 100,000 anchors of 80 classes, 20 positives; and ten times as many positives.
        for negatives in [4e5, 4e4] {
            let focal = Focal::of(negatives);
            assert_eq!((Prior::of(negatives).value, focal.alpha, focal.gamma), (0.01, 0.25, 2.0), "{negatives}");
        }
    }

    #[test]
    fn fewer_negatives_want_less_focus_and_more_a_smaller_prior() {
        assert_eq!(Focal::of(1e3).gamma, 1.0);
        assert!(Prior::of(1e7).value < 0.01);
        assert_eq!(Prior::of(10.0).value, 0.01);
    }
}
