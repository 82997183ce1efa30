//! The plans of typical situations.

use super::*;
use crate::commands::init::facts::{
    ClassFacts, DataFacts, DeviceFacts, Orientation, Repeats, Timed, ValFacts, WeightFacts,
};

fn class(name: &str, objects: usize, images: usize, [side_p10, side_p90]: [f32; 2]) -> ClassFacts {
    ClassFacts { name: name.to_owned(), objects, images, side_p10, side_p90 }
}

/// 205 images of 640x480 pixels with cells from one distance, as in BCCD, on two cores.
pub(in crate::commands::init) fn cells() -> Facts {
    Facts {
        data: DataFacts {
            images: 205,
            empty_images: 0,
            objects: 2804,
            crowds: 0,
            left_out: 0,
            duplicates: 0,
            classes: vec![
                class("RBC", 2381, 197, [0.183, 0.24]),
                class("WBC", 214, 204, [0.26, 0.484]),
                class("Platelets", 209, 117, [0.0664, 0.103]),
            ],
            imbalance: 11.4,
            sides: [0.05, 0.168, 0.2125, 0.254, 0.537],
            small_share: 0.02,
            image_sides: [480.0; 3],
            aspect: [1.3333; 2],
            objects_per_image: [14.0, 19.0, 28.0],
            orientation: Some(Orientation { objects: 2804, vertical: 0.014, horizontal: 0.027, shape: 0.03 }),
            repeats: Repeats { threshold: 0.5, rarest: 1.0, epoch_images: 205 },
        },
        val: ValFacts { images: 87, held_out: false, classes_without: 0 },
        weights: Some(WeightFacts::Backbone {
            backbone: "resnet18".to_owned(),
            norm: "frozen_batch".to_owned(),
            bottleneck: false,
            present: 80,
            missing: 20,
        }),
        device: DeviceFacts { name: "flex".to_owned(), is_cpu: true, threads: 2, memory: Some(16 << 30) },
        minutes: None,
        timed: None,
        most_batch: None,
        epochs: None,
        seed: 0,
    }
}

fn timed(plan: &Plan, train: f64, infer: f64, load: f64) -> Option<Timed> {
    Some(Timed { size: plan.size, batch: plan.batch, network: plan.network, train, infer, load, start: 0.0 })
}

fn value(plan: &Plan, key: &str) -> toml::Value {
    let found: Vec<&Setting> = plan.settings.iter().filter(|setting| setting.key == key).collect();
    assert_eq!(found.len(), 1, "{key}");
    found[0].value.clone()
}

fn reason<'a>(plan: &'a Plan, key: &str) -> &'a str {
    &plan.settings.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("{key}")).reason
}

#[test]
fn pretrained_weights_on_a_cpu_get_the_recipe_of_bccd() {
    let plan = decide(&cells());
    // Platelets have 16 px at 16 / 0.0664 = 241 px.
    assert_eq!((plan.size, plan.max_size, plan.batch), (256, 342, 8));
    // 8000 images are 39 epochs of 205, each of 26 steps.
    assert_eq!((plan.epochs, plan.steps), (40, 1040));
    assert_eq!(value(&plan, "model.backbone").as_str(), Some("resnet18"));
    assert_eq!(value(&plan, "model.norm").as_str(), Some("frozen_batch"));
    assert_eq!(value(&plan, "model.freeze_stages").as_integer(), Some(2));
    assert_eq!(value(&plan, "matcher.kind").as_str(), Some("atss"));
    assert_eq!(value(&plan, "loss.kind").as_str(), Some("quality_focal"));
    assert_eq!(value(&plan, "train.lr").as_float(), Some(1e-3));
    assert_eq!(value(&plan, "train.ema").as_float(), Some(0.99));
    // Cells have no upright orientation, sizes vary little, and every class is on many images.
    assert_eq!(value(&plan, "data.augment.flip_vertical").as_float(), Some(0.5));
    assert_eq!(value(&plan, "data.augment.scale_jitter").to_string(), "[0.7, 1.4]");
    assert_eq!(value(&plan, "data.sampler").as_str(), Some("uniform"));
    assert_eq!(value(&plan, "data.group_by_aspect").as_bool(), Some(true));
    assert!(reason(&plan, "data.min_size").contains("Platelets") && reason(&plan, "data.min_size").contains("32 px"));
    assert!(reason(&plan, "model.backbone").contains("80 of its 100 tensors"));
    assert_eq!(plan.warnings, Vec::<String>::new());
}

#[test]
fn six_minutes_on_two_cores_are_used_and_leave_room_for_evaluations() {
    let mut facts = cells();
    facts.minutes = Some(6.0);
    // Before a step was timed, the plan is that without a limit.
    let first = decide(&facts);
    assert_eq!((first.size, first.seconds), (256, None));
    facts.timed = timed(&first, 0.038, 0.012, 0.006);
    let plan = decide(&facts);
    // At 384 px, the largest size that is worth it, an image takes 89 ms with loading.
    assert_eq!((plan.size, plan.epochs), (384, 17));
    let seconds = plan.seconds.unwrap();
    assert!((300.0..=0.94 * 360.0 + 1e-9).contains(&seconds), "{seconds}");
    assert!(
        reason(&plan, "train.epochs").contains("of 6 minutes") && reason(&plan, "train.epochs").contains("2 threads")
    );
    assert!(reason(&plan, "data.min_size").contains("more than the 256 px"));
    // Twice the time gives more epochs, and a quarter of it smaller images.
    facts.minutes = Some(12.0);
    let long = decide(&facts);
    assert!(long.size == 384 && long.epochs > 30, "{} {}", long.size, long.epochs);
    facts.minutes = Some(1.5);
    let short = decide(&facts);
    assert!(short.size < 256 && short.seconds.unwrap() <= 90.0, "{} {:?}", short.size, short.seconds);
    assert!(reason(&short, "data.min_size").contains("too short"));
    facts.minutes = Some(0.5);
    assert!(decide(&facts).warnings.iter().any(|warning| warning.contains("the time is short")));
}

#[test]
fn random_weights_get_a_narrow_network_more_images_and_a_warning() {
    let mut facts = cells();
    facts.weights = None;
    let plan = decide(&facts);
    assert_eq!((plan.network.base_width, plan.network.fpn_channels), (32, 64));
    assert_eq!(plan.epochs, 24_000_usize.div_ceil(205));
    assert_eq!(value(&plan, "model.norm").as_str(), Some("group"));
    assert!(!plan.settings.iter().any(|setting| setting.key == "model.freeze_stages"));
    assert!(plan.warnings.iter().any(|warning| warning.contains("--weights") && warning.contains("three times")));
    // A short time halves the widths once more.
    facts.minutes = Some(3.0);
    facts.timed = timed(&plan, 0.035, 0.010, 0.006);
    let short = decide(&facts);
    assert_eq!((short.network.base_width, short.network.fpn_channels), (16, 32));
    assert_eq!(value(&short, "train.lr").as_float(), Some(2e-3));
}

#[test]
fn tiny_sets_get_small_batches_and_the_rare_classes_are_named() {
    let mut facts = cells();
    facts.data.images = 20;
    facts.data.classes[2].images = 4;
    facts.data.repeats = Repeats { threshold: 0.5, rarest: 1.58, epoch_images: 25 };
    let plan = decide(&facts);
    assert_eq!((plan.batch, plan.epochs), (2, 80));
    assert_eq!(value(&plan, "data.sampler").as_str(), Some("repeat_factor"));
    assert_eq!(plan.steps, 80 * 13);
    assert!(plan.warnings.iter().any(|warning| warning.contains("Platelets (4)")), "{:?}", plan.warnings);
    facts.data.images = 1;
    facts.data.repeats.epoch_images = 1;
    assert_eq!(decide(&facts).batch, 1);
}

#[test]
fn long_tails_are_repeated() {
    let mut facts = cells();
    facts.weights = None;
    facts.data.images = 600;
    facts.data.imbalance = 55.0;
    facts.data.classes = vec![class("disc", 721, 420, [0.12, 0.4]), class("ring", 13, 13, [0.12, 0.4])];
    facts.data.image_sides = [128.0; 3];
    facts.data.aspect = [1.0; 2];
    facts.data.repeats = Repeats { threshold: 0.35, rarest: 4.0, epoch_images: 750 };
    let plan = decide(&facts);
    assert_eq!((plan.size, plan.max_size), (160, 160));
    assert_eq!(value(&plan, "data.sampler").as_str(), Some("repeat_factor"));
    assert_eq!(value(&plan, "data.repeat_threshold").as_float(), Some(0.35));
    assert!(reason(&plan, "data.sampler").contains("55 objects") && reason(&plan, "data.sampler").contains("750"));
    assert_eq!(plan.epochs, 32);
    assert_eq!(plan.images_seen, 32 * 750);
    let paste = "[{ kind = \"copy_paste\", probability = 0.5, rarity = 0.5 }]";
    assert_eq!(value(&plan, "data.augment.transforms").to_string(), paste);
    assert_eq!(value(&plan, "data.augment.close_epochs").as_integer(), Some(4));
    // Sizes of one class vary by more than three times.
    assert_eq!(value(&plan, "data.augment.scale_jitter").to_string(), "[0.5, 2.0]");
    // The command line sets the epochs.
    facts.epochs = Some(6);
    let plan = decide(&facts);
    assert_eq!((plan.epochs, plan.steps), (6, 6 * 94));
    // 4500 images are too few for other sizes, and 12,000 for the wide range.
    assert_eq!(value(&plan, "data.augment.scale_jitter").to_string(), "[1.0, 1.0]");
    assert!(reason(&plan, "data.augment.scale_jitter").contains("4500 images"));
    assert_eq!(value(&plan, "train.ema").as_float(), Some(0.98));
    assert_eq!(value(&plan, "train.lr").as_float(), Some(2e-3));
    facts.epochs = Some(16);
    let plan = decide(&facts);
    assert_eq!(value(&plan, "data.augment.scale_jitter").to_string(), "[0.7, 1.4]");
    assert!(reason(&plan, "data.augment.scale_jitter").contains("12000 images"));
}

#[test]
fn small_objects_enlarge_the_images() {
    let mut facts = cells();
    facts.data.classes = vec![class("disc", 900, 300, [7.0 / 384.0, 20.0 / 384.0])];
    facts.data.image_sides = [384.0; 3];
    facts.data.aspect = [1.0; 2];
    facts.data.sides = [0.015, 7.0 / 384.0, 12.0 / 384.0, 20.0 / 384.0, 24.0 / 384.0];
    let plan = decide(&facts);
    // 16 px would need 878 px, more than the limit of a CPU.
    assert_eq!(plan.size, 640);
    // At 640 px, half of the objects are below 20 px, and the smaller ones have 11.7 px.
    assert_eq!(value(&plan, "model.anchors.base_sizes").to_string(), "[16, 32, 64, 128, 256]");
    assert_eq!(value(&plan, "data.augment.scale_jitter").to_string(), "[0.8, 1.4]");
    // In four minutes from random weights, more images are worth more than larger ones, and smaller batches give more
    // steps.
    facts.weights = None;
    facts.data.images = 300;
    facts.data.repeats.epoch_images = 300;
    facts.minutes = Some(4.0);
    facts.timed = timed(&decide(&facts), 0.3, 0.09, 0.006);
    let short = decide(&facts);
    assert_eq!((short.size, short.batch), (448, 4));
    assert!((8..=12).contains(&short.epochs), "{}", short.epochs);
}

#[test]
fn huge_images_with_tiny_objects_are_to_be_tiled() {
    let mut facts = cells();
    facts.data.image_sides = [3000.0, 3000.0, 4000.0];
    facts.data.classes = vec![class("car", 9000, 200, [0.008, 0.02])];
    facts.data.aspect = [1.33, 4.0];
    let plan = decide(&facts);
    assert_eq!((plan.size, plan.max_size), (640, 1280));
    let tile = plan.warnings.iter().find(|warning| warning.contains("tiles")).unwrap();
    assert!(tile.contains("car") && tile.contains("5.1 px") && tile.contains("640 px"), "{tile}");
}

#[test]
fn a_gpu_gets_a_wider_network_and_larger_images() {
    let mut facts = cells();
    facts.device = DeviceFacts { name: "wgpu (H100)".to_owned(), is_cpu: false, threads: 16, memory: Some(80 << 30) };
    let plan = decide(&facts);
    assert_eq!((plan.size, plan.batch), (480, 12));
    assert_eq!((plan.network.fpn_channels, plan.network.head_convs), (128, 4));
    // A batch that the memory has no room for is accumulated.
    facts.most_batch = Some(4);
    let plan = decide(&facts);
    assert_eq!((plan.batch, value(&plan, "train.accumulate").as_integer()), (4, Some(3)));
    assert_eq!(plan.steps, plan.epochs * 18);
    let Some(WeightFacts::Backbone { bottleneck, .. }) = &mut facts.weights else { panic!() };
    *bottleneck = true;
    assert_eq!(decide(&facts).network.fpn_channels, 256);
}

#[test]
fn upright_objects_and_letters_are_not_flipped() {
    let mut facts = cells();
    let of = |facts: &Facts, key: &str| value(&decide(facts), &format!("data.augment.{key}")).as_float();
    let orientation = |vertical, horizontal, shape| Some(Orientation { objects: 300, vertical, horizontal, shape });
    for (found, vertical, horizontal) in [
        (orientation(0.17, 0.02, 0.0), 0.0, 0.5),
        (orientation(0.02, 0.02, 0.5), 0.0, 0.5),
        (orientation(0.6, 0.6, 0.5), 0.0, 0.0),
        (orientation(0.02, 0.02, 0.02), 0.5, 0.5),
        (None, 0.0, 0.5),
    ] {
        facts.data.orientation = found;
        assert_eq!((of(&facts, "flip_vertical"), of(&facts, "flip_horizontal")), (Some(vertical), Some(horizontal)));
    }
}

#[test]
fn a_checkpoint_keeps_its_network() {
    let mut facts = cells();
    let settings =
        vec![("model.backbone".to_owned(), "resnet34".into()), ("model.fpn_channels".to_owned(), 128.into())];
    facts.weights = Some(WeightFacts::Checkpoint { settings, anchors_per_location: 9 });
    let plan = decide(&facts);
    assert_eq!(value(&plan, "model.backbone").as_str(), Some("resnet34"));
    assert_eq!(value(&plan, "matcher.kind").as_str(), Some("iou"));
    assert!(!plan.settings.iter().any(|setting| setting.key.starts_with("model.anchors")));
    assert_eq!(value(&plan, "train.lr").as_float(), Some(2.5e-4));
}

#[test]
fn every_setting_has_a_reason_in_sentences_and_is_set_once() {
    let mut scratch = cells();
    scratch.weights = None;
    scratch.data.objects_per_image[2] = 300.0;
    for plan in [decide(&cells()), decide(&scratch)] {
        let mut keys: Vec<&str> = plan.settings.iter().map(|setting| setting.key.as_str()).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        for Setting { key, reason, .. } in &plan.settings {
            assert!(reason.ends_with('.') && reason.len() > 15, "{key}: {reason}");
        }
    }
}
