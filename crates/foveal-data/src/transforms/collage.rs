//! Puts resized parts of images onto a canvas.

use foveal_boxes::BBox;
use foveal_image::{RgbImage, resize_region};
use image::{Rgb, imageops};

use super::Working;
use crate::augment::Size;
use crate::labels::Labels;

/// A rectangle of whole pixels: the left and top edge, inside, and the right and bottom edge, outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// First column.
    pub left: i64,
    /// First row.
    pub top: i64,
    /// Column after the last.
    pub right: i64,
    /// Row after the last.
    pub bottom: i64,
}

impl Window {
    /// The whole of an image or canvas of this size.
    pub(crate) fn whole(size: Size) -> Self {
        Self { left: 0, top: 0, right: size.width.into(), bottom: size.height.into() }
    }

    /// The part that both windows share; `None` if they share no pixel.
    fn intersection(&self, other: &Self) -> Option<Self> {
        let shared = Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        };
        (shared.left < shared.right && shared.top < shared.bottom).then_some(shared)
    }

    /// The size of the window.
    pub(crate) fn size(&self) -> Size {
        Size { width: self.width() as u32, height: self.height() as u32 }
    }

    /// The window as a box.
    pub(crate) fn bbox(&self) -> BBox {
        BBox::new(self.left as f32, self.top as f32, self.right as f32, self.bottom as f32)
    }

    fn width(&self) -> i64 {
        self.right - self.left
    }

    fn height(&self) -> i64 {
        self.bottom - self.top
    }
}

/// How an image lies on a canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Whether left and right of the image are swapped.
    pub mirrored: bool,
    /// Size in pixels of the canvas to which the image is resized.
    pub resized: Size,
    /// Column of the canvas at which the resized image begins; it can be negative.
    pub left: i64,
    /// Row of the canvas at which the resized image begins; it can be negative.
    pub top: i64,
    /// The part of the canvas in which the image is seen.
    pub window: Window,
}

/// The visible part of a placed image: its pixels and where they belong.
pub(crate) struct Part {
    /// The pixels.
    pub image: RgbImage,
    /// Column of the canvas at which they begin.
    pub left: u32,
    /// Row of the canvas at which they begin.
    pub top: u32,
}

impl Placement {
    /// An image that is resized to cover a whole canvas.
    pub(crate) fn whole(canvas: Size) -> Self {
        Self { mirrored: false, resized: canvas, left: 0, top: 0, window: Window::whole(canvas) }
    }

    /// The part of an image that is visible on the canvas. Only the pixels of this part are resized. `None` if nothing
    /// is visible.
    pub(crate) fn part(&self, image: &RgbImage) -> Option<Part> {
        let (width, height) = (i64::from(self.resized.width), i64::from(self.resized.height));
        let lies = Window { left: self.left, top: self.top, right: self.left + width, bottom: self.top + height };
        let seen = lies.intersection(&self.window)?;
        // The seen part in pixels of the resized image, and then in pixels of the image.
        let from_left = if self.mirrored { lies.right - seen.right } else { seen.left - lies.left };
        let across = f64::from(image.width()) / width as f64;
        let down = f64::from(image.height()) / height as f64;
        let region = [
            from_left as f64 * across,
            (seen.top - lies.top) as f64 * down,
            seen.width() as f64 * across,
            seen.height() as f64 * down,
        ];
        let mut image = resize_region(image, region, seen.width() as u32, seen.height() as u32);
        if self.mirrored {
            imageops::flip_horizontal_in_place(&mut image);
        }
        Some(Part { image, left: seen.left as u32, top: seen.top as u32 })
    }

    /// The objects of an image of size `from` on the canvas, by the rule for objects that are cut.
    pub(crate) fn labels(&self, from: Size, mut labels: Labels) -> Labels {
        labels.place(|bbox| self.place(from, bbox), &self.window.bbox());
        labels
    }

    /// A box of an image of size `from` on the canvas, whether it is visible or not.
    pub(crate) fn place(&self, from: Size, bbox: &BBox) -> BBox {
        let sx = self.resized.width as f32 / from.width as f32;
        let sy = self.resized.height as f32 / from.height as f32;
        let (x, y) = (self.left as f32, self.top as f32);
        let b = if self.mirrored { bbox.flip_horizontal(from.width as f32) } else { *bbox };
        let b = b.scale(sx, sy);
        BBox::new(b.x1 + x, b.y1 + y, b.x2 + x, b.y2 + y)
    }
}

/// Copies an image onto a canvas, which must contain the place of every pixel.
pub(crate) fn paste(canvas: &mut RgbImage, part: &Part) {
    let row = part.image.width() as usize * 3;
    let stride = canvas.width() as usize * 3;
    let start = part.top as usize * stride + part.left as usize * 3;
    let rows = canvas.as_mut()[start..].chunks_mut(stride);
    for (to, from) in rows.zip(part.image.as_raw().chunks_exact(row)) {
        to[..row].copy_from_slice(from);
    }
}

/// The largest size with the proportions of an image of size `image` that fits into `canvas`, multiplied by `scale`;
/// each side is at least one pixel.
pub(crate) fn fitted(image: Size, canvas: Size, scale: f32) -> Size {
    let across = canvas.width as f32 / image.width as f32;
    let down = canvas.height as f32 / image.height as f32;
    scaled(image, across.min(down) * scale)
}

/// A size multiplied by a factor; each side is at least one pixel.
pub(crate) fn scaled(size: Size, factor: f32) -> Size {
    let side = |n: u32| ((n as f32 * factor).round() as u32).max(1);
    Size { width: side(size.width), height: side(size.height) }
}

impl Working {
    /// Makes the image smaller, unless it has its final size already.
    pub(crate) fn reduce(&mut self, size: Size) {
        if !self.sized && size != self.size() {
            self.put_on(size, Placement::whole(size), Rgb([0; 3]));
        }
    }

    /// Puts the image on a canvas. What it does not cover has the colour `fill`.
    pub(crate) fn put_on(&mut self, canvas: Size, placement: Placement, fill: Rgb<u8>) {
        let size = self.size();
        self.labels = placement.labels(size, std::mem::take(&mut self.labels));
        let part = placement.part(&self.image);
        self.image = match part {
            Some(part) if part.image.dimensions() == (canvas.width, canvas.height) => part.image,
            part => {
                let mut pixels = RgbImage::from_pixel(canvas.width, canvas.height, fill);
                part.iter().for_each(|part| paste(&mut pixels, part));
                pixels
            }
        };
    }
}
