//! Percentiles of a list of numbers.

/// Returns percentiles of the values, each of which is one of the values: of `n` sorted values, the percentile `p` is
/// the value with the index `floor(p * (n - 1) / 100)`. All percentiles of no values are 0.
///
/// # Panics
/// If a percentile is above 100.
pub fn percentiles<const N: usize>(values: impl IntoIterator<Item = f32>, wanted: [usize; N]) -> [f32; N] {
    let mut values: Vec<f32> = values.into_iter().collect();
    values.sort_by(f32::total_cmp);
    wanted.map(|p| {
        assert!(p <= 100, "expected percentiles from 0 to 100, found {p}");
        values.get(p * values.len().saturating_sub(1) / 100).copied().unwrap_or(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::percentiles;

    #[test]
    fn percentiles_are_values_of_the_list() {
        assert_eq!(percentiles([5.0, 1.0, 3.0], [0, 10, 50, 90, 100]), [1.0, 1.0, 3.0, 3.0, 5.0]);
        assert_eq!(percentiles((0..=100).map(|v| v as f32), [0, 5, 95, 100]), [0.0, 5.0, 95.0, 100.0]);
        assert_eq!(percentiles([], [50]), [0.0]);
    }
}
