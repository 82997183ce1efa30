//! Tracks of videos: shapes by frame, and the images of the frames.

use std::collections::BTreeMap;
use std::path::PathBuf;

use roxmltree::Node;

use super::{CvatOptions, Reader};
use crate::FormatError;
use crate::defect::{Defect, Place};
use crate::draft::{DraftImage, DraftObject};
use crate::images::{entries_below, is_image_name, size};
use crate::notes::Kind;

/// The frames that were annotated.
struct Frames {
    start: u64,
    stop: u64,
    step: u64,
}

/// Reads the tracks of a video.
///
/// # Errors
/// [`FormatError::Convert`] if there is no folder of images, or if two of its images have the number of one frame.
pub(super) fn read(
    reader: &mut Reader<'_>,
    root: Node<'_, '_>,
    tracks: &[Node<'_, '_>],
    options: &CvatOptions,
) -> Result<(), FormatError> {
    let Some(folder) = &options.images else {
        return Err(FormatError::convert(
            reader.file,
            "the file describes a video (it has <track> elements), but no images of its frames; extract the frames as \
             frame_000000.png, frame_000001.png, ... and pass their folder (--images)",
        ));
    };
    let mut objects: BTreeMap<u64, Vec<DraftObject>> = BTreeMap::new();
    for track in tracks {
        read_track(reader, *track, &mut objects);
    }
    let frames = Frames::of(root);
    let mut files: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for path in entries_below(folder, is_image_name)? {
        let Some(frame) = frame_of(&path) else { continue };
        if let Some(first) = files.insert(frame, path.clone()) {
            let reason =
                format!("{} and this image are both frame {frame}; expected one image a frame", first.display());
            return Err(FormatError::convert(path, reason));
        }
    }
    for (frame, path) in &files {
        if !frames.contains(*frame) && !objects.contains_key(frame) {
            continue;
        }
        let objects = objects.remove(frame).unwrap_or_default();
        let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
        match size(path) {
            Ok(size) => {
                reader.draft.images.push(DraftImage { name, size, from: reader.file.to_owned(), objects });
            }
            Err(reason) => reader.draft.defects.add_image(Defect::of(path, reason), objects.len()),
        }
    }
    for (frame, objects) in objects {
        let place = objects.first().map_or(Place::Line(1), |object| object.place);
        let reason = format!(
            "found no image of frame {frame} in {}, expected a name that ends in its number, such as \
             frame_{frame:06}.png",
            folder.display()
        );
        reader.draft.defects.add_image(Defect::within(reader.file, place, reason), objects.len());
    }
    Ok(())
}

fn read_track(reader: &mut Reader<'_>, track: Node<'_, '_>, objects: &mut BTreeMap<u64, Vec<DraftObject>>) {
    let Some(label) = track.attribute("label").filter(|label| !label.is_empty()) else {
        return reader.defect(track, "a <track> has no `label`, expected a class");
    };
    // The tracks inside a track are the points of a skeleton.
    for shape in track.children().filter(|node| node.is_element() && !node.has_tag_name("track")) {
        let frame = shape.attribute("frame").and_then(|frame| frame.trim().parse::<u64>().ok());
        let Some(frame) = frame else {
            let found = shape.attribute("frame").map_or("nothing".to_owned(), |frame| format!("{frame:?}"));
            let tag = shape.tag_name().name();
            reader.defect(shape, format!("`frame` of a <{tag}> of a track is {found}, expected the number of a frame"));
            continue;
        };
        if shape.attribute("outside") == Some("1") {
            let place = Place::Line(reader.line(shape));
            reader.draft.notes.at(Kind::Outside, reader.file, place, &format!("{label:?}"));
            continue;
        }
        if let Some(object) = reader.object(shape, label) {
            objects.entry(frame).or_default().push(object);
        }
    }
}

impl Frames {
    fn of(root: Node<'_, '_>) -> Self {
        let text = |name: &str| root.descendants().find(|node| node.has_tag_name(name)).and_then(|node| node.text());
        let number = |name: &str| text(name).and_then(|text| text.trim().parse::<u64>().ok());
        let step = text("frame_filter").and_then(|text| text.trim().strip_prefix("step=")?.parse::<u64>().ok());
        Self {
            start: number("start_frame").unwrap_or(0),
            stop: number("stop_frame").unwrap_or(u64::MAX),
            step: step.unwrap_or(1).max(1),
        }
    }

    fn contains(&self, frame: u64) -> bool {
        (self.start..=self.stop).contains(&frame) && (frame - self.start).is_multiple_of(self.step)
    }
}

/// The number at the end of the name of an image.
fn frame_of(path: &std::path::Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let digits = stem.len() - stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    stem[stem.len() - digits..].parse().ok()
}
