//! Checkpoints imported from torchvision's weight files give torchvision's detections; other files are refused.
//! Fixtures: scripts/reference/imports.py.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use foveal_backbone::{BackboneKind, BackboneNorm};
use foveal_coco::CategoryInfo;
use foveal_detector::{Checkpoint, Detector, Labels, ModelConfig, TorchvisionArch, import_torchvision};
use foveal_image::RgbImage;
use foveal_weights::{HostTensor, TensorMap, read_weights};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// The architecture with the small widths of the fixtures.
fn narrow(arch: TorchvisionArch) -> ModelConfig {
    let mut model = arch.model();
    model.backbone = BackboneKind::ResNet18;
    model.base_width = 4;
    model.fpn_channels = 8;
    model.norm = BackboneNorm::FrozenBatch;
    model.head.groups = 4;
    model
}

fn labels(dir: &Path) -> Labels {
    let path = dir.join("labels.txt");
    std::fs::write(&path, "cat\nN/A\ndog\n").unwrap();
    Labels::read(&path).unwrap()
}

fn gives_torchvisions_detections(arch: TorchvisionArch, name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let labels = labels(dir.path());
    let device = Device::flex();
    let imported = import_torchvision(&fixture(&format!("{name}.pth")), &narrow(arch), Some(&labels), &device).unwrap();
    // The checkpoint is saved and loaded, as the binary does.
    let path = dir.path().join("c.safetensors");
    imported.meta.save(&imported.model, &path).unwrap();
    let mut checkpoint = Checkpoint::load(&path, &device).unwrap();
    assert_eq!(checkpoint.meta.categories[1], CategoryInfo { id: 3, name: "dog".into() });
    assert_eq!(checkpoint.meta.post.max_detections, 300);
    checkpoint.meta.preprocess.min_size = 80;
    checkpoint.meta.preprocess.max_size = 150;
    checkpoint.meta.post.pre_nms = 40;
    checkpoint.meta.post.max_detections = 25;

    let bytes = std::fs::read(fixture(&format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let image = file.tensor("image").unwrap();
    let [height, width, _] = image.shape() else { panic!("image of three axes") };
    let image = RgbImage::from_raw(*width as u32, *height as u32, image.data().to_vec()).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        file.tensor(name).unwrap().data().as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect()
    };
    let (boxes, scores) = (floats("boxes"), floats("scores"));
    let expected: Vec<i32> =
        file.tensor("labels").unwrap().data().as_chunks::<4>().0.iter().map(|c| i32::from_le_bytes(*c)).collect();

    let detector = Detector::new(checkpoint, &device);
    let found = detector.detect(&image).unwrap();
    // torchvision also returns boxes that clipping left without area.
    let has_area = |j: &usize| matches!(boxes[j * 4..j * 4 + 4], [x1, y1, x2, y2] if x2 > x1 && y2 > y1);
    let mut free: Vec<usize> = (0..scores.len()).filter(has_area).collect();
    assert_eq!(found.len(), free.len());
    for p in &found {
        let b = p.detection.bbox;
        let same = |j: &usize| {
            // The required limits are 0.1 pixels and 1e-3; such a small network agrees more closely.
            let near = [b.x1, b.y1, b.x2, b.y2].iter().zip(&boxes[j * 4..]).all(|(a, b)| (a - b).abs() <= 0.05);
            near && i64::from(expected[*j]) == p.category.id && (p.detection.score - scores[*j]).abs() <= 1e-4
        };
        let at = free.iter().position(same).unwrap_or_else(|| panic!("{p:?} is not torchvision's"));
        free.remove(at);
    }
}

#[test]
fn v1_with_old_names_in_a_legacy_file() {
    gives_torchvisions_detections(TorchvisionArch::V1, "import_v1");
}

#[test]
fn v2_in_a_zip_file() {
    gives_torchvisions_detections(TorchvisionArch::V2, "import_v2");
}

fn write(path: &Path, tensors: &TensorMap) {
    let bytes: Vec<(&String, &HostTensor, Vec<u8>)> =
        tensors.iter().map(|(k, t)| (k, t, t.values.iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
    let views =
        bytes.iter().map(|(k, t, b)| (k.as_str(), TensorView::new(Dtype::F32, t.shape.clone(), b.as_slice()).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn refusal(path: &Path, arch: TorchvisionArch) -> String {
    import_torchvision(path, &narrow(arch), None, &Device::flex()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn files_that_are_something_else_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let whole = read_weights(&fixture("import_v2.pth")).unwrap();
    let spoiled = |change: &dyn Fn(&mut TensorMap)| {
        let mut tensors = whole.clone();
        change(&mut tensors);
        let path = dir.path().join("w.safetensors");
        write(&path, &tensors);
        refusal(&path, TorchvisionArch::V2)
    };
    let name = "backbone.body.layer3.0.conv1.weight";
    let renamed = spoiled(&|t| {
        let tensor = t.remove(name).unwrap();
        t.insert("other.weight".into(), tensor);
    });
    assert!(renamed.contains(name) && renamed.contains("other.weight"), "{renamed}");
    let reshaped = spoiled(&|t| {
        let tensor = t.get_mut(name).unwrap();
        tensor.shape = vec![tensor.values.len()];
    });
    assert!(reshaped.contains(name) && reshaped.contains("shape"), "{reshaped}");
    let nan = spoiled(&|t| t.get_mut(name).unwrap().values[2] = f32::NAN);
    assert!(nan.contains(name) && nan.contains("element 2"), "{nan}");
    let headless = spoiled(&|t| drop(t.remove("head.classification_head.cls_logits.bias")));
    assert!(headless.contains("cls_logits.bias"), "{headless}");
    let odd = spoiled(&|t| {
        let bias = t.get_mut("head.classification_head.cls_logits.bias").unwrap();
        (bias.shape, bias.values) = (vec![10], vec![0.0; 10]);
    });
    assert!(odd.contains("[10]"), "{odd}");
    let negative = spoiled(&|t| t.get_mut("backbone.body.bn1.running_var").unwrap().values[0] = -1.0);
    assert!(negative.contains("bn1.running_var"), "{negative}");
    let other = refusal(&fixture("import_v1.pth"), TorchvisionArch::V2);
    assert!(other.contains("--arch retinanet_resnet50_fpn"), "{other}");
    let integers = dir.path().join("i.safetensors");
    let view = TensorView::new(Dtype::I64, vec![1], &[0; 8]).unwrap();
    std::fs::write(&integers, safetensors::serialize([("head.x", view)], None).unwrap()).unwrap();
    let text = refusal(&integers, TorchvisionArch::V1);
    assert!(text.contains("head.x") && text.contains("I64"), "{text}");
}

#[test]
fn damaged_files_are_refused_without_panic() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["import_v1.pth", "import_v2.pth"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let path = dir.path().join("w.pth");
        for length in [0, 1, 2, 9, 64, 1000, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let text = refusal(&path, TorchvisionArch::V1);
            assert!(text.contains("w.pth"), "{length}: {text}");
        }
        // Overwritten bytes in the parsed part give a result or an error, never a panic.
        for at in (0..whole.len().min(6000)).step_by(97).chain((whole.len() - 4000..whole.len()).step_by(89)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            let _ = import_torchvision(&path, &narrow(TorchvisionArch::V1), None, &Device::flex());
        }
    }
}

/// A pickle in torch's container.
fn archive(path: &Path, pickle: &[u8], storages: &[&[u8]]) {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let names = (0..storages.len()).map(|i| format!("archive/data/{i}"));
    let entries = names.zip(storages.iter().copied()).chain([("archive/data.pkl".to_owned(), pickle)]);
    for (name, bytes) in entries {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// A pickle of `{"w": tensor}` with a storage of the given type, and of further items of the dictionary.
fn state_dict(storage: &str, elements: u8, more: &[u8]) -> Vec<u8> {
    let tensor = format!(
        "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n{storage}\nX\x01\0\0\00X\x03\0\0\0cpuK"
    );
    [
        b"\x80\x02}(X\x01\0\0\0w",
        tensor.as_bytes(),
        &[elements],
        b"tQK\0K",
        &[elements],
        b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR",
        more,
        b"u.",
    ]
    .concat()
}

#[test]
fn a_pickle_that_calls_a_function_of_the_system_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("call.pth");
    // A call of os.system as an item of the state dict, as the whole file, and discarded before the tensors.
    let call = b"cposix\nsystem\nX\x04\0\0\0true\x85R";
    let item = [b"X\x01\0\0\0x", &call[..]].concat();
    let hidden = [&b"\x80\x02"[..], call, b"0", &state_dict("FloatStorage", 2, b"")].concat();
    for pickle in [state_dict("FloatStorage", 2, &item), [&b"\x80\x02"[..], call, b"."].concat(), hidden] {
        archive(&path, &pickle, &[&[0; 8]]);
        let text = refusal(&path, TorchvisionArch::V1);
        assert!(text.contains("posix.system") && text.contains("nothing was executed"), "{text}");
    }
    // Another object at the root is not a state dict; the error names its class.
    archive(&path, b"\x80\x02cmodels\nNet\n)\x81.", &[]);
    assert!(refusal(&path, TorchvisionArch::V1).contains("models.Net"));
    // Other objects next to the weights are allowed, here an argparse.Namespace.
    let namespace = b"X\x04\0\0\0argscargparse\nNamespace\n)\x81}X\x02\0\0\0lrK\x01sb";
    archive(&path, &state_dict("FloatStorage", 2, namespace), &[&[0; 8]]);
    assert_eq!(read_weights(&path).unwrap()["w"].values, [0.0; 2]);
}

#[test]
fn tensors_of_other_types_and_values_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.pth");
    archive(&path, &state_dict("LongStorage", 1, b""), &[&[0; 8]]);
    let text = refusal(&path, TorchvisionArch::V1);
    assert!(text.contains("tensor w of type I64"), "{text}");
    archive(&path, &state_dict("QInt8Storage", 8, b""), &[&[0; 8]]);
    assert!(refusal(&path, TorchvisionArch::V1).contains("QInt8Storage"));
    archive(&path, &state_dict("FloatStorage", 2, b""), &[&f32::NAN.to_le_bytes().repeat(2)]);
    let text = refusal(&path, TorchvisionArch::V1);
    assert!(text.contains("tensor w") && text.contains("element 0"), "{text}");
    archive(&path, &state_dict("FloatStorage", 2, b""), &[&[0; 4]]);
    assert!(refusal(&path, TorchvisionArch::V1).contains("tensor 'w'"), "a storage that is too short");
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb.pth");
    // A huge view of one number: expand() gives stride 0.
    let mut pickle = state_dict("FloatStorage", 2, b"");
    let at = pickle.windows(5).position(|w| w == b"\x85K\x01\x85\x89").unwrap();
    pickle.splice(at - 2..at + 4, *b"J\xff\xff\xff\x0f\x85K\0\x85");
    archive(&path, &pickle, &[&[0; 8]]);
    let text = refusal(&path, TorchvisionArch::V1);
    assert!(text.contains("tensors of 1073741820 bytes"), "{text}");
    // Many objects of one byte each.
    archive(&path, &vec![b'N'; 8 << 20], &[]);
    let text = refusal(&path, TorchvisionArch::V1);
    assert!(text.contains("far more memory"), "{text}");
    // A tar archive: its entries can be sparse.
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    std::fs::write(&path, tar).unwrap();
    assert!(refusal(&path, TorchvisionArch::V1).contains("tar archive"));
    // A safetensors file whose header describes more data than the file has.
    let header = br#"{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}"#;
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header, &[0; 8]].concat()).unwrap();
    assert!(refusal(&path, TorchvisionArch::V1).contains("damaged safetensors"));
    std::fs::write(&path, [&u64::MAX.to_le_bytes()[..], header].concat()).unwrap();
    assert!(refusal(&path, TorchvisionArch::V1).contains("damaged safetensors"));
}

#[test]
fn a_compressed_archive_is_refused_before_it_grows() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb.pth");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    zip.start_file("archive/data.pkl", options).unwrap();
    zip.write_all(&vec![0; 50 << 20]).unwrap();
    zip.finish().unwrap();
    let text = refusal(&path, TorchvisionArch::V1);
    assert!(text.contains("compressed") && text.contains("data.pkl"), "{text}");
}
