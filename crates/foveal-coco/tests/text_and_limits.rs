//! Annotation and results files of other systems: encodings, gzip with limits, and paths that are no files.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use foveal_coco::*;

const SET: &str = "{\"images\": [{\"id\": 1, \"file_name\": \"猫 \u{1f41f}.jpg\", \"width\": 4, \"height\": 4}],\r\n\
                   \"annotations\": [], \"categories\": [{\"id\": 1, \"name\": \"ä\"}]}\r\n";
const RESULTS: &str = "[{\"image_id\": 1, \"category_id\": 1, \"bbox\": [0, 0, 1, 1], \"score\": 0.5}]\r\n";

fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
    let units = text.encode_utf16();
    units.flat_map(|unit| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn file(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn utf16_and_marks_are_read_also_within_gzip() {
    let folder = tempfile::tempdir().unwrap();
    let (set, results) = (CocoDataset::from_bytes(SET.as_bytes(), Path::new("set")).unwrap(), 1);
    assert_eq!(set.images[0].file_name, "猫 \u{1f41f}.jpg");
    let spellings = |text: &str| {
        let marked = format!("\u{feff}{text}");
        [marked.clone().into_bytes(), utf16(&marked, false), utf16(&marked, true), utf16(text, false)]
    };
    for (content, detections) in spellings(SET).into_iter().zip(spellings(RESULTS)) {
        for pack in [false, true] {
            let bytes = |content: &[u8]| if pack { gzip(content) } else { content.to_vec() };
            assert_eq!(CocoDataset::read(&file(&folder, "set.json", &bytes(&content))).unwrap(), set);
            let path = file(&folder, "results.json", &bytes(&detections));
            assert_eq!(read_results(&path).unwrap().len(), results);
        }
    }
    let latin =
        SET.replace('ä', "@").into_bytes().iter().map(|b| if *b == b'@' { 0xe4 } else { *b }).collect::<Vec<u8>>();
    let error = CocoDataset::read(&file(&folder, "latin.json", &latin)).unwrap_err().to_string();
    assert!(error.contains("latin.json, line 2") && error.contains("UTF-8"), "{error}");
}

#[test]
fn a_gzip_bomb_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Several gzip streams in one file count together: 257 MiB of spaces in a thousandth of that.
    let bomb = gzip(&vec![b' '; 1 << 20]).repeat(257);
    assert!(bomb.len() < (257 << 20) / 500);
    for error in [
        CocoDataset::read(&file(&folder, "bomb.json", &bomb)).unwrap_err().to_string(),
        read_results(&file(&folder, "bomb.json", &bomb)).unwrap_err().to_string(),
        CocoDataset::from_bytes(&bomb, Path::new("bomb.json")).unwrap_err().to_string(),
    ] {
        let parts = ["bomb.json", "256 MiB", "100 times", "unpack it"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    // A small file may have any ratio.
    let small = gzip(format!("{}{SET}", " ".repeat(1 << 19)).as_bytes());
    assert!(CocoDataset::read(&file(&folder, "small.json", &small)).is_ok());
}

#[test]
fn a_large_gzipped_file_with_an_ordinary_ratio_is_read_to_the_limit() {
    // Incompressible digits: 3 MiB of content.
    let mut state = 1u64;
    let mut digits = String::new();
    while digits.len() < 3 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        digits += &(state >> 20).to_string();
    }
    let text = SET.replacen('{', &format!("{{\"info\": \"{digits}\", "), 1);
    let packed = gzip(text.as_bytes());
    assert_eq!(CocoDataset::from_bytes(&packed, Path::new("x")).unwrap().images.len(), 1);
}

#[cfg(unix)]
#[test]
fn folders_pipes_and_devices_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, found) in
        [(folder.path(), "found a folder"), (&pipe, "found a pipe"), (Path::new("/dev/zero"), "found a device")]
    {
        for error in [
            CocoDataset::read(path).unwrap_err().to_string(),
            CocoFile::read_names(path).unwrap_err().to_string(),
            read_results(path).unwrap_err().to_string(),
        ] {
            assert!(error.contains("expected a regular file") && error.contains(found), "{error}");
        }
    }
}

#[test]
fn a_missing_file_is_named_with_the_near_name_that_exists() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "Train Set.json", SET.as_bytes());
    for name in ["train set.json", "Train%20Set.json", "Train Set.JSON"] {
        let error = CocoDataset::read(&folder.path().join(name)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(&format!("there is {}", path.display())), "{error}");
    }
}

#[test]
fn python_literals_keep_the_column_of_an_error() {
    let text = r#"{"images": [], "categories": [], "annotations": [NaN, -Infinity, Infinity, "a-Infinity NaN", }"#;
    let error = CocoFile::from_bytes(text.as_bytes(), Path::new("x")).unwrap_err();
    let CocoError::Json { line: 1, column, .. } = error else { panic!("{error}") };
    assert_eq!(column, text.len());
}

#[test]
fn a_literal_across_the_border_of_two_reads_is_recognised() {
    for padding in 65_500..65_540 {
        let text = format!("{}[{{\"image_id\": NaN}}, -Infinity]", " ".repeat(padding));
        let error = results_from_bytes(text.as_bytes(), Path::new("x")).unwrap_err().to_string();
        assert!(error.contains("`image_id` is missing"), "{padding}: {error}");
    }
}

#[test]
fn half_a_surrogate_pair_does_not_refuse_the_file() {
    let name = |escapes: &str| {
        let images = format!(r#"[{{"id": 1, "file_name": "{escapes}"}}]"#);
        let text = format!(r#"{{"images": {images}, "annotations": [], "categories": []}}"#);
        CocoDataset::from_bytes(text.as_bytes(), Path::new("x")).map(|set| set.images[0].file_name.clone())
    };
    // Python writes a byte that is not UTF-8 in a file name as half a pair.
    assert_eq!(name(r"caf\udce9.jpg").unwrap(), "caf\u{fffd}.jpg");
    assert_eq!(name(r"\ud83d\udc1f \uD83D\uDC1F").unwrap(), "\u{1f41f} \u{1f41f}");
    assert_eq!(name(r"\ud83d").unwrap(), "\u{fffd}");
    assert_eq!(name(r"\ud83d\u0041\ud83dx\\udce9").unwrap(), "\u{fffd}A\u{fffd}x\\udce9");
    assert_eq!(name(r"\ud83d\ud83d\udc1f").unwrap(), "\u{fffd}\u{1f41f}");
    assert!(name(r"\udz00").is_err() && name(r"\u+123").is_err());
}
