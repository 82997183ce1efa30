//! Decoding of the supported kinds of image files. The expected values are those of scripts/reference/pictures.py.

use std::path::{Path, PathBuf};

use foveal_image::{ImageError, ImageLimit, RgbImage, load_rgb, oriented_size};
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The centres of the six 8x8 blocks must be within `tolerance` of Pillow's values.
fn assert_blocks(name: &str, img: &RgbImage, tolerance: u8) {
    let text = std::fs::read_to_string(fixture("pictures.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(img.dimensions(), (24, 16), "{name}");
    let centres = [(4, 4), (12, 4), (20, 4), (4, 12), (12, 12), (20, 12)];
    for ((x, y), want) in centres.into_iter().zip(all[name].as_array().unwrap()) {
        for channel in 0..3 {
            let (got, want) = (img.get_pixel(x, y)[channel], want[channel].as_u64().unwrap() as u8);
            assert!(got.abs_diff(want) <= tolerance, "{name} at {x},{y}: {got}, Pillow {want}");
        }
    }
}

#[test]
fn cmyk_palette_and_rotated_images_look_as_in_pillow() {
    // JPEG decoders may differ by a few levels in the inverse DCT and the colour conversion.
    assert_blocks("cmyk.jpg", &load_rgb(&fixture("cmyk.jpg")).unwrap(), 4);
    assert_blocks("palette.png", &load_rgb(&fixture("palette.png")).unwrap(), 0);
    assert_blocks("rotated.jpg", &load_rgb(&fixture("rotated.jpg")).unwrap(), 4);
}

#[test]
fn sizes_come_before_and_after_orientation() {
    let limit = ImageLimit::default();
    let size = limit.file_size(&fixture("rotated.jpg")).unwrap();
    assert_eq!((size.width, size.height, size.stored_width, size.stored_height), (24, 16, 16, 24));
    assert_eq!(oriented_size(&fixture("rotated.jpg")).unwrap(), (24, 16));
    assert_eq!(limit.load_stored(&fixture("rotated.jpg")).unwrap().dimensions(), (16, 24));
}

#[test]
fn grey_deep_and_transparent_images_become_rgb() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    GrayImage::from_pixel(5, 4, Luma([77])).save(path("grey.png")).unwrap();
    ImageBuffer::<Luma<u16>, _>::from_pixel(5, 4, Luma([0x8080])).save(path("grey16.png")).unwrap();
    ImageBuffer::<Rgb<u16>, _>::from_pixel(5, 4, Rgb([0, 0x7F7F, 0xFFFF])).save(path("rgb16.png")).unwrap();
    ImageBuffer::<LumaA<u8>, _>::from_pixel(5, 4, LumaA([90, 0])).save(path("greya.png")).unwrap();
    let transparent = ImageBuffer::<Rgba<u8>, _>::from_pixel(5, 4, Rgba([9, 8, 7, 0]));
    transparent.save(path("alpha.png")).unwrap();
    transparent.save(path("ünïcode 图.webp")).unwrap();
    RgbImage::from_pixel(5, 4, Rgb([1, 2, 3])).save(path("plain.bmp")).unwrap();
    // The format is recognised by the bytes, not by the file name.
    DynamicImage::ImageLuma8(GrayImage::from_pixel(5, 4, Luma([200])))
        .save_with_format(path("grey.txt"), ImageFormat::Jpeg)
        .unwrap();
    for (name, want) in [
        ("grey.png", [77, 77, 77]),
        ("grey16.png", [0x80, 0x80, 0x80]),
        ("rgb16.png", [0, 0x7F, 0xFF]),
        ("greya.png", [90, 90, 90]),
        ("alpha.png", [9, 8, 7]),
        ("ünïcode 图.webp", [9, 8, 7]),
        ("plain.bmp", [1, 2, 3]),
        ("grey.txt", [200, 200, 200]),
    ] {
        let img = load_rgb(&path(name)).unwrap();
        assert_eq!(img.dimensions(), (5, 4), "{name}");
        assert!(img.pixels().all(|p| p.0 == want), "{name}: {:?}", img.get_pixel(0, 0));
        assert_eq!(oriented_size(&path(name)).unwrap(), (5, 4), "{name}");
    }
}

#[test]
fn large_files_are_checked_by_header_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let noise = RgbImage::from_fn(400, 300, |x, y| {
        let v = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)).wrapping_mul(3_266_489_917);
        Rgb([v as u8, (v >> 8) as u8, (v >> 16) as u8])
    });
    for name in ["noise.jpg", "noise.png", "noise.webp"] {
        let path = dir.path().join(name);
        noise.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() > 70_000, "{name} should be longer than the part that is read first: {}", bytes.len());
        assert_eq!(oriented_size(&path).unwrap(), (400, 300), "{name}");
        std::fs::write(&path, &bytes[..bytes.len() - 5_000]).unwrap();
        assert!(oriented_size(&path).is_err(), "{name} cut off");
        assert!(load_rgb(&path).is_err(), "{name} cut off");
    }
}

#[test]
fn bad_files_give_errors_that_name_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, text) = (dir.path().join("empty.jpg"), dir.path().join("text.png"));
    std::fs::write(&empty, []).unwrap();
    std::fs::write(&text, "no image").unwrap();
    for path in [fixture("truncated.jpg"), empty, text, dir.path().join("missing.jpg"), dir.path().to_owned()] {
        for error in [load_rgb(&path).unwrap_err(), oriented_size(&path).unwrap_err()] {
            let name = path.file_name().unwrap().to_string_lossy();
            assert!(error.to_string().contains(name.as_ref()), "{error}");
        }
    }
    assert!(matches!(load_rgb(&fixture("truncated.jpg")), Err(ImageError::Truncated { .. })));
}
