//! Properties of the geometric transforms: boxes lie in the image, and a drawn rectangle still lies where its box says.

use std::path::PathBuf;
use std::sync::OnceLock;

use foveal_boxes::BBox;
use foveal_coco::{CategoryInfo, CocoDataset, LabelMap};
use foveal_image::{ImageLimit, Preprocess, RgbImage};
use image::Rgb;
use proptest::prelude::*;

use super::*;
use crate::dataset::ImageSource;
use crate::labels::{Labels, MIN_VISIBLE_FRACTION};
use crate::sets::Parts;
use crate::{AugmentConfig, Dataset, Object, OnError, Record};

/// Sizes of the images and the rectangles in them, which are the objects, of classes 0, 1, 2 and so on.
const IMAGES: [([u32; 2], [u32; 4]); 6] = [
    ([60, 40], [8, 6, 30, 26]),
    ([40, 60], [10, 20, 24, 50]),
    ([50, 50], [20, 4, 44, 16]),
    ([90, 60], [30, 20, 70, 44]),
    ([60, 40], [40, 22, 58, 38]),
    ([36, 36], [4, 4, 32, 32]),
];

/// A data set of white rectangles on black, whose mean colour is black.
struct Rectangles {
    dataset: Dataset,
    _folder: tempfile::TempDir,
}

fn rectangles() -> &'static Rectangles {
    static SET: OnceLock<Rectangles> = OnceLock::new();
    SET.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (mut records, mut sources) = (Vec::new(), Vec::new());
        for (index, ([width, height], edges)) in IMAGES.into_iter().enumerate() {
            let bbox = bbox(edges);
            let image = RgbImage::from_fn(width, height, |x, y| Rgb([if inside(&bbox, x, y) { 255 } else { 0 }; 3]));
            let path: PathBuf = folder.path().join(format!("{index}.png"));
            image.save(&path).unwrap();
            sources.push(ImageSource::File { path, stored: false });
            records.push(Record {
                image_id: index as i64,
                file_name: format!("{index}.png"),
                width,
                height,
                objects: vec![Object { bbox, class: index as u32, area: bbox.area() }],
                crowds: Vec::new(),
            });
        }
        let category = |id: usize| CategoryInfo { id: id as i64, name: format!("c{id}") };
        let labels = LabelMap::new((0..IMAGES.len()).map(category).collect()).unwrap();
        let coco = CocoDataset { images: Vec::new(), annotations: Vec::new(), categories: Vec::new() };
        let dataset = Dataset { records, sources, labels, coco, limit: ImageLimit::default(), parts: Parts::default() };
        Rectangles { dataset, _folder: folder }
    })
}

fn bbox(edges: [u32; 4]) -> BBox {
    let [x1, y1, x2, y2] = edges.map(|v| v as f32);
    BBox::new(x1, y1, x2, y2)
}

/// Whether the centre of a pixel lies in a box.
fn inside(b: &BBox, x: u32, y: u32) -> bool {
    let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
    b.x1 < x && x < b.x2 && b.y1 < y && y < b.y2
}

/// A box with all edges moved outwards, or inwards if `by` is negative.
fn grown(b: &BBox, by: f32) -> BBox {
    BBox::new(b.x1 - by, b.y1 - by, b.x2 + by, b.y2 + by)
}

fn frame(preprocess: &Preprocess) -> Frame {
    Frame::new(preprocess, &AugmentConfig { flip_horizontal: 0.5, ..AugmentConfig::off() })
}

/// Image `index` after a transform that is always applied, with the given sides of the network's input.
fn transformed(transform: &Transform, index: usize, sides: [u32; 2], seed: u64) -> Working {
    let dataset = &rectangles().dataset;
    let [min_size, max_size] = sides;
    let preprocess = Preprocess { min_size, max_size, mean: [0.0; 3], ..Preprocess::default() };
    let (frame, objects) = (frame(&preprocess), ObjectIndex::new(dataset.records()));
    let mut context = Context::new(dataset, &frame, &objects, OnError::Fail);
    let mut sample = context.load(index).unwrap().unwrap();
    transform.apply(&mut sample, &mut context, &mut Stream::new(&[seed])).unwrap();
    sample
}

/// Checks what holds after every transform.
fn check_boxes(sample: &Working) -> Result<(), TestCaseError> {
    let size = sample.size().bbox();
    let boxes = sample.labels.objects.iter().map(|o| o.bbox).chain(sample.labels.ignored.iter().copied());
    for b in boxes {
        prop_assert!(!b.is_degenerate() && b.clip(size.x2, size.y2) == b, "{:?} in {:?}", b, size);
    }
    for object in &sample.labels.objects {
        prop_assert!(object.visible >= MIN_VISIBLE_FRACTION && object.visible <= 1.0 + 1e-5, "{:?}", object);
    }
    Ok(())
}

/// Checks that all white pixels lie in a box, and that the boxes of all objects are full of white pixels, up to `edge`
/// pixels at the edges. The dark edge of a box may lie across another box.
fn check_pixels(sample: &Working, white: u8, edge: f32) -> Result<(), TestCaseError> {
    let labels = &sample.labels;
    let all: Vec<BBox> = labels.objects.iter().map(|o| o.bbox).chain(labels.ignored.iter().copied()).collect();
    for (x, y, pixel) in sample.image.enumerate_pixels() {
        let bright = pixel.0[0] >= white;
        let known = all.iter().any(|b| inside(&grown(b, edge), x, y));
        prop_assert!(!bright || known, "white at {} {} outside {:?}", x, y, all);
        let at_an_edge = |b: &BBox| inside(&grown(b, edge), x, y) && !inside(&grown(b, -edge), x, y);
        let full = known && !all.iter().any(at_an_edge);
        prop_assert!(bright || !full, "black at {} {} in {:?}", x, y, all);
    }
    Ok(())
}

/// Transforms after which the rectangles are still rectangles, each without a motion within the image that could hide
/// one behind another.
fn exact() -> Vec<Transform> {
    let affine = Affine { degrees: 0.0, shear: 0.0, probability: 1.0, ..Affine::default() };
    vec![
        Transform::RandomCrop(RandomCrop { min_iou: vec![0.0], ..RandomCrop::default() }),
        Transform::ZoomOut(ZoomOut { probability: 1.0, ..ZoomOut::default() }),
        Transform::QuarterTurns(QuarterTurns { probability: 1.0 }),
        Transform::Affine(affine),
        Transform::LargeScaleJitter(LargeScaleJitter { size: [48, 64], scale: [0.4, 2.5], ..Default::default() }),
        Transform::Mosaic(Mosaic { probability: 1.0, ..Mosaic::default() }),
        Transform::Mixup(Mixup { probability: 1.0, ..Mixup::default() }),
        Transform::CopyPaste(CopyPaste { probability: 1.0, count: [1, 3], feather: 0.0, ..CopyPaste::default() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// White pixels and boxes agree after every transform, whether the image is made smaller for the network or not.
    #[test]
    fn boxes_follow_pixels(kind in 0usize..8, index in 0..IMAGES.len(), small in any::<bool>(), seed in any::<u64>()) {
        let transform = &exact()[kind];
        let sample = transformed(transform, index, if small { [24, 60] } else { [40, 200] }, seed);
        check_boxes(&sample)?;
        // Both images of a mixture have half of the brightness, and the edges of a pasted box are smooth.
        let white = match transform {
            Transform::Mixup(_) => 64,
            Transform::CopyPaste(_) => 90,
            _ => 128,
        };
        // Resized edges are smooth.
        check_pixels(&sample, white, 1.51)?;
    }

    /// Under rotation and shear, white pixels lie inside the boxes, and the boxes of whole objects are no larger than
    /// needed.
    #[test]
    fn boxes_contain_rotated_rectangles(index in 0..IMAGES.len(), seed in any::<u64>()) {
        let affine = Affine { degrees: 180.0, shear: 20.0, probability: 1.0, ..Affine::default() };
        let sample = transformed(&Transform::Affine(affine), index, [40, 200], seed);
        check_boxes(&sample)?;
        let white: Vec<(u32, u32)> =
            sample.image.enumerate_pixels().filter(|(_, _, p)| p.0[0] >= 128).map(|(x, y, _)| (x, y)).collect();
        let Some(object) = sample.labels.objects.first() else { return Ok(()) };
        let b = object.bbox;
        prop_assert!(white.iter().all(|&(x, y)| inside(&grown(&b, 1.01), x, y)), "{:?}", b);
        if object.visible > 0.9999 {
            let bound = |v: fn(&(u32, u32)) -> u32| {
                (white.iter().map(v).min().unwrap() as f32, white.iter().map(v).max().unwrap() as f32 + 1.0)
            };
            let ((x1, x2), (y1, y2)) = (bound(|p| p.0), bound(|p| p.1));
            // A sharp corner ends where less than half of a pixel is covered.
            for (want, got) in [b.x1, b.y1, b.x2, b.y2].into_iter().zip([x1, y1, x2, y2]) {
                prop_assert!((want - got).abs() <= 2.5, "{:?} {:?}", b, [x1, y1, x2, y2]);
            }
        }
    }

    /// Objects are neither lost nor invented: a mosaic has at most those of four images, a mixture those of two, and
    /// pasted objects are added to the others.
    #[test]
    fn objects_are_counted(index in 0..IMAGES.len(), seed in any::<u64>()) {
        let count = |transform: Transform| {
            let labels = transformed(&transform, index, [40, 200], seed).labels;
            labels.objects.len() + labels.ignored.len()
        };
        let [mosaic, mixup, copy_paste] = &exact()[5..] else { panic!("three transforms") };
        prop_assert!(count(mosaic.clone()) <= 4);
        prop_assert!((1..=2).contains(&count(mixup.clone())));
        prop_assert!((2..=4).contains(&count(copy_paste.clone())));
        let turned = QuarterTurns { probability: 1.0 };
        prop_assert_eq!(count(Transform::QuarterTurns(turned)), 1);
        prop_assert_eq!(count(Transform::ZoomOut(ZoomOut { probability: 1.0, ..ZoomOut::default() })), 1);
    }

    /// The rule for objects that are cut, by counting pixels.
    #[test]
    fn cut_objects_follow_the_rule(boxes in proptest::collection::vec(
        (0u32..50, 0u32..30, 1u32..14, 1u32..10), 0..8,
    ), window in (0u32..30, 0u32..20, 1u32..30, 1u32..20)) {
        let boxes: Vec<BBox> = boxes.iter().map(|&(x, y, w, h)| bbox([x, y, x + w, y + h])).collect();
        let window = bbox([window.0, window.1, window.0 + window.2, window.1 + window.3]);
        let visible = |b: &BBox| {
            let pixels = (0..40).flat_map(|y| (0..64).map(move |x| (x, y)));
            pixels.filter(|&(x, y)| inside(b, x, y) && inside(&window, x, y)).count() as f32
        };
        let record = Record {
            image_id: 1,
            file_name: String::new(),
            width: 64,
            height: 40,
            objects: boxes.iter().map(|&bbox| Object { bbox, class: 0, area: bbox.area() }).collect(),
            crowds: Vec::new(),
        };
        let mut labels = Labels::from(&record);
        labels.place(|b| *b, &window);
        let kept: Vec<f32> = boxes.iter().map(visible).collect();
        let trained: Vec<f32> =
            boxes.iter().zip(&kept).filter(|(b, v)| **v > 0.0 && **v >= 0.25 * b.area()).map(|(_, v)| *v).collect();
        let ignored: Vec<f32> =
            boxes.iter().zip(&kept).filter(|(b, v)| **v > 0.0 && **v < 0.25 * b.area()).map(|(_, v)| *v).collect();
        prop_assert_eq!(labels.objects.iter().map(|o| o.bbox.area()).collect::<Vec<_>>(), trained);
        prop_assert_eq!(labels.ignored.iter().map(BBox::area).collect::<Vec<_>>(), ignored);
    }
}

#[test]
fn results_have_the_documented_sizes() {
    for seed in 0..20 {
        let size = |transform: &Transform, sides| transformed(transform, 3, sides, seed).image.dimensions();
        let [crop, zoom_out, _, affine, jitter, mosaic, mixup, copy_paste] = &exact()[..] else { panic!("eight") };
        // The image has 90x60 pixels.
        let (width, height) = size(crop, [30, 100]);
        assert!((27..=90).contains(&width) && (18..=60).contains(&height), "{width} {height}");
        assert_eq!(size(jitter, [30, 100]), (64, 48));
        // The network's input is 45x30 or 180x120 pixels.
        assert_eq!(size(mosaic, [30, 100]), (45, 30));
        assert_eq!(size(mosaic, [120, 400]), (180, 120));
        for transform in [mixup, copy_paste] {
            assert_eq!(size(transform, [30, 100]), (45, 30));
            assert_eq!(size(transform, [120, 400]), (90, 60));
        }
        // The canvas is up to four times as large as the image, but not larger than the network's input.
        // Its sides are rounded.
        let (width, height) = size(zoom_out, [30, 100]);
        assert!((44..=46).contains(&width) && (29..=30).contains(&height), "{width} {height}");
        let (width, _) = size(zoom_out, [120, 400]);
        assert!((90..=181).contains(&width), "{width}");
        // An image that is enlarged afterwards keeps more pixels.
        let (width, _) = size(affine, [30, 100]);
        assert!((45..=68).contains(&width), "{width}");
    }
}

#[test]
fn a_transform_that_is_not_drawn_changes_nothing() {
    let dataset = &rectangles().dataset;
    let original = Working { image: dataset.load(2).unwrap(), labels: Labels::from(dataset.record(2)), sized: false };
    let never = [
        Transform::Mosaic(Mosaic { probability: 0.0, ..Mosaic::default() }),
        Transform::Affine(Affine { probability: 0.0, ..Affine::default() }),
        Transform::Grey(Grey { probability: 0.0 }),
    ];
    for transform in never {
        assert_eq!(transformed(&transform, 2, [30, 100], 1), original, "{}", transform.kind());
    }
}

#[test]
fn partners_that_cannot_be_loaded_are_reported_or_an_error() {
    let mut dataset = rectangles().dataset.clone();
    for source in &mut dataset.sources[1..] {
        *source = ImageSource::File { path: PathBuf::from("/gone.png"), stored: false };
    }
    let preprocess = Preprocess { min_size: 40, mean: [0.0; 3], ..Preprocess::default() };
    let (frame, objects) = (frame(&preprocess), ObjectIndex::new(dataset.records()));
    let apply = |transform: &Transform, on_error, seed| {
        let mut context = Context::new(&dataset, &frame, &objects, on_error);
        let mut sample = context.load(0).unwrap().unwrap();
        let result = transform.apply(&mut sample, &mut context, &mut Stream::new(&[seed]));
        (result, sample, context.skipped)
    };
    let [.., mosaic, mixup, copy_paste] = &exact()[..] else { panic!("three transforms") };
    for transform in [mosaic, mixup, copy_paste] {
        let mut failures = 0;
        for seed in 0..10 {
            let (result, ..) = apply(transform, OnError::Fail, seed);
            failures += usize::from(result.is_err_and(|error| error.to_string().contains("/gone.png")));
            // With six images of which one can be loaded, one of eleven is nearly always that one.
            let (result, sample, skipped) = apply(transform, OnError::Skip, seed);
            result.unwrap();
            check_boxes(&sample).unwrap();
            assert!(skipped.iter().all(|s| s.image_id > 0 && s.reason.contains("/gone.png")), "{skipped:?}");
        }
        assert!(failures >= 5, "{}: {failures}", transform.kind());
    }
}

#[test]
fn settings_outside_their_range_are_refused_with_their_key() {
    let cases = [
        ("{ kind = 'random_crop', min_iou = [] }", "transforms[0].min_iou", "from 0 to 1"),
        ("{ kind = 'random_crop', scale = [0.5, 1.5] }", "transforms[0].scale", "high <= 1"),
        ("{ kind = 'zoom_out', scale = [0.5, 2] }", "transforms[0].scale", "1 <= low"),
        ("{ kind = 'grey' }, { kind = 'affine', shear = 60 }", "transforms[1].shear", "from 0 to 40"),
        ("{ kind = 'quarter_turns', probability = -0.1 }", "transforms[0].probability", "from 0 to 1"),
        ("{ kind = 'large_scale_jitter', size = [0, 8] }", "transforms[0].size", "1 to 16384"),
        ("{ kind = 'mosaic', center = [0, 1] }", "transforms[0].center", "0.05 <= low"),
        ("{ kind = 'mixup', weight = [0.6, 0.4] }", "transforms[0].weight", "low <= high"),
        ("{ kind = 'copy_paste', count = [0, 4] }", "transforms[0].count", "1 <= low"),
        ("{ kind = 'large_scale_jitter' }, { kind = 'grey' }, { kind = 'mosaic' }", "transforms[2].kind", "before it"),
    ];
    let parse = |list: &str| {
        let text = format!("{{\"transforms\": [{}]}}", list.replace(" = ", ": ").replace('\'', "\""));
        let quoted = ["kind", "min_iou", "scale", "shear", "probability", "size", "center", "weight", "count"]
            .iter()
            .fold(text, |text, key| text.replace(&format!("{key}:"), &format!("\"{key}\":")));
        serde_json::from_str::<AugmentConfig>(&quoted)
    };
    for (list, key, expected) in cases {
        let error = parse(list).unwrap().validate().unwrap_err();
        assert_eq!(error.key, key, "{error}");
        assert!(error.expected.contains(expected), "{error}");
    }
    let unknown = parse("{ kind = 'grey', scale = 1 }").unwrap_err().to_string();
    assert!(unknown.contains("unknown field `scale`"), "{unknown}");
    let kind = parse("{ kind = 'grayscale' }").unwrap_err().to_string();
    assert!(kind.contains("quarter_turns"), "{kind}");
}
