//! Image files: the header and the pixels. The size in the header is that of the decoded pixels. No image may need more
//! memory than the limit.
#![no_main]

use foveal_fuzz::{check_message, file};
use foveal_image::ImageLimit;
use libfuzzer_sys::fuzz_target;

/// A small limit, so that memory beyond it is noticed.
const LIMIT: ImageLimit = ImageLimit { max_bytes: 64 << 20 };

fuzz_target!(|bytes: &[u8]| {
    let path = file("case.img", bytes);
    let size = LIMIT.file_size(&path);
    if let Err(error) = &size {
        check_message(&error.to_string(), "case.img");
    }
    match LIMIT.decode(bytes, &path) {
        Err(error) => check_message(&error.to_string(), "case.img"),
        Ok(decoded) => {
            let size = size.expect("an image that can be decoded has a size");
            assert_eq!(decoded.stored.dimensions(), (size.stored_width, size.stored_height));
            assert_eq!(decoded.oriented().dimensions(), (size.width, size.height));
        }
    }
});
