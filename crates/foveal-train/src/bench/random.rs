//! Seeded boxes and classes.

use foveal_boxes::BBox;

use crate::config::BenchConfig;

/// Steele, Lea and Flood's generator (OOPSLA 2014): enough for boxes.
pub(super) struct SplitMix(pub u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A fraction in 0..1.
    fn fraction(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn below(&mut self, count: usize) -> u32 {
        (self.next() % count as u64) as u32
    }

    /// A box from a twentieth to a half of the image's sides.
    pub fn object(&mut self, bench: &BenchConfig) -> BBox {
        let (width, height) = (bench.width as f32, bench.height as f32);
        let (w, h) = (width * (0.05 + 0.45 * self.fraction()), height * (0.05 + 0.45 * self.fraction()));
        let (x, y) = ((width - w) * self.fraction(), (height - h) * self.fraction());
        BBox::new(x, y, x + w, y + h)
    }
}
