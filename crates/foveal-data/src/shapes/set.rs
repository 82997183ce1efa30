//! The generated data set in memory, and as a COCO folder on disk.

use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use foveal_base::write_atomically;
use foveal_coco::{Annotation, Category, CocoDataset, Image, LabelMap, bbox_to_xywh};
use foveal_image::{ImageLimit, RgbImage};
use image::ImageFormat;
use rayon::prelude::*;

use super::{Kind, Scene, ShapesConfig, Split};
use crate::dataset::{Dataset, ImageSource, Object, Opened, Record};
use crate::sets::Parts;
use crate::{CheckReport, DataError};

/// Number of bytes of drawn images that are kept in memory. The other images are drawn each time they are used.
const CACHE_BYTES: usize = 1 << 30;

/// The images of one split. They are drawn when they are first used.
#[derive(Debug)]
pub(crate) struct ShapeImages {
    scenes: Vec<Scene>,
    drawn: Vec<OnceLock<RgbImage>>,
}

impl ShapeImages {
    fn new(config: &ShapesConfig, split: Split) -> Self {
        let scenes: Vec<Scene> =
            (0..config.images(split)).into_par_iter().map(|index| Scene::new(config, split, index)).collect();
        let bytes = 3 * config.size[0] as usize * config.size[1] as usize;
        let kept = scenes.len().min(CACHE_BYTES / bytes.max(1));
        Self { scenes, drawn: (0..kept).map(|_| OnceLock::new()).collect() }
    }

    /// Returns image `index`, drawn now or earlier.
    pub(crate) fn image(&self, index: usize) -> RgbImage {
        let draw = || self.scenes[index].render();
        self.drawn.get(index).map_or_else(draw, |cell| cell.get_or_init(draw).clone())
    }
}

/// Opens one split of the generated data set in memory. Images are drawn when they are loaded. The check report has the
/// numbers of images and objects and no defects.
///
/// # Panics
/// If [`ShapesConfig::validate`] refuses the settings.
pub fn open(config: &ShapesConfig, split: Split) -> Opened {
    let images = Arc::new(ShapeImages::new(config, split));
    let mut coco = CocoDataset {
        categories: (1..)
            .zip(&Kind::ALL[..config.classes])
            .map(|(id, kind)| Category { id, name: kind.name().to_owned(), supercategory: Some("shape".to_owned()) })
            .collect(),
        ..CocoDataset::default()
    };
    let mut records = Vec::new();
    for (index, scene) in images.scenes.iter().enumerate() {
        let image_id = index as i64 + 1;
        let file_name = format!("{index:06}.png");
        let (width, height) = (scene.width, scene.height);
        let mut objects = Vec::new();
        for figure in &scene.figures {
            let bbox = bbox_to_xywh(&figure.bbox);
            coco.annotations.push(Annotation {
                id: coco.annotations.len() as i64 + 1,
                image_id,
                category_id: i64::from(figure.class) + 1,
                bbox,
                area: bbox[2] * bbox[3],
                iscrowd: false,
            });
            objects.push(Object { bbox: figure.bbox, class: figure.class, area: (bbox[2] * bbox[3]) as f32 });
        }
        coco.images.push(Image { id: image_id, file_name: file_name.clone(), width, height });
        records.push(Record { image_id, file_name, width, height, objects, crowds: Vec::new() });
    }
    let report = CheckReport {
        set: format!("generated {} set", split.name()),
        images: records.len(),
        empty_images: records.iter().filter(|r| r.objects.is_empty()).count(),
        objects: coco.annotations.len(),
        ..CheckReport::default()
    };
    let labels = LabelMap::from_categories(&coco.categories).expect("kinds have distinct names");
    let sources = (0..records.len()).map(|index| ImageSource::Shape { set: Arc::clone(&images), index }).collect();
    let limit = ImageLimit::default();
    Opened { dataset: Dataset { records, sources, labels, coco, limit, parts: Parts::default() }, report }
}

/// Writes both splits of the generated data set as a COCO folder: `annotations/{train,val}.json` and
/// `images/{train,val}/*.png`. Existing files are overwritten.
///
/// # Errors
/// - [`DataError::Setting`] for a value outside its range
/// - [`DataError::Io`] for a folder that cannot be created
/// - [`DataError::Encode`], [`DataError::Write`] or [`DataError::Coco`] for a file that cannot be written
pub fn write_shapes(config: &ShapesConfig, dir: &Path) -> Result<(), DataError> {
    config.validate().map_err(|e| e.within("data.shapes"))?;
    let folder =
        |path: &Path| std::fs::create_dir_all(path).map_err(|source| DataError::Io { path: path.to_owned(), source });
    folder(&dir.join("annotations"))?;
    for split in [Split::Train, Split::Val] {
        let images = dir.join("images").join(split.name());
        folder(&images)?;
        let Opened { dataset, .. } = open(config, split);
        (0..dataset.len()).into_par_iter().try_for_each(|index| {
            let path = images.join(&dataset.record(index).file_name);
            let mut png = Cursor::new(Vec::new());
            let error = |e: image::ImageError| DataError::Encode { path: path.clone(), reason: e.to_string() };
            dataset.load(index)?.write_to(&mut png, ImageFormat::Png).map_err(error)?;
            Ok::<(), DataError>(write_atomically(&path, png.get_ref())?)
        })?;
        dataset.coco().write(&dir.join("annotations").join(format!("{}.json", split.name())))?;
    }
    Ok(())
}
