//! The objects of an image while the image is being augmented.

use foveal_boxes::BBox;

use crate::{Object, Record};

/// Smallest fraction of the area of an object that must remain visible after all cuts. With less, the object is ignored
/// in training.
pub(crate) const MIN_VISIBLE_FRACTION: f32 = 0.25;

/// An object of an image that is being augmented.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LabelledObject {
    /// Box of the visible part, in pixels of the image.
    pub bbox: BBox,
    /// The class.
    pub class: u32,
    /// Fraction of the object's box that was not cut off: the product over all cuts so far, 1 for a whole object.
    pub visible: f32,
}

/// The objects of an image and the regions that are ignored in training, in pixels of the image.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Labels {
    /// The objects that are trained.
    pub objects: Vec<LabelledObject>,
    /// Regions in which anchors are neither positive nor background: crowd regions, and objects that are mostly cut off
    /// or covered.
    pub ignored: Vec<BBox>,
}

impl From<&Record> for Labels {
    fn from(record: &Record) -> Self {
        let whole = |o: &Object| LabelledObject { bbox: o.bbox, class: o.class, visible: 1.0 };
        Self { objects: record.objects.iter().map(whole).collect(), ignored: record.crowds.clone() }
    }
}

impl LabelledObject {
    /// The object after its box became `full`, of which `seen` lies inside the image. `None` if less than
    /// [`MIN_VISIBLE_FRACTION`] of the object remains visible.
    pub(crate) fn cut(&self, full: &BBox, seen: BBox) -> Option<Self> {
        let visible = self.visible * seen.area();
        (visible >= MIN_VISIBLE_FRACTION * full.area()).then(|| Self {
            bbox: seen,
            class: self.class,
            visible: visible / full.area(),
        })
    }
}

impl Labels {
    /// Moves all boxes by `place` and clips them to `window`, a part of the image that they are moved to. Objects
    /// outside the window are dropped. Objects of which less than [`MIN_VISIBLE_FRACTION`] remains visible become
    /// ignored regions.
    pub(crate) fn place(&mut self, place: impl Fn(&BBox) -> BBox, window: &BBox) {
        let x = |v: f32| v.max(window.x1).min(window.x2);
        let y = |v: f32| v.max(window.y1).min(window.y2);
        let clip = |full: &BBox| {
            let seen = BBox::new(x(full.x1), y(full.y1), x(full.x2), y(full.y2));
            (!seen.is_degenerate()).then_some(seen)
        };
        let mut cut_off = Vec::new();
        self.objects = std::mem::take(&mut self.objects)
            .into_iter()
            .filter_map(|object| {
                let full = place(&object.bbox);
                let seen = clip(&full)?;
                let kept = object.cut(&full, seen);
                if kept.is_none() {
                    cut_off.push(seen);
                }
                kept
            })
            .collect();
        self.ignored = self.ignored.iter().filter_map(|region| clip(&place(region))).chain(cut_off).collect();
    }

    /// Takes note that rectangles cover parts of the image. The boxes of the objects stay. Objects of which less than
    /// [`MIN_VISIBLE_FRACTION`] remains visible become ignored regions.
    pub(crate) fn cover(&mut self, rectangles: &[BBox]) {
        self.objects.retain_mut(|object| {
            object.visible *= 1.0 - covered(&object.bbox, rectangles);
            let seen = object.visible >= MIN_VISIBLE_FRACTION;
            if !seen {
                self.ignored.push(object.bbox);
            }
            seen
        });
    }

    /// Adds the objects and ignored regions of another image.
    pub(crate) fn extend(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.ignored.extend(other.ignored);
    }
}

/// The fraction of a box that at least one of the rectangles covers.
pub(crate) fn covered(bbox: &BBox, rectangles: &[BBox]) -> f32 {
    let within = |r: &BBox| BBox::new(r.x1.max(bbox.x1), r.y1.max(bbox.y1), r.x2.min(bbox.x2), r.y2.min(bbox.y2));
    let parts: Vec<BBox> = rectangles.iter().map(within).filter(|part| !part.is_degenerate()).collect();
    // The edges of the parts divide the box into cells, each of which is covered as a whole or not at all.
    let edges = |ends: fn(&BBox) -> [f32; 2]| {
        let mut edges: Vec<f32> = parts.iter().flat_map(ends).collect();
        edges.sort_by(f32::total_cmp);
        edges.dedup();
        edges
    };
    let (xs, ys) = (edges(|part| [part.x1, part.x2]), edges(|part| [part.y1, part.y2]));
    let mut sum = 0.0;
    for x in xs.windows(2) {
        for y in ys.windows(2) {
            if parts.iter().any(|p| p.x1 <= x[0] && x[1] <= p.x2 && p.y1 <= y[0] && y[1] <= p.y2) {
                sum += (x[1] - x[0]) * (y[1] - y[0]);
            }
        }
    }
    sum / bbox.area()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bbox: BBox) -> LabelledObject {
        LabelledObject { bbox, class: 3, visible: 1.0 }
    }

    #[test]
    fn overlapping_rectangles_count_once() {
        let bbox = BBox::new(10.0, 10.0, 30.0, 20.0);
        for (rectangles, fraction) in [
            (&[][..], 0.0),
            (&[[0.0, 0.0, 9.0, 40.0]], 0.0),
            (&[[0.0, 0.0, 40.0, 40.0]], 1.0),
            (&[[0.0, 0.0, 15.0, 40.0]], 0.25),
            // 10 of 20 columns, and 5 of 10 rows in the other 10 columns.
            (&[[0.0, 0.0, 20.0, 40.0], [10.0, 15.0, 40.0, 40.0]], 0.75),
            (&[[0.0, 0.0, 15.0, 40.0], [0.0, 0.0, 15.0, 40.0], [25.0, 0.0, 26.0, 15.0]], 0.275),
        ] {
            let rectangles: Vec<BBox> = rectangles.iter().map(|&[a, b, c, d]| BBox::new(a, b, c, d)).collect();
            assert!((covered(&bbox, &rectangles) - fraction).abs() < 1e-6, "{rectangles:?}");
        }
    }

    #[test]
    fn cuts_multiply_until_too_little_is_visible() {
        let mut labels = Labels { objects: vec![whole(BBox::new(0.0, 0.0, 20.0, 10.0))], ignored: Vec::new() };
        let left = |by: f32| move |b: &BBox| BBox::new(b.x1 - by, b.y1, b.x2 - by, b.y2);
        let window = BBox::new(0.0, 0.0, 100.0, 100.0);
        // 8 of 20 columns are cut off, then 4 more.
        labels.place(left(8.0), &window);
        labels.place(left(4.0), &window);
        let [object] = &labels.objects[..] else { panic!("{labels:?}") };
        assert_eq!(object.bbox, BBox::new(0.0, 0.0, 8.0, 10.0));
        assert!((object.visible - 0.4).abs() < 1e-6);
        // With 4 of 20 columns left, less than a quarter is visible, although half of what was left remains.
        let mut cut = labels.clone();
        cut.place(left(4.0), &window);
        assert_eq!((cut.objects.len(), cut.ignored), (0, vec![BBox::new(0.0, 0.0, 4.0, 10.0)]));
        // The same after 4 of the 8 columns are covered.
        labels.cover(&[BBox::new(0.0, 0.0, 4.0, 10.0)]);
        assert_eq!((labels.objects.len(), labels.ignored), (0, vec![BBox::new(0.0, 0.0, 8.0, 10.0)]));
    }

    #[test]
    fn objects_outside_the_window_are_dropped() {
        let bbox = BBox::new(50.0, 0.0, 60.0, 10.0);
        let mut labels = Labels { objects: vec![whole(bbox)], ignored: vec![bbox] };
        labels.place(|b| *b, &BBox::new(0.0, 0.0, 50.0, 50.0));
        assert_eq!(labels, Labels::default());
    }
}
