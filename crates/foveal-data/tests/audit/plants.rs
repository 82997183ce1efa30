//! The faults that are planted, one at a time, in a clean set.

use foveal_data::Problem::{self, *};
use image::{Rgb, RgbImage, imageops};
use serde_json::{Value, json};

use crate::place::{Place, SIDE};

/// Where a fault is found.
#[derive(Clone, Copy)]
pub(crate) enum Expected {
    /// In the report of the training set.
    Train(Problem),
    /// In the report of the validation set.
    Val(Problem),
    /// In the report of the training set, whose image files are not read.
    Unread(Problem),
    /// The set cannot be opened.
    Refused,
}

impl Expected {
    pub(crate) fn is_unread(self) -> bool {
        matches!(self, Self::Unread(_))
    }
}

/// A fault.
pub(crate) struct Plant {
    pub name: &'static str,
    pub expected: Expected,
    /// What may be found besides.
    pub also: &'static [Problem],
    /// Plants the fault, and returns what its finding must contain, such as ids.
    pub plant: fn(&mut Place) -> Vec<String>,
}

const fn plant(name: &'static str, expected: Expected, plant: fn(&mut Place) -> Vec<String>) -> Plant {
    Plant { name, expected, also: &[], plant }
}

impl Plant {
    const fn with(self, also: &'static [Problem]) -> Self {
        Self { also, ..self }
    }
}

use Expected::{Refused, Train, Unread, Val};

/// All faults, in the order of the documentation: files, records, boxes, classes, copies, suspicious boxes and images.
#[rustfmt::skip]
pub(crate) const PLANTS: &[Plant] = &[
    plant("a missing file", Train(MissingImage), missing_file),
    plant("a truncated file", Train(BrokenImage), truncated_file),
    plant("damaged pixels", Train(BrokenImage), damaged_pixels),
    plant("another size", Train(SizeMismatch), other_size),
    plant("swapped width and height", Train(SizeMismatch), swapped_size),
    plant("no size in the file", Train(NoSize), no_size),
    plant("no size, and no image files", Unread(SizeUnknown), no_size),
    plant("boxes without the EXIF orientation", Train(StoredOrientation), exif).with(&[SizeOutlier]),
    plant("a name in another case than its file", Train(OtherName), other_name),
    plant("two images with one id", Train(DuplicateImage), image_id_twice).with(&[EmptyImage]),
    plant("an image without a name", Train(NoFileName), no_name).with(&[]),
    plant("two objects with one id", Train(DuplicateAnnotation), object_id_twice),
    plant("an object of an unknown image", Train(UnknownImage), unknown_image),
    plant("an object of an unknown category", Train(UnknownCategory), unknown_category),
    plant("a bad image record", Train(ImageRecord), bad_image_record),
    plant("a bad object record", Train(AnnotationRecord), bad_object_record),
    plant("a bad category record", Train(CategoryRecord), bad_category_record),
    plant("a coordinate that is no number", Train(NotFinite), not_finite),
    plant("a box without area", Train(EmptyBox), empty_box),
    plant("a box outside its image", Train(OutsideBox), outside_box),
    plant("a box beyond the edge", Train(ClippedBox), clipped_box),
    plant("a box below data.min_box", Train(SmallBox), small_box),
    plant("all boxes are fractions", Train(Fractions), all_fractions)
        .with(&[NoObjects, SmallBox, EmptyBox, UnusedClass, ClassWithoutTrain]),
    plant("no object at all", Train(NoObjects), no_objects).with(&[UnusedClass, ClassWithoutTrain]),
    plant("a doubled category without objects", Train(DoubledCategory), doubled_category),
    plant("two categories with objects and one name", Refused, one_name),
    plant("the root category of Roboflow", Train(UnusedRoot), root_category).with(&[UnusedClass]),
    plant("a class without objects", Train(UnusedClass), unused_class),
    plant("class names that differ in case", Train(SimilarClass), |place| class_like(place, "DISC")).with(&[ClassWithoutVal]),
    plant("class names that differ in a space", Train(SimilarClass), |place| class_like(place, "di sc")).with(&[ClassWithoutVal]),
    plant("class names that differ in an underscore", Train(SimilarClass), |place| class_like(place, "_disc")).with(&[ClassWithoutVal]),
    plant("class names that differ in composed letters", Train(SimilarClass), other_form).with(&[ClassWithoutVal, UnusedClass]),
    plant("a class name with a space at its end", Train(UnclearClass), |place| class_like(place, "bolt ")).with(&[ClassWithoutVal]),
    plant("a class without validation objects", Val(ClassWithoutVal), class_without_val).with(&[EmptyImage]),
    plant("a class without training objects", Val(ClassWithoutTrain), class_without_train).with(&[EmptyImage, UnusedClass]),
    plant("category ids from 0 in the objects", Train(ShiftedCategories), shifted_ids)
        .with(&[UnknownCategory, UnusedClass, AllDropped, ClassWithoutTrain]),
    plant("other category ids in the validation set", Val(OtherCategories), other_ids),
    plant("one file under two entries", Train(RepeatedImage), one_file_twice),
    plant("one file under two spellings of its name", Unread(RepeatedImage), two_spellings),
    plant("a copy of a file", Train(CopiedImage), copied_file),
    plant("a compressed copy", Train(SimilarImage), compressed_copy),
    plant("an enlarged copy", Train(SimilarImage), enlarged_copy),
    plant("a brighter copy", Train(SimilarImage), brighter_copy),
    plant("a training image in the validation set", Val(SharedImage), shared_file),
    plant("a compressed training image in the validation set", Val(SharedSimilarImage), shared_copy),
    plant("file names that differ only in case", Train(NameCase), name_case),
    plant("an image of a single colour", Train(ConstantImage), constant_image),
    plant("a grey image", Train(GreyImage), grey_image),
    plant("an object twice", Train(RepeatedBox), object_twice),
    plant("an object twice with nearly equal boxes", Train(SimilarBox), nearly_twice),
    plant("a box with two classes", Train(TwoClasses), two_classes),
    plant("fractions among pixels", Train(FractionBox), one_fraction).with(&[SmallBox]),
    plant("all boxes are corners", Train(CornerBox), all_corners)
        .with(&[ClippedBox, WholeImageBox, SizeOutlier, AspectOutlier, SimilarBox, TwoClasses, RepeatedBox]),
    plant("the boxes of one image are corners", Train(CornerBox), corners_of_one)
        .with(&[ClippedBox, SizeOutlier, AspectOutlier, WholeImageBox, SimilarBox, TwoClasses]),
    plant("a box as large as its image", Train(WholeImageBox), whole_image).with(&[SizeOutlier]),
    plant("a tiny box", Train(TinyBox), tiny_box).with(&[SizeOutlier, AspectOutlier]),
    plant("a far too large object", Train(SizeOutlier), large_object),
    plant("a far too small object", Train(SizeOutlier), small_object),
    plant("a far too long object", Train(AspectOutlier), long_object),
    plant("an image whose objects are all dropped", Train(AllDropped), all_dropped).with(&[EmptyBox]),
    plant("an image without annotations", Train(EmptyImage), empty_image),
];

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// The objects of the training set with an index, without those for which `keep` is false.
fn retain(set: &mut Value, keep: impl Fn(&Value) -> bool) {
    set["annotations"].as_array_mut().unwrap().retain(keep);
}

fn missing_file(place: &mut Place) -> Vec<String> {
    std::fs::remove_file(place.path("train/000000.png")).unwrap();
    words(["image 1:", "000000.png"])
}

fn truncated_file(place: &mut Place) -> Vec<String> {
    let bytes = std::fs::read(place.path("train/000001.png")).unwrap();
    std::fs::write(place.path("train/000001.png"), &bytes[..bytes.len() / 2]).unwrap();
    words(["image 2:", "000001.png"])
}

fn damaged_pixels(place: &mut Place) -> Vec<String> {
    let mut bytes = std::fs::read(place.path("train/000001.png")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(place.path("train/000001.png"), bytes).unwrap();
    words(["000001.png"])
}

fn other_size(place: &mut Place) -> Vec<String> {
    place.train["images"][2]["width"] = json!(150);
    words(["image 3:", "160x160", "150x160"])
}

fn swapped_size(place: &mut Place) -> Vec<String> {
    let wide = imageops::resize(&place.image("train/000002.png"), 200, 160, imageops::FilterType::Triangle);
    place.save("train/000002.png", &wide);
    place.train["images"][2]["height"] = json!(200);
    words(["image 3:", "200x160", "160x200"])
}

fn no_size(place: &mut Place) -> Vec<String> {
    place.train["images"][0]["width"] = Value::Null;
    words(["image 1"])
}

fn exif(place: &mut Place) -> Vec<String> {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../foveal-image/tests/fixtures/rotated.jpg");
    std::fs::copy(fixture, place.path("train/rotated.jpg")).unwrap();
    let image = json!({"id": 700, "file_name": "rotated.jpg", "width": 16, "height": 24});
    place.train["images"].as_array_mut().unwrap().push(image);
    place.add(700, 1, [1.0, 1.0, 12.0, 12.0]);
    words(["image 700:", "rotated.jpg"])
}

fn other_name(place: &mut Place) -> Vec<String> {
    place.train["images"][0]["file_name"] = json!("000000.PNG");
    words(["image 1:", "000000.PNG"])
}

fn image_id_twice(place: &mut Place) -> Vec<String> {
    let again = json!({"id": 1, "file_name": "000001.png", "width": SIDE, "height": SIDE});
    place.train["images"].as_array_mut().unwrap().push(again);
    words(["image id 1 "])
}

fn no_name(place: &mut Place) -> Vec<String> {
    place.train["images"][3]["file_name"] = json!("");
    words(["image 4"])
}

fn object_id_twice(place: &mut Place) -> Vec<String> {
    let id = place.train["annotations"][0]["id"].clone();
    place.train["annotations"][1]["id"] = id;
    words(["annotation id 1 "])
}

fn unknown_image(place: &mut Place) -> Vec<String> {
    vec![place.add(777, 1, [10.0, 10.0, 30.0, 30.0]), "777".to_owned()]
}

fn unknown_category(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 66, [100.0, 100.0, 30.0, 30.0]), "66".to_owned()]
}

fn bad_image_record(place: &mut Place) -> Vec<String> {
    place.train["images"][5]["width"] = json!("wide");
    words(["image 6", "wide"])
}

fn bad_object_record(place: &mut Place) -> Vec<String> {
    place.train["annotations"][4]["bbox"] = json!([1, 2, 3]);
    words(["annotation 5", "3 numbers"])
}

fn bad_category_record(place: &mut Place) -> Vec<String> {
    place.train["categories"].as_array_mut().unwrap().push(json!({"id": "five", "name": "x"}));
    words(["categories[4]"])
}

fn not_finite(place: &mut Place) -> Vec<String> {
    place.train["annotations"][0]["bbox"] = Value::Null;
    words(["annotation 1"])
}

fn empty_box(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 1, [50.0, 50.0, 0.0, 30.0])]
}

fn outside_box(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 1, [200.0, 50.0, 30.0, 30.0])]
}

fn clipped_box(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 1, [140.0, 50.0, 30.0, 29.0])]
}

fn small_box(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 1, [140.0, 50.0, 0.5, 30.0])]
}

fn all_fractions(place: &mut Place) -> Vec<String> {
    for object in place.train["annotations"].as_array_mut().unwrap() {
        for side in object["bbox"].as_array_mut().unwrap() {
            *side = json!(side.as_f64().unwrap() / f64::from(SIDE));
        }
    }
    words(["annotation 1"])
}

fn no_objects(place: &mut Place) -> Vec<String> {
    retain(&mut place.train, |_| false);
    words(["train.json"])
}

fn category(place: &mut Place, category: Value) {
    place.train["categories"].as_array_mut().unwrap().push(category);
}

fn doubled_category(place: &mut Place) -> Vec<String> {
    category(place, json!({"id": 9, "name": "disc"}));
    words(["category 9", "disc"])
}

fn one_name(place: &mut Place) -> Vec<String> {
    category(place, json!({"id": 9, "name": "disc"}));
    place.add(1, 9, [100.0, 100.0, 30.0, 30.0]);
    words(["disc", "9"])
}

fn root_category(place: &mut Place) -> Vec<String> {
    category(place, json!({"id": 0, "name": "project", "supercategory": "none"}));
    words(["category 0", "project"])
}

fn unused_class(place: &mut Place) -> Vec<String> {
    category(place, json!({"id": 9, "name": "bolt"}));
    words(["category 9", "bolt"])
}

/// Adds a class with a name and an object.
fn class_like(place: &mut Place, name: &str) -> Vec<String> {
    category(place, json!({"id": 9, "name": name}));
    place.add(1, 9, [125.0, 2.0, 30.0, 31.0]);
    vec!["category 9".to_owned(), format!("{name:?}")]
}

fn other_form(place: &mut Place) -> Vec<String> {
    category(place, json!({"id": 9, "name": "caf\u{e9}"}));
    category(place, json!({"id": 10, "name": "cafe\u{301}"}));
    place.add(1, 9, [125.0, 2.0, 30.0, 31.0]);
    words(["category 10", "category 9"])
}

fn class_without_val(place: &mut Place) -> Vec<String> {
    retain(&mut place.val, |object| object["category_id"] != 4);
    words(["category 4", "cross"])
}

fn class_without_train(place: &mut Place) -> Vec<String> {
    retain(&mut place.train, |object| object["category_id"] != 4);
    words(["category 4", "cross"])
}

fn shifted_ids(place: &mut Place) -> Vec<String> {
    for object in place.train["annotations"].as_array_mut().unwrap() {
        object["category_id"] = json!(object["category_id"].as_i64().unwrap() - 1);
    }
    words(["0 to 3", "1 to 4", "+1"])
}

fn other_ids(place: &mut Place) -> Vec<String> {
    let shift = |value: &mut Value| *value = json!(value.as_i64().unwrap() - 1);
    place.val["annotations"].as_array_mut().unwrap().iter_mut().for_each(|object| shift(&mut object["category_id"]));
    place.val["categories"].as_array_mut().unwrap().iter_mut().for_each(|category| shift(&mut category["id"]));
    words(["val.json", "category 0", "disc"])
}

fn one_file_twice(place: &mut Place) -> Vec<String> {
    place.train["images"][1]["file_name"] = json!("000000.png");
    words(["image 1 ", "image 2 "])
}

fn two_spellings(place: &mut Place) -> Vec<String> {
    place.train["images"][1]["file_name"] = json!("./000000.png");
    words(["image 1 ", "image 2 "])
}

fn copied_file(place: &mut Place) -> Vec<String> {
    place.copy("train/000000.png", "train/000001.png");
    words(["image 1 ", "image 2 ", "000001.png"])
}

/// Replaces image 2 of the training set.
fn replace_second(place: &mut Place, name: &str, image: &RgbImage) -> Vec<String> {
    place.save(&format!("train/{name}"), image);
    place.train["images"][1] = json!({"id": 2, "file_name": name, "width": image.width(), "height": image.height()});
    vec!["image 1 ".to_owned(), format!("image 2 {name}")]
}

fn compressed_copy(place: &mut Place) -> Vec<String> {
    let image = place.image("train/000000.png");
    replace_second(place, "copy.jpg", &image)
}

fn enlarged_copy(place: &mut Place) -> Vec<String> {
    let image = place.image("train/000000.png");
    let large = imageops::resize(&image, 2 * SIDE, 2 * SIDE, imageops::FilterType::CatmullRom);
    replace_second(place, "copy.png", &large)
}

fn brighter_copy(place: &mut Place) -> Vec<String> {
    let mut image = place.image("train/000000.png");
    image.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(|value| value.saturating_add(12)));
    replace_second(place, "copy.png", &image)
}

fn shared_file(place: &mut Place) -> Vec<String> {
    place.copy("train/000002.png", "val/000004.png");
    words(["image 5 000004.png", "training image 3 000002.png"])
}

fn shared_copy(place: &mut Place) -> Vec<String> {
    place.save("val/copy.jpg", &place.image("train/000002.png"));
    place.val["images"][4]["file_name"] = json!("copy.jpg");
    words(["image 5 copy.jpg", "training image 3 000002.png"])
}

fn name_case(place: &mut Place) -> Vec<String> {
    for (index, name) in ["a.png", "A.png"].into_iter().enumerate() {
        place.copy(&format!("train/00000{index}.png"), &format!("train/{name}"));
        place.train["images"][index]["file_name"] = json!(name);
    }
    words(["image 1 a.png", "image 2 A.png"])
}

fn constant_image(place: &mut Place) -> Vec<String> {
    place.save("train/000003.png", &RgbImage::from_pixel(SIDE, SIDE, Rgb([20, 90, 30])));
    words(["image 4,"])
}

fn grey_image(place: &mut Place) -> Vec<String> {
    let grey = imageops::grayscale(&place.image("train/000003.png"));
    place.save("train/000003.png", &image::DynamicImage::from(grey).to_rgb8());
    words(["image 4,"])
}

fn object_twice(place: &mut Place) -> Vec<String> {
    let (image, category, bbox) = place.object(3);
    vec![place.add(image, category, bbox), "annotation 4 ".to_owned(), format!("image {image},")]
}

fn nearly_twice(place: &mut Place) -> Vec<String> {
    let (image, category, [x, y, width, height]) = place.object(3);
    vec![place.add(image, category, [x, y, width - 0.3, height]), "annotation 4 ".to_owned()]
}

fn two_classes(place: &mut Place) -> Vec<String> {
    let (image, category, bbox) = place.object(3);
    vec![place.add(image, category % 4 + 1, bbox), "annotation 4 ".to_owned()]
}

fn one_fraction(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 1, [0.3, 0.4, 0.2, 0.25])]
}

/// Stores a box of the training set as two corners.
fn to_corners(object: &mut Value) {
    let [x, y, width, height] = [0, 1, 2, 3].map(|k: usize| object["bbox"][k].as_f64().unwrap());
    object["bbox"] = json!([x, y, x + width, y + height]);
}

fn all_corners(place: &mut Place) -> Vec<String> {
    place.train["annotations"].as_array_mut().unwrap().iter_mut().for_each(to_corners);
    words(["annotation 1 "])
}

fn corners_of_one(place: &mut Place) -> Vec<String> {
    let objects: Vec<(i64, i64, [f64; 4])> =
        (0..place.train["annotations"].as_array().unwrap().len()).map(|index| place.object(index)).collect();
    let leaves = |[x, y, w, h]: [f64; 4]| 2.0 * x + w > 161.0 || 2.0 * y + h > 161.0;
    let image = (1..=200).find(|image| {
        let own: Vec<_> = objects.iter().filter(|(of, ..)| of == image).collect();
        own.len() >= 3 && 2 * own.iter().filter(|(.., bbox)| leaves(*bbox)).count() >= own.len()
    });
    let image = image.unwrap();
    let all = place.train["annotations"].as_array_mut().unwrap().iter_mut();
    all.filter(|object| object["image_id"] == image).for_each(to_corners);
    vec![format!("image {image},")]
}

fn whole_image(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 2, [0.0, 0.0, 160.0, 160.0])]
}

fn tiny_box(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 1, [10.0, 100.0, 1.5, 12.0])]
}

fn large_object(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 1, [2.0, 2.0, 150.0, 150.0])]
}

fn small_object(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 1, [100.0, 100.0, 3.0, 3.0])]
}

fn long_object(place: &mut Place) -> Vec<String> {
    vec![place.add(1, 1, [10.0, 70.0, 130.0, 6.0])]
}

fn all_dropped(place: &mut Place) -> Vec<String> {
    for object in place.train["annotations"].as_array_mut().unwrap() {
        if object["image_id"] == 3 {
            object["bbox"][2] = json!(0);
        }
    }
    words(["image 3,"])
}

/// The set has images without annotations on purpose. They get objects, all but one.
fn empty_image(place: &mut Place) -> Vec<String> {
    let objects = place.train["annotations"].as_array().unwrap();
    let used: Vec<i64> = objects.iter().map(|object| object["image_id"].as_i64().unwrap()).collect();
    let mut empty = (1..=200).filter(|image| !used.contains(image));
    let left = empty.next().unwrap();
    for image in empty {
        place.add(image, 1, [60.0, 60.0, 28.0, 28.0]);
    }
    vec![format!("image {left},")]
}
