//! The part of TensorBoard's schema (`event.proto` and `summary.proto` of TensorFlow) that runs write, with the same
//! field numbers.

use prost::{Message, Oneof};

/// An entry of an event file (`Event`).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    /// Seconds since the beginning of 1970 in UTC.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// Number of optimizer steps made since the start of the run.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// The content of the entry.
    #[prost(oneof = "Content", tags = "3, 5")]
    pub content: Option<Content>,
}

/// The content of an [`Event`] (the field `what` of `Event`).
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Content {
    /// The version of the format, in the first entry of a file: `brain.Event:2`.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Values.
    #[prost(message, tag = "5")]
    Summary(Summary),
}

/// Values of a step (`Summary`).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Summary {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<SummaryValue>,
}

/// A value with its name (`Summary.Value`).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SummaryValue {
    /// Name of the value, such as `val/AP`. The part before the slash is its group in TensorBoard.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// The value.
    #[prost(oneof = "Data", tags = "2, 4, 5")]
    pub data: Option<Data>,
}

/// The data of a [`SummaryValue`] (the field `value` of `Summary.Value`).
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Data {
    /// A number.
    #[prost(float, tag = "2")]
    Scalar(f32),
    /// An image.
    #[prost(message, tag = "4")]
    Image(Image),
    /// A histogram.
    #[prost(message, tag = "5")]
    Histogram(Histogram),
}

/// An encoded image (`Summary.Image`).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Image {
    /// Height in pixels.
    #[prost(int32, tag = "1")]
    pub height: i32,
    /// Width in pixels.
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// Number of channels: 3 for RGB.
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    /// The content of a PNG or JPEG file.
    #[prost(bytes = "vec", tag = "4")]
    pub encoded: Vec<u8>,
}

/// A histogram (`HistogramProto`). Bucket `i` counts the values above the limit of bucket `i - 1` up to its own.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Histogram {
    /// Lowest value.
    #[prost(double, tag = "1")]
    pub min: f64,
    /// Highest value.
    #[prost(double, tag = "2")]
    pub max: f64,
    /// Number of values.
    #[prost(double, tag = "3")]
    pub num: f64,
    /// Sum of the values.
    #[prost(double, tag = "4")]
    pub sum: f64,
    /// Sum of the squares of the values.
    #[prost(double, tag = "5")]
    pub sum_squares: f64,
    /// Upper limits of the buckets, in rising order.
    #[prost(double, repeated, tag = "6")]
    pub bucket_limit: Vec<f64>,
    /// Numbers of values in the buckets.
    #[prost(double, repeated, tag = "7")]
    pub bucket: Vec<f64>,
}

/// Number of buckets of a histogram of scores from 0 to 1.
const BUCKETS: usize = 50;

impl Histogram {
    /// The histogram of scores from 0 to 1, in 50 buckets of equal width; `None` if there are no scores.
    pub(crate) fn of_scores(scores: impl Iterator<Item = f64>) -> Option<Self> {
        let mut all = Self {
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            bucket_limit: (1..=BUCKETS).map(|bucket| bucket as f64 / BUCKETS as f64).collect(),
            bucket: vec![0.0; BUCKETS],
            ..Self::default()
        };
        for score in scores {
            all.min = all.min.min(score);
            all.max = all.max.max(score);
            all.num += 1.0;
            all.sum += score;
            all.sum_squares += score * score;
            let bucket = (score * BUCKETS as f64).ceil() as usize;
            all.bucket[bucket.clamp(1, BUCKETS) - 1] += 1.0;
        }
        (all.num > 0.0).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_every_score_in_the_bucket_that_ends_above_it() {
        assert_eq!(Histogram::of_scores(std::iter::empty()), None);
        let scores = [0.0, 0.02, 0.03, 0.5, 1.0];
        let histogram = Histogram::of_scores(scores.into_iter()).unwrap();
        assert_eq!((histogram.min, histogram.max, histogram.num), (0.0, 1.0, 5.0));
        assert!((histogram.sum - 1.55).abs() < 1e-12 && (histogram.sum_squares - 1.2513).abs() < 1e-12);
        let counted: Vec<(f64, f64)> = histogram
            .bucket_limit
            .iter()
            .copied()
            .zip(histogram.bucket.iter().copied())
            .filter(|b| b.1 > 0.0)
            .collect();
        assert_eq!(counted, [(0.02, 2.0), (0.04, 1.0), (0.5, 1.0), (1.0, 1.0)]);
    }

    #[test]
    fn messages_have_the_bytes_of_protocol_buffers() {
        // Field 1 is a double (tag 0x09), field 2 a varint (0x10), field 5 a message (0x2a) of 10 bytes: in it field 1
        // is a message (0x0a) of 8 bytes, of a string of one byte (0x0a 0x01) and a float (0x15).
        let value = SummaryValue { tag: "a".to_owned(), data: Some(Data::Scalar(1.0)) };
        let content = Some(Content::Summary(Summary { values: vec![value] }));
        let event = Event { wall_time: 2.0, step: 3, content };
        let expected =
            [0x09, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x10, 3, 0x2a, 10, 0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f];
        assert_eq!(event.encode_to_vec(), expected);
        assert_eq!(Event::decode(&expected[..]).unwrap(), event);
    }
}
