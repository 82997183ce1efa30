//! Names from files are shown, never obeyed.
#![cfg(unix)]

use serde_json::{Value, json};

use crate::support::{Run, Workplace};

const CHECKPOINT: &str = "run/checkpoints/last.safetensors";
/// A name that clears the screen, sets the title, begins a line of its own, and reverses the text after it.
const EVIL: &str = "cat\u{1b}[2J\u{9b}3J\u{1b}]0;title\u{7}\nerror: forged\r\u{202e}gnp";
/// How that name is shown.
const SHOWN: &str = r"cat\u{1b}[2J\u{9b}3J\u{1b}]0;title\u{7}\nerror: forged\r\u{202e}gnp";

/// A folder whose first category has the name [`EVIL`].
fn place() -> Workplace {
    let place = Workplace::new();
    for set in ["train.json", "val.json"] {
        let mut value: Value = place.json(set);
        value["categories"][0]["name"] = json!(EVIL);
        place.write(set, value.to_string());
    }
    place
}

/// Asserts that a run printed nothing that acts on a terminal, and no line that a name has forged.
#[track_caller]
fn harmless(run: Run) -> Run {
    for (name, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        for line in text.split('\n') {
            let acts = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
            assert!(!line.contains(acts), "foveal {}: {name}: {line:?}", run.line);
            assert!(!line.starts_with("error: forged"), "foveal {}: {name}: {text:?}", run.line);
        }
    }
    run
}

#[test]
fn category_names_are_shown_with_escapes_in_every_table() {
    let place = place();
    place.train();
    let shown = |arguments: &[&str]| {
        let run = harmless(place.run(arguments).succeeds());
        assert!(run.stdout.contains(r"cat\u{1b}[2J\u{9b}3J"), "foveal {}: {}", run.line, run.stdout);
    };
    shown(&["eval", CHECKPOINT]);
    shown(&["data", "stats", "tiny.toml"]);
    shown(&["anchors", "coverage", "tiny.toml"]);
    shown(&["loss", "suggest", "tiny.toml"]);
    // A score of at least 0 lists all detections, those of both classes.
    shown(&["predict", CHECKPOINT, "images/1.png", "--score-threshold", "0"]);
    harmless(
        place.run(&["predict", CHECKPOINT, "images/1.png", "--draw", "drawn", "--score-threshold", "0"]).succeeds(),
    );

    // An error that names the category.
    let mut other = place.json("val.json");
    other["categories"][0]["name"] = json!("dog");
    place.write("other.json", other.to_string());
    harmless(place.run(&["eval", CHECKPOINT, "--annotations", "other.json", "--images", "images"]))
        .fails(1, &["category 3", "dog", SHOWN]);

    // JSON has the exact name, and still nothing that acts on a terminal.
    let run = harmless(place.run(&["data", "stats", "tiny.toml", "--json", "-"]).succeeds());
    assert_eq!(run.json()["train"]["classes"][0]["name"], EVIL);
    place.run(&["data", "stats", "tiny.toml", "--json", "stats.json"]).succeeds();
    assert_eq!(place.json("stats.json")["train"]["classes"][0]["name"], EVIL);
}

#[test]
fn file_names_are_shown_with_escapes() {
    let place = Workplace::new();
    place.train();
    std::fs::create_dir(place.path("photos")).unwrap();
    let name = |end: &str| format!("photos/{EVIL}.{end}");
    std::fs::copy(place.path("images/1.png"), place.path(&name("png"))).unwrap();
    let run = harmless(place.run(&["predict", CHECKPOINT, "photos"]).succeeds());
    assert!(run.stdout.starts_with(&format!("photos/{SHOWN}.png: ")), "{}", run.stdout);
    let json = place.run(&["predict", CHECKPOINT, "photos", "--json", "-"]).succeeds().json();
    assert_eq!(json[0]["file"], name("png"));
    // A file that cannot be read, in a message of the error.
    place.write(&name("jpg"), "no image");
    let run = harmless(place.run(&["predict", CHECKPOINT, "photos"]));
    assert!(run.code == Some(1) && run.stderr.contains(&format!("{SHOWN}.jpg")), "{}", run.stderr);
    // The list of findings, and the error of training on the set.
    place.write("bad.json", place.changed(|v| v["images"][0]["file_name"] = json!(format!("{EVIL}.jpg"))));
    let check = ["data", "check", "--annotations", "bad.json", "--images", "photos"];
    let run = harmless(place.run(&check));
    assert!(run.stdout.contains(SHOWN), "{}", run.stdout);
    harmless(place.run(&["train", "tiny.toml", "--set", "data.train.annotations=bad.json"])).fails(1, &[SHOWN]);
    // The table of a contact sheet, whose captions are drawn.
    std::fs::copy(place.path("images/1.png"), place.path(&format!("images/{EVIL}.png"))).unwrap();
    place.write("evil.json", place.changed(|v| v["images"][0]["file_name"] = json!(format!("{EVIL}.png"))));
    let show = ["data", "show", "tiny.toml", "-o", "sheet.png", "--set", "data.train.annotations=evil.json"];
    let run = harmless(place.run(&show).succeeds());
    assert!(run.stdout.contains(&format!("{SHOWN}.png")), "{}", run.stdout);
}

#[test]
fn arguments_and_settings_are_shown_with_escapes() {
    let place = Workplace::new();
    harmless(place.run(&[EVIL])).fails(2, &[r"cat\u{1b}[2J"]);
    harmless(place.run(&["train", EVIL])).fails(1, &[SHOWN]);
    harmless(place.run(&["train", "tiny.toml", &format!("--{EVIL}")])).fails(2, &[r"cat\u{1b}[2J"]);
    harmless(place.run(&["train", "tiny.toml", "--set", &format!("{EVIL}=1")])).fails(1, &[r"cat\u{1b}[2J"]);
    harmless(place.run(&["train", "tiny.toml", "--set", &format!("loss.kind={EVIL}")])).fails(1, &[r"cat\u{1b}[2J"]);
    harmless(place.run(&["summary", "tiny.toml", "--size", EVIL])).fails(2, &[r"cat\u{1b}[2J"]);
}

#[test]
fn names_of_arms_cannot_format_reports() {
    let place = place();
    let arms = json!({
        "about": format!("<script>{EVIL}"), "reference": "a",
        "arm": [{"name": "a", "title": format!("{EVIL} | <b>x</b>"), "config": {"loss": {"kind": "focal"}}}],
    });
    place.write("arms.toml", toml::to_string(&arms).unwrap());
    let run = place.run(&["lab", "tiny.toml", "--arms", "arms.toml", "--out", "lab"]);
    let run = harmless(run.succeeds());
    assert!(run.stdout.contains(SHOWN), "{}", run.stdout);
    let text = std::fs::read_to_string(place.path("lab/lab.md")).unwrap();
    assert!(text.lines().all(|line| !line.starts_with("error: forged") && !line.contains('\u{1b}')), "{text}");
    assert!(!text.contains("<script>") && text.contains("\\<b\\>x") && text.contains(r"cat\\u{1b}\[2J"), "{text}");
    // All cells of the table are in one row.
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() == 3 && rows.iter().all(|row| columns(row) == 9), "{text}");
    let svg = std::fs::read_to_string(place.path("lab/lab.svg")).unwrap();
    assert!(svg.contains(r"cat\u{1b}[2J") && svg.contains("&lt;b&gt;x"), "{svg}");
    assert!(svg.chars().all(|c| !c.is_control() || c == '\n'), "{svg:?}");
}
