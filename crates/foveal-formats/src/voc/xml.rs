//! Annotation files of Pascal VOC.

use std::path::Path;

use foveal_base::text::read_data_text;
use roxmltree::{Document, Node};

use crate::defect::Defect;

/// The contents of an annotation file.
pub(super) struct VocFile {
    /// The `<filename>`, which may be that of another image.
    pub file_name: Option<String>,
    /// Width and height of the image in pixels.
    pub size: Option<(u32, u32)>,
    /// The objects, of which some cannot be used.
    pub objects: Vec<Result<VocObject, Defect>>,
}

/// An object of an annotation file.
pub(super) struct VocObject {
    pub name: String,
    /// `xmin`, `ymin`, `xmax`, `ymax` in pixels.
    pub corners: [f64; 4],
    /// Line of the object in its file, from 1.
    pub line: u32,
    pub difficult: bool,
    pub truncated: bool,
    pub occluded: bool,
    /// Whether the pose is given.
    pub pose: bool,
    /// Number of parts, such as a head.
    pub parts: usize,
}

/// Reads an annotation file.
///
/// # Errors
/// The defect of a file that cannot be read or is not XML.
pub(super) fn read(path: &Path) -> Result<VocFile, Defect> {
    let wrong = |reason: String| Defect::of(path, reason);
    let text = read_data_text(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let document = Document::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let root = document.root_element();
    let size = root.children().find(|n| n.has_tag_name("size")).and_then(|size| {
        let side = |name| child(size, name)?.parse::<u32>().ok().filter(|side| *side > 0);
        Some((side("width")?, side("height")?))
    });
    let objects = root.children().filter(|n| n.has_tag_name("object")).map(|node| {
        let line = document.text_pos_at(node.range().start).row;
        object(node, line).map_err(|reason| Defect::at(path, line.into(), reason))
    });
    Ok(VocFile { file_name: child(root, "filename"), size, objects: objects.collect() })
}

fn object(node: Node<'_, '_>, line: u32) -> Result<VocObject, String> {
    let name = child(node, "name").ok_or("an <object> has no <name>, expected the name of its class")?;
    let bndbox = node.children().find(|n| n.has_tag_name("bndbox"));
    let bndbox = bndbox.ok_or_else(|| format!("an <object> of class {name:?} has no <bndbox>, expected its box"))?;
    let number = |key: &str| -> Result<f64, String> {
        let value = child(bndbox, key).ok_or_else(|| format!("a <bndbox> has no <{key}>, expected a number"))?;
        let parsed = value.parse::<f64>().ok().filter(|v| v.is_finite());
        parsed.ok_or_else(|| format!("<{key}> is {value:?}, expected a number"))
    };
    let corners = [number("xmin")?, number("ymin")?, number("xmax")?, number("ymax")?];
    let flag = |key: &str| child(node, key).is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("true"));
    let pose = child(node, "pose");
    let unknown = |pose: &str| ["unspecified", "unknown", ""].iter().any(|none| pose.eq_ignore_ascii_case(none));
    Ok(VocObject {
        name,
        corners,
        line,
        difficult: flag("difficult"),
        truncated: flag("truncated"),
        occluded: flag("occluded"),
        pose: pose.is_some_and(|pose| !unknown(&pose)),
        parts: node.children().filter(|n| n.has_tag_name("part")).count(),
    })
}

/// The text of the first child with a name.
fn child(node: Node<'_, '_>, name: &str) -> Option<String> {
    let found = node.children().find(|n| n.has_tag_name(name));
    found.and_then(|n| n.text()).map(|t| t.trim().to_owned())
}
