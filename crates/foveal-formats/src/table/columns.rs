//! The columns of a table of boxes, by the names in its first row.

use super::row::Row;

/// Names of the column of the image's file, without the characters that are no letters or digits.
const PATH: [&str; 12] = [
    "filename",
    "file",
    "path",
    "filepath",
    "image",
    "imagepath",
    "imagename",
    "imagefile",
    "imagefilename",
    "img",
    "imgpath",
    "imageid",
];
const CLASS: [&str; 9] =
    ["class", "label", "classname", "labelname", "category", "categoryname", "objectclass", "object", "classlabel"];
const LEFT: [&str; 6] = ["xmin", "x1", "left", "bboxxmin", "bboxx1", "xtl"];
const TOP: [&str; 6] = ["ymin", "y1", "top", "bboxymin", "bboxy1", "ytl"];
const RIGHT: [&str; 6] = ["xmax", "x2", "right", "bboxxmax", "bboxx2", "xbr"];
const BOTTOM: [&str; 6] = ["ymax", "y2", "bottom", "bboxymax", "bboxy2", "ybr"];
const X: [&str; 3] = ["x", "bboxx", "bboxleft"];
const Y: [&str; 3] = ["y", "bboxy", "bboxtop"];
const BOX_WIDTH: [&str; 5] = ["w", "width", "bboxwidth", "bboxw", "boxwidth"];
const BOX_HEIGHT: [&str; 5] = ["h", "height", "bboxheight", "bboxh", "boxheight"];
const IMAGE_WIDTH: [&str; 4] = ["imagewidth", "imgwidth", "imagew", "width"];
const IMAGE_HEIGHT: [&str; 4] = ["imageheight", "imgheight", "imageh", "height"];
const CROWD: [&str; 3] = ["iscrowd", "isgroupof", "crowd"];
const FLAGS: [&str; 6] = ["difficult", "truncated", "occluded", "istruncated", "isoccluded", "isdifficult"];

/// How the columns give a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Left, top, right and bottom edge.
    Corners,
    /// Left and top edge, width and height.
    Sides,
}

/// The columns of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub path: usize,
    pub class: usize,
    pub form: Form,
    /// The four columns of the box and their names.
    pub numbers: [(usize, String); 4],
    /// Width and height of the image.
    pub size: Option<[(usize, String); 2]>,
    pub crowd: Option<usize>,
    /// Columns of flags for which COCO has no field.
    pub flags: Vec<(usize, String)>,
    /// Names of the columns that are not used.
    pub others: Vec<String>,
    /// Number of columns.
    pub count: usize,
}

impl Columns {
    /// The columns of a table without names: `path,x1,y1,x2,y2,class`.
    pub(super) fn unnamed() -> Self {
        let column = |index: usize, name: &str| (index, name.to_owned());
        Self {
            path: 0,
            class: 5,
            form: Form::Corners,
            numbers: [column(1, "x1"), column(2, "y1"), column(3, "x2"), column(4, "y2")],
            size: None,
            crowd: None,
            flags: Vec::new(),
            others: Vec::new(),
            count: 6,
        }
    }

    /// The columns by the names in the first row, or `None` if the row is data.
    ///
    /// # Errors
    /// What was expected and what was found, if the row is neither names nor data.
    pub(super) fn of(row: &Row) -> Result<Option<Self>, String> {
        let blank = |field: &str| field.trim().is_empty();
        let numeric = |field: &str| field.trim().parse::<f64>().is_ok();
        let inner: Vec<&str> = row.iter().skip(1).take(4).collect();
        if row.len() == 6 && (inner.iter().all(|field| numeric(field)) || inner.iter().all(|field| blank(field))) {
            return Ok(None);
        }
        if row.iter().any(numeric) || !row.iter().any(is_known) {
            return Err(format!(
                "found {} fields ({}), expected the six fields path,x1,y1,x2,y2,class, or names of columns",
                row.len(),
                excerpt(row)
            ));
        }
        Self::named(row).map(Some)
    }

    fn named(row: &Row) -> Result<Self, String> {
        let missing = |what: &str, names: &[&str]| {
            format!("found the columns {}, expected one for {what} ({})", excerpt(row), names.join(", "))
        };
        let one = |what: &str, names: &[&str]| find(row, names).ok_or_else(|| missing(what, names));
        let column = |index: usize| (index, row.get(index).unwrap_or_default().trim().to_owned());
        let path = one("the file of the image", &PATH)?;
        let class = one("the class", &CLASS)?;
        let corners = find(row, &RIGHT).is_some() || find(row, &BOTTOM).is_some();
        let (form, numbers) = if corners {
            let numbers = [
                one("the left edge", &LEFT)?,
                one("the top edge", &TOP)?,
                one("the right edge", &RIGHT)?,
                one("the bottom edge", &BOTTOM)?,
            ];
            (Form::Corners, numbers)
        } else {
            let edge = |what: &str, names: &[&str], more: &[&str]| {
                find(row, names).or_else(|| find(row, more)).ok_or_else(|| missing(what, names))
            };
            let numbers = [
                edge("the left edge", &X, &LEFT)?,
                edge("the top edge", &Y, &TOP)?,
                one("the right edge or the width of the box", &BOX_WIDTH)?,
                one("the bottom edge or the height of the box", &BOX_HEIGHT)?,
            ];
            (Form::Sides, numbers)
        };
        let free = |names: &[&str]| find(row, names).filter(|index| !numbers.contains(index));
        let size = free(&IMAGE_WIDTH).zip(free(&IMAGE_HEIGHT)).map(|(width, height)| [column(width), column(height)]);
        let crowd = find(row, &CROWD);
        let flags: Vec<(usize, String)> = FLAGS.iter().filter_map(|name| find(row, &[name])).map(column).collect();
        let mut used = vec![path, class];
        used.extend(numbers);
        used.extend(size.iter().flatten().map(|(index, _)| *index));
        used.extend(crowd);
        used.extend(flags.iter().map(|(index, _)| *index));
        let others = (0..row.len()).filter(|index| !used.contains(index)).map(|index| column(index).1).collect();
        Ok(Self { path, class, form, numbers: numbers.map(column), size, crowd, flags, others, count: row.len() })
    }
}

/// Whether a field is the name of a column that is used.
fn is_known(field: &str) -> bool {
    let all: [&[&str]; 14] = [
        &PATH,
        &CLASS,
        &LEFT,
        &TOP,
        &RIGHT,
        &BOTTOM,
        &X,
        &Y,
        &BOX_WIDTH,
        &BOX_HEIGHT,
        &IMAGE_WIDTH,
        &IMAGE_HEIGHT,
        &CROWD,
        &FLAGS,
    ];
    let folded = fold(field);
    all.iter().any(|names| names.contains(&folded.as_str()))
}

/// The first of the names that a row has, as the index of its column.
fn find(row: &Row, names: &[&str]) -> Option<usize> {
    let folded: Vec<String> = row.iter().map(fold).collect();
    names.iter().find_map(|name| folded.iter().position(|found| found == name))
}

/// The letters and digits of a name, in small letters.
fn fold(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn excerpt(row: &Row) -> String {
    foveal_base::first_chars(row.iter().collect::<Vec<_>>().join(","), 120)
}

#[cfg(test)]
mod tests {
    use super::super::row::{Rows, line};
    use super::*;

    fn of(row: &[&str]) -> Result<Option<Columns>, String> {
        let text = line(row);
        let (_, row) = Rows::new(text.as_bytes()).next().unwrap().unwrap();
        Columns::of(&row)
    }

    #[test]
    fn names_in_any_order_and_spelling() {
        let tensorflow =
            of(&["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]).unwrap().unwrap();
        assert_eq!((tensorflow.path, tensorflow.class, tensorflow.form), (0, 3, Form::Corners));
        assert_eq!(tensorflow.numbers.map(|(index, _)| index), [4, 5, 6, 7]);
        assert_eq!(tensorflow.size.unwrap().map(|(index, _)| index), [1, 2]);
        let sides = of(&[
            "Label",
            "bbox_x",
            "bbox_y",
            "bbox_width",
            "bbox_height",
            "Image_Name",
            "image_width",
            "image_height",
            "annotator",
        ])
        .unwrap()
        .unwrap();
        assert_eq!((sides.path, sides.class, sides.form), (5, 0, Form::Sides));
        assert_eq!(sides.numbers.map(|(index, _)| index), [1, 2, 3, 4]);
        assert_eq!((sides.size.unwrap().map(|(index, _)| index), sides.others), ([6, 7], vec!["annotator".to_owned()]));
        // Width and height are those of the box if there is no right edge.
        let box_size = of(&["image", "x", "y", "width", "height", "label"]).unwrap().unwrap();
        assert_eq!((box_size.form, box_size.size), (Form::Sides, None));
    }

    #[test]
    fn rows_of_data_and_rows_that_are_neither() {
        assert_eq!(of(&["a.jpg", "1", "2", "3", "4", "cat"]), Ok(None));
        assert_eq!(of(&["a.jpg", "", "", "", "", ""]), Ok(None));
        for (row, word) in [
            (&["a.jpg", "1", "2", "3", "cat"][..], "found 5 fields"),
            (&["a.jpg;1;2;3;4;cat"], "found 1 fields"),
            (&["a", "b", "c", "d", "e", "f"], "expected the six fields"),
            (&["filename", "class", "xmin", "ymin", "xmax"], "expected one for the bottom edge"),
            (&["class", "xmin", "ymin", "xmax", "ymax"], "expected one for the file"),
            (&["filename", "xmin", "ymin", "xmax", "ymax"], "expected one for the class"),
        ] {
            let error = of(row).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
