//! Colour jitter on 8-bit images, as in torchvision's `ColorJitter`.

use foveal_image::RgbImage;

use crate::{ColorJitter, Stream};

/// Weights of red, green and blue in the grey level of a pixel (ITU-R 601 luma), as in PIL and torchvision.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Changes brightness, contrast, saturation and hue in random order, each by a random amount. The number of random
/// values is always the same, so that later values do not depend on which changes are turned on.
pub(crate) fn jitter(image: &mut RgbImage, config: &ColorJitter, random: &mut Stream) {
    let mut order = [0, 1, 2, 3];
    random.shuffle(&mut order);
    let mut factor = |spread: f32| random.range(1.0 - spread, 1.0 + spread);
    let factors = [factor(config.brightness), factor(config.contrast), factor(config.saturation)];
    let turn = random.range(-config.hue, config.hue);
    for step in order {
        match step {
            0 if config.brightness > 0.0 => each(image, |p| p.map(|v| v * factors[0])),
            1 if config.contrast > 0.0 => {
                let sum: f64 = image.pixels().map(|p| f64::from(luma(p.0.map(f32::from)))).sum();
                let mean = (sum / f64::from(image.width() * image.height()).max(1.0)) as f32;
                each(image, |p| p.map(|v| mean + (v - mean) * factors[1]));
            }
            2 if config.saturation > 0.0 => each(image, |p| {
                let grey = luma(p);
                p.map(|v| grey + (v - grey) * factors[2])
            }),
            3 if config.hue > 0.0 => each(image, |p| {
                let [hue, saturation, value] = hsv(p);
                rgb([(hue + turn).rem_euclid(1.0), saturation, value])
            }),
            _ => {}
        }
    }
}

/// The grey level of a pixel.
pub(crate) fn luma(p: [f32; 3]) -> f32 {
    LUMA[0] * p[0] + LUMA[1] * p[1] + LUMA[2] * p[2]
}

/// Applies `change` to every pixel and rounds the channels to 0..=255.
fn each(image: &mut RgbImage, change: impl Fn([f32; 3]) -> [f32; 3]) {
    for pixel in image.pixels_mut() {
        pixel.0 = change(pixel.0.map(f32::from)).map(|v| v.round().clamp(0.0, 255.0) as u8);
    }
}

/// Converts RGB to hue, saturation and value. Hue and saturation are from 0 to 1; the value has the range of `p`.
pub(crate) fn hsv(p: [f32; 3]) -> [f32; 3] {
    let [r, g, b] = p;
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let spread = high - low;
    if spread <= 0.0 {
        return [0.0, 0.0, high];
    }
    let sixth = if high == r {
        (g - b) / spread
    } else if high == g {
        2.0 + (b - r) / spread
    } else {
        4.0 + (r - g) / spread
    };
    [(sixth / 6.0).rem_euclid(1.0), spread / high, high]
}

/// Converts hue, saturation and value to RGB, the inverse of [`hsv`].
pub(crate) fn rgb([hue, saturation, value]: [f32; 3]) -> [f32; 3] {
    [5.0, 3.0, 1.0].map(|offset: f32| {
        let k = (offset + hue * 6.0) % 6.0;
        value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::{hsv, jitter, rgb};
    use crate::{ColorJitter, Stream};
    use foveal_image::RgbImage;

    #[test]
    fn hsv_and_back_is_the_same_colour() {
        for p in [[10.0, 200.0, 30.0], [255.0, 0.0, 0.0], [0.0, 0.0, 0.0], [90.0, 90.0, 90.0], [3.0, 2.0, 250.0]] {
            let back = rgb(hsv(p));
            assert!(p.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-3), "{p:?} {back:?}");
        }
    }

    #[test]
    fn jitter_changes_only_what_is_on() {
        let image = RgbImage::from_fn(8, 8, |x, y| image::Rgb([(x * 30) as u8, (y * 30) as u8, 90]));
        let mut same = image.clone();
        jitter(&mut same, &ColorJitter::default(), &mut Stream::new(&[1]));
        assert_eq!(same, image);
        let mut grey = RgbImage::from_pixel(8, 8, image::Rgb([77, 77, 77]));
        let config = ColorJitter { saturation: 0.5, hue: 0.5, contrast: 0.5, brightness: 0.0 };
        jitter(&mut grey, &config, &mut Stream::new(&[2]));
        assert!(grey.pixels().all(|p| p.0 == [77, 77, 77]), "{:?}", grey.get_pixel(0, 0));
        let mut bright = image.clone();
        jitter(&mut bright, &ColorJitter { brightness: 0.9, ..ColorJitter::default() }, &mut Stream::new(&[3]));
        assert_ne!(bright, image);
    }
}
