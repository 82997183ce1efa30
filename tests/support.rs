//! A temporary folder with a small data set and configuration, and functions that run the binary in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Side length of the test images in pixels.
const SIDE: u32 = 64;
/// Number of images in each set.
pub(crate) const IMAGES: usize = 6;

/// The configuration of all tests: a very small network and short training.
const RECIPE: &str = r#"
[data]
min_size = 64
max_size = 64
workers = 1
[model]
backbone = "resnet18"
base_width = 8
norm = "group"
fpn_channels = 16
[model.head]
convs = 1
groups = 4
[train]
epochs = 1
batch_size = 3
warmup_steps = 2
[data.train]
annotations = "train.json"
images = "images"
[data.val]
annotations = "val.json"
images = "images"
"#;

/// A temporary folder with a data set and a configuration.
pub(crate) struct Workplace {
    folder: TempDir,
}

impl Workplace {
    /// Creates a folder with `images/`, `train.json`, `val.json` and `tiny.toml`.
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.path("images")).unwrap();
        for (set, first) in [("train", 1), ("val", 101)] {
            let annotations = place.annotations(first);
            place.write(&format!("{set}.json"), annotations.to_string());
        }
        place.write("tiny.toml", RECIPE);
        place
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Reads a JSON file in the folder.
    pub(crate) fn json(&self, name: &str) -> Value {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}: {text}"))
    }

    /// The text of `train.json` after a change.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut value = self.json("train.json");
        change(&mut value);
        value.to_string()
    }

    /// Runs the binary in the folder on the device `flex`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_on("flex", arguments)
    }

    /// Runs the binary in the folder on a device.
    pub(crate) fn run_on(&self, device: &str, arguments: &[&str]) -> Run {
        let output = self.command(arguments).args(["--device", device, "--threads", "2"]).output().unwrap();
        Run::new(arguments, output)
    }

    /// The binary with these arguments and no others, to be started in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foveal"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Starts the binary in the folder on the device `flex`, without waiting for its end. It does not ignore SIGINT, also
    /// where the tests do, because a shell began them in the background.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        if cfg!(target_os = "linux") {
            command = Command::new("env");
            command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_foveal")]).args(arguments);
            command.current_dir(self.folder.path());
        }
        command
            .args(["--device", "flex", "--threads", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Trains with `tiny.toml` into the folder `run`.
    pub(crate) fn train(&self) {
        self.run(&["train", "tiny.toml", "--out", "run"]).succeeds();
    }

    /// Writes images with one red and one blue square each, and returns their annotations. Image ids start from
    /// `first`; category ids have gaps.
    fn annotations(&self, first: usize) -> Value {
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for id in first..first + IMAGES {
            let name = format!("{id}.png");
            let mut image = RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb([(60 + (x * 7 + y * 3) % 23) as u8; 3]));
            for (k, (category, color)) in [(3, [220, 30, 30]), (70, [30, 30, 220])].into_iter().enumerate() {
                let (x, y, side) = ((id * 5 % 14 + 32 * k) as u32, (id * 11 % 30) as u32, 18 + (id % 3 * 4) as u32);
                let side = side.min(SIDE - x);
                for dy in 0..side {
                    for dx in 0..side {
                        image.put_pixel(x + dx, y + dy, Rgb(color));
                    }
                }
                annotations.push(json!({
                    "id": annotations.len() + 1, "image_id": id, "category_id": category,
                    "bbox": [x, y, side, side], "area": side * side, "iscrowd": 0,
                }));
            }
            image.save(self.path("images").join(&name)).unwrap();
            images.push(json!({"id": id, "file_name": name, "width": SIDE, "height": SIDE}));
        }
        json!({
            "images": images, "annotations": annotations,
            "categories": [{"id": 3, "name": "červená"}, {"id": 70, "name": "青"}],
        })
    }
}

/// The result of a run of the binary.
pub(crate) struct Run {
    /// The arguments, joined by spaces.
    pub line: String,
    /// The exit code; `None` if a signal ended the process.
    pub code: Option<i32>,
    /// The text on stdout.
    pub stdout: String,
    /// The text on stderr.
    pub stderr: String,
}

impl Run {
    fn new(arguments: &[&str], output: Output) -> Self {
        Self {
            line: arguments.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts that the exit code is 0.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "foveal {}\n{}", self.line, self.stderr);
        self
    }

    /// Asserts an exit code, exactly one error message on stderr that contains all of `words`, no panic, and an empty
    /// stdout.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) {
        let Self { line, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "foveal {line}\n{stderr}");
        assert_eq!(self.stdout, "", "foveal {line}");
        let messages = stderr.lines().filter(|line| line.starts_with("error:")).count();
        assert_eq!(messages, 1, "foveal {line}\n{stderr}");
        assert!(!stderr.contains("internal error") && !stderr.contains("panicked"), "foveal {line}\n{stderr}");
        for word in words {
            assert!(stderr.contains(word), "foveal {line}\nexpected `{word}` in: {stderr}");
        }
    }

    /// Parses stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("foveal {}: {e}: {}", self.line, self.stdout))
    }
}

/// The keys of a JSON object, in the order of the text.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Reads a file with one JSON value per line.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
