//! `foveal data check`: lists the problems of data sets, those that stop a run and those that are only suspicious.

mod page;

use anyhow::Result;
use foveal_data::{AuditSet, DataConfig, Look, Opened, audit};
use serde_json::{Map, Value};

use super::opened::{self, Sets};
use crate::args::{CheckArgs, Common};
use crate::console::note;
use crate::failure::{DONE, FAILED};
use crate::output;

/// Number of images from which they are decoded only with `--decode`, because that takes minutes.
const DECODED_BELOW: usize = 2000;

/// Lists the problems of the data sets. Returns [`FAILED`] if a run with `on_error = "fail"` would stop on one of them.
///
/// # Errors
/// If the configuration or the data cannot be used, or a file cannot be read or written.
pub(super) fn run(args: &CheckArgs, common: &Common) -> Result<u8> {
    super::check_page_name(args.html.as_deref())?;
    let inspect_val = DataConfig::inspect_val_of_any_categories;
    let Sets { mut sets, .. } = opened::open(&args.set, args.html.as_ref(), common, false, inspect_val)?;
    let images: usize = sets.iter().map(|(_, opened)| opened.dataset.len()).sum();
    let decode = args.decode || (!args.no_decode && images < DECODED_BELOW);
    if !decode {
        note!("the pixels of the {images} images were not checked; --decode decodes every image");
    }
    let looked = |opened: &mut Opened| if decode { opened.decode_with(Look::of) } else { Vec::new() };
    let mut audited: Vec<AuditSet> = sets
        .iter_mut()
        .map(|(name, opened)| {
            let looks = looked(opened);
            AuditSet { opened, looks, validation: name == "val" }
        })
        .collect();
    let cases = audit(&mut audited)?;
    let mut text = String::new();
    let mut reports = Map::new();
    let mut errors = 0;
    for (name, opened) in &sets {
        text += &format!("{}\n", opened.report);
        errors += opened.report.errors();
        reports.insert(name.clone(), serde_json::to_value(&opened.report)?);
    }
    if let Some(path) = &args.html {
        output::write_file(path, page::page(&sets, &cases).as_bytes())?;
    }
    output::emit(args.set.json.as_deref(), &Value::Object(reports), &text)?;
    Ok(if errors > 0 { FAILED } else { DONE })
}
