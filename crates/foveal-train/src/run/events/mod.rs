//! The event file of a run, which TensorBoard reads: `events.out.tfevents.foveal`.
//!
//! It has the numbers of `log.jsonl` and `metrics.csv`, images of detections and histograms of scores. All of them are
//! drawn over the number of optimizer steps.

mod message;
mod record;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

pub(crate) use message::Histogram;
use message::{Content, Data, Event, Image, Summary, SummaryValue};
use record::{framed, records};

use super::appended::AppendedFile;

/// Version of the format, which TensorBoard expects in the first event of a file.
const FILE_VERSION: &str = "brain.Event:2";
/// Group of the values of optimizer steps.
pub(super) const TRAIN: &str = "train";
/// Group of the values of the training steps of an epoch.
pub(super) const EPOCH: &str = "epoch";
/// Group of the values of evaluations.
pub(super) const VAL: &str = "val";

/// An image with detections, encoded as PNG or JPEG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Height in pixels.
    pub height: u32,
    /// Width in pixels.
    pub width: u32,
    /// The content of a PNG or JPEG file.
    pub encoded: Vec<u8>,
}

/// What a resumed run keeps of an event file: the events of optimizer steps up to `step`, and those of epochs and
/// evaluations at the steps of the sets.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub step: u64,
    pub epochs: BTreeSet<u64>,
    pub evaluations: BTreeSet<u64>,
}

impl Kept {
    /// Whether the event is kept. The first one of a file, with its version, is written anew.
    fn has(&self, event: &Event) -> bool {
        let Some(Content::Summary(summary)) = &event.content else { return false };
        let Ok(step) = u64::try_from(event.step) else { return false };
        let group = summary.values.first().and_then(|value| value.tag.split('/').next());
        match group {
            Some(VAL) => self.evaluations.contains(&step),
            Some(EPOCH) => self.epochs.contains(&step),
            _ => step <= self.step,
        }
    }
}

/// An event file, which grows at its end.
#[derive(Debug)]
pub(super) struct EventFile(AppendedFile);

impl EventFile {
    /// The event file at `path`, with those events of an earlier process that `kept` has, in their order. A record that
    /// was written in part, and those after it, are left out.
    pub(super) fn new(path: PathBuf, old: &[u8], kept: &Kept) -> Self {
        let version = Event { wall_time: now(), step: 0, content: Some(Content::FileVersion(FILE_VERSION.to_owned())) };
        let mut unwritten = framed(&version.encode_to_vec());
        for data in records(old) {
            if Event::decode(data).is_ok_and(|event| kept.has(&event)) {
                unwritten.extend(framed(data));
            }
        }
        Self(AppendedFile::new(path, unwritten))
    }

    /// Adds numbers of the group `group` after `step` optimizer steps; those that are not finite are left out.
    pub(super) fn scalars<'a>(&mut self, group: &str, step: u64, values: impl IntoIterator<Item = (&'a str, f64)>) {
        let values = values.into_iter().filter(|(_, value)| value.is_finite());
        let values = values.map(|(name, value)| (format!("{group}/{name}"), Data::Scalar(value as f32)));
        self.add(step, values.collect());
    }

    /// Adds a histogram of an evaluation after `step` optimizer steps.
    pub(super) fn histogram(&mut self, name: &str, step: u64, histogram: Histogram) {
        self.add(step, vec![(format!("{VAL}/{name}"), Data::Histogram(histogram))]);
    }

    /// Adds images of an evaluation after `step` optimizer steps.
    pub(super) fn pictures(&mut self, name: &str, step: u64, pictures: Vec<Picture>) {
        let side = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
        let values = pictures.into_iter().enumerate().map(|(index, picture)| {
            let Picture { height, width, encoded } = picture;
            let image = Image { height: side(height), width: side(width), colorspace: 3, encoded };
            (format!("{VAL}/{name}/{index}"), Data::Image(image))
        });
        self.add(step, values.collect());
    }

    fn add(&mut self, step: u64, values: Vec<(String, Data)>) {
        if values.is_empty() {
            return;
        }
        let values = values.into_iter().map(|(tag, data)| SummaryValue { tag, data: Some(data) }).collect();
        let content = Some(Content::Summary(Summary { values }));
        let event = Event { wall_time: now(), step: step as i64, content };
        self.0.extend(&framed(&event.encode_to_vec()));
    }

    /// Writes the records that are not in the file yet. After an error the file ends with a whole record.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.0.write()
    }
}

/// Seconds since the beginning of 1970 in UTC.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The tags of a file's events with their steps, without the version.
    fn tags(path: &Path) -> Vec<(String, i64)> {
        let bytes = std::fs::read(path).unwrap();
        let events: Vec<Event> = records(&bytes).map(|data| Event::decode(data).unwrap()).collect();
        assert_eq!(events[0].content, Some(Content::FileVersion(FILE_VERSION.to_owned())));
        let tags = |event: &Event| match &event.content {
            Some(Content::Summary(summary)) => summary.values.iter().map(|v| (v.tag.clone(), event.step)).collect(),
            _ => Vec::new(),
        };
        events.iter().flat_map(tags).collect()
    }

    #[test]
    fn a_resumed_run_keeps_the_events_up_to_its_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        let mut file = EventFile::new(path.clone(), b"", &Kept::default());
        for step in 1..=4 {
            file.scalars(TRAIN, step, [("loss", 0.5), ("lr", f64::NAN)]);
        }
        file.scalars(EPOCH, 4, [("loss", 0.25)]);
        file.write().unwrap();
        file.histogram("scores", 4, Histogram::of_scores([0.5].into_iter()).unwrap());
        file.pictures("detections", 4, vec![Picture { height: 2, width: 3, encoded: vec![1, 2] }]);
        file.write().unwrap();
        let tag = |tag: &str, step| (tag.to_owned(), step);
        let steps = |last: i64| (1..=last).map(|step| tag("train/loss", step)).collect::<Vec<_>>();
        let evaluation = [tag("val/scores", 4), tag("val/detections/0", 4)];
        assert_eq!(tags(&path), [steps(4), vec![tag("epoch/loss", 4)], evaluation.to_vec()].concat());

        // The epoch is finished but not evaluated; a record was written in part.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(&framed(b"torn")[..9]);
        let kept = Kept { step: 4, epochs: [4].into(), evaluations: BTreeSet::new() };
        EventFile::new(path.clone(), &bytes, &kept).write().unwrap();
        assert_eq!(tags(&path), [steps(4), vec![tag("epoch/loss", 4)]].concat());
        // The run went back to its second step.
        let kept = Kept { step: 2, ..Kept::default() };
        EventFile::new(path.clone(), &bytes, &kept).write().unwrap();
        assert_eq!(tags(&path), steps(2));
    }
}
