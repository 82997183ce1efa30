//! What a run says about the loading of its images: that it waits for them, and what its cache reports.

use foveal_data::{CacheKind, DataConfig, Record, Source};

use super::Trainer;
use crate::device::is_host;
use crate::run::EpochRecord;

/// Share of an epoch's time from which waiting for images is reported.
const MUCH: f64 = 0.2;
/// Shortest time in seconds that an epoch must have waited. Less is the start of its loading threads.
const LEAST_SECONDS: f64 = 10.0;
/// Number of pixels of an image file for each pixel of the resized image from which smaller files are proposed.
const LARGE: f64 = 4.0;

/// What the time of loading depends on.
#[derive(Clone, Copy, Debug)]
struct Loading {
    /// Number of loading threads.
    workers: usize,
    /// Number of processor cores.
    cores: usize,
    /// Whether the network is computed on the same cores.
    shares_cores: bool,
    /// Whether images are decoded anew in every epoch.
    decodes: bool,
    /// Median number of pixels of an image for each pixel of the resized image.
    reduction: f64,
    /// Number of entries of `data.augment.transforms`.
    transforms: usize,
}

impl Loading {
    fn of(config: &DataConfig, records: &[Record], shares_cores: bool) -> Self {
        let preprocess = config.preprocess();
        let reduction = |record: &Record| {
            let (width, height) = preprocess.target_size(record.width, record.height);
            let [before, after] = [[record.width, record.height], [width, height]]
                .map(|[width, height]| f64::from(width) * f64::from(height));
            before / after
        };
        let mut reductions: Vec<f64> = records.iter().map(reduction).collect();
        reductions.sort_by(f64::total_cmp);
        Self {
            workers: config.worker_count(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            shares_cores,
            decodes: config.source == Source::Coco && config.cache.kind == CacheKind::Off,
            reduction: reductions.get(reductions.len() / 2).copied().unwrap_or(1.0),
            transforms: config.augment.transforms.len(),
        }
    }

    /// What shortens the loading, the most effective first.
    fn remedies(self) -> Vec<String> {
        let Self { workers, cores, shares_cores, decodes, reduction, transforms } = self;
        let mut remedies = Vec::new();
        // On a CPU, more loading threads would take the cores from the network.
        if !shares_cores && workers < cores {
            remedies.push(format!("more loading threads (data.workers; now {workers}, with {cores} processor cores)"));
        }
        if decodes {
            remedies
                .push("data.cache.kind = \"memory\" or \"disk\", with which an image is decoded only once".to_owned());
        }
        if reduction >= LARGE {
            remedies.push(format!(
                "smaller image files, because half of them have at least {reduction:.0} times the pixels of the resized \
                 image"
            ));
        }
        if transforms > 0 {
            remedies.push("fewer transforms (foveal bench --only data prints the time of each)".to_owned());
        }
        if remedies.is_empty() {
            remedies.push("more processor cores".to_owned());
        }
        remedies
    }
}

/// The message about an epoch that waited long for its images; `None` if it did not.
fn advice(epoch: usize, share: f64, seconds: f64, loading: impl FnOnce() -> Loading) -> Option<String> {
    if share < MUCH || share * seconds < LEAST_SECONDS {
        return None;
    }
    Some(format!(
        "{:.0} % of the time of epoch {epoch} was spent waiting for images (data_wait in log.jsonl). What helps: {}",
        100.0 * share,
        loading().remedies().join("; ")
    ))
}

impl Trainer<'_> {
    /// Says, once, that the run waits for its images and what to change, and passes on what the cache reports.
    pub(super) fn tell_of_loading(&mut self, record: &EpochRecord) {
        let notes = self.sets.cache.as_ref().map(|cache| cache.notes()).unwrap_or_default();
        notes.iter().for_each(|note| self.progress.message(note));
        if self.told_of_waiting {
            return;
        }
        let loading = || Loading::of(&self.config.data, self.sets.train.records(), is_host(&self.device));
        if let Some(text) = advice(record.epoch, record.data_wait, record.seconds, loading) {
            self.progress.message(&text);
            self.told_of_waiting = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_data::{CacheConfig, Hsv, Transform};

    fn record(width: u32, height: u32) -> Record {
        Record { image_id: 1, file_name: String::new(), width, height, objects: Vec::new(), crowds: Vec::new() }
    }

    #[test]
    fn the_advice_names_what_the_loading_time_depends_on() {
        let slow = Loading { workers: 3, cores: 16, shares_cores: false, decodes: true, reduction: 5.8, transforms: 2 };
        let text = advice(2, 0.414, 60.0, || slow).unwrap();
        let parts = [
            "41 % of the time of epoch 2",
            "data.workers; now 3, with 16",
            "data.cache.kind",
            "at least 6 times the pixels",
            "fewer transforms",
        ];
        let places: Vec<usize> = parts.iter().map(|part| text.find(part).expect(part)).collect();
        assert!(places.is_sorted(), "{text}");
        // Neither a small share nor a short time is worth a message.
        assert!(advice(1, 0.19, 1e4, || slow).is_none() && advice(1, 0.9, 9.0, || slow).is_none());
        // On a CPU, the loading threads share the cores with the network.
        let other = Loading { shares_cores: true, decodes: false, reduction: 1.0, transforms: 0, ..slow };
        assert_eq!(other.remedies(), ["more processor cores"]);
        assert_eq!(Loading { shares_cores: false, workers: 16, ..other }.remedies(), ["more processor cores"]);
    }

    #[test]
    fn the_advice_follows_from_the_configuration_and_the_sizes_of_the_images() {
        let mut data = DataConfig { min_size: 100, max_size: 200, workers: 5, ..DataConfig::default() };
        // The images are reduced by 1, 4 and 36.
        let records = [record(600, 600), record(100, 100), record(200, 200)];
        let loading = Loading::of(&data, &records, true);
        assert_eq!((loading.workers, loading.decodes, loading.reduction, loading.transforms), (5, true, 4.0, 0));
        data.cache = CacheConfig { kind: CacheKind::Memory, ..CacheConfig::default() };
        data.augment.transforms = vec![Transform::Hsv(Hsv::default())];
        let loading = Loading::of(&data, &records, true);
        assert_eq!((loading.decodes, loading.transforms), (false, 1));
        assert_eq!(Loading::of(&data, &[], true).reduction, 1.0);
    }
}
