//! Lines of YOLO label files.

use crate::corners::around;
use crate::notes::Kind;

/// How far the centre and the size of a box may be outside the range from 0 to 1. Programs for labelling round, and let
/// outlines end beyond the image; newer versions of Ultralytics' check of labels allow 0.01. Pixels are far outside.
const SLACK: f64 = 0.05;
/// How far below 0 the size of a box may be, for numbers that were rounded. Such a box has no area.
const ROUNDED: f64 = 1e-3;
/// Numbers of a box: centre, width, height.
const BOX: usize = 4;
/// Numbers of the four corners of an oriented box.
const CORNERS: usize = 8;
/// Numbers of the polygon with the fewest corners.
const TRIANGLE: usize = 6;

/// An object of a label file.
#[derive(Debug, PartialEq)]
pub(super) struct Label {
    /// Index of the class.
    pub class: usize,
    /// Left, top, right and bottom edge as fractions of the image.
    pub corners: [f64; 4],
    /// What is to be noted about the conversion to a box.
    pub note: Option<Kind>,
}

impl Label {
    /// Reads a line: `class cx cy width height`, a class with the corners of a polygon or of an oriented box, or a box
    /// with `keypoints` numbers behind it. The centre and the size of the box have to be fractions of the image, those
    /// of the box around a polygon too; its edges may be beyond the image.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub(super) fn read(line: &str, classes: usize, keypoints: Option<usize>) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let class = first.parse::<f64>().ok().filter(|class| class.fract() == 0.0 && *class >= 0.0);
        let class = class.ok_or_else(|| format!("the class is {first:?}, expected the index of a class, from 0"))?;
        if class >= classes as f64 {
            return Err(format!("found the class {first}, expected an index below {classes}, the number of names"));
        }
        let mut numbers = Vec::new();
        for word in words {
            let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
            numbers.push(number.ok_or_else(|| format!("found {word:?}, expected a number"))?);
        }
        let (count, note) = match (keypoints, numbers.len()) {
            (_, BOX) => (BOX, None),
            (Some(more), count) if count == BOX + more => (BOX, Some(Kind::Keypoints)),
            (None, CORNERS) => (CORNERS, Some(Kind::FourCorners)),
            (None, count) if count >= TRIANGLE && count % 2 == 0 => (count, Some(Kind::Polygon)),
            (_, count) => {
                let or = match keypoints {
                    Some(more) => format!("{BOX} numbers and {more} of keypoints"),
                    None => "pairs of numbers (a polygon)".to_owned(),
                };
                return Err(format!(
                    "found {count} numbers behind the class, expected {BOX} (centre x, centre y, width, height) or {or}"
                ));
            }
        };
        let numbers = &numbers[..count];
        let (corners, wrong) = if count == BOX {
            let [cx, cy, width, height] = [numbers[0], numbers[1], numbers[2], numbers[3]];
            let corners = [cx - width / 2.0, cy - height / 2.0, cx + width / 2.0, cy + height / 2.0];
            (corners, outside(&[cx, cy, width, height]))
        } else {
            let points: Vec<[f64; 2]> = numbers.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
            let corners = around(&points).ok_or("found no numbers behind the class")?;
            let [x1, y1, x2, y2] = corners;
            let outside = outside(&[(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1]);
            let farthest = numbers.iter().copied().max_by(|a, b| (a - 0.5).abs().total_cmp(&(b - 0.5).abs()));
            (corners, outside.and(farthest))
        };
        match wrong {
            Some(wrong) => Err(format!("found {wrong}, expected fractions of the image, from 0 to 1")),
            None => Ok(Self { class: class as usize, corners, note }),
        }
    }
}

/// The first number of the centre and the size of a box that is no fraction of the image.
fn outside(numbers: &[f64; BOX]) -> Option<f64> {
    let least = [-SLACK, -SLACK, -ROUNDED, -ROUNDED];
    let mut numbers = numbers.iter().zip(least);
    numbers.find(|(number, least)| !(*least..=1.0 + SLACK).contains(*number)).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_polygons_and_keypoints() {
        let read = |line: &str, keypoints| Label::read(line, 3, keypoints).unwrap();
        let plain = read("2 0.5 0.25 0.5 0.5", None);
        assert_eq!((plain.class, plain.corners, plain.note), (2, [0.25, 0.0, 0.75, 0.5], None));
        assert_eq!(read("0.0 .1 .2 .5 .4 .3 .9", None).corners, [0.1, 0.2, 0.5, 0.9]);
        assert_eq!(read("0 .1 .2 .5 .4 .3 .9", None).note, Some(Kind::Polygon));
        assert_eq!(read("0 .1 .2 .5 .4 .3 .9 0 1", None).note, Some(Kind::FourCorners));
        let pose = read("1 0.5 0.5 0.5 0.5 9 9 2", Some(3));
        assert_eq!((pose.corners, pose.note), ([0.25, 0.25, 0.75, 0.75], Some(Kind::Keypoints)));
    }

    #[test]
    fn polygons_may_reach_beyond_the_image_as_boxes_may() {
        let read = |line: &str| Label::read(line, 3, None).unwrap();
        // From -0.02 to 1.02 and from 0.9 to 1.1: the same box as a box and as polygons.
        let expected = [-0.02, 0.9, 1.02, 1.1];
        for line in ["0 0.5 1 1.04 0.2", "0 -.02 .9 1.02 1.1 .5 1", "0 -.02 .9 1.02 1.1 .5 1 .5 .95"] {
            let corners = read(line).corners;
            let close = corners.iter().zip(expected).all(|(found, edge)| (found - edge).abs() < 1e-12);
            assert!(close, "{line}: {corners:?}");
        }
        for line in ["0 0.5 1 1.06 0.2", "0 -.03 .9 1.03 1.1 .5 1", "0 -.03 .9 1.03 1.1 .5 1 .5 .95"] {
            let error = Label::read(line, 3, None).unwrap_err();
            assert!(error.contains("expected fractions"), "{line}: {error}");
        }
    }

    #[test]
    fn lines_that_are_no_labels() {
        for (line, words) in [
            ("cat 0.5 0.5 0.5 0.5", "the class is \"cat\""),
            ("-1 0.5 0.5 0.5 0.5", "the class is \"-1\""),
            ("0.5 0.5 0.5 0.5 0.5", "the class is \"0.5\""),
            ("3 0.5 0.5 0.5 0.5", "below 3"),
            ("0 0.5 0.5 0.5", "found 3 numbers"),
            ("0 0.5 0.5 0.5 0.5 0.9", "found 5 numbers"),
            ("0", "found 0 numbers"),
            ("0 0.5 0.5 x 0.5", "found \"x\""),
            ("0 0.5 0.5 NaN 0.5", "found \"NaN\""),
            ("0 320 240 64 48", "found 320, expected fractions"),
            ("0 0.5 0.5 -0.5 0.5", "found -0.5, expected fractions"),
            ("0 0.5 0.5 -0.03 0.5", "found -0.03, expected fractions"),
            ("0 3 4 5 4 5 6", "found 6, expected fractions"),
            ("0 0 0 3 0 3 2 0 2", "found 3, expected fractions"),
        ] {
            let error = Label::read(line, 3, None).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
