//! The reference of the class loss and its gradient in Burn's operations, for all backends and data types.
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::{Shape, Slice, TensorData};

use super::breakdown::{BREAKDOWN_BINS, BREAKDOWN_LEVELS, BreakdownLayout, breakdown_bin_start};
use super::{BACKGROUND, Columns, Plan};
use crate::ops::half::computed_in;

/// The result of the class loss in Burn's operations: loss, sums and gradient.
pub(super) struct Composed<B: Backend> {
    /// The sum of the loss over all logits, `[1]`.
    pub(super) loss: FloatTensor<B>,
    /// The loss of positives and of negatives, `[2]`, followed by the flat breakdown if one is wanted.
    pub(super) sums: FloatTensor<B>,
    /// The gradient with respect to the logits, `[anchors, classes]`.
    pub(super) grad: FloatTensor<B>,
}

fn times<B: Backend>(t: FloatTensor<B>, s: f32) -> FloatTensor<B> {
    B::float_mul_scalar(t, s.into())
}

fn plus<B: Backend>(t: FloatTensor<B>, s: f32) -> FloatTensor<B> {
    B::float_add_scalar(t, s.into())
}

/// Multiplies by a tensor of one value, in the data type of that value. Returns the data type of `t`.
pub(super) fn times_scalar<B: Backend>(t: FloatTensor<B>, by: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = t.dtype();
    let t = B::float_cast(t, by.dtype().into());
    B::float_cast(B::float_mul(t, B::float_reshape(by, Shape::from([1, 1]))), dtype.into())
}

/// Computes the formula of [`super::element`] on whole tensors.
pub(super) fn composed<B: Backend>(logits: FloatTensor<B>, classes: IntTensor<B>, plan: &Plan) -> Composed<B> {
    let dtype = logits.dtype();
    let logits = B::float_cast(logits, computed_in(dtype).into());
    let all = computed::<B>(logits, classes, plan);
    Composed { grad: B::float_cast(all.grad, dtype.into()), ..all }
}

fn computed<B: Backend>(logits: FloatTensor<B>, classes: IntTensor<B>, plan: &Plan) -> Composed<B> {
    let exp_neg = |t: FloatTensor<B>| B::float_exp(B::float_neg(t));

    let roles = roles::<B>(&logits, classes);
    let Roles { positive, valid } = &roles;
    let Constants { weight, gamma } = constants::<B>(&logits, &roles, plan);
    let sign = plus::<B>(times::<B>(positive.clone(), 2.0), -1.0);
    let weight = B::float_mul(valid.clone(), weight);
    let z = B::float_mul(sign.clone(), logits);
    let l = B::float_log1p(exp_neg(B::float_abs(z.clone())));
    let ce = B::float_add(l.clone(), B::relu(B::float_neg(z.clone())));
    let other = B::float_add(l, B::relu(z)); // -ln(1 - p_t)
    let power = |t: FloatTensor<B>| match &gamma {
        Gamma::Same(gamma) => times::<B>(t, *gamma),
        Gamma::Each(gamma) => B::float_mul(t, gamma.clone()),
    };
    let factor = B::float_mul(weight, exp_neg(power(other.clone())));
    let loss = B::float_mul(factor.clone(), ce.clone());
    let truth = exp_neg(ce.clone());
    let missing = exp_neg(other);
    let slope = B::float_mul(factor, B::float_add(power(B::float_mul(truth.clone(), ce)), missing.clone()));
    let grad = B::float_neg(B::float_mul(slope.clone(), sign));

    let negative = plus::<B>(B::float_neg(positive.clone()), 1.0);
    let positive_loss = B::float_mul(loss.clone(), positive.clone());
    let negative_loss = B::float_mul(loss, negative.clone());
    let sums = [&positive_loss, &negative_loss].map(|loss| B::float_sum(loss.clone()));
    let total = B::float_add(sums[0].clone(), sums[1].clone());
    let mut all = sums.to_vec();
    if let Some(layout) = &plan.breakdown {
        let negative = B::float_mul(negative, valid.clone());
        let parts = PairValues::<B> {
            positive_slope: B::float_mul(slope.clone(), positive.clone()),
            negative_slope: B::float_mul(slope, negative.clone()),
            positive_score: B::float_mul(truth, B::float_mul(positive.clone(), valid.clone())),
            negative_score: B::float_mul(missing, negative.clone()),
            positive_loss,
            negative_loss,
            negative,
        };
        all.extend(parts.breakdown(layout));
    }
    Composed { loss: total, sums: B::float_cat(all, 0), grad }
}

/// Values of all pairs, `[anchors, classes]`; 0 for pairs of the other kind.
struct PairValues<B: Backend> {
    positive_loss: FloatTensor<B>,
    negative_loss: FloatTensor<B>,
    positive_slope: FloatTensor<B>,
    negative_slope: FloatTensor<B>,
    positive_score: FloatTensor<B>,
    negative_score: FloatTensor<B>,
    /// 1 for each negative, 0 for all others.
    negative: FloatTensor<B>,
}

impl<B: Backend> PairValues<B> {
    /// The flat breakdown, as tensors to be concatenated.
    fn breakdown(self, layout: &BreakdownLayout) -> Vec<FloatTensor<B>> {
        let [rows, classes] = self.negative.shape().dims();
        let images = rows / layout.anchors();
        let by_level = |t: &FloatTensor<B>| -> Vec<FloatTensor<B>> {
            let rows = B::float_reshape(B::float_sum_dim(t.clone(), 1), Shape::from([images, layout.anchors()]));
            let mut start = 0;
            let of = layout.level_anchors.map(|anchors| {
                let slices = [Slice::full(), Slice::from(start..start + anchors)];
                start += anchors;
                if anchors == 0 {
                    return times::<B>(B::float_sum(rows.clone()), 0.0);
                }
                B::float_sum(B::float_slice(rows.clone(), &slices))
            });
            debug_assert_eq!(of.len(), BREAKDOWN_LEVELS);
            of.to_vec()
        };
        let by_class = |t: &FloatTensor<B>| B::float_reshape(B::float_sum_dim(t.clone(), 0), Shape::from([classes]));
        let (counts, losses) = self.bins();
        let scaled = [&self.positive_loss, &self.negative_loss, &self.positive_slope, &self.negative_slope];
        let mut all: Vec<FloatTensor<B>> = scaled.into_iter().flat_map(by_level).collect();
        all.extend([by_class(&self.positive_loss), by_class(&self.negative_loss)]);
        all.extend(losses);
        all.extend([&self.positive_score, &self.negative_score].into_iter().flat_map(by_level));
        all.extend(counts);
        all
    }

    /// The number of the negatives in each bin and the sum of their losses, each `[1]`.
    fn bins(&self) -> (Vec<FloatTensor<B>>, Vec<FloatTensor<B>>) {
        let device = self.negative.device();
        let bool_type = get_or_init_device_settings::<B>(&device).bool_dtype;
        let float = self.negative.dtype().into();
        let from = |bin: usize| {
            let reached =
                B::float_greater_equal_elem(self.negative_loss.clone(), breakdown_bin_start(bin).into(), bool_type);
            B::bool_into_float(reached, float)
        };
        let bins = (0..BREAKDOWN_BINS).map(|bin| {
            let mut inside = B::float_mul(from(bin), self.negative.clone());
            if bin + 1 < BREAKDOWN_BINS {
                inside = B::float_mul(inside, plus::<B>(B::float_neg(from(bin + 1)), 1.0));
            }
            let loss = B::float_sum(B::float_mul(inside.clone(), self.negative_loss.clone()));
            (B::float_sum(inside), loss)
        });
        bins.unzip()
    }
}

/// Whether each logit is a positive and whether its anchor is not ignored, as 1 or 0, `[anchors, classes]`.
struct Roles<B: Backend> {
    positive: FloatTensor<B>,
    valid: FloatTensor<B>,
}

fn roles<B: Backend>(logits: &FloatTensor<B>, classes: IntTensor<B>) -> Roles<B> {
    let [anchors, width] = logits.shape().dims();
    let device = logits.device();
    let (float, int) = (logits.dtype().into(), classes.dtype().into());
    let bool_type = get_or_init_device_settings::<B>(&device).bool_dtype;
    let shape = Shape::from([anchors, width]);
    let column = B::int_expand(B::int_reshape(classes, Shape::from([anchors, 1])), shape.clone());
    let row = B::int_reshape(B::int_arange(0..width as i64, &device, int), Shape::from([1, width]));
    let row = B::int_expand(row, shape);
    let valid = B::int_greater_equal_elem(column.clone(), BACKGROUND.into(), bool_type);
    Roles {
        positive: B::bool_into_float(B::int_equal(column, row, bool_type), float),
        valid: B::bool_into_float(valid, float),
    }
}

/// Weights, `[anchors, classes]`, and exponents.
struct Constants<B: Backend> {
    weight: FloatTensor<B>,
    gamma: Gamma<B>,
}

enum Gamma<B: Backend> {
    Same(f32),
    /// One exponent for each class, `[1, classes]`.
    Each(FloatTensor<B>),
}

fn constants<B: Backend>(logits: &FloatTensor<B>, roles: &Roles<B>, plan: &Plan) -> Constants<B> {
    let device = logits.device();
    let positive = &roles.positive;
    // A row with one value per class.
    let row = |values: Vec<f32>| {
        let shape = [1, values.len()];
        B::float_cast(B::float_from_data(TensorData::new(values, shape), &device), logits.dtype().into())
    };
    let (mut weight, gamma) = match &plan.columns {
        Columns::Same(w) => {
            let weight = plus::<B>(times::<B>(positive.clone(), w.positive - w.negative), w.negative);
            (weight, Gamma::Same(w.gamma))
        }
        Columns::Each(each) => {
            let difference = row(each.iter().map(|w| w.positive - w.negative).collect());
            let negative = row(each.iter().map(|w| w.negative).collect());
            let weight = B::float_add(B::float_mul(positive.clone(), difference), negative);
            (weight, Gamma::Each(row(each.iter().map(|w| w.gamma).collect())))
        }
    };
    if let Some(rows) = &plan.rows {
        // The weight of the class for anchors with an object, 1 for all others.
        let more = B::float_mul(positive.clone(), row(rows.iter().map(|weight| weight - 1.0).collect()));
        weight = B::float_mul(weight, plus::<B>(B::float_sum_dim(more, 1), 1.0));
    }
    Constants { weight, gamma }
}
