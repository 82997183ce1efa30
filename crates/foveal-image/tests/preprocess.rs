//! Resizing against torchvision and PIL (golden values by scripts/reference/resize.py), padding, settings.

use foveal_image::{
    ImageBatch, ImageFrame, Prepared, Preprocess, ResizeMode, RgbImage, SIZE_DIVISOR, Staged, pad_batch, pad_staged,
};
use image::Rgb;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    /// width, height, min_size, max_size, width and height after resizing
    sizes: Vec<[u32; 6]>,
}

#[derive(Deserialize)]
struct Case {
    width: u32,
    height: u32,
    min_size: u32,
    max_size: u32,
    to_width: u32,
    to_height: u32,
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    x: usize,
    y: usize,
    c: usize,
    torchvision: f32,
    pil: u8,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("fixtures/resize.json")).unwrap()
}

/// The formula of scripts/reference/resize.py.
fn image(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|c: u32| ((x * x * 7 + y * 37 + x * y * 3 + c * 53) % 256) as u8))
    })
}

fn at(image: &Prepared, sample: &Sample) -> f32 {
    image.data[(sample.c * image.height + sample.y) * image.width + sample.x]
}

#[test]
fn torchvision_mode_meets_torchvision() {
    for case in golden().cases {
        let preprocess = Preprocess {
            min_size: case.min_size,
            max_size: case.max_size,
            resize: ResizeMode::Torchvision,
            ..Preprocess::default()
        };
        let image = preprocess.apply(&image(case.width, case.height));
        assert_eq!((image.width as u32, image.height as u32), (case.to_width, case.to_height));
        for sample in &case.samples {
            let difference = (at(&image, sample) - sample.torchvision).abs();
            // Values reach 2.6, so 1e-5 is about forty units in the last place.
            assert!(difference <= 1e-5, "{}x{}: off by {difference}", case.width, case.height);
        }
    }
}

#[test]
fn antialias_mode_meets_pil() {
    for case in golden().cases {
        let preprocess = Preprocess { mean: [0.0; 3], std: [1.0 / 255.0; 3], ..Preprocess::default() };
        let image = preprocess.apply_at(&image(case.width, case.height), case.to_width, case.to_height);
        for sample in &case.samples {
            // Both round to 8 bit after each axis, with fixed-point weights of different precision: one level.
            let difference = (at(&image, sample) - f32::from(sample.pil)).abs();
            assert!(difference <= 1.01, "{}x{}: off by {difference}", case.width, case.height);
        }
    }
}

#[test]
fn target_sizes_meet_torch() {
    for [width, height, min_size, max_size, to_width, to_height] in golden().sizes {
        let preprocess = Preprocess { min_size, max_size, ..Preprocess::default() };
        assert_eq!(
            preprocess.target_size(width, height),
            (to_width, to_height),
            "{width}x{height} {min_size}/{max_size}"
        );
    }
    let fixed = Preprocess { fixed_size: Some([96, 128]), ..Preprocess::default() };
    assert_eq!(fixed.target_size(1000, 10), (128, 96));
}

#[test]
fn constant_images_stay_constant() {
    for resize in [ResizeMode::Antialias, ResizeMode::Torchvision] {
        let preprocess = Preprocess { resize, ..Preprocess::default() };
        let image = preprocess.apply_at(&RgbImage::from_pixel(30, 20, Rgb([255, 0, 128])), 47, 11);
        let want = [(1.0 - 0.485) / 0.229, -0.456 / 0.224, (128.0 / 255.0 - 0.406) / 0.225];
        for (plane, want) in image.data.chunks(47 * 11).zip(want) {
            assert!(plane.iter().all(|v| (v - want).abs() < 1e-5), "{resize:?}");
        }
        assert!((image.scale_x() - 47.0 / 30.0).abs() < 1e-6 && (image.scale_y() - 11.0 / 20.0).abs() < 1e-6);
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let good = Preprocess::default();
    assert!(good.validate().is_ok());
    for bad in [
        Preprocess { min_size: 0, ..good.clone() },
        Preprocess { max_size: 10, ..good.clone() },
        Preprocess { fixed_size: Some([0, 5]), ..good.clone() },
        Preprocess { std: [1.0, 0.0, 1.0], ..good.clone() },
        Preprocess { mean: [f32::NAN; 3], ..good.clone() },
    ] {
        assert!(bad.validate().is_err(), "{bad:?}");
    }
    assert!(serde_json::from_str::<Preprocess>(r#"{"min_sise": 3}"#).is_err());
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<Preprocess>(&text).unwrap(), good);
    assert_eq!(serde_json::from_str::<ResizeMode>("\"torchvision\"").unwrap(), ResizeMode::Torchvision);
}

#[test]
fn staging_changes_no_bit() {
    let image = |seed: u32| {
        RgbImage::from_fn(50 + seed, 37, |x, y| Rgb([x, y, x * y + seed].map(|v| (v.wrapping_mul(40_503) >> 7) as u8)))
    };
    for resize in [ResizeMode::Antialias, ResizeMode::Torchvision] {
        let preprocess = Preprocess { resize, ..Preprocess::default() };
        // A smaller size, a larger size, and the same size.
        let sizes = [(33, 20), (90, 64), (52, 37)];
        let at = |i: usize| (image(i as u32), sizes[i].0, sizes[i].1);
        let apply = |i| {
            let (image, width, height) = at(i);
            preprocess.apply_at(&image, width, height)
        };
        let stage = |i| {
            let (image, width, height) = at(i);
            preprocess.stage_at(image, width, height)
        };
        let (prepared, staged): (Vec<_>, Vec<_>) = (0..3).map(|i| (apply(i), stage(i))).unzip();
        for (p, s) in prepared.iter().zip(&staged) {
            assert_eq!((p.width, p.height), (s.width(), s.height()));
            assert_eq!(ImageFrame::from(p), s.frame());
        }
        let expected = pad_batch(&prepared);
        assert_eq!(pad_staged(&staged, &preprocess), expected);
        let stacked = ImageBatch::stack(&staged, &preprocess);
        assert_eq!(matches!(stacked, ImageBatch::Bytes(_)), resize == ResizeMode::Antialias);
        assert_eq!([stacked.batch(), stacked.height(), stacked.width()], [3, 64, 96]);
        assert_eq!(stacked.into_normalised(), expected);
        // One image whose pixels are no bytes makes the whole batch normalised values.
        let mut mixed = staged;
        mixed[1] = Staged::Prepared(prepared[1].clone());
        assert_eq!(ImageBatch::stack(&mixed, &preprocess), ImageBatch::Normalised(expected));
    }
    assert_eq!(ImageBatch::stack(&[], &Preprocess::default()).batch(), 0);
}

#[test]
fn staging_to_the_own_size_is_staging_at_that_size() {
    let image = RgbImage::from_fn(50, 37, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
    for resize in [ResizeMode::Antialias, ResizeMode::Torchvision] {
        let preprocess = Preprocess { resize, min_size: 24, max_size: 40, ..Preprocess::default() };
        let (width, height) = preprocess.target_size(50, 37);
        assert_eq!(preprocess.stage(&image), preprocess.stage_at(image.clone(), width, height));
        assert_eq!(preprocess.stage(&image).frame(), ImageFrame::from(&preprocess.apply(&image)));
        let same = Preprocess { fixed_size: Some([37, 50]), ..preprocess };
        assert_eq!(same.stage(&image), same.stage_at(image.clone(), 50, 37));
    }
}

#[test]
fn denormalised_batches_have_their_bytes_and_the_mean_colour_as_padding() {
    let image =
        RgbImage::from_fn(32, 8, |x, y| Rgb([(x + 32 * y) as u8, (7 * x) as u8, (255 - x - 32 * (y % 7)) as u8]));
    for resize in [ResizeMode::Antialias, ResizeMode::Torchvision] {
        let preprocess = Preprocess { resize, ..Preprocess::default() };
        let staged = [preprocess.stage_at(RgbImage::new(40, 3), 40, 3), preprocess.stage_at(image.clone(), 32, 8)];
        let batch = ImageBatch::stack(&staged, &preprocess).into_normalised();
        let found = preprocess.denormalised(&batch, 1);
        assert_eq!(found.dimensions(), (64, 32));
        // ImageNet's mean in levels of 0 to 255.
        let wanted = |x: u32, y: u32| if x < 32 && y < 8 { *image.get_pixel(x, y) } else { Rgb([124, 116, 104]) };
        assert_eq!(found, RgbImage::from_fn(64, 32, wanted));
    }
}

#[test]
fn the_buffer_of_a_batch_of_bytes_is_sizes_then_table_then_pixels() {
    let preprocess = Preprocess::default();
    let image = |width, height| RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 200]));
    let staged = [(40, 20), (33, 30)].map(|(width, height)| preprocess.stage_at(image(width, height), width, height));
    let ImageBatch::Bytes(bytes) = ImageBatch::stack(&staged, &preprocess) else { panic!("the pixels are bytes") };
    assert_eq!(bytes.dims(), [2, 32, 64]);
    let packed = bytes.into_packed();
    let words: Vec<u32> = packed.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words[..4], [20, 40, 30, 33]);
    let value = |channel: usize, byte: usize| f32::from_bits(words[4 + channel * 256 + byte]);
    assert_eq!(value(1, 7), (7.0 / 255.0 - preprocess.mean[1]) / preprocess.std[1]);
    let pixels = &packed[(4 + 3 * 256) * 4..];
    let pixel = |image: usize, x: usize, y: usize| &pixels[((image * 32 + y) * 64 + x) * 3..][..3];
    assert_eq!(pixels.len(), 2 * 32 * 64 * 3);
    assert_eq!([pixel(0, 39, 19), pixel(1, 32, 29)], [[39, 19, 200], [32, 29, 200]]);
    assert_eq!([pixel(0, 40, 19), pixel(0, 39, 20), pixel(1, 33, 0)], [[0; 3]; 3]);
}

proptest! {
    #[test]
    fn padding_keeps_pixels_and_fills_with_zeros(sizes in prop::collection::vec((1usize..70, 1usize..70), 1..4)) {
        let images: Vec<Prepared> = sizes.iter().map(|&(height, width)| Prepared {
            data: (1..=3 * height * width).map(|v| v as f32).collect(),
            width, height, original_width: 1, original_height: 1,
        }).collect();
        let batch = pad_batch(&images);
        prop_assert_eq!(batch.height % SIZE_DIVISOR, 0);
        prop_assert_eq!(batch.width % SIZE_DIVISOR, 0);
        prop_assert_eq!(batch.data.len(), batch.batch * 3 * batch.height * batch.width);
        for (i, image) in images.iter().enumerate() {
            for c in 0..3 { for y in 0..batch.height { for x in 0..batch.width {
                let got = batch.data[((i * 3 + c) * batch.height + y) * batch.width + x];
                let inside = y < image.height && x < image.width;
                let want = if inside { image.data[(c * image.height + y) * image.width + x] } else { 0.0 };
                prop_assert_eq!(got, want);
            }}}
        }
    }
}
