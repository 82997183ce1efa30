//! `metrics.csv`: one row for each epoch, whether or not it was evaluated. It contains no timings, so that a resumed
//! run and an uninterrupted one write the same bytes.

use std::io;
use std::path::PathBuf;

use foveal_base::write_atomically;

use super::log::LogEnd;
use super::records::{EpochRecord, EvaluationRecord};

/// Columns of the losses of an evaluation.
const LOSSES: [&str; 3] = ["class_loss", "box_loss", "loss"];
/// Columns of COCO's twelve metrics, under the names that `Metrics::to_json` uses.
const METRICS: [&str; 12] = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];
/// Columns of the class loss breakdown over the epoch's training steps. Shares are those of the epoch's sums, all other
/// values are means over its steps.
const BREAKDOWN: [&str; 10] = [
    "train_positive_loss",
    "train_negative_loss",
    "train_positive_share",
    "train_positive_gradient_share",
    "train_positive_p_t",
    "train_negative_p_t",
    "train_positives",
    "train_negatives",
    "train_ignored",
    "train_half_of_negative_loss",
];
/// Columns of the mean losses over the epoch's training steps, and of the learning rate of the epoch's last step.
const TRAINING: [&str; 4] = ["train/class_loss", "train/box_loss", "train/loss", "train/lr"];

/// Columns of a run with `train.precision = "f16"`: number of the epoch's steps that were left out because their values
/// overflowed, and the loss scale of its last step. The file has them only if an epoch was trained so.
const SCALING: [&str; 2] = ["train/skipped_steps", "train/loss_scale"];
/// Columns of the objects in the targets of the epoch's training steps: their number, and how many of them the matcher
/// assigned no anchor to.
const OBJECTS: [&str; 2] = ["train/objects", "train/objects_without_anchor"];

/// The file `metrics.csv` and its rows. After a change the whole file is written anew.
#[derive(Debug)]
pub(super) struct MetricsFile {
    path: PathBuf,
    rows: Vec<Row>,
    /// Whether the rows differ from those of the file.
    changed: bool,
}

/// The row of an epoch. Cells without a value are empty strings.
#[derive(Clone, Debug)]
struct Row {
    epoch: usize,
    step: u64,
    /// Cells of the evaluation: losses, then COCO's metrics.
    evaluation: Vec<String>,
    breakdown: Vec<String>,
    training: Vec<String>,
    scaling: Vec<String>,
    objects: Vec<String>,
}

impl Row {
    fn new(epoch: usize, step: u64) -> Self {
        let empty = |n: usize| vec![String::new(); n];
        let evaluation = empty(LOSSES.len() + METRICS.len());
        let (breakdown, training) = (empty(BREAKDOWN.len()), empty(TRAINING.len()));
        let (scaling, objects) = (empty(SCALING.len()), empty(OBJECTS.len()));
        Self { epoch, step, evaluation, breakdown, training, scaling, objects }
    }

    /// Parses a line of a file whose first line is `header`. Columns that are missing, as in files of earlier versions,
    /// are left empty. `None` if the line does not begin with the numbers of an epoch and a step.
    fn parse(header: &str, line: &str) -> Option<Self> {
        let mut cells = line.split(',');
        let mut row = Self::new(cells.next()?.parse().ok()?, cells.next()?.parse().ok()?);
        for (column, cell) in header.split(',').skip(2).zip(cells) {
            if let Some(own) = columns(true).position(|own| own == column).and_then(|own| row.cells(true).nth(own)) {
                cell.clone_into(own);
            }
        }
        Some(row)
    }

    /// The cells in the order of [`columns`].
    fn cells(&mut self, scaling: bool) -> impl Iterator<Item = &mut String> {
        let own = self.evaluation.iter_mut().chain(&mut self.breakdown).chain(&mut self.training);
        own.chain(self.scaling.iter_mut().filter(move |_| scaling)).chain(&mut self.objects)
    }

    fn has_scaling(&self) -> bool {
        self.scaling.iter().any(|cell| !cell.is_empty())
    }

    /// The line of the row, with or without the columns of the loss scale.
    fn line(&mut self, scaling: bool) -> String {
        let cells: Vec<&str> = self.cells(scaling).map(|cell| cell.as_str()).collect();
        let cells = cells.join(",");
        format!("{},{},{cells}\n", self.epoch, self.step)
    }
}

impl MetricsFile {
    /// Takes over the rows of `text`, the file's content so far. Rows of epochs that are not finished at `end` and
    /// later evaluations are left out, because a resumed run repeats them.
    pub(super) fn new(path: PathBuf, text: &str, end: LogEnd) -> Self {
        let (header, rows) = text.split_once('\n').unwrap_or((text, ""));
        let rows = rows.lines().filter_map(|line| Row::parse(header.trim_end(), line));
        let rows = rows.filter(|row| row.epoch <= end.epoch);
        let mut file = Self { path, rows: rows.collect(), changed: true };
        for row in file.rows.iter_mut().filter(|row| row.epoch > end.evaluated) {
            row.evaluation.iter_mut().for_each(String::clear);
        }
        file
    }

    /// Enters the losses of an epoch's training steps, their breakdown, the learning rate and the numbers of objects
    /// into the epoch's row. Returns the numbers with the names of their columns, without `train/` and `train_`.
    pub(super) fn epoch(&mut self, record: &EpochRecord) -> Vec<(&'static str, f64)> {
        let row = self.row(record.epoch, record.step);
        if let Some(breakdown) = &record.breakdown {
            let (positive, negative) = (&breakdown.positive, &breakdown.negative);
            let values = [
                positive.loss,
                negative.loss,
                breakdown.positive_share,
                breakdown.positive_gradient_share,
                positive.mean_p_t,
                negative.mean_p_t,
                positive.pairs,
                negative.pairs,
                breakdown.ignored,
                breakdown.half_of_negative_loss,
            ];
            // Nine digits: a millionth of the negatives can carry half of their loss.
            row.breakdown = values.iter().map(|v| format!("{v:.9}")).collect();
        }
        let losses = [record.mean_class_loss, record.mean_box_loss, record.mean_loss];
        let cell = |loss: &f64| if loss.is_nan() { String::new() } else { format!("{loss:.6}") };
        row.training = losses.iter().map(cell).collect();
        // All digits: a learning rate can be far below a millionth.
        row.training.push(record.lr.to_string());
        if let (Some(skipped), Some(scale)) = (record.skipped_steps, record.loss_scale) {
            row.scaling = vec![skipped.to_string(), scale.to_string()];
        }
        row.objects = [record.objects, record.objects_without_anchor].map(|count| count.to_string()).to_vec();
        let short = |column: &'static str| column.trim_start_matches(['/', '_']);
        let names = columns(true).skip(row.evaluation.len()).map(|column| short(&column["train".len()..]));
        let skipped = row.evaluation.len();
        let values =
            names.zip(row.cells(true).skip(skipped)).filter_map(|(name, cell)| Some((name, cell.parse().ok()?)));
        let values = values.collect();
        self.changed = true;
        values
    }

    /// Enters the losses and metrics of an evaluation into the epoch's row. Returns them with the names of their
    /// columns.
    pub(super) fn evaluation(&mut self, record: &EvaluationRecord) -> Vec<(&'static str, f64)> {
        let losses = [record.losses.class, record.losses.boxes, record.losses.total].into_iter();
        let metrics = METRICS.iter().map(|key| record.metrics[key].as_f64().unwrap_or(f64::NAN));
        let values: Vec<f64> = losses.chain(metrics).collect();
        self.row(record.epoch, record.step).evaluation = values.iter().map(|v| format!("{v:.6}")).collect();
        self.changed = true;
        LOSSES.into_iter().chain(METRICS).zip(values).collect()
    }

    /// The row of an epoch, which is added where it does not exist.
    fn row(&mut self, epoch: usize, step: u64) -> &mut Row {
        let place = self.rows.iter().position(|row| row.epoch == epoch).unwrap_or_else(|| {
            self.rows.push(Row::new(epoch, step));
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }

    /// Writes the file if a row has changed.
    ///
    /// # Errors
    /// When the file cannot be written; the error names it.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if self.changed {
            let scaling = self.rows.iter().any(Row::has_scaling);
            let rows: String = self.rows.iter_mut().map(|row| row.line(scaling)).collect();
            write_atomically(&self.path, format!("{}{rows}", header(scaling)).as_bytes()).map_err(io::Error::other)?;
            self.changed = false;
        }
        Ok(())
    }
}

/// The first line of the file, with the names of all columns, with or without those of the loss scale.
fn header(scaling: bool) -> String {
    format!("epoch,step,{}\n", columns(scaling).collect::<Vec<_>>().join(","))
}

/// The names of the columns after those of epoch and step.
fn columns(scaling: bool) -> impl Iterator<Item = &'static str> {
    let columns = LOSSES.into_iter().chain(METRICS).chain(BREAKDOWN).chain(TRAINING);
    columns.chain(SCALING.into_iter().filter(move |_| scaling)).chain(OBJECTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{EpochEvent, EvaluationEvent, MeanLosses};

    /// The columns of files from before the training losses were added.
    const EARLIER: &str = "epoch,step,class_loss,box_loss,loss,AP,AP50,AP75,APs,APm,APl,AR1,AR10,AR100,ARs,ARm,ARl,\
                           train_positive_loss,train_negative_loss,train_positive_share,train_positive_gradient_share,\
                           train_positive_p_t,train_negative_p_t,train_positives,train_negatives,train_ignored,\
                           train_half_of_negative_loss";

    fn epoch(epoch: usize, step: u64) -> EpochRecord {
        EpochRecord {
            event: EpochEvent::Epoch,
            epoch,
            step,
            mean_loss: 1.5,
            mean_class_loss: 1.25,
            mean_box_loss: 0.25,
            lr: 1e-7,
            objects: 40,
            objects_without_anchor: 3,
            seconds: 2.0,
            data_wait: 0.25,
            breakdown: None,
            loss_scale: None,
            skipped_steps: None,
        }
    }

    #[test]
    fn new_columns_follow_the_earlier_ones() {
        let training = "train/class_loss,train/box_loss,train/loss,train/lr";
        let objects = "train/objects,train/objects_without_anchor";
        assert_eq!(header(false), format!("{EARLIER},{training},{objects}\n"));
        assert_eq!(header(true), format!("{EARLIER},{training},train/skipped_steps,train/loss_scale,{objects}\n"));
    }

    #[test]
    fn rows_after_the_state_and_later_evaluations_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        let end = LogEnd { step: 3, epoch: 2, evaluated: 1 };
        MetricsFile::new(path.clone(), &format!("{}1,2,0\n2,2,7\n3,4,0\n", header(false)), end).write().unwrap();
        // The second epoch keeps its steps but not its evaluation; the third is removed as a whole.
        let cells = LOSSES.len() + METRICS.len() + BREAKDOWN.len() + TRAINING.len() + OBJECTS.len();
        let (first, second) = (",".repeat(cells - 1), ",".repeat(cells));
        let expected = format!("{}1,2,0{first}\n2,2{second}\n", header(false));
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }

    #[test]
    fn a_run_in_half_precision_has_columns_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        let mut file = MetricsFile::new(path.clone(), "", LogEnd::default());
        file.epoch(&epoch(1, 4));
        file.write().unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("scale"));
        // The second epoch goes on in half precision and leaves out all of its steps.
        let nan = f64::NAN;
        let scaled = EpochRecord { loss_scale: Some(4096.5), skipped_steps: Some(4), ..epoch(2, 8) };
        file.epoch(&EpochRecord { mean_loss: nan, mean_class_loss: nan, mean_box_loss: nan, ..scaled });
        file.write().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let scaling = ",train/lr,train/skipped_steps,train/loss_scale";
        assert!(lines[0].ends_with(&format!("{scaling},train/objects,train/objects_without_anchor")), "{}", lines[0]);
        assert!(lines[1].ends_with(",1.500000,0.0000001,,,40,3"), "{}", lines[1]);
        assert!(lines[2].ends_with(",,,,0.0000001,4,4096.5,40,3"), "{}", lines[2]);
        assert!(lines.iter().all(|line| line.split(',').count() == lines[0].split(',').count()));
        // A resumed run writes the same bytes.
        MetricsFile::new(path.clone(), &text, LogEnd { step: 8, epoch: 2, evaluated: 0 }).write().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        // A version that did not count objects wrote the columns of the loss scale last.
        let earlier: Vec<String> = lines.iter().map(|line| line.rsplitn(3, ',').last().unwrap().to_owned()).collect();
        let end = LogEnd { step: 8, epoch: 2, evaluated: 0 };
        MetricsFile::new(path.clone(), &earlier.join("\r\n"), end).write().unwrap();
        let expected = format!("{}\n{},,\n{},,\n", lines[0], earlier[1], earlier[2]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn the_file_of_an_earlier_version_is_continued_with_empty_cells() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        let cells: Vec<String> = (0..25).map(|n| format!("0.{n}")).collect();
        let earlier = format!("1,4,{}", cells.join(","));
        let end = LogEnd { step: 4, epoch: 1, evaluated: 1 };
        let mut file = MetricsFile::new(path.clone(), &format!("{EARLIER}\n{earlier}\n"), end);
        file.epoch(&epoch(2, 8));
        let losses = MeanLosses { class: 1.0, boxes: 2.0, total: 3.0 };
        let metrics = serde_json::json!({"AP": 0.5});
        let event = EvaluationEvent::Evaluation;
        file.evaluation(&EvaluationRecord { event, epoch: 2, step: 8, images: 4, left_out: 0, losses, metrics });
        file.write().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("{earlier},,,,,,"));
        assert!(lines[2].starts_with("2,8,1.000000,2.000000,3.000000,0.500000,NaN,"), "{}", lines[2]);
        assert!(lines[2].ends_with(",,,1.250000,0.250000,1.500000,0.0000001,40,3"), "{}", lines[2]);
        assert!(lines.iter().all(|line| line.split(',').count() == lines[0].split(',').count()));
    }
}
