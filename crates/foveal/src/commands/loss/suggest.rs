//! `foveal loss suggest`: proposes prior, loss and remedies for rare classes for a data set, with the reasons.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, bail};
use foveal_base::printable;
use foveal_criterion::{ClassLossKind, PairLoss, Scores, effective_number, inverse_frequency, prior_bias};
use foveal_data::shapes::Split;
use foveal_data::{Opened, Source, TargetCounts};
use foveal_train::RunConfig;
use serde_json::{Value, json};

use super::weights::{Repeats, beta_for, imbalance};
use crate::args::{Common, SplitArg, SuggestArgs};
use crate::config::{self, Loaded};
use crate::console::note;
use crate::failure::DONE;
use crate::output::{self, significant};
use crate::outputs::Files;

/// Candidates for the prior: that of the paper (arXiv 1708.02002, section 4.1), and smaller ones.
const PRIORS: [f64; 10] = [0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5];
/// Candidates for alpha and gamma: table 1b of arXiv 1708.02002.
const FOCAL: [[f64; 2]; 5] = [[0.75, 0.0], [0.5, 0.5], [0.25, 1.0], [0.25, 2.0], [0.25, 5.0]];
/// The best `beta` of the quality focal loss, which is its `gamma` (Li et al., arXiv 2006.04388, below equation 2).
const QUALITY_GAMMA: f64 = 2.0;
/// p_t of the positives in the state of training that alpha and gamma are compared in: undecided.
const UNDECIDED: f64 = 0.5;
/// p_t of the negatives in the state of training that alpha and gamma are compared in: easy.
const EASY: f64 = 0.99;
/// Ratio of the most frequent to the rarest class below which no remedy is proposed.
const BALANCED: f64 = 10.0;
/// Repeat factor sampling is proposed if it reduces the ratio of the most frequent to the rarest class by at least this
/// factor.
const ENOUGH: f64 = 1.5;

/// Counts the objects and anchors of a data set, and prints proposals with their reasons.
///
/// # Errors
/// If the configuration or the annotations cannot be used, or the set contains no objects to train on.
pub(super) fn run(args: &SuggestArgs, common: &Common) -> Result<u8> {
    let Loaded { config, files } = config::open(Some(&args.config), &common.set)?;
    Files::new()
        .read("configuration", &files)
        .read("annotation file", &args.annotations)
        .read_config(&config)
        .write("--json", &args.json)
        .check()?;
    let opened = open(&config, args.annotations.as_deref(), args.split)?;
    if !opened.report.is_clean() {
        note!("warning: {}: {}", opened.report.set, opened.report.summary());
    }
    let counts = TargetCounts::new(&opened, &config.data, &config.model.anchors, &config.matcher, args.images as usize);
    if counts.objects == 0 {
        bail!("{}: expected at least one object to train on, found no object", opened.report.set);
    }
    let prior = Prior::of(counts.negatives_per_positive());
    let focal = Focal::of(counts.negatives_per_positive());
    let is_quality = config.loss.kind == ClassLossKind::QualityFocal;
    let classes = Classes::of(&counts);
    let mut text = describe(&counts);
    text += &prior.explain();
    text += &focal.explain();
    if is_quality {
        text += &explain_quality();
    }
    text += &classes.explain(&counts);
    let snippet = snippet(&prior, (!is_quality).then_some(&focal), &classes);
    text += &format!("\nProposed settings for the configuration:\n\n{snippet}");
    text += "\nTo compare settings by experiment: foveal lab CONFIG --arms SET (gamma, alpha, pi or rare-classes)\n";
    let json = json!({
        "counts": counts, "negatives_per_positive": counts.negatives_per_positive(),
        "prior": prior.value, "alpha": focal.alpha, "gamma": focal.gamma,
        "imbalance": classes.ratio, "inverse_frequency": classes.inverse, "effective_number": classes.effective,
        "class_weight_beta": classes.beta, "repeat_factor": classes.repeats, "remedy": classes.remedy.key(),
    });
    output::emit::<Value>(args.json.as_deref(), &json, &text)?;
    Ok(DONE)
}

/// Opens a data set of the configuration, or the given annotations instead, without reading images.
fn open(config: &RunConfig, file: Option<&Path>, split: SplitArg) -> Result<Opened> {
    let (set, part, key) = match split {
        SplitArg::Train => (&config.data.train, Split::Train, "data.train.annotations"),
        SplitArg::Val => (&config.data.val, Split::Val, "data.val.annotations"),
    };
    let path = match (file, config.data.source) {
        (Some(file), _) => file,
        (None, Source::Shapes) if split == SplitArg::Train => return Ok(config.data.open_train()?),
        (None, Source::Shapes) => return Ok(config.data.open_val()?),
        (None, Source::Coco) if split == SplitArg::Train && set.annotations.is_some() => {
            return Ok(config.data.open_train_annotations()?);
        }
        (None, Source::Coco) => match &set.annotations {
            Some(path) => path,
            None => bail!("the configuration does not set {key}; pass a file with --annotations"),
        },
    };
    Ok(config.data.open_annotations(path, part)?)
}

/// The first lines of the output: the counts of the set.
fn describe(counts: &TargetCounts) -> String {
    let each = |n: usize| n as f64 / counts.matched_images.max(1) as f64;
    format!(
        "{} images ({} without objects), {} objects of {} classes.\n\
         Mean anchors per image after resizing, over {} images: {:.0}, of which {:.1} positive and {:.1} ignored.\n\
         Objects without an anchor on these images: {}.\n\
         Pairs of anchor and class: {:.0} negatives per positive.\n",
        counts.images,
        counts.empty_images,
        counts.objects,
        counts.classes.len(),
        counts.matched_images,
        each(counts.positives + counts.background + counts.ignored),
        each(counts.positives),
        each(counts.ignored),
        counts.objects_without_anchor,
        counts.negatives_per_positive(),
    )
}

/// The proposal for the prior of the class layer.
struct Prior {
    /// Negative pairs of anchor and class per positive pair.
    negatives: f64,
    /// The proposed prior.
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
            "\nPrior of the class layer (model.head.prior): {} (bias {:.3})\n  {:>10}  {:>34}\n  \
             {:>10}  {:>16}  {:>16}\n",
            self.value,
            prior_bias(self.value),
            "pi",
            "positives' share of initial loss",
            "",
            "focal (.25, 2)",
            "cross entropy",
        );
        let mut rows = vec![(0.5, ""), (0.1, ""), (0.01, "")];
        if self.value != 0.01 {
            rows.push((self.value, ""));
        }
        rows.push((rate, " (fraction of positive pairs)"));
        for (pi, note) in rows {
            let share = |loss| significant(Self::share(self.negatives, pi, loss), 3, 1e-3);
            let (focal, plain) = (share(PairLoss::focal(0.25, 2.0)), share(PairLoss::cross_entropy()));
            let _ = writeln!(text, "  {:>10}  {focal:>16}  {plain:>16}{note}", significant(pi, 3, 1e-4));
        }
        text + "  Source: the paper uses 0.01 and reports that the exact value is not critical (arXiv 1708.02002, \
                section 4.1).\n  \
                Heuristic of foveal: the largest of 0.01, 0.005, 0.002, 0.001, ... for which positives contribute\n  \
                at least half of the focal loss before the first step.\n"
    }
}

/// The proposal for alpha and gamma of the focal loss.
struct Focal {
    /// Negative pairs of anchor and class per positive pair.
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
        // The distance of the share from one half, as the absolute logarithm of the odds.
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
            "\nFocal loss (loss.alpha, loss.gamma): alpha {}, gamma {}\n  {:>6}  {:>6}  positives' share of the loss, \
             with positives at p_t {UNDECIDED} and negatives at p_t {EASY}\n",
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
        text + "  Source: for each gamma, the alpha that was best on COCO; gamma 2 with alpha 0.25 has the highest\n  \
                AP (arXiv 1708.02002, table 1b).\n  \
                Heuristic of foveal: the pair for which the positives' share is closest to one half. With COCO's\n  \
                number of negatives, this is the pair that the paper chose.\n"
    }
}

/// The proposal for a configuration that selects the quality focal loss.
fn explain_quality() -> String {
    format!(
        "\nQuality focal loss, which the configuration selects (loss.kind): gamma {QUALITY_GAMMA}\n  \
         Source: the best value on COCO; there is no alpha (arXiv 2006.04388, below equation 2).\n"
    )
}

/// The proposal for rare classes.
struct Classes {
    /// Objects of the most frequent class over those of the rarest class.
    ratio: f64,
    /// For each class, the weight by inverse frequency.
    inverse: Vec<f64>,
    /// For each class, the weight by effective number.
    effective: Vec<f64>,
    /// Beta of the effective number.
    beta: f64,
    /// Effect of repeat factor sampling.
    repeats: Repeats,
    /// The ratio of the classes with repeat factor sampling.
    sampled_ratio: f64,
    /// The proposed remedy.
    remedy: Remedy,
}

/// Remedies for rare classes.
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
            "\nClasses: the most frequent has {:.1} times the objects of the rarest\n  \
             {:<24}{:>9}{:>10}{:>11}{:>10}{:>11}{:>9}\n",
            self.ratio, "class", "objects", "images", "positives", "inverse", "effective", "repeat"
        );
        for (i, class) in counts.classes.iter().enumerate() {
            let _ = writeln!(
                text,
                "  {:<24}{:>9}{:>10}{:>11}{:>10.3}{:>11.3}{:>9.2}",
                printable(&class.name),
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
            "  inverse, effective: weights by inverse frequency, and by effective number with beta {} (Cui et al.,\n  \
             arXiv 1901.05555).\n  \
             repeat: how often repeat factor sampling shows an image with this class in an epoch, with threshold {}\n  \
             (Gupta et al., arXiv 1908.03195). With it, the ratio is {:.1}; the repeated images contain other\n  \
             classes too.",
            self.beta, self.repeats.threshold, self.sampled_ratio
        );
        let missing: Vec<_> = counts.classes.iter().filter(|c| c.objects == 0).map(|c| printable(&c.name)).collect();
        if !missing.is_empty() {
            let _ = writeln!(text, "  classes without objects, which cannot be learned: {}", missing.join(", "));
        }
        text += match self.remedy {
            Remedy::None => "  Proposal: no remedy, because the ratio is below 10.\n",
            Remedy::Sampling => "  Proposal: repeat factor sampling.\n",
            Remedy::Weights => {
                "  Proposal: weights by effective number; repeat factor sampling would change the ratio too little.\n"
            }
        };
        text + "  Heuristics of foveal: no remedy if the ratio is below 10. Repeat factor sampling, if it reduces\n  \
                the ratio by a third; its threshold is the fraction of the images that contain the class with the\n  \
                median number of images. Otherwise weights, with the smallest published beta for which\n  \
                1/(1 - beta) is at least the number of objects of the most frequent class. Never both remedies,\n  \
                because their effects add up.\n"
    }
}

/// The proposals as TOML. Without a proposal for the focal loss, the class loss is the quality focal loss.
fn snippet(prior: &Prior, focal: Option<&Focal>, classes: &Classes) -> String {
    let mut text = format!("[model.head]\nprior = {}\n\n[loss]\n", prior.value);
    text += &match focal {
        Some(focal) => format!("kind = \"focal\"\nalpha = {:?}\ngamma = {:?}\n", focal.alpha, focal.gamma),
        None => format!("kind = \"quality_focal\"\ngamma = {QUALITY_GAMMA:?}\n"),
    };
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
    fn with_the_negatives_of_coco_the_proposals_are_those_of_the_paper() {
        // The step-0 example has 100,000 anchors, 80 classes and 20 positives; the second case has 200 positives.
        for negatives in [4e5, 4e4] {
            let focal = Focal::of(negatives);
            assert_eq!((Prior::of(negatives).value, focal.alpha, focal.gamma), (0.01, 0.25, 2.0), "{negatives}");
        }
    }

    #[test]
    fn fewer_negatives_give_a_smaller_gamma_and_more_negatives_a_smaller_prior() {
        assert_eq!(Focal::of(1e3).gamma, 1.0);
        assert!(Prior::of(1e7).value < 0.01);
        assert_eq!(Prior::of(10.0).value, 0.01);
    }
}
