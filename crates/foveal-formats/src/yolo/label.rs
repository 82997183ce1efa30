//! Lines of YOLO label files.

use crate::corners::around;
use crate::notes::Kind;

/// How far a fraction may be outside the range from 0 to 1, for numbers that were rounded.
const SLACK: f64 = 1e-3;
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
    /// with `keypoints` numbers behind it.
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
        if let Some(wrong) = numbers.iter().find(|number| **number > 1.0 + SLACK || **number < -SLACK) {
            return Err(format!("found {wrong}, expected fractions of the image, from 0 to 1"));
        }
        let corners = if count == BOX {
            let [cx, cy, width, height] = [numbers[0], numbers[1], numbers[2], numbers[3]];
            Some([cx - width / 2.0, cy - height / 2.0, cx + width / 2.0, cy + height / 2.0])
        } else {
            around(&numbers.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect::<Vec<_>>())
        };
        let corners = corners.ok_or("found no numbers behind the class")?;
        Ok(Self { class: class as usize, corners, note })
    }
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
        ] {
            let error = Label::read(line, 3, None).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
