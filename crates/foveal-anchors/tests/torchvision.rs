//! Anchors and matches against torchvision, exactly: fixtures/matcher.json (scripts/reference/boxes.py) and
//! tests/fixtures/retinanet_*.safetensors (scripts/reference/retinanet.py).

use foveal_anchors::{
    AnchorConfig, Anchors, BACKGROUND, GridSize, IGNORE, Match, MatcherConfig, Rounding, grid_sizes, image_targets,
};
use foveal_boxes::{BBox, encode};
use safetensors::SafeTensors;
use serde::Deserialize;

const FIXTURES: [&str; 3] = ["retinanet_v1", "retinanet_v2", "retinanet_tiny"];

/// The part of a fixture's metadata that concerns anchors.
#[derive(Deserialize)]
struct Spec {
    sizes: Vec<[usize; 2]>,
    padded_size: [usize; 2],
    grids: Vec<[usize; 2]>,
    positives: Vec<usize>,
    ignored: Vec<usize>,
}

fn read(name: &str) -> (Vec<u8>, Spec) {
    let path = format!("{}/../../tests/fixtures/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let spec = serde_json::from_str(&header.metadata().as_ref().expect("metadata")["fixture"]).expect("a fixture");
    (bytes, spec)
}

fn words(file: &SafeTensors, name: &str) -> Vec<[u8; 4]> {
    let data = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data();
    data.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect()
}

fn boxes(file: &SafeTensors, name: &str) -> Vec<BBox> {
    let values: Vec<f32> = words(file, name).into_iter().map(f32::from_le_bytes).collect();
    values.chunks_exact(4).map(|c| BBox::new(c[0], c[1], c[2], c[3])).collect()
}

fn indices(file: &SafeTensors, name: &str) -> Vec<i32> {
    words(file, name).into_iter().map(i32::from_le_bytes).collect()
}

/// Anchors with the given boxes, of which the rule by IoU needs no more.
fn anchors(boxes: Vec<BBox>) -> Anchors {
    let anchors_per_location = boxes.len();
    Anchors { level_offsets: vec![0, boxes.len()], boxes, anchors_per_location, grids: Vec::new() }
}

/// torchvision's notation of a match.
fn index(matched: &Match) -> i32 {
    match matched {
        Match::Background => -1,
        Match::Ignore => -2,
        Match::Object(object) => *object as i32,
    }
}

#[test]
fn anchors_are_equal() {
    for name in FIXTURES {
        let (bytes, spec) = read(name);
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let [height, width] = spec.padded_size;
        let grids = grid_sizes(height, width);
        let expected: Vec<GridSize> = spec.grids.iter().map(|&[height, width]| GridSize { height, width }).collect();
        assert_eq!(grids.to_vec(), expected, "{name}");
        let config = AnchorConfig { rounding: Rounding::Torchvision, ..AnchorConfig::default() };
        assert_eq!(config.anchors(height, width, &grids).boxes, boxes(&file, "anchors"), "{name}");
    }
}

#[test]
fn matches_are_equal() {
    for name in FIXTURES {
        let (bytes, spec) = read(name);
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let anchors = anchors(boxes(&file, "anchors"));
        for image in 0..spec.sizes.len() {
            let objects = boxes(&file, &format!("target.{image}.resized_boxes"));
            let labels: Vec<u32> =
                indices(&file, &format!("target.{image}.labels")).into_iter().map(|label| label as u32).collect();
            let expected = indices(&file, &format!("matched.{image}"));
            let matches = MatcherConfig::default().assign(&anchors, &objects, &[]);
            assert_eq!(matches.iter().map(index).collect::<Vec<_>>(), expected, "{name}, image {image}");

            let targets = image_targets(&anchors, &objects, &labels, &[], &MatcherConfig::default());
            assert_eq!(targets.positives.len(), spec.positives[image]);
            assert_eq!(targets.classes.iter().filter(|&&c| c == IGNORE).count(), spec.ignored[image]);
            for positive in &targets.positives {
                let object = objects[expected[positive.anchor as usize] as usize];
                assert_eq!((positive.object, positive.delta), (object, encode(&positive.anchor_box, &object)));
                assert_eq!(targets.classes[positive.anchor as usize], positive.class as i32);
            }
            if objects.is_empty() {
                assert!(targets.classes.iter().all(|&class| class == BACKGROUND));
            }
        }
    }
}

#[test]
fn ties_are_equal() {
    #[derive(Deserialize)]
    struct Case {
        anchors: Vec<[f32; 4]>,
        objects: Vec<[f32; 4]>,
        low_quality: bool,
        matched: Vec<i32>,
    }
    let cases: Vec<Case> = serde_json::from_str(include_str!("fixtures/matcher.json")).expect("the fixture is valid");
    let bbox = |b: &[f32; 4]| BBox::new(b[0], b[1], b[2], b[3]);
    for case in cases {
        let anchors = anchors(case.anchors.iter().map(bbox).collect());
        let objects: Vec<BBox> = case.objects.iter().map(bbox).collect();
        let config = MatcherConfig { low_quality: case.low_quality, ..MatcherConfig::default() };
        let found: Vec<i32> = config.assign(&anchors, &objects, &[]).iter().map(index).collect();
        assert_eq!(found, case.matched);
    }
}
