//! Random numbers as a function of keys such as seed, epoch and index.

/// Increment of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of pseudorandom numbers that depends only on the keys given to [`Stream::new`]. The generator is SplitMix64
/// (Steele, Lea, Flood, 2014). It is not suitable for cryptography.
#[derive(Clone, Debug)]
pub struct Stream {
    state: u64,
}

/// The finaliser of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Stream {
    /// Creates the stream of these keys, for example seed, epoch and index. Other keys or another order give another
    /// stream.
    pub fn new(keys: &[u64]) -> Self {
        Self { state: keys.iter().fold(GOLDEN_GAMMA, |state, key| mix(state ^ mix(key.wrapping_add(GOLDEN_GAMMA)))) }
    }

    /// Returns 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        mix(self.state)
    }

    /// Returns a random number that is uniformly distributed in `[0, 1)`.
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Returns a random number that is uniformly distributed in `[low, high)`. Rounding to `f32` can give `high`
    /// itself.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// Returns a random integer that is uniformly distributed in `0..n`.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "cannot choose one of 0 items");
        // The high half of the product (Lemire, arXiv 1805.10941). Its bias is below n / 2^64.
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Returns true with this probability, from 0 to 1.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// Shuffles the items in place with the algorithm of Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stream;

    #[test]
    fn streams_depend_on_every_key_and_their_order() {
        let first = |keys: &[u64]| Stream::new(keys).bits();
        assert_eq!(first(&[1, 2, 3]), first(&[1, 2, 3]));
        let all =
            [first(&[1, 2, 3]), first(&[2, 1, 3]), first(&[1, 2, 4]), first(&[1, 2]), first(&[0, 1, 2, 3]), first(&[])];
        let distinct: std::collections::HashSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn numbers_are_uniform() {
        let mut stream = Stream::new(&[7]);
        let n = 20_000;
        let mean: f32 = (0..n).map(|_| stream.uniform()).sum::<f32>() / n as f32;
        // The standard deviation of the mean is 0.289 / sqrt(n) = 0.002.
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let mut counts = [0; 5];
        (0..n).for_each(|_| counts[stream.below(5)] += 1);
        assert!(counts.iter().all(|c| (*c as f32 / 4000.0 - 1.0).abs() < 0.1), "{counts:?}");
        let mut order: Vec<usize> = (0..100).collect();
        stream.shuffle(&mut order);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
