use foveal_coco::{Annotation, Image, Members};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{FileNames, MergeOptions, merge};

/// A data set with these classes, which have the ids 10, 20, ...; class `i` has `i + 1` objects on the one image.
fn set(classes: &[&str]) -> SetFile {
    let mut dataset = WholeDataset::default();
    let others = Members::new(json!({"license": 3}).as_object().unwrap());
    dataset.images.push(Whole { record: Image { id: 1, file_name: "a.jpg".into(), width: 9, height: 9 }, others });
    for (index, name) in classes.iter().enumerate() {
        let id = 10 * (index as i64 + 1);
        let others = Members::new(json!({"keypoints": [index]}).as_object().unwrap());
        let record = Category { id, name: (*name).to_owned(), supercategory: Some(format!("s{index}")) };
        dataset.categories.push(Whole { record, others });
        for _ in 0..=index {
            let id_of_object = dataset.annotations.len() as i64 + 1;
            let record = Annotation { id: id_of_object, image_id: 1, category_id: id, ..Annotation::default() };
            let others = Members::new(json!({"segmentation": [[id_of_object]]}).as_object().unwrap());
            dataset.annotations.push(Whole { record, others });
        }
    }
    SetFile { path: "a.json".into(), dataset, warnings: Vec::new() }
}

fn changes(list: &[(&str, Option<&str>)]) -> Remap {
    let mut remap = Remap::new();
    list.iter().for_each(|(old, new)| remap.add("--map", old, *new).unwrap());
    remap
}

/// The names of the classes, each with its id and number of objects.
fn classes(remapped: &Remapped) -> Vec<(&str, i64, usize)> {
    remapped.report.output.classes.iter().map(|class| (class.name.as_str(), class.id, class.objects)).collect()
}

#[test]
fn changes_are_applied_at_once() {
    let by = |list: &[(&str, Option<&str>)]| remap(set(&["a", "b", "c"]), &changes(list)).unwrap();
    assert_eq!(classes(&by(&[("a", Some("b")), ("b", Some("a"))])), [("b", 10, 1), ("a", 20, 2), ("c", 30, 3)]);
    let chain = by(&[("a", Some("b")), ("b", Some("c")), ("c", Some("d"))]);
    assert_eq!(classes(&chain), [("b", 10, 1), ("c", 20, 2), ("d", 30, 3)]);
    assert_eq!(classes(&by(&[("a", Some("b")), ("b", None)])), [("b", 10, 1), ("c", 30, 3)]);
    let none = by(&[]);
    assert_eq!((none.dataset, none.report.notes.len()), (set(&["a", "b", "c"]).dataset, 0));
}

#[test]
fn joined_classes_have_the_record_of_the_one_with_their_name() {
    let by = |list: &[(&str, Option<&str>)]| remap(set(&["a", "b", "c"]), &changes(list)).unwrap();
    let joined = by(&[("a", Some("c")), ("c", Some("c"))]);
    assert_eq!(classes(&joined), [("b", 20, 2), ("c", 30, 4)]);
    let category = &joined.dataset.categories[1];
    assert_eq!(
        (&category.record.supercategory, category.others.get("keypoints")),
        (&Some("s2".into()), Some(json!([2])))
    );
    let new = by(&[("c", Some("x")), ("a", Some("x"))]);
    assert_eq!(classes(&new), [("x", 10, 4), ("b", 20, 2)]);
    // The joined class has the name of one that is renamed itself.
    let swapped = by(&[("a", Some("c")), ("b", Some("c")), ("c", Some("a"))]);
    assert_eq!(classes(&swapped), [("c", 10, 3), ("a", 30, 3)]);
    assert_eq!(new.dataset.annotations[5], {
        let mut last = set(&["a", "b", "c"]).dataset.annotations.remove(5);
        last.record.category_id = 10;
        last
    });
}

#[test]
fn the_text_of_options_is_read() {
    let mut remap = Remap::new();
    remap.rename("a=x y").unwrap();
    remap.join("b,c=z").unwrap();
    remap.drop_class("d=e").unwrap();
    let all: Vec<_> = remap.iter().cloned().collect();
    let expected = [("a", Some("x y")), ("b", Some("z")), ("c", Some("z")), ("d=e", None)];
    assert_eq!(all, expected.map(|(old, new)| (old.to_owned(), new.map(str::to_owned))));
    for (text, word) in
        [("ab", "OLD=NEW"), ("a=b=c", "--map"), ("=b", "empty"), ("a=", "empty"), ("a=other", "one change")]
    {
        let message = remap.rename(text).unwrap_err().to_string();
        assert!(message.contains("--rename") && message.contains(word), "{text}: {message}");
    }
}

#[test]
fn wrong_names_are_named() {
    let text = |list: &[(&str, Option<&str>)]| remap(set(&["cat", "dog"]), &changes(list)).unwrap_err().to_string();
    let unknown = text(&[("Cats", Some("x"))]);
    assert!(unknown.contains("\"Cats\"") && unknown.contains("did you mean \"cat\""), "{unknown}");
    let taken = text(&[("cat", Some("dog"))]);
    assert!(taken.contains("--join cat,dog=dog"), "{taken}");
    assert!(text(&[("cat", None), ("dog", None)]).contains("all are dropped"));
}

proptest! {
    #[test]
    fn a_renaming_is_undone_by_its_inverse(order in Just((0..6usize).collect::<Vec<_>>()).prop_shuffle()) {
        let names = ["a", "b", "c d", "é,", "=", "f"];
        let there: Vec<(&str, Option<&str>)> = order.iter().enumerate().map(|(i, to)| (names[i], Some(names[*to]))).collect();
        let back: Vec<(&str, Option<&str>)> = there.iter().map(|(old, new)| (new.unwrap(), Some(*old))).collect();
        let changed = remap(set(&names), &changes(&there)).unwrap();
        let again = SetFile { dataset: changed.dataset, ..set(&names) };
        prop_assert_eq!(remap(again, &changes(&back)).unwrap().dataset, set(&names).dataset);
    }

    /// Objects whose classes were dropped in one file and kept in the other come together again.
    #[test]
    fn merging_undoes_dropping(kept in prop::collection::vec(any::<bool>(), 5)) {
        let names = ["a", "b", "c", "d", "e"];
        prop_assume!(kept.contains(&true) && kept.contains(&false));
        let part = |keep: bool| {
            let dropped: Vec<_> = names.iter().zip(&kept).filter(|(_, k)| **k != keep).map(|(n, _)| (*n, None)).collect();
            SetFile { dataset: remap(set(&names), &changes(&dropped)).unwrap().dataset, ..set(&names) }
        };
        let options = MergeOptions { same_image: crate::SameImage::Both, ..MergeOptions::default() };
        let mut merged = merge(vec![part(true), part(false)], &options).unwrap().dataset;
        merged.categories.sort_by_key(|category| category.record.id);
        merged.annotations.sort_by_key(|annotation| annotation.record.id);
        prop_assert_eq!(merged, set(&names).dataset);
    }

    /// A file whose classes have other names is merged after they are renamed, and its objects are found again.
    #[test]
    fn remapping_prepares_a_merge(order in Just((0..4usize).collect::<Vec<_>>()).prop_shuffle()) {
        let (names, others) = (["a", "b", "c", "d"], ["A 1", "B 1", "C 1", "D 1"]);
        let there: Vec<_> = order.iter().map(|i| (others[*i], Some(names[*i]))).collect();
        let other: Vec<&str> = order.iter().map(|i| others[*i]).collect();
        let second = SetFile { dataset: remap(set(&other), &changes(&there)).unwrap().dataset, ..set(&other) };
        let options = MergeOptions { names: FileNames::Prefixed(vec!["x/".into(), "y/".into()]), ..Default::default() };
        let merged = merge(vec![set(&names), second], &options).unwrap();
        prop_assert_eq!(merged.dataset.categories.len(), 4);
        for (class, name) in names.iter().enumerate() {
            let expected = class + 1 + order.iter().position(|i| *i == class).unwrap() + 1;
            let found = merged.report.output.classes.iter().find(|c| c.name == *name).unwrap().objects;
            prop_assert_eq!(found, expected);
        }
    }
}
