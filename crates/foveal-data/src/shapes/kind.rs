//! The kinds of figures and their outlines.

use std::f32::consts::{PI, TAU};

/// A kind of figure. Each kind is a class of the generated data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A filled circle (category `disc`).
    Disc,
    /// A filled square (category `square`).
    Square,
    /// A filled equilateral triangle (category `triangle`).
    Triangle,
    /// A plus sign whose arms have a third of its width (category `cross`).
    Cross,
    /// A circle with a hole whose radius is 0.55 of the radius of the circle (category `ring`).
    Ring,
    /// A filled star with five points (category `star`).
    Star,
    /// A filled rhombus whose length is 2.5 times its width (category `diamond`).
    Diamond,
    /// A filled rectangle whose length is four times its width (category `bar`).
    Bar,
}

/// Radius of the hole of a ring over the radius of the ring.
const HOLE: f32 = 0.55;
/// Half the width of an arm of a cross over the length of the arm from the centre.
const ARM: f32 = 0.33;
/// Inner over outer radius of a star. The 0.382 of a pentagram looks thin at 12 pixels.
const STAR_INNER: f32 = 0.45;
/// Width over length of a rhombus.
const DIAMOND_WIDTH: f32 = 0.4;
/// Width over length of a bar.
const BAR_WIDTH: f32 = 0.25;

impl Kind {
    /// All kinds of figures, in the order of their classes: index `k` is class `k` of the generated data set.
    pub const ALL: [Kind; 8] =
        [Kind::Disc, Kind::Square, Kind::Triangle, Kind::Cross, Kind::Ring, Kind::Star, Kind::Diamond, Kind::Bar];

    /// Returns the name of the figure's category in COCO files, for example `disc`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Disc => "disc",
            Kind::Square => "square",
            Kind::Triangle => "triangle",
            Kind::Cross => "cross",
            Kind::Ring => "ring",
            Kind::Star => "star",
            Kind::Diamond => "diamond",
            Kind::Bar => "bar",
        }
    }

    /// The corners of the outline around the origin, with a largest radius of about 1; empty for disc and ring.
    pub(super) fn corners(self) -> Vec<[f32; 2]> {
        let polar = |angle: f32, radius: f32| [radius * angle.cos(), radius * angle.sin()];
        match self {
            Kind::Disc | Kind::Ring => Vec::new(),
            Kind::Square => (0..4).map(|i| polar(PI / 4.0 + i as f32 * PI / 2.0, 1.0)).collect(),
            Kind::Triangle => (0..3).map(|i| polar(i as f32 * TAU / 3.0, 1.0)).collect(),
            Kind::Star => {
                (0..10).map(|i| polar(i as f32 * PI / 5.0, if i % 2 == 0 { 1.0 } else { STAR_INNER })).collect()
            }
            Kind::Diamond => vec![[1.0, 0.0], [0.0, DIAMOND_WIDTH], [-1.0, 0.0], [0.0, -DIAMOND_WIDTH]],
            Kind::Bar => vec![[1.0, BAR_WIDTH], [-1.0, BAR_WIDTH], [-1.0, -BAR_WIDTH], [1.0, -BAR_WIDTH]],
            Kind::Cross => {
                let (a, b) = (ARM, 1.0);
                vec![
                    [b, a],
                    [a, a],
                    [a, b],
                    [-a, b],
                    [-a, a],
                    [-b, a],
                    [-b, -a],
                    [-a, -a],
                    [-a, -b],
                    [a, -b],
                    [a, -a],
                    [b, -a],
                ]
            }
        }
    }
}

/// The outline of a figure in pixels.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outline {
    /// A circle, with the radius of the hole for a ring and 0 for a disc.
    Round { center: [f32; 2], radius: f32, hole: f32 },
    /// A simple polygon, given by its corners `[x, y]` in pixels, in order.
    Polygon(Vec<[f32; 2]>),
}

impl Outline {
    /// Creates the outline of a figure that is turned by `angle` (radians). The longer side of its bounding box is
    /// `size` pixels, and the centre of the bounding box is at `center`.
    pub(super) fn new(kind: Kind, angle: f32, size: f32, center: [f32; 2]) -> Self {
        if matches!(kind, Kind::Disc | Kind::Ring) {
            let hole = if kind == Kind::Ring { HOLE } else { 0.0 };
            return Outline::Round { center, radius: size / 2.0, hole: hole * size / 2.0 };
        }
        let (sin, cos) = angle.sin_cos();
        let mut points: Vec<[f32; 2]> =
            kind.corners().into_iter().map(|[x, y]| [x * cos - y * sin, x * sin + y * cos]).collect();
        let [x1, y1, x2, y2] = bounds(&points);
        let scale = size / (x2 - x1).max(y2 - y1);
        for [x, y] in &mut points {
            *x = (*x - (x1 + x2) / 2.0) * scale + center[0];
            *y = (*y - (y1 + y2) / 2.0) * scale + center[1];
        }
        Outline::Polygon(points)
    }

    /// The bounding box as `[x1, y1, x2, y2]` in pixels.
    pub(super) fn bounds(&self) -> [f32; 4] {
        match self {
            Outline::Round { center: [x, y], radius: r, .. } => [x - r, y - r, x + r, y + r],
            Outline::Polygon(points) => bounds(points),
        }
    }

    /// Whether a point is inside the outline (even-odd rule for polygons).
    pub(super) fn contains(&self, x: f32, y: f32) -> bool {
        match self {
            Outline::Round { center, radius, hole } => {
                let square = (x - center[0]).powi(2) + (y - center[1]).powi(2);
                square <= radius * radius && square >= hole * hole
            }
            Outline::Polygon(points) => {
                let mut inside = false;
                let mut before = points[points.len() - 1];
                for &[px, py] in points {
                    let [qx, qy] = before;
                    if (py > y) != (qy > y) && x < (qx - px) * (y - py) / (qy - py) + px {
                        inside = !inside;
                    }
                    before = [px, py];
                }
                inside
            }
        }
    }
}

/// The bounding box of points as `[x1, y1, x2, y2]`.
fn bounds(points: &[[f32; 2]]) -> [f32; 4] {
    let start = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
    points.iter().fold(start, |[x1, y1, x2, y2], [x, y]| [x1.min(*x), y1.min(*y), x2.max(*x), y2.max(*y)])
}
