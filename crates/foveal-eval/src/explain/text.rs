//! An explanation as text for the terminal.

use std::fmt::Write;

use super::{Check, Explanation, Measured};
use crate::image_boxes::percent;

/// The numbers, the causes as a numbered list, and what the other checks measured.
pub(super) fn list(explanation: &Explanation) -> String {
    let mut text = String::from("\nwhy the metrics are what they are\n");
    if let Some(measured) = &explanation.measured {
        text += &numbers(measured);
    }
    if explanation.causes.is_empty() {
        text += "\nno cause was found by the checks\n";
    } else {
        text += "\nlikely causes, the strongest first (strength from 0 to 1)\n";
    }
    for (index, Check { cause, strength, measured, advice, ap50 }) in explanation.causes.iter().enumerate() {
        let _ = write!(text, " {}. {cause} ({strength:.2}): {measured}. {advice}.", index + 1);
        if let Some(ap50) = ap50 {
            let _ = write!(text, " With this corrected, AP50 is {ap50:.3}.");
        }
        text.push('\n');
    }
    let others: Vec<&Check> = explanation.checked.iter().filter(|check| check.strength <= 0.0).collect();
    if !others.is_empty() {
        text += "\nchecks that found nothing\n";
    }
    for Check { cause, measured, .. } in others {
        let _ = writeln!(text, " {cause}: {measured}.");
    }
    text
}

fn numbers(measured: &Measured) -> String {
    let Measured { images, objects, detections, scores, found, found_without_classes, ap, .. } = measured;
    let mut text = format!(" {objects} objects in {images} images, {detections} detections");
    if let Some([low, high]) = scores {
        let _ = write!(text, " with scores from {low:.3} to {high:.3}");
    }
    let _ = write!(
        text,
        "\n objects with a detection of their class at IoU 0.5: {}, of any class: {}\n",
        percent(*found),
        percent(*found_without_classes)
    );
    let row = |name: &str, values: Vec<String>| format!(" {name:<22}{}\n", values.join("  "));
    text += &row("AP at IoU", ap.iter().map(|at| format!("{:>6.1}", at.iou)).collect());
    text += &row("with classes", ap.iter().map(|at| format!("{:>6.3}", at.with_classes)).collect());
    text += &row("without classes", ap.iter().map(|at| format!("{:>6.3}", at.without_classes)).collect());
    text
}
