//! Import of annotations of CVAT: the XML files "CVAT for images 1.1" and "CVAT for video 1.1".

mod labels;
mod shape;
mod video;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use foveal_base::text::read_data_text;
use roxmltree::{Document, Node};

use crate::defect::{Defect, Place};
use crate::draft::{ClassList, Draft, DraftImage, DraftObject};
use crate::images::{Images, Way, size};
use crate::lines::Lines;
use crate::notes::Kind;
use crate::{Converted, FormatError, OnError};
use shape::Shape;

/// What an XML file of CVAT should be, for messages.
const EXPECTED: &str = "an XML file of CVAT (\"CVAT for images 1.1\" or \"CVAT for video 1.1\")";

/// Options of [`convert_cvat`].
#[derive(Clone, Debug, Default)]
pub struct CvatOptions {
    /// The folder of the images. It is needed for videos, and for images without a size.
    pub images: Option<PathBuf>,
    /// Name of a subset of a project. Only its images are converted.
    pub subset: Option<String>,
    /// Names of the categories, which get the ids 1, 2, ... in this order. `None` takes the labels that the file
    /// declares, in its order; without a declaration all that occur, sorted.
    pub classes: Option<Vec<String>>,
    /// Whether objects and images that cannot be converted are an error, or left out with a note.
    pub on_error: OnError,
}

/// Converts an XML file of CVAT to COCO.
///
/// Boxes become `[xtl, ytl, xbr - xtl, ybr - ytl]` in pixels. Polygons, ellipses, masks and rotated boxes become the
/// upright boxes around them. Points, lines, cuboids, skeletons and tags have no box and are left out.
/// [`Converted::notes`] gives the counts, also of `occluded` and of attributes, for which COCO has no fields.
///
/// The images of a video are the files in [`CvatOptions::images`] whose names end in the number of their frame, such as
/// `frame_000010.png`. Of a project with several subsets, the file names begin with the subset, as in CVAT's exports.
///
/// # Errors
/// - [`FormatError::Convert`] if the file cannot be read or is not XML of CVAT, or if a video has no folder of images
/// - [`FormatError::Listed`] with the first defects if [`CvatOptions::on_error`] is `Fail` and there are objects that
///   cannot be read, labels that are not declared, or images without a size
pub fn convert_cvat(file: &Path, options: &CvatOptions) -> Result<Converted, FormatError> {
    let text = read_data_text(file).map_err(|error| FormatError::convert(file, format!("cannot be read: {error}")))?;
    let document =
        Document::parse(&text).map_err(|error| FormatError::convert(file, format!("{error}; expected {EXPECTED}")))?;
    let root = document.root_element();
    if !root.has_tag_name("annotations") {
        let found = root.tag_name().name();
        return Err(FormatError::convert(file, format!("found the root element <{found}>, expected {EXPECTED}")));
    }
    let lines = Lines::of(&text);
    let declared = labels::declared(root);
    let mut reader = Reader { file, lines, draft: Draft::default() };
    let tracks: Vec<Node<'_, '_>> = root.children().filter(|node| node.has_tag_name("track")).collect();
    let mut images = options.images.as_deref().map(Images::new);
    if tracks.is_empty() {
        reader.images(root, options, images.as_mut());
    } else {
        video::read(&mut reader, root, &tracks, options)?;
    }
    let classes = ClassList::of(options.classes.as_deref(), declared);
    let converted = reader.draft.finish(file, EXPECTED, classes, options.on_error)?;
    Ok(Converted { images: options.images.clone(), ..converted })
}

/// A file that is being read.
struct Reader<'a> {
    file: &'a Path,
    lines: Lines,
    draft: Draft,
}

impl Reader<'_> {
    fn line(&self, node: Node<'_, '_>) -> u64 {
        self.lines.line(node.range().start)
    }

    fn defect(&mut self, node: Node<'_, '_>, reason: impl Into<String>) {
        let line = self.line(node);
        self.draft.defects.add(Defect::at(self.file, line, reason));
    }

    /// Leaves an image out with its objects.
    fn lost(&mut self, image: Node<'_, '_>, reason: impl Into<String>) {
        let defect = Defect::at(self.file, self.line(image), reason);
        let corners = |node| Shape::read(node).ok()?.corners();
        let objects = image.children().filter(Node::is_element).filter(|node| corners(*node).is_some()).count();
        self.draft.defects.add_image(defect, objects);
    }

    fn images(&mut self, root: Node<'_, '_>, options: &CvatOptions, mut images: Option<&mut Images>) {
        let nodes = || root.children().filter(|node| node.has_tag_name("image"));
        let subsets: BTreeSet<&str> = nodes().filter_map(|node| node.attribute("subset")).collect();
        for node in nodes() {
            let subset = node.attribute("subset");
            if let Some(wanted) = &options.subset
                && subset != Some(wanted)
            {
                let name = node.attribute("name").unwrap_or_default().to_owned();
                self.draft.notes.add(Kind::OtherSubset, || name);
                continue;
            }
            let prefix = subset.filter(|_| subsets.len() > 1 && options.subset.is_none());
            self.image(node, prefix, images.as_deref_mut());
        }
    }

    fn image(&mut self, node: Node<'_, '_>, subset: Option<&str>, images: Option<&mut Images>) {
        let Some(name) = node.attribute("name").filter(|name| !name.is_empty()) else {
            return self.lost(node, "an <image> has no `name`, expected its file name");
        };
        let mut name = match subset {
            Some(subset) => format!("{subset}/{name}"),
            None => name.to_owned(),
        };
        let mut path = None;
        if let Some(images) = images {
            match images.find(&name) {
                Ok(found) => {
                    match found.way {
                        Way::Exact => {}
                        Way::Spelling => self.draft.notes.add(Kind::Spelling, || name.clone()),
                        Way::LastPart => self.draft.notes.add(Kind::LastPart, || name.clone()),
                    }
                    name = found.name;
                    path = Some(found.path);
                }
                Err(reason) => return self.lost(node, reason),
            }
        }
        let side = |key: &str| -> Result<Option<u32>, String> {
            let Some(value) = node.attribute(key) else { return Ok(None) };
            let side = value.parse::<u32>().ok().filter(|side| *side > 0);
            side.map(Some).ok_or_else(|| format!("`{key}` of an <image> is {value:?}, expected a number of pixels"))
        };
        let size = match (side("width"), side("height"), path) {
            (Err(reason), _, _) | (_, Err(reason), _) => Err(reason),
            (Ok(Some(width)), Ok(Some(height)), _) => Ok((width, height)),
            (_, _, Some(path)) => size(&path),
            _ => Err(format!(
                "the <image> {name:?} has no `width` and `height`, expected both, or the folder of the images (--images)"
            )),
        };
        let size = match size {
            Ok(size) => size,
            Err(reason) => return self.lost(node, reason),
        };
        let mut objects = Vec::new();
        for child in node.children().filter(Node::is_element) {
            objects.extend(self.object(child, child.attribute("label").unwrap_or_default()));
        }
        self.draft.images.push(DraftImage { name, size, from: self.file.to_owned(), objects });
    }

    /// The object of a shape, unless the shape has no box or cannot be read.
    fn object(&mut self, node: Node<'_, '_>, label: &str) -> Option<DraftObject> {
        let place = Place::Line(self.line(node));
        let shape = match Shape::read(node) {
            Ok(shape) => shape,
            Err(reason) => {
                self.defect(node, reason);
                return None;
            }
        };
        let name = format!("<{}> {label:?}", node.tag_name().name());
        if let Some(kind) = shape.note() {
            self.draft.notes.at(kind, self.file, place, &name);
        }
        let corners = shape.corners()?;
        if label.is_empty() {
            self.defect(node, format!("a <{}> has no `label`, expected a class", node.tag_name().name()));
            return None;
        }
        if node.attribute("occluded") == Some("1") {
            self.draft.notes.field("occluded");
        }
        if node.attribute("group_id").is_some_and(|group| group != "0" && !group.is_empty()) {
            self.draft.notes.field("group_id");
        }
        for attribute in node.children().filter(|child| child.has_tag_name("attribute")) {
            self.draft.notes.field(attribute.attribute("name").unwrap_or("attribute"));
        }
        Some(DraftObject { label: self.draft.label(label), corners, crowd: false, place })
    }
}
