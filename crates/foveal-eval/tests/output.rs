//! The table for users and the JSON for programs.

use foveal_eval::{CategoryMetrics, Metrics};

fn metrics(per_category: Vec<CategoryMetrics>) -> Metrics {
    Metrics {
        ap: 0.505,
        ap50: 0.697,
        ap75: 0.573,
        ap_small: -1.0,
        ap_medium: 0.519,
        ap_large: 0.501,
        ar1: 0.387,
        ar10: 0.594,
        ar100: 0.595,
        ar_small: -1.0,
        ar_medium: 0.566,
        ar_large: 0.564,
        per_category,
    }
}

fn class(id: i64, name: &str, ap: f64, objects: usize) -> CategoryMetrics {
    CategoryMetrics { id, name: name.to_owned(), ap, ap50: ap, objects }
}

#[test]
fn the_table_is_aligned() {
    let table =
        metrics(vec![class(1, "person", 0.5326, 777), class(17, "猫", 1.0, 3), class(90, "Zahnbürste", -1.0, 0)])
            .table();
    let expected = "\
\x20Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.505
 Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ] = 0.697
 Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 0.573
 Average Precision  (AP) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = -1.000
 Average Precision  (AP) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = 0.519
 Average Precision  (AP) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = 0.501
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 0.387
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets= 10 ] = 0.594
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.595
 Average Recall     (AR) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = -1.000
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = 0.566
 Average Recall     (AR) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = 0.564

 class       id  objects     AP   AP50
 person       1      777  0.533  0.533
 猫          17        3  1.000  1.000
 Zahnbürste  90        0      -      -
";
    assert_eq!(table, expected);
}

#[test]
fn long_names_are_cut_and_stay_on_a_line() {
    let table = metrics(vec![class(1, &"very long ".repeat(30), 0.1, 1), class(2, "two\nlines", 0.1, 1)]).table();
    assert_eq!(table.lines().count(), 12 + 2 + 2);
    assert!(table.lines().all(|l| l.chars().count() <= 80));
    assert!(table.contains('…') && table.contains(r"two\nlines"));
    let hundred = metrics((0..100).map(|i| class(i, &format!("class {i}"), 0.5, 10)).collect()).table();
    assert_eq!(hundred.lines().count(), 12 + 2 + 100);
}

#[test]
fn json_has_the_keys_of_the_contract() {
    let json = metrics(vec![class(90, "猫", 0.25, 3)]).to_json();
    assert_eq!(
        json.to_string(),
        "{\"AP\":0.505,\"AP50\":0.697,\"AP75\":0.573,\"APs\":-1.0,\"APm\":0.519,\"APl\":0.501,\"AR1\":0.387,\
         \"AR10\":0.594,\"AR100\":0.595,\"ARs\":-1.0,\"ARm\":0.566,\"ARl\":0.564,\
         \"per_category\":{\"90\":{\"name\":\"猫\",\"AP\":0.25,\"AP50\":0.25}}}"
    );
}
