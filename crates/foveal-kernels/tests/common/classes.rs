//! Helpers shared by the tests of the class losses.
use burn::tensor::{Device, Int, Tensor, TensorData};
use foveal_kernels::*;

use super::{to_vec, values};

pub(crate) fn focal(alpha: f32, gamma: f32) -> ClassLossParams {
    ClassLossParams { kind: ClassLossKind::Focal, alpha, gamma }
}

pub(crate) fn kind(kind: ClassLossKind) -> ClassLossParams {
    // Gamma must be ignored.
    ClassLossParams { kind, alpha: 0.25, gamma: 2.0 }
}

pub(crate) struct Run {
    pub loss: f32,
    pub sums: Vec<f32>,
    pub grad: Vec<f32>,
}

pub(crate) fn run(logits: &[f32], classes: &[i32], p: ClassLossParams, device: &Device, scale: f32) -> Run {
    let shape = [classes.len(), logits.len() / classes.len()];
    let x = Tensor::<2>::from_data(TensorData::new(logits.to_vec(), shape), device).require_grad();
    let classes = Tensor::<1, Int>::from_data(TensorData::new(classes.to_vec(), [classes.len()]), device);
    let out = class_loss(x.clone(), classes, p);
    let grads = (out.loss.clone() * scale).sum().backward();
    Run { loss: to_vec(out.loss)[0], sums: to_vec(out.sums), grad: to_vec(x.grad(&grads).expect("a gradient")) }
}

/// Loss by its definition (arXiv 1708.02002, eq. 5) and derivative by the logit (appendix B), for moderate logits.
pub(crate) fn scalar(x: f64, positive: bool, p: ClassLossParams) -> [f64; 2] {
    let y = if positive { 1.0 } else { -1.0 };
    let truth = 1.0 / (1.0 + (-y * x).exp());
    let gamma = if p.kind == ClassLossKind::Focal { f64::from(p.gamma) } else { 0.0 };
    let alpha = f64::from(p.alpha);
    let weight = match (p.kind == ClassLossKind::CrossEntropy || alpha < 0.0, positive) {
        (true, _) => 1.0,
        (false, true) => alpha,
        (false, false) => 1.0 - alpha,
    };
    let factor = weight * (1.0 - truth).powf(gamma);
    [-factor * truth.ln(), y * factor * (gamma * truth * truth.ln() + truth - 1.0)]
}

pub(crate) fn all_kinds() -> Vec<ClassLossParams> {
    let gammas = [0.0, 0.5, 1.0, 1.5, 2.0, 5.0];
    let focals = gammas.into_iter().flat_map(|g| [focal(0.25, g), focal(-1.0, g), focal(0.0, g)]);
    focals.chain([kind(ClassLossKind::CrossEntropy), kind(ClassLossKind::BalancedCrossEntropy)]).collect()
}

/// Logits, and anchors of every role.
pub(crate) fn sample() -> (Vec<f32>, Vec<i32>) {
    let classes = vec![BACKGROUND, 3, IGNORE, BACKGROUND, 0, 6, IGNORE, BACKGROUND];
    (values(3, 7 * classes.len()).into_iter().map(|v| v * 6.0).collect(), classes)
}
