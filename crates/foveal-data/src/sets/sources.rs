//! Opens each of the sets that a training set is made of.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use foveal_coco::{Classes, CocoDataset, CocoFile, LabelMap};

use super::names::check_known;
use super::{Categories, ClassMap, Names, Part, ignore_all_classes};
use crate::check::{Images, classes};
use crate::dataset::Opened;
use crate::shapes::{self, Split};
use crate::{CheckReport, DataConfig, DataError, SetConfig, Source};

/// One of the sets that a training set is made of.
#[derive(Clone, Debug)]
pub struct TrainSet {
    /// Where the set is from, and its weight.
    pub part: Part,
    /// The images of the set, with the classes of the whole training set.
    pub opened: Opened,
}

/// The files of a set of the configuration.
struct Files<'a> {
    key: String,
    annotations: &'a Path,
    images: &'a Path,
    weight: f64,
}

impl<'a> Files<'a> {
    /// The files of `data.train` or `data.val`.
    fn of(set: &'a SetConfig, key: &str) -> Result<Self, DataError> {
        let files = Self::of_annotations(set, key)?;
        let expected = "the path of the folder with the images";
        let missing = || DataError::Missing { key: format!("{key}.images"), expected };
        Ok(Self { images: set.images.as_deref().ok_or_else(missing)?, ..files })
    }

    /// The annotation file of `data.train` or `data.val`, where the images are not needed.
    fn of_annotations(set: &'a SetConfig, key: &str) -> Result<Self, DataError> {
        let expected = "the path of a COCO annotation file";
        let missing = || DataError::Missing { key: format!("{key}.annotations"), expected };
        let annotations = set.annotations.as_deref().ok_or_else(missing)?;
        Ok(Self { key: key.to_owned(), annotations, images: Path::new(""), weight: 1.0 })
    }

    fn read(&self) -> Result<CocoFile, DataError> {
        let file = CocoFile::read(self.annotations)?;
        if !self.images.is_dir() {
            return Err(DataError::NoFolder { key: format!("{}.images", self.key), path: self.images.to_owned() });
        }
        Ok(file)
    }

    fn part(&self) -> Part {
        let (key, path) = (self.key.clone(), self.annotations.display().to_string());
        Part { key, path, weight: self.weight, backgrounds: false }
    }
}

/// How the images of the training sets are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The image files are found and their headers are read.
    Headers,
    /// The annotations alone are read, and of the folders of background images those that exist.
    Annotations,
    /// The annotations alone are read. They must have the sizes of the images. Folders of background images are left
    /// out.
    Sizes,
}

impl DataConfig {
    /// Returns whether the categories of annotation files become classes by their names, with ids that can differ from
    /// those of the files: whether there is a set in `more_train`, or `classes` changes something.
    pub fn maps_classes(&self) -> bool {
        self.source == Source::Coco && (!self.more_train.is_empty() || !self.classes.is_plain())
    }

    /// Returns the paths of the annotation files of all sets, first those of the training.
    pub fn annotation_files(&self) -> Vec<&PathBuf> {
        let more = self.more_train.iter().map(|set| &set.annotations);
        self.train.annotations.iter().chain(more).chain(&self.val.annotations).collect()
    }

    /// Returns the folders of the images of all sets, with those of background images.
    pub fn image_folders(&self) -> Vec<&PathBuf> {
        let more = self.more_train.iter().map(|set| &set.images).chain(&self.backgrounds);
        self.train.images.iter().chain(more).chain(&self.val.images).collect()
    }

    /// Opens each of the sets that the training set is made of, in the order `train`, `more_train`, `backgrounds`.
    pub(crate) fn train_sets(&self, reading: Reading) -> Result<Vec<TrainSet>, DataError> {
        self.validate().map_err(|e| e.within("data"))?;
        if self.source == Source::Shapes {
            let opened = shapes::open(&self.shapes, Split::Train);
            let (key, path) = ("data.shapes".to_owned(), opened.report.set.clone());
            return Ok(vec![TrainSet { part: Part { key, path, weight: 1.0, backgrounds: false }, opened }]);
        }
        let (sets, files) = self.train_files(reading)?;
        let mut opened: Vec<TrainSet> = Vec::with_capacity(sets.len() + self.backgrounds.len());
        let names = if self.maps_classes() { Some(self.names(&sets, &files)?) } else { None };
        for (number, (set, file)) in sets.iter().zip(files).enumerate() {
            let categories = match &names {
                None => Categories::Own,
                Some(names) => Categories::Mapped(&names.labels, names.maps[number].clone()),
            };
            let images = if reading == Reading::Headers { Images::Folder(set.images) } else { Images::Unread };
            let checked = self.check(file, set.annotations, images, Split::Train, categories)?;
            opened.push(TrainSet { part: set.part(), opened: checked });
        }
        let labels = opened[0].opened.dataset.label_map().clone();
        for (number, folder) in self.backgrounds.iter().enumerate() {
            let wanted = match reading {
                Reading::Headers => true,
                Reading::Annotations => folder.is_dir(),
                Reading::Sizes => false,
            };
            if wanted {
                opened.push(self.open_backgrounds(number, &labels)?);
            }
        }
        Ok(opened)
    }

    /// Reads the annotation files of the training sets.
    fn train_files(&self, reading: Reading) -> Result<(Vec<Files<'_>>, Vec<CocoFile>), DataError> {
        let mut sets = vec![match reading {
            Reading::Headers => Files::of(&self.train, "data.train")?,
            Reading::Annotations | Reading::Sizes => Files::of_annotations(&self.train, "data.train")?,
        }];
        sets.extend(self.more_train.iter().enumerate().map(|(number, set)| Files {
            key: format!("data.more_train[{number}]"),
            annotations: &set.annotations,
            images: &set.images,
            weight: set.weight,
        }));
        let mut files = Vec::with_capacity(sets.len());
        for set in &sets {
            files.push(match reading {
                Reading::Headers => set.read()?,
                Reading::Annotations => CocoFile::read(set.annotations)?,
                Reading::Sizes => {
                    let file = CocoFile::read(set.annotations)?;
                    require_sizes(&file, set.annotations)?;
                    file
                }
            });
        }
        Ok((sets, files))
    }

    /// The classes of the training sets.
    fn names(&self, sets: &[Files<'_>], files: &[CocoFile]) -> Result<Names, DataError> {
        let own = |(set, file): (&Files<'_>, &CocoFile)| -> Result<(PathBuf, Classes), DataError> {
            Ok((set.annotations.to_owned(), classes(&file.dataset, set.annotations, None)?))
        };
        let classes = sets.iter().zip(files).map(own).collect::<Result<Vec<_>, _>>()?;
        check_known(&classes, &self.classes)?;
        Names::of(&classes, &self.classes)
    }

    /// Reads the classes of the training sets from their annotation files.
    pub(crate) fn mapped_labels(&self) -> Result<LabelMap, DataError> {
        let (sets, files) = self.train_files(Reading::Annotations)?;
        Ok(self.names(&sets, &files)?.labels)
    }

    /// Checks the files of `data.val`.
    pub(crate) fn check_val(&self, labels: Option<&LabelMap>) -> Result<Opened, DataError> {
        let set = Files::of(&self.val, "data.val")?;
        let file = set.read()?;
        self.check_alone(file, set.annotations, Images::Folder(set.images), Split::Val, labels)
    }

    /// Reads an annotation file, every record of which can be read, with the classes of a training set, given by
    /// `labels`. Nothing is checked and no image is left out. It is for the comparison of results with annotations.
    ///
    /// # Errors
    /// - [`DataError::Coco`] or [`DataError::Categories`] for a file that cannot be used
    /// - [`DataError::ClassName`] for a category whose name is none of `labels`
    pub fn mapped_annotations(&self, path: &Path, labels: &LabelMap) -> Result<CocoDataset, DataError> {
        let mut coco = CocoDataset::read(path)?;
        let own = classes(&coco, path, None)?;
        let map = Names::among(labels, path, &own, &self.classes, &self.trained())?;
        let mut refused = HashSet::new();
        let ignored = map.apply(&mut coco, labels, &mut refused, &mut CheckReport::default());
        let mut index = 0;
        coco.annotations.retain(|_| {
            index += 1;
            !refused.contains(&(index - 1))
        });
        ignore_all_classes(&mut coco, labels, &ignored);
        Ok(coco)
    }

    /// Checks a single set with the classes of a model, or with its own.
    pub(crate) fn check_alone(
        &self,
        file: CocoFile,
        path: &Path,
        images: Images<'_>,
        split: Split,
        labels: Option<&LabelMap>,
    ) -> Result<Opened, DataError> {
        if !self.maps_classes() {
            return self.check(file, path, images, split, labels.map_or(Categories::Own, Categories::Of));
        }
        let own = classes(&file.dataset, path, None)?;
        let (labels, map): (LabelMap, ClassMap) = match labels {
            Some(labels) => {
                let map = Names::among(labels, path, &own, &self.classes, &self.trained())?;
                (labels.clone(), map)
            }
            None => {
                let Names { labels, mut maps } = Names::of(&[(path.to_owned(), own)], &self.classes)?;
                (labels, maps.remove(0))
            }
        };
        self.check(file, path, images, split, Categories::Mapped(&labels, map))
    }

    /// The training sets in a message.
    fn trained(&self) -> String {
        let files = self.train.annotations.iter().chain(self.more_train.iter().map(|set| &set.annotations));
        let files: Vec<String> = files.map(|path| path.display().to_string()).collect();
        if files.is_empty() { "the model".to_owned() } else { format!("the training ({})", files.join(", ")) }
    }
}

/// Checks that an annotation file has the size of every image.
///
/// # Errors
/// [`DataError::NoImageSize`] with the first image without one.
pub(crate) fn require_sizes(file: &CocoFile, path: &Path) -> Result<(), DataError> {
    match file.dataset.images.iter().find(|image| image.width == 0 || image.height == 0) {
        Some(image) => Err(DataError::NoImageSize { path: path.to_owned(), image_id: image.id }),
        None => Ok(()),
    }
}
