//! The class loss and its gradient in Burn's operations: for all backends and data types.
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::Shape;

use super::{BACKGROUND, Weighting};

/// Loss, sums and gradient.
pub(super) struct Composed<B: Backend> {
    pub(super) loss: FloatTensor<B>,
    pub(super) sums: FloatTensor<B>,
    pub(super) grad: FloatTensor<B>,
}

/// The formula of [`super::element`], on whole tensors.
pub(super) fn composed<B: Backend>(logits: FloatTensor<B>, classes: IntTensor<B>, w: Weighting) -> Composed<B> {
    let times = |t: FloatTensor<B>, s: f32| B::float_mul_scalar(t, s.into());
    let plus = |t: FloatTensor<B>, s: f32| B::float_add_scalar(t, s.into());
    let exp_neg = |t: FloatTensor<B>| B::float_exp(B::float_neg(t));

    let Roles { positive, valid } = roles::<B>(&logits, classes);
    let sign = plus(times(positive.clone(), 2.0), -1.0);
    let weight = plus(times(positive.clone(), w.positive - w.negative), w.negative);
    let weight = B::float_mul(valid, weight);
    let z = B::float_mul(sign.clone(), logits);
    let l = B::float_log1p(exp_neg(B::float_abs(z.clone())));
    let ce = B::float_add(l.clone(), B::relu(B::float_neg(z.clone())));
    let other = B::float_add(l, B::relu(z)); // -ln(1 - p_t)
    let factor = B::float_mul(weight, exp_neg(times(other.clone(), w.gamma)));
    let loss = B::float_mul(factor.clone(), ce.clone());
    let truth = times(B::float_mul(exp_neg(ce.clone()), ce), w.gamma);
    let slope = B::float_add(truth, exp_neg(other));
    let grad = B::float_neg(B::float_mul(B::float_mul(factor, sign), slope));

    let positive_loss = B::float_sum(B::float_mul(loss.clone(), positive.clone()));
    let negative = plus(B::float_neg(positive), 1.0);
    let negative_loss = B::float_sum(B::float_mul(loss, negative));
    Composed {
        loss: B::float_add(positive_loss.clone(), negative_loss.clone()),
        sums: B::float_cat(vec![positive_loss, negative_loss], 0),
        grad,
    }
}

/// What each logit is, as 1 or 0, `[anchors, classes]`.
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
