//! `foveal loss`.

use crate::support::{IMAGES, Workplace, keys};

#[test]
fn share_prints_the_published_values() {
    let place = Workplace::new();
    let example = ["loss", "share", "--positives", "10", "--negatives", "1000000", "--p-positive", "0.01"];
    let rest = ["--p-negative", "0.99", "--alpha", "0.25", "--gamma", "2"];
    let text = place.run(&[&example[..], &rest[..]].concat()).succeeds().stdout;
    assert!(text.contains("0.004561206") && text.contains("0.9373816"), "{text}");
    // The share of the gradient: 10 x .99 for positives, 1e6 x .01 for negatives.
    let plain = text.lines().find(|line| line.trim_start().starts_with("cross entropy")).unwrap();
    assert!(plain.ends_with("0.0009890"), "{plain}");
    assert_eq!(place.run(&["loss", "share"]).succeeds().stdout, text);
    let json = place.run(&[&example[..], &rest[..], &["--json", "-"]].concat()).succeeds().json();
    assert_eq!(keys(&json), ["cross_entropy", "balanced", "focal"]);
    // Computed by hand: 10 ln 100 for positives and 1e6 ln(1 / .99) for negatives, then with the weights .25 and .75.
    let (positives, negatives) = (10.0 * 100f64.ln(), 1e6 * -(0.99f64.ln()));
    for (key, share) in [
        ("cross_entropy", positives / (positives + negatives)),
        ("balanced", 0.25 * positives / (0.25 * positives + 0.75 * negatives)),
        ("focal", 0.25 * 0.9801 * positives / (0.25 * 0.9801 * positives + 0.75e-4 * negatives)),
    ] {
        assert!((json[key].as_f64().unwrap() - share).abs() < 1e-12, "{key}: {json}");
    }
}

#[test]
fn share_draws_the_curves() {
    let place = Workplace::new();
    place.run(&["loss", "share", "--draw", "new/curves.svg", "--gamma", "3"]).succeeds();
    let svg = std::fs::read_to_string(place.path("new/curves.svg")).unwrap();
    for text in ["gamma 0 (cross entropy)", "gamma 3", "gamma 5"] {
        assert!(svg.contains(text), "{text}");
    }
    place.run(&["loss", "share", "--draw", "curves.png"]).succeeds();
    assert!(image::open(place.path("curves.png")).unwrap().width() > 1000);
    place.run(&["loss", "share", "--draw", "curves.gif"]).fails(2, &["curves.gif", ".svg", ".png"]);
    place.run(&["loss", "share", "--p-positive", "1"]).fails(2, &["--p-positive", "below 1"]);
}

#[test]
fn prior_prints_the_step_0_table() {
    let place = Workplace::new();
    let text = place.run(&["loss", "prior"]).succeeds().stdout;
    let row = |pi: &str, loss: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.trim_start().starts_with(pi) && line.contains(loss));
        line.unwrap_or_else(|| panic!("{pi} {loss}: {text}")).split_whitespace().map(str::to_owned).collect()
    };
    for (pi, bias, loss, share, each) in [
        ("0.5 ", "0.00000", "cross entropy x 0.5", "2.50000e-6", "138629.4"),
        ("0.01 ", "-4.59512", "cross entropy x 0.5", "1.14422e-3", "2012.365"),
        ("0.5 ", "0.00000", "focal (0.25, 2)", "8.33335e-7", "51985.95"),
        ("0.01 ", "-4.59512", "focal (0.25, 2)", "0.789138", "1.429891"),
        ("0.1 ", "-2.19722", "focal (0.25, 2)", "1.47300e-3", "316.5470"),
    ] {
        let row = row(pi, loss);
        assert_eq!(row[1], bias);
        assert_eq!(row[row.len() - 2..], [share, each], "{pi}{loss}");
    }
    let json = place.run(&["loss", "prior", "--pi", "0.02,0.3", "--json", "-"]).succeeds().json();
    assert_eq!(json["rows"].as_array().unwrap().len(), 8);
    assert_eq!(json["rows"][7]["pi"], 0.3);
    place.run(&["loss", "prior", "--positives", "7", "--anchors", "6"]).fails(2, &["--positives 7", "--anchors 6"]);
}

#[test]
fn suggest_counts_without_images() {
    let place = Workplace::new();
    std::fs::remove_dir_all(place.path("images")).unwrap();
    let json = place.run(&["loss", "suggest", "tiny.toml", "--json", "-"]).succeeds().json();
    let counts = &json["counts"];
    assert_eq!((&counts["pictures"], &counts["objects"]), (&IMAGES.into(), &(2 * IMAGES).into()));
    // Images of 64x64 pixels have grids with sides of 8, 4, 2, 1 and 1 cells, with nine anchors per cell.
    let all: u64 = ["positives", "background", "ignored"].iter().map(|key| counts[key].as_u64().unwrap()).sum();
    assert_eq!(all as usize, IMAGES * 9 * (64 + 16 + 4 + 1 + 1));
    let of_classes = counts["classes"].as_array().unwrap().iter().map(|class| class["positives"].as_u64().unwrap());
    assert_eq!(of_classes.sum::<u64>(), counts["positives"].as_u64().unwrap());
    assert_eq!(counts["classes"][1]["name"], "青");
    // ATSS ignores no anchor outside crowd regions. The objects without an anchor are those of the classes.
    let atss = ["loss", "suggest", "tiny.toml", "--set", "matcher.kind=atss", "--json", "-"];
    let by_atss = &place.run(&atss).succeeds().json()["counts"];
    assert!(by_atss["ignored"] == 0 && by_atss["positives"] != counts["positives"], "{by_atss}");
    for counts in [counts, by_atss] {
        let classes = counts["classes"].as_array().unwrap().iter();
        let lost = classes.map(|class| class["objects_without_anchor"].as_u64().unwrap());
        assert_eq!(lost.sum::<u64>(), counts["objects_without_anchor"].as_u64().unwrap());
    }
    // Both classes are in every image, so no remedy is proposed.
    assert_eq!((json["imbalance"].as_f64(), json["remedy"].as_str()), (Some(1.0), Some("none")));
    let other = ["loss", "suggest", "tiny.toml", "--annotations", "val.json", "--images", "2", "--json", "-"];
    let other = place.run(&other).succeeds().json();
    assert_eq!((&other["counts"]["pictures"], &other["counts"]["matched_pictures"]), (&IMAGES.into(), &2.into()));
    // The class loss of the configuration is kept if it is the quality focal loss.
    let proposed = |sets: &[&str]| {
        let text = place.run(&[&["loss", "suggest", "tiny.toml"], sets].concat()).succeeds().stdout;
        text.split_once("Proposed settings").unwrap().1.to_owned()
    };
    assert!(proposed(&[]).contains("[loss]\nkind = \"focal\"\nalpha = "));
    let quality = proposed(&["--set", "loss.kind=quality_focal"]);
    assert!(quality.contains("[loss]\nkind = \"quality_focal\"\ngamma = 2.0\n"), "{quality}");
    place.write("none.json", r#"{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}"#);
    place.run(&["loss", "suggest", "tiny.toml", "--annotations", "none.json"]).fails(1, &["no object"]);
}

#[test]
fn the_proposals_of_suggest_are_a_valid_configuration() {
    let place = Workplace::new();
    // One class has one object, the other has fifteen.
    let rare = place.changed(|train| {
        let annotations = train["annotations"].as_array_mut().unwrap();
        let mut frequent: Vec<_> = annotations.iter().filter(|a| a["category_id"] == 3).cloned().collect();
        frequent.extend(frequent.clone());
        frequent.extend(frequent[..3].to_vec());
        frequent.extend(annotations.iter().find(|a| a["category_id"] == 70).cloned());
        for (id, annotation) in (1..).zip(&mut frequent) {
            annotation["id"] = id.into();
        }
        *annotations = frequent;
    });
    place.write("rare.json", rare);
    let run = place.run(&["loss", "suggest", "tiny.toml", "--annotations", "rare.json"]).succeeds();
    assert!(run.stdout.contains("15.0 times") && run.stdout.contains("Heuristic"), "{}", run.stdout);
    let (_, snippet) = run.stdout.split_once("Proposed settings for the configuration:").unwrap();
    let (snippet, _) = snippet.split_once("To compare settings").unwrap();
    place.write("proposed.toml", snippet);
    let resolved = place.run(&["config", "proposed.toml"]).succeeds();
    assert!(resolved.stdout.contains("prior = 0.01"), "{}", resolved.stdout);
    assert!(run.stdout.contains("Proposal: "), "{}", run.stdout);
    // The proposals include a remedy for the rare class.
    assert!(snippet.contains("sampler = \"repeat_factor\"") || snippet.contains("effective_number"), "{snippet}");
}
