//! Class weights computed from the number of objects of each class.

/// Returns the class weights by inverse frequency: `1 / n` for a class with `n` objects, scaled so that the mean over
/// the classes that have objects is 1. A class without objects gets the weight 1.
///
/// `objects` is the number of objects of each class, in class order; the result has the same order and length.
pub fn inverse_frequency(objects: &[usize]) -> Vec<f64> {
    normalised(objects, |n| 1.0 / n)
}

/// Returns the class weights by effective number of objects: `(1 - beta) / (1 - beta^n)` for a class with `n` objects
/// (Cui et al., arXiv 1901.05555, equation 2), scaled so that the mean over the classes that have objects is 1. A class
/// without objects gets the weight 1.
///
/// `objects` is the number of objects of each class, in class order; `beta` is from 0 to below 1. The result has the
/// same order and length as `objects`.
pub fn effective_number(objects: &[usize], beta: f64) -> Vec<f64> {
    normalised(objects, |n| (1.0 - beta) / (1.0 - beta.powf(n)))
}

/// Applies `weight` to the number of objects of each class and scales the weights to a mean of 1 over the classes that
/// have objects.
fn normalised(objects: &[usize], weight: impl Fn(f64) -> f64) -> Vec<f64> {
    let present: Vec<f64> = objects.iter().filter(|n| **n > 0).map(|n| weight(*n as f64)).collect();
    let mean = present.iter().sum::<f64>() / present.len().max(1) as f64;
    objects.iter().map(|n| if *n > 0 { weight(*n as f64) / mean } else { 1.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-9, "{found:?}, not {expected:?}"));
    }

    #[test]
    fn weights_by_hand() {
        // 1/10 and 1/40, over their mean 1/16; the class without objects keeps 1.
        close(&inverse_frequency(&[10, 40, 0]), &[1.6, 0.4, 1.0]);
        // beta 0.5: 0.5 / 0.5 = 1 and 0.5 / 0.75 = 2/3, over their mean 5/6.
        close(&effective_number(&[1, 2], 0.5), &[1.2, 0.8]);
        // beta 0: no difference; beta towards 1: inverse frequency (Cui et al., section 3.2).
        close(&effective_number(&[3, 7], 0.0), &[1.0, 1.0]);
        let limit = effective_number(&[10, 40], 1.0 - 1e-9);
        assert!((limit[0] - 1.6).abs() < 1e-5 && (limit[1] - 0.4).abs() < 1e-5, "{limit:?}");
    }
}
