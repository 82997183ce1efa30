//! COCO annotation files: reading, listing of the defects, label map, writing. A data set without defects is read back
//! unchanged.
#![no_main]

use foveal_coco::{CocoDataset, LabelMap};
use foveal_fuzz::{check_message, file, folder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = file("case.json", bytes);
    match CocoDataset::read(&path) {
        Err(error) => check_message(&error.to_string(), "case.json"),
        Ok(dataset) => {
            let findings = dataset.findings();
            // Errors and findings are messages for users.
            findings.iter().for_each(|finding| drop(finding.to_string()));
            if let Ok(map) = LabelMap::from_categories(&dataset.categories) {
                assert_eq!(map.len(), dataset.categories.len());
            }
            if findings.is_empty() {
                let copy = folder().join("copy.json");
                dataset.write(&copy).expect("a data set without defects can be written");
                assert_eq!(CocoDataset::read(&copy).expect("the copy is readable"), dataset);
            }
        }
    }
});
