//! The self test of a device: a forward and backward pass of a small convolution and a class loss, compared with the
//! same values computed in double precision on the host.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use foveal_anchors::{BACKGROUND, ImageTargets, Positive};
use foveal_boxes::{BBox, Delta};
use foveal_criterion::{LossConfig, Normalizer};
use foveal_nn::Conv2d;
use serde::Serialize;

/// Longest time that a test may take.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Largest difference from the expected values, relative to the largest of each kind, with which a device passes.
/// Vulkan allows exponentials of these logits an error of 41 units of 6e-8; sums of at most 36 terms add to it.
const TOLERANCE: f64 = 1e-4;

/// Channels of the input.
const INPUTS: usize = 2;
/// Height and width of the input and of the output.
const SIDE: usize = 6;
/// Channels of the output, which are the classes: each pixel is an anchor.
const CLASSES: usize = 3;
/// Height and width of the kernel.
const KERNEL: usize = 3;
/// The anchor with an object, and its class.
const OBJECT: (usize, usize) = (14, 1);

/// The result of a self test.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(crate) enum SelfTest {
    /// All values are as expected.
    Passed {
        /// Largest difference, relative to the largest value of its kind.
        largest_difference: f64,
        /// Duration.
        seconds: f64,
    },
    /// A value is not as expected.
    Wrong {
        /// Largest difference, relative to the largest value of its kind. A value that is not finite counts as 1e300.
        largest_difference: f64,
        /// Duration.
        seconds: f64,
    },
    /// The device failed.
    Failed {
        /// The words of the driver or library.
        reason: String,
    },
    /// The test was not finished in [`TIME_LIMIT`]: the device is slow, or its kernels are still being compiled and
    /// tuned.
    TimedOut {
        /// The limit in seconds.
        seconds: f64,
    },
}

impl SelfTest {
    /// Whether the device computed wrong values or failed.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Wrong { .. } | Self::Failed { .. })
    }

    /// The result in words.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Passed { largest_difference, seconds } => {
                format!("passed in {seconds:.1} s, largest difference {largest_difference:.1e}")
            }
            Self::Wrong { largest_difference, seconds } => format!(
                "FAILED in {seconds:.1} s: the largest difference is {largest_difference:.1e}, expected at most \
                 {TOLERANCE:.0e}"
            ),
            Self::Failed { reason } => format!("FAILED: {reason}"),
            Self::TimedOut { seconds } => format!(
                "not finished in {seconds:.0} s, because its kernels are still being compiled and tuned or the device is \
                 slow; this is no failure, and the device can be used"
            ),
        }
    }
}

/// Tests a device without autodiff. A test that is not finished in time goes on until the process ends.
pub(crate) fn self_test(device: &Device) -> SelfTest {
    let (sender, receiver) = channel();
    let device = device.clone().autodiff();
    let started = Instant::now();
    let run = move || {
        // The receiver is gone when the test was not finished in time.
        let _ = sender.send(largest_difference(&device));
    };
    let worker = match thread::Builder::new().name("self test".to_owned()).spawn(run) {
        Ok(worker) => worker,
        Err(error) => return SelfTest::Failed { reason: error.to_string() },
    };
    match receiver.recv_timeout(TIME_LIMIT) {
        Ok(largest_difference) => {
            let seconds = started.elapsed().as_secs_f64();
            match largest_difference <= TOLERANCE {
                true => SelfTest::Passed { largest_difference, seconds },
                false => SelfTest::Wrong { largest_difference, seconds },
            }
        }
        Err(RecvTimeoutError::Timeout) => SelfTest::TimedOut { seconds: TIME_LIMIT.as_secs_f64() },
        Err(RecvTimeoutError::Disconnected) => {
            let payload = worker.join().err();
            let text = payload.as_ref().and_then(|payload| {
                payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied())
            });
            let text = text.unwrap_or("the test ended without a result");
            SelfTest::Failed { reason: text.split_whitespace().collect::<Vec<_>>().join(" ") }
        }
    }
}

/// The values that a device computes, or that the host expects.
struct Values {
    loss: Vec<f64>,
    input_gradient: Vec<f64>,
    weight_gradient: Vec<f64>,
    bias_gradient: Vec<f64>,
}

/// The largest difference of the values of a device from those of the host, relative to the largest value of its kind.
fn largest_difference(device: &Device) -> f64 {
    let (found, expected) = (on_device(device), on_host());
    let pairs = [
        (&found.loss, &expected.loss),
        (&found.input_gradient, &expected.input_gradient),
        (&found.weight_gradient, &expected.weight_gradient),
        (&found.bias_gradient, &expected.bias_gradient),
    ];
    pairs.iter().map(|(found, expected)| difference(found, expected)).fold(0.0, f64::max)
}

/// The largest difference of two lists, relative to the largest expected value. A length or value that cannot be
/// compared gives 1e300.
fn difference(found: &[f64], expected: &[f64]) -> f64 {
    const NONE: f64 = 1e300;
    if found.len() != expected.len() || found.iter().any(|value| !value.is_finite()) {
        return NONE;
    }
    let scale = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let largest = found.iter().zip(expected).fold(0.0, |largest: f64, (f, e)| largest.max((f - e).abs()));
    largest / scale
}

/// Number `index` of a series between -1 and 1, which is exact in single precision.
fn number(index: usize, step: usize) -> f32 {
    ((index * step) % 31) as f32 / 16.0 - 15.0 / 16.0
}

fn numbers(count: usize, step: usize) -> Vec<f32> {
    (0..count).map(|index| number(index, step)).collect()
}

fn input() -> Vec<f32> {
    numbers(INPUTS * SIDE * SIDE, 7)
}

fn weight() -> Vec<f32> {
    numbers(CLASSES * INPUTS * KERNEL * KERNEL, 11)
}

fn bias() -> Vec<f32> {
    numbers(CLASSES, 5)
}

fn on_device(device: &Device) -> Values {
    let tensor = |values: Vec<f32>, shape: [usize; 4]| {
        Tensor::<4>::from_data(TensorData::new(values, shape), device).require_grad()
    };
    let x = tensor(input(), [1, INPUTS, SIDE, SIDE]);
    let weight = tensor(weight(), [CLASSES, INPUTS, KERNEL, KERNEL]);
    let bias = Tensor::<1>::from_data(TensorData::new(bias(), [CLASSES]), device).require_grad();
    let conv = Conv2d::same(weight.clone(), Some(bias.clone()), 1);
    let anchors = SIDE * SIDE;
    let logits = conv.forward(x.clone()).permute([0, 2, 3, 1]).reshape([1, anchors, CLASSES]);
    let mut classes = vec![BACKGROUND; anchors];
    classes[OBJECT.0] = OBJECT.1 as i32;
    let unit = BBox { x1: 0.0, y1: 0.0, x2: 1.0, y2: 1.0 };
    let positive = Positive {
        anchor: OBJECT.0 as u32,
        class: OBJECT.1 as u32,
        anchor_box: unit,
        object: unit,
        delta: Delta { dx: 0.0, dy: 0.0, dw: 0.0, dh: 0.0 },
    };
    let targets = [ImageTargets { classes, positives: vec![positive] }];
    let deltas = Tensor::zeros([1, anchors, 4], device);
    let loss = LossConfig::default().forward(logits, deltas, &targets, Normalizer::Positives(1)).class;
    let gradients = loss.backward();
    let values = |data: TensorData| data.iter::<f64>().collect::<Vec<f64>>();
    let parameter = |tensor: &Tensor<4>| tensor.grad(&gradients).map(|g| values(g.into_data())).unwrap_or_default();
    Values {
        loss: values(loss.clone().into_data()),
        input_gradient: parameter(&x),
        weight_gradient: parameter(&conv.weight.val()),
        bias_gradient: conv
            .bias
            .as_ref()
            .and_then(|bias| bias.val().grad(&gradients))
            .map(|g| values(g.into_data()))
            .unwrap_or_default(),
    }
}

/// The same in double precision, by the definitions of the convolution and of the loss's closed form.
fn on_host() -> Values {
    let (x, weight, bias) = (input(), weight(), bias());
    let pair = LossConfig::default().pair_loss(0);
    let mut values = Values {
        loss: vec![0.0],
        input_gradient: vec![0.0; x.len()],
        weight_gradient: vec![0.0; weight.len()],
        bias_gradient: vec![0.0; bias.len()],
    };
    for (class, bias) in bias.into_iter().enumerate() {
        for anchor in 0..SIDE * SIDE {
            let taps = taps(class, anchor);
            let products = taps.iter().map(|tap| f64::from(x[tap.input]) * f64::from(weight[tap.weight]));
            let logit = f64::from(bias) + products.sum::<f64>();
            let score = 1.0 / (1.0 + (-logit).exp());
            let (loss, slope) = match (anchor, class) == OBJECT {
                true => (pair.positive(score), -pair.positive_weight * pair.slope(score)),
                false => (pair.negative(score), pair.negative_weight * pair.slope(1.0 - score)),
            };
            values.loss[0] += loss;
            values.bias_gradient[class] += slope;
            for tap in taps {
                values.input_gradient[tap.input] += slope * f64::from(weight[tap.weight]);
                values.weight_gradient[tap.weight] += slope * f64::from(x[tap.input]);
            }
        }
    }
    values
}

/// Positions of the two factors of one product of a convolution.
struct Tap {
    input: usize,
    weight: usize,
}

/// The products that make up an output pixel; those with the zeros around the input are left out.
fn taps(class: usize, anchor: usize) -> Vec<Tap> {
    let mut taps = Vec::new();
    for channel in 0..INPUTS {
        for (dy, dx) in (0..KERNEL).flat_map(|dy| (0..KERNEL).map(move |dx| (dy, dx))) {
            let (row, column) = (anchor / SIDE + dy, anchor % SIDE + dx);
            if (1..=SIDE).contains(&row) && (1..=SIDE).contains(&column) {
                taps.push(Tap {
                    input: (channel * SIDE + row - 1) * SIDE + column - 1,
                    weight: ((class * INPUTS + channel) * KERNEL + dy) * KERNEL + dx,
                });
            }
        }
    }
    taps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cpu_backends_pass() {
        for device in [super::super::flex(), super::super::ndarray()] {
            match self_test(&device) {
                SelfTest::Passed { largest_difference, .. } => assert!(largest_difference > 0.0),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_test_that_is_not_finished_is_no_failure() {
        let late = SelfTest::TimedOut { seconds: 10.0 };
        assert!(!late.is_failure());
        let text = late.text();
        assert!(text.starts_with("not finished in 10 s, because its kernels are still being compiled"), "{text}");
        assert!(text.contains("no failure"), "{text}");
    }

    #[test]
    fn wrong_and_missing_values_are_differences() {
        assert_eq!(difference(&[1.0, 2.0], &[1.0, 4.0]), 0.5);
        assert_eq!(difference(&[1.0, f64::NAN], &[1.0, 4.0]), 1e300);
        assert_eq!(difference(&[1.0], &[1.0, 4.0]), 1e300);
        // No gradient is zero, so that a backward pass that does nothing is found.
        let expected = on_host();
        assert!(expected.input_gradient.iter().any(|g| *g != 0.0) && expected.loss[0] > 0.0);
        assert!(expected.weight_gradient.iter().chain(&expected.bias_gradient).all(|g| *g != 0.0));
    }
}
