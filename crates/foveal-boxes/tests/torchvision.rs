//! Box arithmetic against torchvision: fixtures/boxes.json, made by scripts/reference/boxes.py.

use foveal_boxes::{BBox, Delta, ciou, class_nms, decode, diou, encode, giou, iou, nms};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    a: Vec<[f32; 4]>,
    b: Vec<[f32; 4]>,
    encoded: Vec<[f32; 4]>,
    deltas: Vec<[f32; 4]>,
    decoded: Vec<[f32; 4]>,
    iou: Vec<Vec<f32>>,
    giou: Vec<Vec<f32>>,
    diou: Vec<Vec<f32>>,
    ciou: Vec<Vec<f32>>,
    boxes: Vec<[f32; 4]>,
    scores: Vec<f32>,
    classes: Vec<u32>,
    threshold: f32,
    nms: Vec<usize>,
    class_nms: Vec<usize>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/boxes.json")).expect("the fixture is valid")
}

fn bbox([x1, y1, x2, y2]: [f32; 4]) -> BBox {
    BBox::new(x1, y1, x2, y2)
}

fn assert_close(found: [f32; 4], expected: [f32; 4], tolerance: f32) {
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= tolerance * e.abs().max(1.0), "{found:?} is not {expected:?}");
    }
}

#[test]
fn coding() {
    let f = fixture();
    for (i, &a) in f.a.iter().enumerate() {
        // The same operations in f32; `ln` and `exp` may differ in the last bit.
        assert_close(encode(&bbox(a), &bbox(f.b[i])).to_array(), f.encoded[i], 1e-6);
        let b = decode(&bbox(a), Delta::from_array(f.deltas[i]));
        assert_close([b.x1, b.y1, b.x2, b.y2], f.decoded[i], 1e-6);
    }
}

#[test]
fn overlaps() {
    let f = fixture();
    for (i, &a) in f.a.iter().enumerate() {
        for (j, &b) in f.b.iter().enumerate() {
            let (a, b) = (bbox(a), bbox(b));
            assert_eq!(iou(&a, &b), f.iou[i][j], "the matcher relies on equal bits");
            assert!((giou(&a, &b) - f.giou[i][j]).abs() < 1e-6);
            // torchvision adds 1e-7 to denominators here, and takes centres as means of edges.
            assert!((diou(&a, &b) - f.diou[i][j]).abs() < 1e-5);
            assert!((ciou(&a, &b) - f.ciou[i][j]).abs() < 1e-5);
        }
    }
}

#[test]
fn suppression() {
    let f = fixture();
    let boxes: Vec<BBox> = f.boxes.iter().copied().map(bbox).collect();
    assert_eq!(nms(&boxes, &f.scores, f.threshold), f.nms);
    assert_eq!(class_nms(&boxes, &f.scores, &f.classes, f.threshold), f.class_nms);
}
