//! The operations in `f64`, with the size of what each value is a sum of.
//!
//! A sum such as the gradient of a scale can be close to zero although its terms are large. Its rounding error in `f32`
//! is proportional to the sum of the magnitudes of its terms (the condition of the sum), so the tests divide the error
//! by that sum and not by the value.
use super::values;

/// Largest error of a kernel in `f32`, divided by the sum of the magnitudes of the terms.
pub(crate) const OF_TERMS: f64 = 2e-6;

/// A value in `f64`, and the sum of the magnitudes of the terms that it is the sum of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exact {
    pub value: f64,
    pub terms: f64,
}

impl Exact {
    fn of(terms: impl IntoIterator<Item = f64>) -> Self {
        terms.into_iter().fold(Self::default(), |sum, term| sum.plus(Self { value: term, terms: term.abs() }))
    }

    fn plus(self, other: Self) -> Self {
        Self { value: self.value + other.value, terms: self.terms + other.terms }
    }

    fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, terms: self.terms * factor.abs() }
    }

    /// The product of two sums.
    fn by(self, other: Self) -> Self {
        Self { value: self.value * other.value, terms: self.terms * other.terms }
    }
}

/// Panics with `what` if a result differs from its exact value by more than [`OF_TERMS`] of its terms.
pub(crate) fn assert_exact(what: &str, got: &[Vec<f32>], exact: &[Vec<Exact>]) {
    assert_eq!(got.len(), exact.len(), "{what}");
    for (result, (got, exact)) in got.iter().zip(exact).enumerate() {
        assert_eq!(got.len(), exact.len(), "{what}: result {result}");
        for (i, (got, exact)) in got.iter().zip(exact).enumerate() {
            let error = (f64::from(*got) - exact.value).abs();
            assert!(
                error <= OF_TERMS * exact.terms,
                "{what}: value {i} of result {result} is {got:e}, expected {exact:?}; the error is {:e} of the terms",
                error / exact.terms
            );
        }
    }
}

/// The values of the leaf with this seed.
fn leaf(seed: u64, len: usize) -> Vec<f64> {
    values(seed, len).into_iter().map(f64::from).collect()
}

/// The fixed values that the output is multiplied by before it is summed: its gradient.
fn upstream(len: usize) -> Vec<f64> {
    leaf(99, len)
}

/// The output and the gradients of `x`, residual, scale and shift of an affine map without activation, whose input is
/// twice the leaf.
pub(crate) fn affine([batch, channels, h, w]: [usize; 4]) -> Vec<Vec<Exact>> {
    let pixels = h * w;
    let len = batch * channels * pixels;
    let (x, rest, g) = (leaf(1, len), leaf(4, len), upstream(len));
    let (scale, shift) = (leaf(2, channels), leaf(3, channels));
    let channel = |i: usize| i / pixels % channels;
    let y = (0..len).map(|i| Exact::of([2.0 * x[i] * scale[channel(i)], shift[channel(i)], rest[i]])).collect();
    let dx = (0..len).map(|i| Exact::of([2.0 * g[i] * scale[channel(i)]])).collect();
    let drest = g.iter().map(|g| Exact::of([*g])).collect();
    let by_channel = |term: &dyn Fn(usize) -> f64| -> Vec<Exact> {
        (0..channels).map(|c| Exact::of((0..len).filter(|i| channel(*i) == c).map(term))).collect()
    };
    vec![y, dx, drest, by_channel(&|i| 2.0 * x[i] * g[i]), by_channel(&|i| g[i])]
}

/// The output and the gradients of `x`, scale and shift of a group norm without activation.
pub(crate) fn group_norm([batch, channels, h, w]: [usize; 4], groups: usize, eps: f64) -> Vec<Vec<Exact>> {
    let pixels = h * w;
    let len = batch * channels * pixels;
    let (x, g) = (leaf(1, len), upstream(len));
    let (scale, shift) = (leaf(2, channels), leaf(3, channels));
    let channel = |i: usize| i / pixels % channels;
    let mut y = vec![Exact::default(); len];
    let (mut dx, mut dscale, mut dshift) =
        (y.clone(), vec![Exact::default(); channels], vec![Exact::default(); channels]);
    let count = channels / groups * pixels;
    for group in (0..len).step_by(count).map(|start| start..start + count) {
        let n = count as f64;
        let mean = Exact::of(group.clone().map(|i| x[i] / n));
        let variance = group.clone().map(|i| (x[i] - mean.value).powi(2) / n).sum::<f64>();
        let inverse = 1.0 / (variance + eps).sqrt();
        let normal = |i: usize| Exact::of([x[i]]).plus(mean.times(-1.0)).times(inverse);
        let scaled = |i: usize| Exact::of([g[i] * scale[channel(i)]]);
        let sum =
            |of: &dyn Fn(usize) -> Exact| group.clone().map(of).fold(Exact::default(), Exact::plus).times(1.0 / n);
        let (mean_g, mean_gx) = (sum(&scaled), sum(&|i| scaled(i).by(normal(i))));
        for i in group.clone() {
            let c = channel(i);
            y[i] = normal(i).times(scale[c]).plus(Exact::of([shift[c]]));
            dx[i] = scaled(i).plus(mean_g.times(-1.0)).plus(normal(i).by(mean_gx).times(-1.0)).times(inverse);
            dscale[c] = dscale[c].plus(normal(i).times(g[i]));
            dshift[c] = dshift[c].plus(Exact::of([g[i]]));
        }
    }
    vec![y, dx, dscale, dshift]
}

/// The output and the gradient of a max pooling of 3x3 pixels with stride 2 and padding 1. Of equal values the first
/// has the gradient.
pub(crate) fn pool([batch, channels, h, w]: [usize; 4]) -> Vec<Vec<Exact>> {
    let len = batch * channels * h * w;
    let (to_h, to_w) = (h.div_ceil(2), w.div_ceil(2));
    let (x, g) = (leaf(1, len), upstream(batch * channels * to_h * to_w));
    let (mut y, mut dx) = (Vec::new(), vec![Exact::default(); len]);
    for plane in 0..batch * channels {
        for (row, column) in (0..to_h).flat_map(|row| (0..to_w).map(move |column| (row, column))) {
            let side = |at: usize, end: usize| (2 * at).saturating_sub(1)..(2 * at + 2).min(end);
            let window = side(row, h).flat_map(|r| side(column, w).map(move |c| (plane * h + r) * w + c));
            let first = window.reduce(|best, i| if x[i] > x[best] { i } else { best }).expect("a window has pixels");
            dx[first] = dx[first].plus(Exact::of([g[y.len()]]));
            y.push(Exact::of([x[first]]));
        }
    }
    vec![y, dx]
}

/// The output and the gradients of both inputs of the sum of a lateral map and an upsampled map of the size `top`.
pub(crate) fn upsample([batch, channels, h, w]: [usize; 4], top: [usize; 2]) -> Vec<Vec<Exact>> {
    let (len, from) = (batch * channels * h * w, batch * channels * top[0] * top[1]);
    let (a, b, g) = (leaf(1, len), leaf(2, from), upstream(len));
    let source = |i: usize| {
        let (plane, row, column) = (i / (h * w), i / w % h, i % w);
        (plane * top[0] + row * top[0] / h) * top[1] + column * top[1] / w
    };
    let y = (0..len).map(|i| Exact::of([a[i], b[source(i)]])).collect();
    let da = g.iter().map(|g| Exact::of([*g])).collect();
    let mut db = vec![Exact::default(); from];
    (0..len).for_each(|i| db[source(i)] = db[source(i)].plus(Exact::of([g[i]])));
    vec![y, da, db]
}
