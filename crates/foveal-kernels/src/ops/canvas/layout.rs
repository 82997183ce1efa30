//! Where the maps of several pyramid levels lie in a canvas.
use burn::tensor::Slice;

use crate::ops::conv::MapSize;

/// Place of the map of a level in a canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Row of the canvas with the first row of the map.
    pub(super) top: usize,
    /// Column of the canvas with the first column of the map.
    pub(super) left: usize,
    /// Height and width of the map.
    pub(super) size: MapSize,
    /// Number of pixels of the levels before this one.
    pub(super) first: usize,
}

impl Place {
    /// The part of a canvas `[batch, channels, height, width]` that the map takes.
    pub(super) fn slices(&self) -> [Slice; 4] {
        let rows = self.top..self.top + self.size.height;
        let columns = self.left..self.left + self.size.width;
        [Slice::full(), Slice::full(), Slice::from(rows), Slice::from(columns)]
    }

    /// Number of pixels of the map.
    pub(super) fn pixels(&self) -> usize {
        self.size.height * self.size.width
    }

    fn transposed(self) -> Self {
        Self { top: self.left, left: self.top, size: transposed(self.size), ..self }
    }
}

fn transposed(size: MapSize) -> MapSize {
    MapSize { height: size.width, width: size.height }
}

/// Where the maps of several pyramid levels lie in a canvas: one feature map that holds all of them, with at least one
/// row or column between any two. A 3x3 convolution of the canvas with padding 1 gives the convolution of every map,
/// if the pixels between the maps are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanvasLayout {
    /// The place of each level, in the order of the levels.
    places: Vec<Place>,
    /// Height and width of the canvas.
    size: MapSize,
}

impl CanvasLayout {
    /// Finds a layout for maps of these sizes.
    ///
    /// The first map lies in the top left corner. The others lie in a row beneath it, or in a column beside it where
    /// that takes fewer pixels. The five levels of an image of 800x1344 pixels, 100x168 to 7x11, take 100x253 pixels,
    /// 13 % more than the maps themselves.
    pub fn new(sizes: &[MapSize]) -> Self {
        let beneath = Self::beneath(sizes);
        let sizes: Vec<MapSize> = sizes.iter().copied().map(transposed).collect();
        let beside = Self::beneath(&sizes);
        if beside.pixels() < beneath.pixels() {
            return Self {
                places: beside.places.into_iter().map(Place::transposed).collect(),
                size: transposed(beside.size),
            };
        }
        beneath
    }

    /// The first map at the top left, the others in a row beneath it.
    fn beneath(sizes: &[MapSize]) -> Self {
        let first = sizes.first().map_or(MapSize { height: 0, width: 0 }, |first| *first);
        let (mut canvas, mut places) = (first, Vec::with_capacity(sizes.len()));
        let (mut left, mut pixels) = (0, 0);
        for (level, &size) in sizes.iter().enumerate() {
            let place = if level == 0 {
                Place { top: 0, left: 0, size, first: 0 }
            } else {
                let place = Place { top: first.height + 1, left, size, first: pixels };
                left += size.width + 1;
                place
            };
            canvas.height = canvas.height.max(place.top + size.height);
            canvas.width = canvas.width.max(place.left + size.width);
            pixels += place.pixels();
            places.push(place);
        }
        Self { places, size: canvas }
    }

    /// Height and width of the canvas.
    pub fn size(&self) -> MapSize {
        self.size
    }

    /// Number of pixels of the canvas.
    pub fn pixels(&self) -> usize {
        self.size.height * self.size.width
    }

    /// Number of pixels of all maps together.
    pub fn map_pixels(&self) -> usize {
        self.places.iter().map(Place::pixels).sum()
    }

    /// The place of each level, in the order of the levels.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size((height, width): (usize, usize)) -> MapSize {
        MapSize { height, width }
    }

    /// The level of each pixel of the canvas; panics if two levels share a pixel or one lies outside.
    fn painted(layout: &CanvasLayout) -> Vec<Option<usize>> {
        let mut pixels = vec![None; layout.pixels()];
        for (level, place) in layout.places().iter().enumerate() {
            for y in place.top..place.top + place.size.height {
                for x in place.left..place.left + place.size.width {
                    assert!(y < layout.size().height && x < layout.size().width, "level {level} lies outside");
                    assert_eq!(pixels[y * layout.size().width + x].replace(level), None, "level {level} overlaps");
                }
            }
        }
        pixels
    }

    proptest! {
        #[test]
        fn levels_lie_in_the_canvas_and_do_not_touch(
            sizes in proptest::collection::vec((1usize..20, 1usize..20), 1..6),
        ) {
            let sizes: Vec<MapSize> = sizes.into_iter().map(size).collect();
            let layout = CanvasLayout::new(&sizes);
            prop_assert_eq!(layout.places().iter().map(|p| p.size).collect::<Vec<_>>(), sizes);
            let (pixels, width) = (painted(&layout), layout.size().width);
            let mut first = 0;
            for place in layout.places() {
                prop_assert_eq!(place.first, first);
                first += place.pixels();
            }
            prop_assert_eq!(layout.map_pixels(), first);
            // A pixel and those around it, which a 3x3 kernel reads, belong to at most one level.
            for (at, level) in pixels.iter().enumerate() {
                let Some(level) = level else { continue };
                let (y, x) = (at / width, at % width);
                for ny in y.saturating_sub(1)..(y + 2).min(layout.size().height) {
                    for nx in x.saturating_sub(1)..(x + 2).min(width) {
                        prop_assert!(pixels[ny * width + nx].is_none_or(|other| other == *level));
                    }
                }
            }
        }

        /// The pyramids of images up to 1333x1333 pixels, also very long ones.
        #[test]
        fn a_pyramid_takes_little_more_than_its_maps(height in 1usize..42, width in 1usize..42) {
            let (mut side, mut sizes) = ((4 * height, 4 * width), Vec::new());
            for _ in 0..5 {
                sizes.push(size(side));
                side = (side.0.div_ceil(2), side.1.div_ceil(2));
            }
            let layout = CanvasLayout::new(&sizes);
            let allowed = if height.min(width) >= 8 { 1.25 } else { 2.6 };
            let ratio = layout.pixels() as f64 / layout.map_pixels() as f64;
            prop_assert!(ratio <= allowed, "{ratio} times the pixels of {sizes:?}");
        }
    }

    #[test]
    fn the_levels_of_a_common_image_are_compact() {
        let sizes = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)].map(size);
        let layout = CanvasLayout::new(&sizes);
        assert_eq!((layout.size(), layout.map_pixels()), (size((100, 253)), 22_400));
        let standing = CanvasLayout::new(&sizes.map(transposed));
        assert_eq!(standing.size(), size((253, 100)));
        assert_eq!(CanvasLayout::new(&sizes[..1]).size(), size((100, 168)));
        assert_eq!(CanvasLayout::new(&[]).pixels(), 0);
    }
}
