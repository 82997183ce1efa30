//! Resizing and normalisation of one image.

use fast_image_resize::{self as fir, pixels::U8x3};
use foveal_base::{SettingError, check};
use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{PaddedBatch, Staged, bilinear};

/// Mean of the red, green and blue channel over ImageNet, with pixel values from 0 to 1, as torchvision's pretrained
/// weights expect.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of the red, green and blue channel over ImageNet, with pixel values from 0 to 1, as torchvision's
/// pretrained weights expect.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Largest length in pixels of a side of a resized image. It is far above any sensible input of a detector, and keeps
/// the sizes of batches from overflowing.
pub const MAX_SIDE: u32 = 16_384;
/// Largest `max_size`. Values above [`MAX_SIDE`], by which configurations say that there is no limit, stand for it.
const NO_LIMIT: u32 = 1_000_000;

/// Method of resizing an image (`data.resize`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMode {
    /// Bilinear interpolation with antialiasing (a triangle filter over the source pixels) on 8-bit values, as PIL
    /// does.
    #[default]
    Antialias,
    /// Normalisation first, then bilinear interpolation without antialiasing in f32, as torchvision's
    /// `GeneralizedRCNNTransform` does.
    Torchvision,
}

/// The preprocessing of a model's input images: size, resizing method and normalisation. It is stored in the model's
/// checkpoint, so that training and inference use the same values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocess {
    /// Length in pixels to which the shorter side of an image is resized (1 to 16384, default 800).
    pub min_size: u32,
    /// Largest length in pixels of the longer side (at least `min_size`, default 1333). An image whose longer side
    /// would exceed it is resized to this length of the longer side instead. Values above 16384 stand for 16384.
    pub max_size: u32,
    /// Fixed size `[height, width]` in pixels to which every image is resized, without keeping its aspect ratio. If
    /// set, `min_size` and `max_size` have no effect. Not set by default.
    pub fixed_size: Option<[u32; 2]>,
    /// Method of resizing (default `antialias`).
    pub resize: ResizeMode,
    /// Mean of each channel (red, green, blue), with pixel values from 0 to 1. It is subtracted from the pixels. The
    /// default is that of ImageNet, `[0.485, 0.456, 0.406]`.
    pub mean: [f32; 3],
    /// Standard deviation of each channel (red, green, blue), with pixel values from 0 to 1; positive. The pixels are
    /// divided by it after the mean was subtracted. The default is that of ImageNet, `[0.229, 0.224, 0.225]`.
    pub std: [f32; 3],
}

impl Default for Preprocess {
    /// The shorter side at 800 pixels (arXiv 1708.02002, section 4), the longer side at most 1333 pixels as in
    /// torchvision and Detectron2, and the statistics of ImageNet.
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

/// One image, resized and normalised: the result of [`Preprocess::apply`].
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Normalised RGB values, `[3, height, width]`, row-major.
    pub data: Vec<f32>,
    /// Width of the image in pixels after resizing, without padding.
    pub width: usize,
    /// Height of the image in pixels after resizing, without padding.
    pub height: usize,
    /// Width of the image in pixels before resizing.
    pub original_width: u32,
    /// Height of the image in pixels before resizing.
    pub original_height: u32,
}

impl Prepared {
    /// Horizontal resize factor: the width after resizing divided by the original width.
    pub fn scale_x(&self) -> f32 {
        self.width as f32 / self.original_width as f32
    }

    /// Vertical resize factor: the height after resizing divided by the original height.
    pub fn scale_y(&self) -> f32 {
        self.height as f32 / self.original_height as f32
    }
}

impl Preprocess {
    /// Checks the values of the preprocessing.
    ///
    /// # Errors
    /// [`SettingError`] if a size is 0 pixels or above [`MAX_SIDE`], `max_size` is above 1,000,000 or below `min_size`,
    /// a mean is not finite, or a standard deviation is not positive and finite.
    pub fn validate(&self) -> Result<(), SettingError> {
        let expected = format!("at least 1 pixel and at most {MAX_SIDE}");
        check::that((1..=MAX_SIDE).contains(&self.min_size), "min_size", &expected, &self.min_size)?;
        let expected = format!("at least min_size, which is {}, and at most {NO_LIMIT}", self.min_size);
        check::that((self.min_size..=NO_LIMIT).contains(&self.max_size), "max_size", &expected, &self.max_size)?;
        if let Some(size) = self.fixed_size {
            let sides = size.iter().all(|side| (1..=MAX_SIDE).contains(side));
            check::that(sides, "fixed_size", &format!("[height, width] of 1 to {MAX_SIDE} pixels"), &size)?;
        }
        check::that(self.mean.iter().all(|v| v.is_finite()), "mean", "three finite numbers", &self.mean)?;
        let positive = self.std.iter().all(|v| *v > 0.0 && v.is_finite());
        check::that(positive, "std", "three finite numbers above 0", &self.std)
    }

    /// The size `(width, height)` in pixels to which an image of `width` x `height` pixels is resized.
    ///
    /// Without a fixed size, each side is `floor(side * scale)`, computed in f64 with one scale for both sides as in
    /// torchvision, and at least 1.
    pub fn target_size(&self, width: u32, height: u32) -> (u32, u32) {
        if let Some([height, width]) = self.fixed_size {
            return (width, height);
        }
        let (short, long) = (f64::from(width.min(height).max(1)), f64::from(width.max(height).max(1)));
        let longest = f64::from(self.max_size.min(MAX_SIDE));
        let scale = (f64::from(self.min_size) / short).min(longest / long);
        let side = |n: u32| ((f64::from(n) * scale).floor() as u32).max(1);
        (side(width), side(height))
    }

    /// Resizes an image to [`Preprocess::target_size`] and normalises it. The result has the shape
    /// `[3, height, width]`.
    ///
    /// # Panics
    /// If a side of the image is 0.
    pub fn apply(&self, img: &RgbImage) -> Prepared {
        let (width, height) = self.target_size(img.width(), img.height());
        self.apply_at(img, width, height)
    }

    /// Resizes an image to `width` x `height` pixels and normalises it. The result has the shape `[3, height, width]`.
    ///
    /// # Panics
    /// If a side of the image, `width` or `height` is 0.
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

    /// Resizes an image to `width` x `height` pixels and stages it for a batch.
    ///
    /// With [`ResizeMode::Antialias`] the pixels stay bytes, to be normalised later; with [`ResizeMode::Torchvision`],
    /// which normalises before resizing, the result is already normalised.
    ///
    /// # Panics
    /// If a side of the image, `width` or `height` is 0.
    pub fn stage_at(&self, img: RgbImage, width: u32, height: u32) -> Staged {
        if self.resize == ResizeMode::Antialias && img.dimensions() == (width, height) {
            return Staged::Bytes { image: img, original_width: width, original_height: height };
        }
        self.stage_copy(&img, width, height)
    }

    /// Resizes an image to [`Preprocess::target_size`] and stages it for a batch. As with [`Preprocess::stage_at`], the
    /// pixels stay bytes with [`ResizeMode::Antialias`].
    ///
    /// # Panics
    /// If a side of the image is 0.
    pub fn stage(&self, img: &RgbImage) -> Staged {
        let (width, height) = self.target_size(img.width(), img.height());
        self.stage_copy(img, width, height)
    }

    fn stage_copy(&self, img: &RgbImage, width: u32, height: u32) -> Staged {
        match self.resize {
            ResizeMode::Torchvision => Staged::Prepared(self.apply_at(img, width, height)),
            ResizeMode::Antialias => Staged::Bytes {
                image: resize_antialiased(img, width, height),
                original_width: img.width(),
                original_height: img.height(),
            },
        }
    }

    /// Returns image `index` of a batch as 8-bit RGB pixels, with its padding: the inverse of the normalisation,
    /// rounded and limited to 0..=255. The padding, which is 0, becomes the mean colour.
    ///
    /// # Panics
    /// If the batch has no image of this index.
    pub fn denormalised(&self, batch: &PaddedBatch, index: usize) -> RgbImage {
        assert!(index < batch.batch, "expected an image of the batch");
        let plane = batch.height * batch.width;
        let image = &batch.data[index * 3 * plane..][..3 * plane];
        RgbImage::from_fn(batch.width as u32, batch.height as u32, |x, y| {
            let at = y as usize * batch.width + x as usize;
            image::Rgb(std::array::from_fn(|channel| {
                let value = image[channel * plane + at] * self.std[channel] + self.mean[channel];
                (value * 255.0).round().clamp(0.0, 255.0) as u8
            }))
        })
    }

    /// The normalised value of each byte, for each channel.
    pub(crate) fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std)
        })
    }

    /// Converts `[height, width, 3]` bytes to `[3, height, width]` normalised values.
    fn normalise(&self, img: &RgbImage) -> Vec<f32> {
        let bytes = img.as_raw();
        let mut out = Vec::with_capacity(bytes.len());
        for (channel, table) in self.tables().iter().enumerate() {
            out.extend(bytes.chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]));
        }
        out
    }
}

/// Resizes an image to `width` x `height` pixels by bilinear interpolation with antialiasing (a triangle filter over
/// the source pixels, as in PIL). Returns a copy if the image has this size already.
///
/// # Panics
/// If a side of the image, `width` or `height` is 0.
pub fn resize_antialiased(img: &RgbImage, width: u32, height: u32) -> RgbImage {
    if img.dimensions() == (width, height) && width > 0 && height > 0 {
        return img.clone();
    }
    resize_region(img, [0.0, 0.0, f64::from(img.width()), f64::from(img.height())], width, height)
}

/// Resizes a region of an image to `width` x `height` pixels by bilinear interpolation with antialiasing (a triangle
/// filter over the pixels of the region). `region` is `[left, top, width, height]` in pixels and need not be whole; it
/// is clipped to the image, which corrects rounding errors. Pixels outside the region are not read.
///
/// # Panics
/// If a side of the image or of the region, `width` or `height` is 0.
pub fn resize_region(img: &RgbImage, region: [f64; 4], width: u32, height: u32) -> RgbImage {
    let [across, down] = [img.width(), img.height()].map(f64::from);
    let (left, top) = (region[0].clamp(0.0, across), region[1].clamp(0.0, down));
    let (region_width, region_height) = (region[2].min(across - left), region[3].min(down - top));
    assert!(
        region_width > 0.0 && region_height > 0.0 && width > 0 && height > 0,
        "cannot resize from or to a side of 0 pixels"
    );
    // Images whose pixel type is known when compiling: `Resizer::resize` contains the code for all 13 types.
    let source = fir::images::TypedImageRef::<U8x3>::from_buffer(img.width(), img.height(), img.as_raw())
        .expect("an RgbImage has width * height * 3 bytes");
    let mut resized = RgbImage::new(width, height);
    let mut target = fir::images::TypedImage::<U8x3>::from_buffer(width, height, &mut resized)
        .expect("an RgbImage has width * height * 3 bytes");
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear)).crop(
        left,
        top,
        region_width,
        region_height,
    );
    fir::Resizer::new().resize_typed(&source, &mut target, &options).expect("the region lies in the image");
    resized
}
