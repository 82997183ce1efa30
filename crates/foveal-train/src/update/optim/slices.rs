//! Parameter updates in host memory, in one pass over the slices.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::{Rule, Tensors, Update};
use crate::update::Clipping;

/// Number of elements that a thread processes at once. Updates are elementwise, so results do not depend on it.
const CHUNK: usize = 1 << 14;

/// Updates a parameter and its state, without a copy if no other tensor shares their memory. Nothing changes if
/// [`Clipping::finite`] is false. All tensors lie in host memory, so that no device is waited for.
pub(super) fn update<const D: usize>(
    tensors: Tensors<D>,
    grad: Tensor<D>,
    update: &Update,
    clipping: &Clipping,
) -> Tensors<D> {
    if !clipping.finite.clone().into_scalar::<bool>() {
        return tensors;
    }
    let factor: f32 = clipping.factor.clone().into_scalar();
    let device = tensors.param.device();
    let Tensors { param, first, second } = tensors;
    let (mut p, g, mut m) = (param.into_data(), grad.into_data(), first.into_data());
    let mut v = second.map(|v| v.into_data());
    {
        let expect = "parameters are f32";
        let p = p.as_mut_slice::<f32>().expect(expect).par_chunks_mut(CHUNK);
        let g = g.as_slice::<f32>().expect(expect).par_chunks(CHUNK);
        let m = m.as_mut_slice::<f32>().expect(expect).par_chunks_mut(CHUNK);
        let (lr, decay) = (update.lr as f32, update.weight_decay as f32);
        match (update.rule, &mut v) {
            (Rule::AdamW { betas, eps }, Some(v)) => {
                let v = v.as_mut_slice::<f32>().expect(expect).par_chunks_mut(CHUNK);
                let adam = Adam::new(update, betas, eps);
                let chunks = p.zip(g).zip(m.zip(v));
                chunks.for_each(|((p, g), (m, v))| adam.step(p, g, m, v, factor));
            }
            (Rule::Sgd { momentum }, _) => {
                let momentum = momentum as f32;
                p.zip(g).zip(m).for_each(|((p, g), m)| {
                    for ((p, g), m) in p.iter_mut().zip(g).zip(m) {
                        *m = momentum * *m + (g * factor + decay * *p);
                        *p -= lr * *m;
                    }
                });
            }
            (Rule::AdamW { .. }, None) => unreachable!("AdamW has a second moment"),
        }
    }
    let back = |data: TensorData| Tensor::from_data(data, &device);
    Tensors { param: back(p), first: back(m), second: v.map(back) }
}

/// The constants of one AdamW update, rounded to f32 as in torch.
pub(super) struct Adam {
    /// Factor of the parameter: 1 - lr * weight decay.
    pub(super) keep: f32,
    pub(super) beta2: f32,
    /// 1 - beta of both moments, computed in f64 and then rounded: `1 - 0.999f32` would have a relative error of 5e-5.
    pub(super) rest: [f32; 2],
    /// Learning rate divided by the bias correction of the first moment.
    pub(super) rate: f32,
    /// Square root of the bias correction of the second moment.
    pub(super) root: f32,
    pub(super) eps: f32,
}

impl Adam {
    pub(super) fn new(update: &Update, betas: [f64; 2], eps: f64) -> Self {
        let correction = betas.map(|b| 1.0 - b.powf(update.count as f64));
        Self {
            keep: (1.0 - update.lr * update.weight_decay) as f32,
            beta2: betas[1] as f32,
            rest: betas.map(|b| (1.0 - b) as f32),
            rate: (update.lr / correction[0]) as f32,
            root: correction[1].sqrt() as f32,
            eps: eps as f32,
        }
    }

    fn step(&self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], factor: f32) {
        let (b2, [r1, r2]) = (self.beta2, self.rest);
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * factor;
            *m += r1 * (g - *m);
            *v = b2 * *v + r2 * g * g;
            *p = *p * self.keep - self.rate * (*m / (v.sqrt() / self.root + self.eps));
        }
    }
}
