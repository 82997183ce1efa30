//! Pascal VOC annotations: the conversion to COCO gives a data set without defects, or an error.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use foveal_formats::{VocOptions, convert_voc};
use foveal_fuzz::{check_message, folder};
use libfuzzer_sys::fuzz_target;

/// A Pascal VOC folder with one image.
fn voc() -> &'static PathBuf {
    static VOC: OnceLock<PathBuf> = OnceLock::new();
    VOC.get_or_init(|| {
        let voc = folder().join("voc");
        std::fs::create_dir_all(voc.join("Annotations")).expect("a folder can be created");
        std::fs::create_dir_all(voc.join("JPEGImages")).expect("a folder can be created");
        let image = include_bytes!("../seeds/image/rgb.png");
        std::fs::write(voc.join("JPEGImages/a.png"), image).expect("a file can be written");
        voc
    })
}

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(voc().join("Annotations/a.xml"), bytes).expect("a file can be written");
    match convert_voc(voc(), &VocOptions::default()) {
        Err(error) => check_message(&error.to_string(), "voc"),
        Ok(converted) => assert_eq!(converted.dataset.findings(), []),
    }
});
