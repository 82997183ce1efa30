//! The contents of a generated image: which figures it has and where they are.

use std::f32::consts::TAU;

use foveal_boxes::BBox;
use foveal_image::RgbImage;

use super::figure::Figure;
use super::kind::Outline;
use super::{Kind, ShapesConfig, Split, background, draw};
use crate::{Stream, color};

/// Number of attempts to place a figure. At every fourth attempt the figure becomes smaller.
const TRIES: usize = 40;
/// Factor by which a figure that could not be placed becomes smaller.
const SHRINK: f32 = 0.85;
/// Fraction of the images that have no objects.
const EMPTY_FRACTION: f32 = 0.03;
/// The fractional part of the golden ratio. The fractional parts of its multiples are distributed evenly over 0 to 1,
/// so that rare classes get their expected frequency.
const GOLDEN: f64 = 0.618_033_988_749_894_9;
/// Largest IoU of the boxes of two figures. With more, non-maximum suppression could remove one of them.
const MAX_IOU: f32 = 0.4;

/// The contents of one generated image. It is a function of the settings, the split and the index of the image.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Width of the image in pixels.
    pub width: u32,
    /// Height of the image in pixels.
    pub height: u32,
    /// The figures in drawing order. A figure covers the figures before it.
    pub figures: Vec<Figure>,
    key: [u64; 3],
    texture: f32,
}

/// Keys that separate the random streams of the contents and the background.
const CONTENT_STREAM: u64 = 21;
const BACKGROUND_STREAM: u64 = 22;

impl Scene {
    /// Creates the contents of image `index` of a split: at most `config.max_objects` figures with their classes,
    /// sizes, places and colours.
    ///
    /// # Panics
    /// If [`ShapesConfig::validate`] refuses the settings.
    pub fn new(config: &ShapesConfig, split: Split, index: usize) -> Self {
        let key = [config.seed, split as u64, index as u64];
        let mut random = Stream::new(&[key[0], key[1], key[2], CONTENT_STREAM]);
        let [height, width] = config.size;
        let mut scene = Scene { width, height, figures: Vec::new(), key, texture: config.texture };
        if random.chance(EMPTY_FRACTION) {
            return scene;
        }
        let wanted = 1 + random.below(config.max_objects);
        let start = Stream::new(&[key[0], key[1], CONTENT_STREAM]).uniform();
        let frequencies = config.frequencies();
        let mut classes: Vec<usize> = (0..wanted)
            .map(|slot| {
                let number = (index * config.max_objects + slot) as f64;
                let mut at = (number * GOLDEN + f64::from(start)).fract() as f32;
                let found = frequencies.iter().position(|share| {
                    at -= share;
                    at < 0.0
                });
                found.unwrap_or(0)
            })
            .collect();
        random.shuffle(&mut classes);
        let mut covers = CoverMap::new(width as usize, height as usize);
        for class in classes {
            if let Some(figure) = place_figure(config, class, &scene.figures, &mut covers, &mut random) {
                scene.figures.push(figure);
            }
        }
        scene
    }

    /// Draws the background and the figures, and returns an RGB image of `width` by `height` pixels.
    pub fn render(&self) -> RgbImage {
        let [seed, split, index] = self.key;
        let mut random = Stream::new(&[seed, split, index, BACKGROUND_STREAM]);
        let mut canvas = background::paint(self.width as usize, self.height as usize, self.texture, &mut random);
        for figure in &self.figures {
            draw::fill(&mut canvas, figure, random.range(-0.15, 0.15));
        }
        canvas.into_image()
    }
}

/// Chooses size, place and colour of a figure of a class. `None` if no attempt finds a place.
fn place_figure(
    config: &ShapesConfig,
    class: usize,
    others: &[Figure],
    covers: &mut CoverMap,
    random: &mut Stream,
) -> Option<Figure> {
    let [height, width] = config.size.map(|side| side as f32);
    let largest = config.max_object * height.min(width);
    let mut size = random.range(config.min_object.ln(), largest.ln()).exp();
    let angle = random.range(0.0, TAU);
    let color = pick_color(config, class, random);
    for attempt in 0..TRIES {
        if attempt % 4 == 3 {
            size = (size * SHRINK).max(config.min_object);
        }
        let half = size / 2.0;
        let center = [random.range(half, (width - half).max(half)), random.range(half, (height - half).max(half))];
        let outline = Outline::new(Kind::ALL[class], angle, size, center);
        let [x1, y1, x2, y2] = outline.bounds();
        let bbox = BBox::new(x1, y1, x2, y2).clip(width, height);
        let apart = others.iter().all(|o| foveal_boxes::iou(&o.bbox, &bbox) <= MAX_IOU);
        if apart && covers.add(&outline, config.max_covered) {
            return Some(Figure { class: class as u32, bbox, outline, color });
        }
    }
    None
}

/// Chooses a saturated, bright colour near the hue of the class.
fn pick_color(config: &ShapesConfig, class: usize, random: &mut Stream) -> [f32; 3] {
    let own = class as f32 / config.classes as f32;
    let hue = own + config.hue_spread * random.range(-0.5, 0.5);
    color::rgb([hue.rem_euclid(1.0), random.range(0.6, 1.0), random.range(0.65, 1.0) * 255.0])
}

/// The figure on top at each pixel. It ensures that enough of every figure stays visible.
struct CoverMap {
    width: usize,
    height: usize,
    /// The index of the figure on top at each pixel.
    top: Vec<Option<u16>>,
    /// The numbers of all pixels and of visible pixels of each figure.
    pixels: Vec<[usize; 2]>,
}

impl CoverMap {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, top: vec![None; width * height], pixels: Vec::new() }
    }

    /// Puts a figure on top and returns true, unless that would cover more than the fraction `max_covered` of another
    /// figure.
    fn add(&mut self, outline: &Outline, max_covered: f32) -> bool {
        let [x1, y1, x2, y2] = outline.bounds();
        let span = |low: f32, high: f32, end: usize| low.max(0.0) as usize..(high.ceil() as usize).min(end);
        let mut inside = Vec::new();
        for y in span(y1, y2, self.height) {
            for x in span(x1, x2, self.width) {
                if outline.contains(x as f32 + 0.5, y as f32 + 0.5) {
                    inside.push(y * self.width + x);
                }
            }
        }
        let mut lost = vec![0; self.pixels.len()];
        inside.iter().filter_map(|&at| self.top[at]).for_each(|figure| lost[usize::from(figure)] += 1);
        let fine = lost
            .iter()
            .zip(&self.pixels)
            .all(|(lost, [all, visible])| *lost == 0 || (visible - lost) as f32 >= (1.0 - max_covered) * *all as f32);
        if fine {
            let number = self.pixels.len() as u16;
            inside.iter().for_each(|&at| {
                if let Some(before) = self.top[at] {
                    self.pixels[usize::from(before)][1] -= 1;
                }
                self.top[at] = Some(number);
            });
            self.pixels.push([inside.len(); 2]);
        }
        fine
    }
}
