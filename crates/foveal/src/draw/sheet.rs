//! A contact sheet: several images with their boxes in rows and columns.

use foveal_base::printable;
use foveal_boxes::BBox;
use foveal_image::resize_antialiased;
use image::{Rgb, RgbImage, imageops};

use super::canvas::{Rect, hatch, thin_outline};
use super::label::Label;
use super::{Mark, color_of, draw_marks};

/// One image of a contact sheet.
pub(crate) struct Tile {
    /// The pixels.
    pub image: RgbImage,
    /// The line below the image.
    pub caption: String,
    /// Boxes with labels, in pixels of the image.
    pub marks: Vec<Mark>,
    /// Regions to be hatched, in pixels of the image.
    pub hatched: Vec<BBox>,
    /// Boxes with thin outlines and no label, in pixels of the image, with their classes.
    pub thin: Vec<(BBox, u32)>,
}

/// Space in pixels around each image.
const GAP: u32 = 6;
/// Height of letters in pixels.
const TEXT_HEIGHT: f32 = 13.0;
/// Width of the outline of a box in pixels, without its halo.
const LINE: i64 = 2;
/// The ground of the sheet.
const GROUND: Rgb<u8> = Rgb([255; 3]);

/// The size `(width, height)` in pixels of a sheet of so many images. The longest side of any image has `side` pixels;
/// `sizes` are the widths and heights of the images in pixels.
pub(crate) fn sheet_size(sizes: &[(u32, u32)], columns: usize, side: u32) -> (u64, u64) {
    let cell = Cell::of(sizes, side);
    let (columns, rows) = (columns.min(sizes.len()), sizes.len().div_ceil(columns));
    let length = |count: usize, cell: u32| count as u64 * u64::from(cell + GAP) + u64::from(GAP);
    (length(columns, cell.width), length(rows, cell.height + cell.caption))
}

/// Draws the images in rows of `columns`. All are scaled by one factor, with which the longest side of any has `side`
/// pixels.
///
/// # Panics
/// If there is no image or no column.
pub(crate) fn sheet(tiles: &[Tile], columns: usize, side: u32) -> RgbImage {
    let sizes: Vec<(u32, u32)> = tiles.iter().map(|tile| tile.image.dimensions()).collect();
    let cell = Cell::of(&sizes, side);
    let (width, height) = sheet_size(&sizes, columns, side);
    let mut sheet = RgbImage::from_pixel(width as u32, height as u32, GROUND);
    for (index, tile) in tiles.iter().enumerate() {
        let (column, row) = ((index % columns) as i64, (index / columns) as i64);
        let x = i64::from(GAP) + column * i64::from(cell.width + GAP);
        let y = i64::from(GAP) + row * i64::from(cell.height + cell.caption + GAP);
        imageops::replace(&mut sheet, &cell.picture(tile), x, y);
        imageops::replace(&mut sheet, &cell.line(&tile.caption), x, y + i64::from(cell.height));
    }
    sheet
}

/// The place of an image on the sheet, with its sizes in pixels.
struct Cell {
    width: u32,
    height: u32,
    /// Height of the line below the image.
    caption: u32,
    /// Pixels of the sheet per pixel of an image.
    scale: f32,
}

impl Cell {
    fn of(sizes: &[(u32, u32)], side: u32) -> Self {
        let widest = sizes.iter().map(|(width, _)| *width).max().unwrap_or(1);
        let highest = sizes.iter().map(|(_, height)| *height).max().unwrap_or(1);
        let scale = side as f32 / widest.max(highest).max(1) as f32;
        let scaled = |length: u32| scaled(length, scale);
        let caption = Label::new("", TEXT_HEIGHT).height as u32;
        Self { width: scaled(widest), height: scaled(highest), caption, scale }
    }

    /// The scaled image with everything that is drawn on it.
    fn picture(&self, tile: &Tile) -> RgbImage {
        let (width, height) = tile.image.dimensions();
        let mut picture = resize_antialiased(&tile.image, scaled(width, self.scale), scaled(height, self.scale));
        let rect = |bbox: &BBox, picture: &RgbImage| Rect::of(&bbox.scale(self.scale, self.scale), picture);
        for region in &tile.hatched {
            let rect = rect(region, &picture);
            hatch(&mut picture, &rect);
        }
        for (bbox, class) in &tile.thin {
            let rect = rect(bbox, &picture);
            thin_outline(&mut picture, &rect, color_of(*class));
        }
        draw_marks(&mut picture, &tile.marks, self.scale, LINE, TEXT_HEIGHT);
        picture
    }

    /// The line below an image, as wide as the widest image.
    fn line(&self, text: &str) -> RgbImage {
        let mut line = RgbImage::from_pixel(self.width, self.caption, GROUND);
        let text = printable(text);
        let label = Label::new(&text, TEXT_HEIGHT);
        let place = Rect { x1: 0, y1: 0, x2: i64::from(self.width), y2: i64::from(self.caption) };
        label.draw(&mut line, &place, GROUND);
        line
    }
}

/// A length in pixels of the sheet, at least 1.
fn scaled(length: u32, scale: f32) -> u32 {
    ((length as f32 * scale).round() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(width: u32, height: u32, shade: u8) -> Tile {
        Tile {
            image: RgbImage::from_pixel(width, height, Rgb([shade; 3])),
            caption: String::new(),
            marks: Vec::new(),
            hatched: Vec::new(),
            thin: Vec::new(),
        }
    }

    #[test]
    fn images_have_one_scale_and_places_of_their_own() {
        let mut tiles = [tile(100, 50, 10), tile(50, 100, 20), tile(20, 20, 30)];
        let drawn = sheet(&tiles, 2, 200);
        let caption = Label::new("", TEXT_HEIGHT).height as u32;
        assert_eq!(drawn.dimensions(), (2 * 206 + 6, 2 * (206 + caption) + 6));
        assert_eq!(sheet_size(&[(100, 50), (50, 100), (20, 20)], 2, 200), (418, u64::from(2 * (206 + caption) + 6)));
        let count = |shade: u8| drawn.pixels().filter(|p| p.0 == [shade; 3]).count();
        assert_eq!([count(10), count(20), count(30)], [200 * 100, 100 * 200, 40 * 40]);
        // The captions are below the images.
        tiles[1].caption = "1 a.png".to_owned();
        let drawn = sheet(&tiles, 2, 200);
        let dark = |y: u32| (0..drawn.width()).any(|x| drawn.get_pixel(x, y).0[0] < 9);
        assert!((206..206 + caption).any(dark) && !(0..206).any(dark));
        // More columns than images make no empty columns.
        assert_eq!(sheet(&tiles, 9, 200).dimensions(), (3 * 206 + 6, 206 + caption + 6));
    }

    #[test]
    fn boxes_regions_and_anchors_are_drawn_at_their_places() {
        let mut tile = tile(100, 100, 128);
        tile.marks = vec![Mark { bbox: BBox::new(10.0, 40.0, 30.0, 60.0), class: 3, text: "x".to_owned() }];
        tile.hatched = vec![BBox::new(60.0, 60.0, 90.0, 90.0)];
        tile.thin = vec![(BBox::new(60.0, 10.0, 80.0, 30.0), 3)];
        let drawn = sheet(&[tile], 1, 200);
        let at = |x: u32, y: u32| drawn.get_pixel(6 + 2 * x, 6 + 2 * y).0;
        assert_eq!(at(10, 50), color_of(3).0);
        assert_eq!(at(20, 50), [128; 3]);
        let [thin, color] = [at(60, 20), color_of(3).0];
        assert!(thin.iter().zip(color).all(|(t, c)| t.abs_diff(((u32::from(c) + 128) / 2) as u8) <= 1), "{thin:?}");
        let stripes = |x: u32, y: u32, size: u32| {
            let pixels = (0..size * size).map(|i| drawn.get_pixel(6 + 2 * x + i % size, 6 + 2 * y + i / size).0[0]);
            let pixels: Vec<u8> = pixels.collect();
            [pixels.iter().filter(|v| **v > 200).count(), pixels.iter().filter(|v| **v < 60).count()]
        };
        assert!(stripes(65, 65, 40).iter().all(|count| *count > 150), "{:?}", stripes(65, 65, 40));
        assert_eq!(stripes(35, 65, 40), [0, 0]);
    }
}
