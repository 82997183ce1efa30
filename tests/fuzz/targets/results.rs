//! COCO results files: what is read can be written and is read back unchanged.
#![no_main]

use foveal_coco::{read_results, write_results};
use foveal_fuzz::{check_message, file, folder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match read_results(&file("case.json", bytes)) {
        Err(error) => check_message(&error.to_string(), "case.json"),
        Ok(detections) => {
            let copy = folder().join("copy.json");
            write_results(&copy, &detections).expect("detections that were read are finite");
            assert_eq!(read_results(&copy).expect("the copy is readable"), detections);
        }
    }
});
