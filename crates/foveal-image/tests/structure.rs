//! Damaged, truncated, extended and oversized image files.

use std::io::Write;
use std::path::{Path, PathBuf};

use foveal_image::{Format, ImageError, ImageLimit, RgbImage, load_rgb, oriented_size};
use image::Rgb;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

/// A folder for files that are written by a test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// An image that does not compress well.
fn noise(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let v = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)).wrapping_mul(3_266_489_917);
        Rgb([v as u8, (v >> 8) as u8, (v >> 16) as u8])
    })
}

fn encoded(image: &RgbImage, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The position after the header of the first scan.
fn start_of_data(jpeg: &[u8]) -> usize {
    let mut at = 2;
    loop {
        let marker = jpeg[at + 1];
        at += 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if marker == 0xDA {
            return at;
        }
    }
}

/// What phones append to photographs: a video, or further images, whose bytes look like markers.
fn appendix() -> Vec<u8> {
    let mut bytes = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom".to_vec();
    for i in 0..40_000u32 {
        let v = i.wrapping_mul(2_654_435_761);
        bytes.extend([0xFF, (v >> 24) as u8, (v >> 16) as u8]);
    }
    bytes.extend([0xFF, 0xDA, 0, 8, 0xFF, 0xD8]);
    bytes
}

#[test]
fn what_follows_the_end_of_an_image_is_of_no_concern() {
    let folder = Folder::new();
    let image = noise(200, 100);
    let jpeg = encoded(&image, image::ImageFormat::Jpeg);
    for (name, bytes) in [
        ("baseline.jpg", jpeg.clone()),
        ("progressive.jpg", fixture("progressive.jpg")),
        ("restarts.jpg", fixture("restarts.jpg")),
        ("image.png", encoded(&image, image::ImageFormat::Png)),
        ("image.webp", encoded(&image, image::ImageFormat::WebP)),
        ("image.bmp", encoded(&image, image::ImageFormat::Bmp)),
    ] {
        let want = load_rgb(&folder.write(name, &bytes)).unwrap();
        for appended in [appendix(), jpeg.clone(), vec![0; 4]] {
            let path = folder.write(name, &[&bytes[..], &appended].concat());
            assert_eq!(oriented_size(&path).unwrap(), want.dimensions(), "{name}");
            assert_eq!(load_rgb(&path).unwrap(), want, "{name}");
        }
    }
}

/// Decoders for WebP look for chunks some bytes beyond the end of the container, where lengths can be of any size.
#[test]
fn a_chunk_after_the_end_of_a_webp_file_does_not_turn_the_image() {
    let folder = Folder::new();
    let image = noise(20, 10);
    let lossless = &encoded(&image, image::ImageFormat::WebP)[12..];
    let extended = |flags: u8| [&b"WEBPVP8X\x0A\0\0\0"[..], &[flags, 0, 0, 0, 19, 0, 0, 9, 0, 0], lossless].concat();
    let container = |chunks: &[u8]| [b"RIFF", &(chunks.len() as u32).to_le_bytes()[..], chunks].concat();
    // An EXIF block with one entry, the orientation 6, which turns the image by 90 degrees.
    let turned = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let exif = |length: u32| [b"EXIF", &length.to_le_bytes()[..], turned].concat();
    for after in [vec![], exif(turned.len() as u32), exif(1 << 30)] {
        let path = folder.write("after.webp", &[container(&extended(0)), after].concat());
        assert_eq!(oriented_size(&path).unwrap(), (20, 10));
        assert_eq!(load_rgb(&path).unwrap(), image);
    }
    // Inside the container the same block counts.
    let inside = [extended(0x08), exif(turned.len() as u32)].concat();
    let path = folder.write("inside.webp", &container(&inside));
    assert_eq!(oriented_size(&path).unwrap(), (10, 20));
}

/// A preview inside the header ends with an end-of-image marker, and so does a comment.
#[test]
fn end_markers_in_segments_do_not_hide_a_truncation() {
    let folder = Folder::new();
    let jpeg = encoded(&noise(200, 100), image::ImageFormat::Jpeg);
    let preview = encoded(&noise(16, 16), image::ImageFormat::Jpeg);
    let segment =
        |marker: u8, content: &[u8]| [&[0xFF, marker], &(content.len() as u16 + 2).to_be_bytes()[..], content].concat();
    let with_preview =
        [&jpeg[..2], &segment(0xE1, &preview), &segment(0xFE, &[0xFF, 0xDA, 0xFF, 0xD9]), &jpeg[2..]].concat();
    let whole = folder.write("whole.jpg", &with_preview);
    assert_eq!(load_rgb(&whole).unwrap().dimensions(), (200, 100));
    let data = start_of_data(&with_preview);
    let preview_end = 2 + 4 + preview.len();
    for cut in [10, preview_end, data - 3, data, data + 1, (data + with_preview.len()) / 2, with_preview.len() - 1] {
        let path = folder.write("cut.jpg", &with_preview[..cut]);
        for error in [oriented_size(&path).unwrap_err(), load_rgb(&path).unwrap_err()] {
            assert!(matches!(error, ImageError::Truncated { .. }), "{cut}: {error}");
        }
    }
}

/// Cut files that were closed by a repair tool: the structure is whole, but blocks are missing.
#[test]
fn blocks_that_are_missing_before_the_end_marker_are_errors() {
    let folder = Folder::new();
    let image = noise(200, 100);
    let baseline = encoded(&image, image::ImageFormat::Jpeg);
    for (name, whole) in [
        ("baseline", baseline),
        ("progressive", fixture("progressive.jpg")),
        ("restarts", fixture("restarts.jpg")),
        ("cmyk", fixture("cmyk.jpg")),
        ("rotated", fixture("rotated.jpg")),
    ] {
        load_rgb(&folder.write("whole.jpg", &whole)).unwrap();
        let data = start_of_data(&whole);
        let first_scan = if name == "progressive" { data + 40 } else { whole.len() - 12 };
        for cut in [data + 5, (data + first_scan) / 2, first_scan] {
            let closed = [&whole[..cut], &[0xFF, 0xD9]].concat();
            let path = folder.write("closed.jpg", &closed);
            let error = load_rgb(&path).unwrap_err().to_string();
            assert!(error.contains("closed.jpg") && error.contains("image data"), "{name} at {cut}: {error}");
        }
    }
}

#[test]
fn damaged_pixels_are_errors_that_name_the_file() {
    let folder = Folder::new();
    let image = noise(60, 40);
    let png = encoded(&image, image::ImageFormat::Png);
    let mut flipped = png.clone();
    let middle = png.len() / 2;
    flipped[middle] ^= 0x10;
    let bmp = encoded(&image, image::ImageFormat::Bmp);
    let restarts = fixture("restarts.jpg");
    // The restart markers are numbered; one of them is lost.
    let marker = restarts.windows(2).position(|pair| pair == [0xFF, 0xD1]).unwrap();
    let lost = [&restarts[..marker], &restarts[marker + 2..]].concat();
    // A part of the file was overwritten.
    let mut overwritten = encoded(&noise(400, 300), image::ImageFormat::Jpeg);
    let half = overwritten.len() / 2;
    overwritten[half..half + 4096].fill(0xA5);
    for (name, bytes, words) in [
        ("flipped.png", &flipped[..], "checksum of the IDAT chunk"),
        ("cut.bmp", &bmp[..bmp.len() / 2], "last row"),
        ("cut.png", &png[..png.len() - 30], "IEND"),
        ("lost.jpg", &lost[..], "restart marker"),
        ("overwritten.jpg", &overwritten[..], "image data"),
    ] {
        let error = load_rgb(&folder.write(name, bytes)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(words), "{name}: {error}");
    }
    // The header alone tells that a bitmap is too short.
    assert!(oriented_size(&folder.write("cut.bmp", &bmp[..bmp.len() / 2])).is_err());
}

/// Bits that are flipped one by one never cause a panic, and a file that is accepted has its size.
#[test]
fn flipped_bits_never_panic() {
    let folder = Folder::new();
    let png = encoded(&noise(9, 7), image::ImageFormat::Png);
    let bmp = encoded(&noise(9, 7), image::ImageFormat::Bmp);
    let webp = encoded(&noise(9, 7), image::ImageFormat::WebP);
    let limit = ImageLimit { max_bytes: 1 << 20 };
    for whole in [fixture("rotated.jpg"), fixture("progressive.jpg"), fixture("restarts.jpg"), png, bmp, webp] {
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            if let Ok(decoded) = limit.decode(&bytes, Path::new("bits")) {
                let (width, height) = decoded.stored.dimensions();
                assert!(width > 0 && height > 0);
            }
            if at % 16 == 0 {
                let _ = limit.file_size(&folder.write("bits", &bytes));
            }
        }
    }
}

/// A PNG file whose header announces an image of `side` by `side` pixels of one bit, with almost no data.
fn huge_png(side: u32) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut crc = crc32fast::Hasher::new();
        crc.update(kind);
        crc.update(data);
        [&(data.len() as u32).to_be_bytes()[..], kind, data, &crc.finalize().to_be_bytes()].concat()
    };
    let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[1, 0, 0, 0, 0]].concat();
    [
        b"\x89PNG\r\n\x1A\n",
        &chunk(b"IHDR", &header)[..],
        &chunk(b"IDAT", b"x\x9C\x03\0\0\0\0\x01"),
        &chunk(b"IEND", b""),
    ]
    .concat()
}

/// A bitmap of `side` by `side` black pixels of one bit.
fn huge_bmp(side: u32) -> Vec<u8> {
    let row = side.div_ceil(32) * 4;
    let [header, palette] = [54u32, 8];
    let file = [&b"BM"[..], &(header + palette + row * side).to_le_bytes(), &[0; 4], &(header + palette).to_le_bytes()];
    let sizes = [&40u32.to_le_bytes()[..], &side.to_le_bytes(), &side.to_le_bytes(), &[1, 0, 1, 0], &[0; 16]];
    let colours = [&2u32.to_le_bytes()[..], &[0; 4], &[0, 0, 0, 0, 255, 255, 255, 0]];
    let mut bytes = [file.concat(), sizes.concat(), colours.concat()].concat();
    bytes.resize((header + palette + row * side) as usize, 0);
    bytes
}

#[test]
fn images_that_need_too_much_memory_are_refused_before_they_are_decoded() {
    let folder = Folder::new();
    let with_size = |mut jpeg: Vec<u8>, marker: u8| {
        let frame = jpeg.windows(2).position(|pair| pair == [0xFF, marker]).unwrap();
        jpeg[frame + 5..frame + 9].fill(0xFF);
        jpeg
    };
    let baseline = with_size(encoded(&noise(16, 16), image::ImageFormat::Jpeg), 0xC0);
    let progressive = with_size(fixture("progressive.jpg"), 0xC2);
    for (name, bytes, size) in [
        ("bomb.png", huge_png(50_000), "50000x50000"),
        ("bomb.jpg", baseline, "65535x65535"),
        ("progressive.jpg", progressive, "65535x65535"),
        ("bomb.bmp", huge_bmp(14_000), "14000x14000"),
    ] {
        let path = folder.write(name, &bytes);
        let limit = ImageLimit::default();
        for error in [limit.file_size(&path).unwrap_err(), limit.load_rgb(&path).unwrap_err()] {
            assert!(matches!(error, ImageError::TooLarge { .. }), "{name}: {error}");
            let text = error.to_string();
            for word in [name, size, "data.max_image_bytes", "536870912"] {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }
}

/// The limit is on the largest buffer: 3 bytes a pixel, 8 in a PNG file of four channels of 16 bits, and the
/// coefficients of 2 bytes in a progressive JPEG file, of which there are 1.5 a pixel with chroma at half resolution.
#[test]
fn the_limit_counts_the_largest_buffer() {
    let folder = Folder::new();
    let deep: image::ImageBuffer<image::Rgba<u16>, _> = image::ImageBuffer::from_pixel(50, 40, image::Rgba([9; 4]));
    deep.save(folder.0.path().join("deep.png")).unwrap();
    noise(50, 40).save(folder.0.path().join("plain.png")).unwrap();
    folder.write("progressive.jpg", &fixture("progressive.jpg"));
    folder.write("restarts.jpg", &fixture("restarts.jpg"));
    for (name, bytes) in [
        ("deep.png", 8 * 50 * 40),
        ("plain.png", 3 * 50 * 40),
        ("progressive.jpg", 3 * 72 * 56),
        ("restarts.jpg", 3 * 72 * 56),
    ] {
        let path = folder.0.path().join(name);
        assert_eq!(ImageLimit::default().file_size(&path).unwrap().bytes, bytes, "{name}");
        assert!(ImageLimit { max_bytes: bytes }.load_rgb(&path).is_ok(), "{name}");
        let refused = ImageLimit { max_bytes: bytes - 1 }.load_stored(&path).unwrap_err();
        assert!(matches!(refused, ImageError::TooLarge { .. }), "{name}: {refused}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_devices_and_folders_are_refused_without_opening_them() {
    let folder = Folder::new();
    let pipe = folder.0.path().join("pipe.jpg");
    // Opening a pipe that nothing writes to would wait forever.
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let link = folder.0.path().join("link.jpg");
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    let socket = folder.0.path().join("socket.png");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, kind) in [
        (pipe.as_path(), "a named pipe"),
        (&link, "a named pipe"),
        (&socket, "a socket"),
        (Path::new("/dev/zero"), "a device"),
        (folder.0.path(), "a folder"),
    ] {
        for error in [load_rgb(path).unwrap_err(), oriented_size(path).unwrap_err(), Format::of_file(path).unwrap_err()]
        {
            let text = error.to_string();
            assert!(text.contains(kind) && text.contains(&path.display().to_string()), "{text}");
        }
    }
}

#[test]
fn formats_are_those_of_the_content() {
    let folder = Folder::new();
    let image = noise(8, 8);
    for (format, name) in [
        (image::ImageFormat::Jpeg, "JPEG"),
        (image::ImageFormat::Png, "PNG"),
        (image::ImageFormat::WebP, "WebP"),
        (image::ImageFormat::Bmp, "BMP"),
    ] {
        let path = folder.write("image.txt", &encoded(&image, format));
        assert_eq!(Format::of_file(&path).unwrap().unwrap().to_string(), name);
        assert_eq!(load_rgb(&path).unwrap().dimensions(), (8, 8));
    }
    let tiff = folder.write("scan.jpg", b"II*\0\x08\0\0\0 and so on");
    assert_eq!(Format::of_file(&tiff).unwrap(), None);
    assert!(load_rgb(&tiff).unwrap_err().to_string().contains("a TIFF file"));
}

/// A file of 300 MiB that begins like a JPEG file is read in pieces, and one that is no image only at its start.
#[test]
fn long_files_are_not_read_into_memory_for_their_size() {
    let folder = Folder::new();
    let jpeg = encoded(&noise(100, 80), image::ImageFormat::Jpeg);
    for start in [&jpeg[..], b"no image"] {
        let path = folder.0.path().join("long.jpg");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(start).unwrap();
        // The rest is a hole without blocks on the disk.
        file.set_len(600 << 20).unwrap();
        let size = oriented_size(&path);
        assert_eq!(size.is_ok(), start == jpeg, "{size:?}");
        let error = load_rgb(&path).unwrap_err();
        assert!(matches!(error, ImageError::LongFile { .. }), "{error}");
    }
}
