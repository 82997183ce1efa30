//! A copy of a clean data set, to plant faults in.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use foveal_data::{
    AuditSet, Case, CheckReport, DataConfig, DataError, Look, Opened, SetConfig, ShapesConfig, audit, write_shapes,
};
use image::RgbImage;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Width and height of the images in pixels.
pub(crate) const SIDE: u32 = 160;

/// The clean set: images whose objects have similar sizes, so that outliers are far from them.
fn base() -> &'static Path {
    static BASE: OnceLock<TempDir> = OnceLock::new();
    let dir = BASE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let config = ShapesConfig {
            count: 200,
            val_count: 24,
            size: [SIDE; 2],
            classes: 4,
            imbalance: 2.0,
            min_object: 20.0,
            max_object: 0.25,
            ..ShapesConfig::default()
        };
        write_shapes(&config, dir.path()).unwrap();
        dir
    });
    dir.path()
}

/// A folder with a training and a validation set.
pub(crate) struct Place {
    dir: TempDir,
    /// The content of the annotation files, which [`Place::check`] writes.
    pub train: Value,
    pub val: Value,
}

/// What was found in the training and the validation set.
#[derive(Debug)]
pub(crate) struct Found {
    pub reports: Vec<CheckReport>,
    pub cases: Vec<Case>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for set in ["train", "val"] {
            std::fs::create_dir(dir.path().join(set)).unwrap();
            for entry in std::fs::read_dir(base().join("images").join(set)).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), dir.path().join(set).join(entry.file_name())).unwrap();
            }
        }
        let read = |set: &str| -> Value {
            let text = std::fs::read_to_string(base().join(format!("annotations/{set}.json"))).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        Self { train: read("train"), val: read("val"), dir }
    }

    /// The path of an image, such as `train/000000.png`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn image(&self, name: &str) -> RgbImage {
        image::open(self.path(name)).unwrap().to_rgb8()
    }

    /// Writes an image in the format of its name.
    pub(crate) fn save(&self, name: &str, image: &RgbImage) {
        image.save(self.path(name)).unwrap();
    }

    pub(crate) fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.path(from), self.path(to)).unwrap();
    }

    /// Adds an object to the training set, and returns its id in words.
    pub(crate) fn add(&mut self, image: i64, category: i64, bbox: [f64; 4]) -> String {
        let annotations = self.train["annotations"].as_array_mut().unwrap();
        let id = 9001 + annotations.len();
        annotations.push(json!({
            "id": id, "image_id": image, "category_id": category, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0,
        }));
        format!("annotation {id}")
    }

    /// The id, category and box of an object of the training set.
    pub(crate) fn object(&self, index: usize) -> (i64, i64, [f64; 4]) {
        let object = &self.train["annotations"][index];
        let bbox = [0, 1, 2, 3].map(|k: usize| object["bbox"][k].as_f64().unwrap());
        (object["image_id"].as_i64().unwrap(), object["category_id"].as_i64().unwrap(), bbox)
    }

    /// The configuration of both sets, after their annotations were written.
    pub(crate) fn config(&self) -> DataConfig {
        let set = |name: &str, value: &Value| {
            let path = self.path(&format!("{name}.json"));
            std::fs::write(&path, value.to_string()).unwrap();
            SetConfig { annotations: Some(path), images: Some(self.path(name)) }
        };
        DataConfig { train: set("train", &self.train), val: set("val", &self.val), ..DataConfig::default() }
    }

    /// Checks both sets, decodes their images, and audits them.
    pub(crate) fn check(&self) -> Result<Found, DataError> {
        let config = self.config();
        let train = config.inspect_train()?;
        let val = config.inspect_val_of_any_categories(Some(train.dataset.label_map()))?;
        check(vec![train, val], true)
    }

    /// Checks and audits the annotations of the training set alone.
    pub(crate) fn check_unread(&self) -> Result<Found, DataError> {
        self.config();
        check(vec![DataConfig::default().inspect_annotations(&self.path("train.json"))?], false)
    }
}

/// Audits opened sets, with their images if `decode` is true.
pub(crate) fn check(mut sets: Vec<Opened>, decode: bool) -> Result<Found, DataError> {
    let mut audited = Vec::new();
    for (number, opened) in sets.iter_mut().enumerate() {
        let looks = if decode { opened.decode_with(Look::of) } else { Vec::new() };
        audited.push(AuditSet { opened, looks, validation: number > 0 });
    }
    let cases = audit(&mut audited)?;
    Ok(Found { reports: sets.into_iter().map(|opened| opened.report).collect(), cases })
}
