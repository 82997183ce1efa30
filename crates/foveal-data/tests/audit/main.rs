//! The checks and the audit of data sets find planted faults, and nothing in clean sets.

mod clean;
mod place;
mod plants;

use std::collections::BTreeSet;

use foveal_data::Problem;
use place::{Found, Place};
use plants::{Expected, PLANTS, Plant};

/// Everything that was found in both sets.
fn kinds(found: &Found) -> BTreeSet<Problem> {
    found.reports.iter().flat_map(|report| report.findings.keys().copied()).collect()
}

/// Plants one fault in a clean set, and says what is wrong with what is found.
fn judge(plant: &Plant) -> Result<(), String> {
    let mut place = Place::new();
    let words = (plant.plant)(&mut place);
    let read = if plant.expected.is_unread() { place.check_unread() } else { place.check() };
    let (set, problem) = match (plant.expected, &read) {
        (Expected::Refused, Err(error)) => {
            let text = error.to_string();
            return match words.iter().find(|word| !text.contains(*word)) {
                None => Ok(()),
                Some(word) => Err(format!("expected {word:?} in {text}")),
            };
        }
        (Expected::Refused, Ok(_)) => return Err("expected an error".to_owned()),
        (Expected::Train(problem) | Expected::Unread(problem), _) => (0, problem),
        (Expected::Val(problem), _) => (1, problem),
    };
    let found = read.map_err(|error| error.to_string())?;
    let report = &found.reports[set];
    let Some(findings) = report.findings.get(&problem) else { return Err(format!("not found: {report}")) };
    let text = findings.examples.join("\n");
    if let Some(word) = words.iter().find(|word| !text.contains(*word)) {
        return Err(format!("expected {word:?} in {text}"));
    }
    if words.is_empty() {
        return Err("the plant names no id".to_owned());
    }
    let others: Vec<Problem> =
        kinds(&found).into_iter().filter(|kind| *kind != problem && !plant.also.contains(kind)).collect();
    if others.is_empty() { Ok(()) } else { Err(format!("false alarms {others:?}: {:?}", found.reports)) }
}

#[test]
fn every_planted_fault_is_found_with_its_id() {
    assert!(PLANTS.len() >= 40, "{}", PLANTS.len());
    let names: BTreeSet<&str> = PLANTS.iter().map(|plant| plant.name).collect();
    assert_eq!(names.len(), PLANTS.len());
    let wrong: Vec<String> =
        PLANTS.iter().filter_map(|plant| judge(plant).err().map(|error| format!("{}: {error}", plant.name))).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), PLANTS.len(), wrong.join("\n"));
}

#[test]
fn what_is_only_suspicious_stops_no_run() {
    for plant in PLANTS {
        let (Expected::Train(problem) | Expected::Val(problem)) = plant.expected else { continue };
        if problem.is_error() || plant.also.iter().any(|problem| problem.is_error()) {
            continue;
        }
        let mut place = Place::new();
        (plant.plant)(&mut place);
        let config = place.config();
        config.open_train().unwrap_or_else(|error| panic!("{}: {error}", plant.name));
        config.open_val().unwrap_or_else(|error| panic!("{}: {error}", plant.name));
        let found = place.check().unwrap();
        assert!(found.reports.iter().all(|report| report.is_clean()), "{}: {:?}", plant.name, found.reports);
    }
}
