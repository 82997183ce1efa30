//! Ten damaged variants for each importer: the error names the file, the place, what was expected and what was found.

mod support;

use foveal_formats::{
    CocoOptions, Converted, CsvOptions, CvatOptions, FormatError, LabelmeOptions, OnError, OpenImagesOptions,
    VocOptions, YoloOptions, convert_coco, convert_csv, convert_cvat, convert_labelme, convert_open_images,
    convert_voc, convert_yolo,
};
use support::Place;

/// A damage of a data set that can be converted.
enum Damage {
    /// A part of a file is replaced.
    Part(&'static str, &'static str, &'static str),
    /// The whole file is replaced.
    Whole(&'static str, &'static [u8]),
    /// The file is removed.
    Gone(&'static str),
}
use Damage::{Gone, Part, Whole};

/// Each damage and words of its error.
type Cases = [(Damage, &'static [&'static str]); 10];

type Result<T = Converted> = std::result::Result<T, FormatError>;

#[track_caller]
fn check(build: fn() -> Place, convert: impl Fn(&Place, OnError) -> Result, cases: Cases) {
    let sound = build();
    let whole = convert(&sound, OnError::Fail).unwrap();
    assert!(!whole.dataset.annotations.is_empty());
    for (index, (damage, words)) in cases.into_iter().enumerate() {
        let place = build();
        match damage {
            Part(name, from, to) => place.replace(name, from, to),
            Whole(name, content) => {
                place.write(name, content);
            }
            Gone(name) => std::fs::remove_file(place.path(name)).unwrap(),
        }
        let error = convert(&place, OnError::Fail).expect_err(&format!("damage {index}, {words:?}")).to_string();
        for word in words {
            assert!(error.contains(word), "damage {index}: {error:?} lacks {word:?}");
        }
        // What can be left out is left out with a note.
        if error.contains("--on-error skip") {
            let converted = convert(&place, OnError::Skip);
            assert!(
                converted
                    .as_ref()
                    .is_ok_and(|converted| converted.notes.iter().any(|note| note.contains("left out: "))),
                "damage {index}: {converted:?}"
            );
        }
    }
}

fn voc() -> Place {
    let place = Place::new();
    place.image("voc/JPEGImages/a.png", 50, 40);
    place.image("voc/JPEGImages/b.png", 50, 40);
    let object = "<object>\n<name>cat</name>\n<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>22</ymax></bndbox>\n\
                  </object>";
    for name in ["a", "b"] {
        place.write(&format!("voc/Annotations/{name}.xml"), format!("<annotation>\n{object}\n</annotation>\n"));
    }
    place.write("voc/ImageSets/Main/val.txt", "a\nb\n");
    place
}

#[test]
fn pascal_voc() {
    let convert = |place: &Place, on_error| {
        let split = Some("val".to_owned());
        convert_voc(&place.path("voc"), &VocOptions { split, on_error, ..VocOptions::default() })
    };
    const A: &str = "voc/Annotations/a.xml";
    check(
        voc,
        convert,
        [
            (Whole(A, b"<annotation>"), &["a.xml: ", "--on-error skip"]),
            (Whole(A, b"caf\xe9"), &["a.xml: cannot be read: line 1", "UTF-8", "0xe9"]),
            (
                Part(A, "<xmax>11</xmax>", "<xmax>wide</xmax>"),
                &["a.xml, line 2", "<xmax> is \"wide\"", "expected a number"],
            ),
            (Part(A, "<ymin>2</ymin>", ""), &["a.xml, line 2", "no <ymin>", "expected a number"]),
            (Part(A, "<name>cat</name>", ""), &["a.xml, line 2", "no <name>", "expected the name of its class"]),
            (Part(A, "bndbox>", "box>"), &["a.xml", "bndbox"]),
            (Part(A, "<xmin>1</xmin>", "<xmin>NaN</xmin>"), &["a.xml, line 2", "<xmin> is \"NaN\""]),
            (Gone("voc/JPEGImages/a.png"), &["a.xml: found no image a", "JPEGImages"]),
            (Gone(A), &["a.xml: the annotation file does not exist"]),
            (Gone("voc/ImageSets/Main/val.txt"), &["cannot access", "val.txt"]),
        ],
    );
}

fn yolo() -> Place {
    let place = Place::new();
    place.write("yolo/data.yaml", "train: images/train\nval: images/train\nnc: 2\nnames:\n  0: cat\n  1: dog\n");
    for name in ["a", "b"] {
        place.image(&format!("yolo/images/train/{name}.png"), 50, 40);
        place.write(&format!("yolo/labels/train/{name}.txt"), "0 0.5 0.5 0.2 0.2\n1 0.25 0.25 0.1 0.1\n");
    }
    place
}

#[test]
fn yolo_labels() {
    let convert = |place: &Place, on_error| {
        convert_yolo(&place.path("yolo/data.yaml"), &YoloOptions { on_error, ..YoloOptions::default() })
    };
    const A: &str = "yolo/labels/train/a.txt";
    const YAML: &str = "yolo/data.yaml";
    check(
        yolo,
        convert,
        [
            (Part(A, "0.5 0.5 0.2 0.2", "0.5 0.5 0.2"), &["a.txt, line 1", "found 3 numbers", "expected 4"]),
            (Part(A, "1 0.25", "2 0.25"), &["a.txt, line 2", "found the class 2", "below 2"]),
            (Part(A, "0 0.5", "cat 0.5"), &["a.txt, line 1", "the class is \"cat\"", "expected the index"]),
            (Part(A, "0.2 0.2", "0.2 x"), &["a.txt, line 1", "found \"x\"", "expected a number"]),
            (Part(A, "0.5 0.5", "25 20"), &["a.txt, line 1", "found 25", "expected fractions"]),
            (Whole("yolo/images/train/a.png", b"no image"), &["a.txt", "a.png", "expected a JPEG, PNG"]),
            (Whole(A, b"0 0.5 0.5 0.2 0.2 caf\xe9\n"), &["a.txt: cannot be read: line 1", "UTF-8", "0xe9"]),
            (Part(YAML, "names:", "classes:"), &["data.yaml: line 1", "`names`"]),
            (Part(YAML, "  1: dog", "  2: dog"), &["data.yaml: line ", "index 2 (\"dog\")", "expected 1"]),
            (Part(YAML, "train: images/train", "train: pictures"), &["data.yaml: `train`: found no pictures", "tried"]),
        ],
    );
    // More damages of data.yaml.
    for (from, to, words) in [
        ("nc: 2", "nc: 3", &["data.yaml: line 3", "`nc` is \"3\"", "expected 2"][..]),
        ("nc: 2", "nc: [2", &["data.yaml: line ", "not YAML"]),
        ("0: cat", "0: [cat]", &["data.yaml: line 5", "a list", "expected the name of a class"]),
        ("1: dog", "one: dog", &["data.yaml: line 6", "\"one\"", "expected the index"]),
        ("1: dog", "1: cat", &["data.yaml", "\"cat\" is listed twice"]),
        ("train: images/train", "test: images/train", &["data.yaml: expected the key `train`", "found val, test"]),
    ] {
        let place = yolo();
        place.replace(YAML, from, to);
        let error = convert(&place, OnError::Fail).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{error:?} lacks {word:?}"));
    }
}

fn cvat() -> Place {
    let place = Place::new();
    place.write(
        "cvat.xml",
        "<annotations>\n<meta><task><labels>\n<label><name>cat</name></label>\n</labels></task></meta>\n\
         <image id=\"0\" name=\"a.png\" width=\"50\" height=\"40\">\n\
         <box label=\"cat\" occluded=\"0\" xtl=\"1\" ytl=\"2\" xbr=\"11\" ybr=\"22\"/>\n\
         <polygon label=\"cat\" points=\"1,2;3,4;6,5\"/>\n</image>\n\
         <image id=\"1\" name=\"b.png\" width=\"50\" height=\"40\">\n\
         <box label=\"cat\" xtl=\"1\" ytl=\"2\" xbr=\"11\" ybr=\"22\" rotation=\"10\"/>\n</image>\n</annotations>\n",
    );
    place
}

#[test]
fn cvat_xml() {
    let convert = |place: &Place, on_error| {
        convert_cvat(&place.path("cvat.xml"), &CvatOptions { on_error, ..CvatOptions::default() })
    };
    const F: &str = "cvat.xml";
    check(
        cvat,
        convert,
        [
            (Whole(F, b"<annotations><image>"), &["cvat.xml: ", "expected an XML file of CVAT"]),
            (
                Whole(F, b"<annotation/>"),
                &["cvat.xml: found the root element <annotation>", "expected an XML file of CVAT"],
            ),
            (
                Part(F, "xbr=\"11\"", "xbr=\"x\""),
                &["cvat.xml, line 6", "`xbr` of a <box> is \"x\"", "expected a number"],
            ),
            (Part(F, "xtl=\"1\"", ""), &["cvat.xml, line 6", "a <box> has no `xtl`", "expected a number"]),
            (Part(F, "label=\"cat\" occ", "occ"), &["cvat.xml, line 6", "a <box> has no `label`", "expected a class"]),
            (
                Part(F, "label=\"cat\" occ", "label=\"dog\" occ"),
                &["cvat.xml, line 6", "class \"dog\"", "expected one of cat"],
            ),
            (Part(F, "1,2;3,4;6,5", "1,2;3"), &["cvat.xml, line 7", "the point \"3\"", "expected two numbers"]),
            (Part(F, "1,2;3,4;6,5", "1,2;3,4"), &["cvat.xml, line 7", "2 points", "expected at least 3"]),
            (
                Part(F, "width=\"50\"", "width=\"-5\""),
                &["cvat.xml, line 5", "`width`", "\"-5\"", "expected a number of pixels"],
            ),
            (Part(F, "name=\"b.png\"", "name=\"a.png\""), &["cvat.xml: the image \"a.png\" has been described before"]),
        ],
    );
    for (from, to, words) in [
        ("<polygon", "<circle", &["line 7", "<circle>", "expected box"][..]),
        ("rotation=\"10\"", "rotation=\"left\"", &["line 10", "`rotation`", "\"left\""]),
        ("<image id=\"0\" name=\"a.png\"", "<image id=\"0\"", &["line 5", "no `name`"]),
        ("width=\"50\"", "", &["line 5", "no `width` and `height`", "--images"]),
        ("</annotations>", "<track label=\"cat\"/></annotations>", &["a video", "--images"]),
    ] {
        let place = cvat();
        place.replace(F, from, to);
        let error = convert(&place, OnError::Fail).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{error:?} lacks {word:?}"));
    }
}

fn labelme() -> Place {
    let place = Place::new();
    for name in ["a", "b"] {
        place.image(&format!("set/{name}.png"), 50, 40);
        place.write(
            &format!("set/{name}.json"),
            format!(
                "{{\"version\": \"5.4.1\", \"flags\": {{}}, \"shapes\": [\n\
                 {{\"label\": \"cat\", \"points\": [[1, 2], [11, 22]], \"shape_type\": \"rectangle\"}},\n\
                 {{\"label\": \"dog\", \"points\": [[1, 2], [3, 4], [6, 5]], \"shape_type\": \"polygon\"}}],\n\
                 \"imagePath\": \"{name}.png\", \"imageData\": null, \"imageHeight\": 40, \"imageWidth\": 50}}"
            ),
        );
    }
    place
}

#[test]
fn labelme_json() {
    let convert = |place: &Place, on_error| {
        convert_labelme(&place.path("set"), &LabelmeOptions { on_error, ..LabelmeOptions::default() })
    };
    const F: &str = "set/a.json";
    check(
        labelme,
        convert,
        [
            (Whole(F, b"{\"shapes\": ["), &["a.json, line 1", "EOF"]),
            (Whole(F, b"{\"images\": []}"), &["a.json: has no `shapes`", "expected a file of LabelMe"]),
            (Part(F, "\"cat\"", "\"\""), &["a.json, shapes[0]", "`label` is empty", "expected the name of a class"]),
            (Part(F, "\"label\": \"dog\", ", ""), &["a.json, shapes[1]", "`label` is missing"]),
            (Part(F, "[[1, 2], [11, 22]]", "[[1, 2]]"), &["a.json, shapes[0]", "1 points", "expected at least 2"]),
            (Part(F, "[1, 2], [11, 22]", "[1, 2], [11]"), &["a.json, shapes[0]", "has [11]", "expected two numbers"]),
            (Part(F, "\"rectangle\"", "\"star\""), &["a.json, shapes[0]", "\"star\"", "expected rectangle, polygon"]),
            (
                Part(F, "[[1, 2], [3, 4], [6, 5]]", "5"),
                &["a.json, shapes[1]", "`points` is a number", "expected a list"],
            ),
            (Part(F, "\"imageHeight\": 40", "\"imageHeight\": \"x\""), &["a.json, line 4", "invalid type", "u32"]),
            (Gone("set/a.png"), &["a.json: found no image \"a.png\""]),
        ],
    );
}

fn table() -> Place {
    let place = Place::new();
    place.write(
        "boxes.csv",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,50,40,cat,1,2,11,22\na.png,50,40,dog,1,2,11,22\n\
         b.png,50,40,\"cat, black\",1,2,11,22\n",
    );
    place
}

#[test]
fn csv_files() {
    let convert = |place: &Place, on_error| {
        convert_csv(&place.path("boxes.csv"), &CsvOptions { on_error, ..CsvOptions::default() })
    };
    const F: &str = "boxes.csv";
    check(
        table,
        convert,
        [
            (Part(F, "cat,1,2", "cat,x,2"), &["boxes.csv, line 2", "`xmin` is \"x\"", "expected a number"]),
            (Part(F, "dog,1,2,11", "dog,1,2,"), &["boxes.csv, line 3", "`xmax` is \"\"", "expected a number"]),
            (Part(F, "a.png,50,40,dog", "a.png,60,40,dog"), &["boxes.csv, line 3", "60x40", "expected 50x40"]),
            (Part(F, "a.png,50,40,cat", ",50,40,cat"), &["boxes.csv, line 2", "path of the image is empty"]),
            (Part(F, "40,cat,1", "40,,1"), &["boxes.csv, line 2", "the class is empty"]),
            (Part(F, "dog,1,2,11,22", "dog,1,2,11"), &["boxes.csv, line 3", "found 7 fields", "expected 8"]),
            (Part(F, "50,40,cat", "wide,40,cat"), &["boxes.csv, line 2", "`width` is \"wide\"", "number of pixels"]),
            (Part(F, "\"cat, black\"", "\"cat, black"), &["boxes.csv: line 4", "never closed"]),
            (Part(F, ",ymax", ""), &["boxes.csv: line 1", "expected one for the bottom edge", "ymax"]),
            (Whole(F, b"a.png,1,2,11,22,caf\xe9\n"), &["boxes.csv: line 1", "UTF-8"]),
        ],
    );
    for (content, words) in [
        ("", &["boxes.csv: the file is empty"][..]),
        ("a.png;1;2;3;4;cat\n", &["line 1", "found 1 fields", "path,x1,y1,x2,y2,class"]),
        (
            "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,50,40,cat,0.1,0.2,0.5,1.0\n",
            &["fractions", "pixels"],
        ),
        ("filename,width,height,class,xmin,ymin,xmax,ymax\n", &["found no annotated images"]),
        ("a.png,1,2,11,22,cat\n", &["line 1", "found no image \"a.png\""]),
        (
            "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,50,40,cat,,,,\n",
            &["line 2", "class is \"cat\"", "box is empty"],
        ),
    ] {
        let place = Place::new();
        place.write(F, content);
        let error = convert(&place, OnError::Fail).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{error:?} lacks {word:?}"));
    }
}

fn open_images() -> Place {
    let place = Place::new();
    place.image("images/0a.png", 50, 40);
    place.image("images/0b.png", 50, 40);
    place.write("classes.csv", "LabelName,DisplayName\n/m/01,Cat\n/m/02,\"Dog, brown\"\n");
    place.write(
        "boxes.csv",
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf\n\
         0a,xclick,/m/01,1,0.1,0.5,0.2,0.9,0,0,0\n0b,xclick,/m/02,1,0.1,0.5,0.2,0.9,0,0,1\n",
    );
    place
}

#[test]
fn open_images_boxes() {
    let convert = |place: &Place, on_error| {
        let options = OpenImagesOptions {
            images: place.path("images"),
            class_descriptions: Some(place.path("classes.csv")),
            classes: None,
            on_error,
        };
        convert_open_images(&place.path("boxes.csv"), &options)
    };
    const F: &str = "boxes.csv";
    check(
        open_images,
        convert,
        [
            (
                Part(F, "0.1,0.5,0.2,0.9,0,0,0", "x,0.5,0.2,0.9,0,0,0"),
                &["boxes.csv, line 2", "`XMin` is \"x\"", "a number"],
            ),
            (Part(F, "0.1,0.5", "0.1,25"), &["boxes.csv, line 2", "`XMax` is 25", "expected a fraction"]),
            (Part(F, "/m/01", "/m/09"), &["boxes.csv, line 2", "label \"/m/09\"", "class descriptions"]),
            (Part(F, ",0,0,0\n", "\n"), &["boxes.csv, line 2", "found 8 fields", "expected 11"]),
            (Part(F, "\n0a,", "\n,"), &["boxes.csv, line 2", "`ImageID` is empty"]),
            (Part(F, "XMin", "Left"), &["boxes.csv: line 1", "expected one named XMin"]),
            (Gone("images/0a.png"), &["boxes.csv, line 2", "found no image 0a", "images"]),
            (Whole("images/0a.png", b"no image"), &["boxes.csv, line 2", "0a.png", "expected a JPEG, PNG"]),
            (
                Whole("classes.csv", b"LabelName,DisplayName\n/m/01,Cat\n/m/02,Cat\n"),
                &["boxes.csv, line 3", "\"Cat\"", "two names"],
            ),
            (Whole("classes.csv", b"/m/01\n"), &["classes.csv: line 1", "found 1 field", "expected two"]),
        ],
    );
}

fn coco() -> Place {
    let place = Place::new();
    place.image("images/a.png", 50, 40);
    place.image("images/b.png", 50, 40);
    place.write(
        "coco.json",
        "{\"images\": [\n{\"id\": 0, \"file_name\": \"images/c374a449-a.png\", \"width\": 50, \"height\": 40},\n\
         {\"id\": 1, \"file_name\": \"b.png\"}],\n\"categories\": [\n{\"id\": 0, \"name\": \"cat\"}],\n\"annotations\": [\n\
         {\"id\": 0, \"image_id\": 0, \"category_id\": 0, \"bbox\": [1, 2, 10, 20]},\n\
         {\"id\": 1, \"image_id\": 1, \"category_id\": 0, \"bbox\": [1, 2, 10, 20]}]}\n",
    );
    place
}

#[test]
fn coco_files() {
    let convert = |place: &Place, on_error| {
        convert_coco(&place.path("coco.json"), &CocoOptions { images: Some(place.path("images")), on_error })
    };
    const F: &str = "coco.json";
    check(
        coco,
        convert,
        [
            (Whole(F, b"{\"images\": ["), &["coco.json, line 1"]),
            (Part(F, "\"annotations\"", "\"boxes\""), &["coco.json has no `annotations`"]),
            (Part(F, "[1, 2, 10, 20]", "[1, 2, 10]"), &["coco.json, line 7", "`bbox` has 3 numbers", "expected four"]),
            (Part(F, "\"image_id\": 0", "\"image_id\": 9"), &["coco.json, line 7", "image 9", "not in the file"]),
            (
                Part(F, "\"category_id\": 0", "\"category_id\": 9"),
                &["coco.json, line 7", "category 9", "not in the file"],
            ),
            (
                Part(F, "{\"id\": 1, \"file", "{\"id\": 0, \"file"),
                &["coco.json, line 3", "image id 0 is used more than once"],
            ),
            (
                Part(F, "\"width\": 50", "\"width\": \"x\""),
                &["coco.json, line 2", "`width`", "expected a whole number"],
            ),
            (Part(F, "\"b.png\"", "\"\""), &["coco.json, line 3", "image 1 has no file name"]),
            (Gone("images/a.png"), &["coco.json: image 0: found no image \"images/c374a449-a.png\"", "images"]),
            (
                Part(
                    F,
                    "{\"id\": 0, \"name\": \"cat\"}",
                    "{\"id\": 0, \"name\": \"cat\"}, {\"id\": 0, \"name\": \"dog\"}",
                ),
                &["coco.json: the category id 0 is used twice", "\"dog\""],
            ),
        ],
    );
}
