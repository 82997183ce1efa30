//! `foveal export` to ONNX.

use crate::support::Workplace;

const CHECKPOINT: &str = "run/checkpoints/last.safetensors";

/// Whether the bytes contain a text.
fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

#[test]
fn onnx_files_contain_classes_and_thresholds() {
    let place = Workplace::new();
    place.train();
    let export = |flags: &[&str], file: &str| {
        let line = [&["export", CHECKPOINT, "--format", "onnx", "-o", file], flags].concat();
        let run = place.run(&line).succeeds();
        assert!(run.stderr.contains("images [batch, 3, height, width]"), "{}", run.stderr);
        std::fs::read(place.path(file)).unwrap()
    };
    let raw = export(&[], "raw.onnx");
    assert!(contains(&raw, r#"["červená","青"]"#) && contains(&raw, "[3,70]"));
    assert!(contains(&raw, "logits") && !contains(&raw, "NonMaxSuppression"));
    assert!(export(&["--half"], "new/folder/half.onnx").len() < raw.len() * 2 / 3);
    assert!(contains(&raw, r#""max_detections":100"#));
    let nms = export(&["--nms", "--no-verify", "--set", "eval.max_detections=7"], "nms.onnx");
    assert!(contains(&nms, "NonMaxSuppression") && contains(&nms, r#""max_detections":7"#));

    let refuse = |flags: &[&str], words: &[&str]| place.run(&[&["export", CHECKPOINT], flags].concat()).fails(2, words);
    refuse(&["--format", "safetensors", "--nms", "-o", "x"], &["--nms", "--format onnx"]);
    refuse(&["--format", "onnx", "-o", CHECKPOINT], &["the checkpoint itself"]);
    refuse(&["--format", "onnx", "-o", "x", "--set", "model.fpn_channels=8"], &["model.fpn_channels"]);
    assert!(!place.path("x").exists());
}
