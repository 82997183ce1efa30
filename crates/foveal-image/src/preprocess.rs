//! Resizing and normalising of one image.

use fast_image_resize as fir;
use foveal_base::{SettingError, check};
use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Staged, bilinear};

/// Channel means of ImageNet's RGB in 0..1, as torchvision's pretrained weights expect.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Channel deviations of ImageNet's RGB in 0..1, as torchvision's pretrained weights expect.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// How an image is brought to its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMode {
    /// Bilinear with antialiasing (a triangle filter over the source's pixels), on 8 bit, as PIL does.
    #[default]
    Antialias,
    /// Normalise first, then bilinear without antialiasing in f32, as torchvision's `GeneralizedRCNNTransform` does.
    Torchvision,
}

/// The preprocessing of a model: a part of its checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocess {
    /// The shorter side is brought to this many pixels.
    pub min_size: u32,
    /// But the longer side never exceeds this many pixels.
    pub max_size: u32,
    /// `[height, width]` in pixels for every image, whatever its aspect; overrides `min_size` and `max_size`.
    pub fixed_size: Option<[u32; 2]>,
    /// The filter.
    pub resize: ResizeMode,
    /// Subtracted from each channel in 0..1.
    pub mean: [f32; 3],
    /// Each channel is divided by it afterwards.
    pub std: [f32; 3],
}

impl Default for Preprocess {
    /// The paper's 800 / 1333 pixels and ImageNet's statistics.
    fn default() -> Self {
        Self {
            min_size: 800,
            max_size: 1333,
            fixed_size: None,
            resize: ResizeMode::default(),
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }
}

/// One image, resized and normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// `[3, height, width]`, row-major, normalised.
    pub data: Vec<f32>,
    /// Width in pixels after resizing.
    pub width: usize,
    /// Height in pixels after resizing.
    pub height: usize,
    /// Width in pixels before.
    pub original_width: u32,
    /// Height in pixels before.
    pub original_height: u32,
}

impl Prepared {
    /// Resized over original width.
    pub fn scale_x(&self) -> f32 {
        self.width as f32 / self.original_width as f32
    }

    /// Resized over original height.
    pub fn scale_y(&self) -> f32 {
        self.height as f32 / self.original_height as f32
    }
}

impl Preprocess {
    /// Refuses preprocessing that cannot work.
    ///
    /// # Errors
    /// A size of 0 pixels, `max_size` below `min_size`, a mean that is not finite, a deviation that is not positive.
    pub fn validate(&self) -> Result<(), SettingError> {
        check::that(self.min_size > 0, "min_size", "at least 1 pixel", &self.min_size)?;
        let expected = format!("at least min_size, which is {}", self.min_size);
        check::that(self.max_size >= self.min_size, "max_size", &expected, &self.max_size)?;
        if let Some(size) = self.fixed_size {
            check::that(!size.contains(&0), "fixed_size", "[height, width] of at least 1 pixel", &size)?;
        }
        check::that(self.mean.iter().all(|v| v.is_finite()), "mean", "three finite numbers", &self.mean)?;
        let positive = self.std.iter().all(|v| *v > 0.0 && v.is_finite());
        check::that(positive, "std", "three finite numbers above 0", &self.std)
    }

    /// The size that an image of `width` x `height` pixels is brought to, `(width, height)`: `floor(side * scale)` in
    /// f64 with one scale for both sides, as torchvision computes it; at least one pixel.
    pub fn target_size(&self, width: u32, height: u32) -> (u32, u32) {
        if let Some([height, width]) = self.fixed_size {
            return (width, height);
        }
        let (short, long) = (f64::from(width.min(height).max(1)), f64::from(width.max(height).max(1)));
        let scale = (f64::from(self.min_size) / short).min(f64::from(self.max_size) / long);
        let side = |n: u32| ((f64::from(n) * scale).floor() as u32).max(1);
        (side(width), side(height))
    }

    /// Resizes to [`Preprocess::target_size`] and normalises.
    ///
    /// # Panics
    /// The image is empty.
    pub fn apply(&self, img: &RgbImage) -> Prepared {
        let (width, height) = self.target_size(img.width(), img.height());
        self.apply_at(img, width, height)
    }

    /// Resizes to `width` x `height` pixels and normalises.
    ///
    /// # Panics
    /// The image is empty or a side is 0.
    pub fn apply_at(&self, img: &RgbImage, width: u32, height: u32) -> Prepared {
        let (w, h) = (width as usize, height as usize);
        let data = match self.resize {
            ResizeMode::Antialias => self.normalise(&resize_antialiased(img, width, height)),
            ResizeMode::Torchvision => {
                let from = (img.height() as usize, img.width() as usize);
                bilinear::resize(&self.normalise(img), 3, from, (h, w))
            }
        };
        Prepared { data, width: w, height: h, original_width: img.width(), original_height: img.height() }
    }

    /// As [`Preprocess::apply_at`], with normalising left to [`crate::pad_staged`] where that gives the same.
    ///
    /// # Panics
    /// The image is empty or a side is 0.
    pub fn stage_at(&self, img: RgbImage, width: u32, height: u32) -> Staged {
        if self.resize == ResizeMode::Torchvision {
            return Staged::Prepared(self.apply_at(&img, width, height));
        }
        let (original_width, original_height) = img.dimensions();
        let same = (original_width, original_height) == (width, height);
        let image = if same { img } else { resize_antialiased(&img, width, height) };
        Staged::Bytes { image, original_width, original_height }
    }

    /// Of each channel, what a byte becomes.
    pub(crate) fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std)
        })
    }

    /// `[height, width, 3]` bytes to `[3, height, width]` normalised.
    fn normalise(&self, img: &RgbImage) -> Vec<f32> {
        let bytes = img.as_raw();
        let mut out = Vec::with_capacity(bytes.len());
        for (channel, table) in self.tables().iter().enumerate() {
            out.extend(bytes.chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]));
        }
        out
    }
}

/// Resizes with antialiasing (triangle filter); returns a copy when the size is right already.
///
/// # Panics
/// The image is empty or a side is 0.
pub fn resize_antialiased(img: &RgbImage, width: u32, height: u32) -> RgbImage {
    let (from_width, from_height) = img.dimensions();
    assert!(from_width > 0 && from_height > 0 && width > 0 && height > 0, "a side of 0 pixels");
    if (from_width, from_height) == (width, height) {
        return img.clone();
    }
    let source = fir::images::ImageRef::new(from_width, from_height, img.as_raw(), fir::PixelType::U8x3)
        .expect("an RgbImage holds width * height * 3 bytes");
    let mut target = fir::images::Image::new(width, height, fir::PixelType::U8x3);
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    fir::Resizer::new().resize(&source, &mut target, &options).expect("both images are U8x3");
    RgbImage::from_raw(width, height, target.into_vec()).expect("width * height * 3 bytes")
}
