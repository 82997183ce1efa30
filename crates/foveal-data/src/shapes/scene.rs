//! What is where on a generated image.

use std::f32::consts::TAU;

use foveal_boxes::BBox;
use foveal_image::RgbImage;

use super::figure::Figure;
use super::kind::Outline;
use super::{Kind, ShapesConfig, Split, background, draw};
use crate::{Stream, color};

/// Tries to find a place for a figure; each fourth try it shrinks.
const TRIES: usize = 40;
/// Factor of that shrinking.
const SHRINK: f32 = 0.85;
/// Share of images without any object.
const EMPTY: f32 = 0.03;
/// The golden ratio's fraction: multiples of it fill 0..1 most evenly, so that rare classes come in their share.
const GOLDEN: f64 = 0.618_033_988_749_894_9;
/// Two figures whose boxes overlap by more than this IoU could not be told apart by non-maximum suppression.
const MAX_IOU: f32 = 0.4;

/// An image's content, in drawing order.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Later ones cover earlier ones.
    pub figures: Vec<Figure>,
    key: [u64; 3],
    texture: f32,
}

/// Separates the random streams of content and background.
const CONTENT: u64 = 21;
const BACKGROUND: u64 = 22;

impl Scene {
    /// The scene of image `index` of a split.
    pub fn new(config: &ShapesConfig, split: Split, index: usize) -> Self {
        let key = [config.seed, split as u64, index as u64];
        let mut random = Stream::new(&[key[0], key[1], key[2], CONTENT]);
        let [height, width] = config.size;
        let mut scene = Scene { width, height, figures: Vec::new(), key, texture: config.texture };
        if random.chance(EMPTY) {
            return scene;
        }
        let wanted = 1 + random.below(config.max_objects);
        let start = Stream::new(&[key[0], key[1], CONTENT]).uniform();
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
        let mut covers = Covers::new(width as usize, height as usize);
        for class in classes {
            if let Some(figure) = place(config, class, &scene.figures, &mut covers, &mut random) {
                scene.figures.push(figure);
            }
        }
        scene
    }

    /// Draws the scene.
    pub fn render(&self) -> RgbImage {
        let [seed, split, index] = self.key;
        let mut random = Stream::new(&[seed, split, index, BACKGROUND]);
        let mut canvas = background::paint(self.width as usize, self.height as usize, self.texture, &mut random);
        for figure in &self.figures {
            draw::fill(&mut canvas, figure, random.range(-0.15, 0.15));
        }
        canvas.into_image()
    }
}

fn place(
    config: &ShapesConfig,
    class: usize,
    others: &[Figure],
    covers: &mut Covers,
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

/// A saturated, bright colour near the class's own hue.
fn pick_color(config: &ShapesConfig, class: usize, random: &mut Stream) -> [f32; 3] {
    let own = class as f32 / config.classes as f32;
    let hue = own + config.hue_spread * random.range(-0.5, 0.5);
    color::rgb([hue.rem_euclid(1.0), random.range(0.6, 1.0), random.range(0.65, 1.0) * 255.0])
}

/// Which figure is on top at each pixel, to keep enough of every figure visible.
struct Covers {
    width: usize,
    height: usize,
    top: Vec<Option<u16>>,
    /// Pixels of each figure: all, and those still visible.
    pixels: Vec<[usize; 2]>,
}

impl Covers {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, top: vec![None; width * height], pixels: Vec::new() }
    }

    /// Puts a figure on top unless that covers more than `max_covered` of another.
    fn add(&mut self, outline: &Outline, max_covered: f32) -> bool {
        let [x1, y1, x2, y2] = outline.bounds();
        let span = |low: f32, high: f32, end: usize| low.max(0.0) as usize..(high.ceil() as usize).min(end);
        let mut own = Vec::new();
        for y in span(y1, y2, self.height) {
            for x in span(x1, x2, self.width) {
                if outline.contains(x as f32 + 0.5, y as f32 + 0.5) {
                    own.push(y * self.width + x);
                }
            }
        }
        let mut lost = vec![0; self.pixels.len()];
        own.iter().filter_map(|&at| self.top[at]).for_each(|figure| lost[usize::from(figure)] += 1);
        let fine = lost
            .iter()
            .zip(&self.pixels)
            .all(|(lost, [all, visible])| *lost == 0 || (visible - lost) as f32 >= (1.0 - max_covered) * *all as f32);
        if fine {
            let number = self.pixels.len() as u16;
            own.iter().for_each(|&at| {
                if let Some(before) = self.top[at] {
                    self.pixels[usize::from(before)][1] -= 1;
                }
                self.top[at] = Some(number);
            });
            self.pixels.push([own.len(); 2]);
        }
        fine
    }
}
