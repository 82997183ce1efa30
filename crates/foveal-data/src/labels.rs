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
    /// Moves all boxes by `place` and clips them to `window`, a part of the image that they are moved to. Objects outside
    /// the window are dropped. Objects of which less than [`MIN_VISIBLE_FRACTION`] remains visible become ignored
    /// regions.
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

    /// Adds the objects and ignored regions of another image.
    pub(crate) fn extend(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.ignored.extend(other.ignored);
    }
}
