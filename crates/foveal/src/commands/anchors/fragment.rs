//! The configuration that `foveal anchors fit` writes.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, anyhow};
use foveal_anchors::AnchorConfig;
use foveal_base::printable;
use foveal_data::{DataConfig, SetFit};
use toml::Value;

use crate::args::FitArgs;
use crate::commands::init::paths;
use crate::config::EXTENDS;
use crate::output;

/// A configuration with the anchors of a fit and, if it is not the present one, its size of the input. It extends
/// the configuration that was fitted, so that it can be trained with as it is. The path of that one is relative to the
/// folder of `--output` if it is near, and as given if the text is printed. `sets` are the values of `--set`, which it
/// does not contain.
///
/// # Errors
/// If the folder of `--output` cannot be created, or the path of the configuration is not UTF-8 text.
pub(super) fn text(args: &FitArgs, sets: &[String], present: &DataConfig, found: &SetFit) -> Result<String> {
    let config = &args.config;
    let base = match &args.output {
        Some(output) => {
            output::create_parent(output)?;
            let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
            paths::in_config(config, folder.unwrap_or(Path::new(".")))?
        }
        None => config
            .to_str()
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("{}: expected a path that is UTF-8 text", config.display()))?,
    };
    let mut text = format!(
        "# Written by `foveal anchors fit`. Of {} objects, the best anchor has an IoU of at least {} for {:.2} % (before: \
         {:.2} %);\n# the mean of the best IoUs is {:.3} (before: {:.3}).\n",
        found.after.objects,
        args.iou,
        100.0 * found.after.share(),
        100.0 * found.before.share(),
        found.after.mean_best_iou,
        found.before.mean_best_iou
    );
    for set in sets {
        let _ = writeln!(text, "# Fitted with --set {}", printable(set));
    }
    let _ = writeln!(text, "{EXTENDS} = {}", Value::String(base));
    if found.data != *present {
        text += &input(&found.data);
    }
    text += &anchors(&found.fit.anchors);
    Ok(text)
}

/// The size of the input as a section of a configuration.
fn input(data: &DataConfig) -> String {
    match data.fixed_size {
        Some([height, width]) => format!("\n[data]\nfixed_size = [{height}, {width}]\n"),
        None => format!("\n[data]\nmin_size = {}\nmax_size = {}\n", data.min_size, data.max_size),
    }
}

/// The anchors as a section of a configuration.
fn anchors(anchors: &AnchorConfig) -> String {
    format!(
        "\n[model.anchors]\nbase_sizes = {:?}\nscales = {}\nratios = {:?}\n",
        anchors.base_sizes, anchors.scales, anchors.ratios
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_valid_toml() {
        let fitted =
            AnchorConfig { base_sizes: vec![0.5, 10.0, 1e6, 1e6, 1e6], ratios: vec![0.001], ..AnchorConfig::default() };
        let table: toml::Table = toml::from_str(&anchors(&fitted)).unwrap();
        let back: AnchorConfig = table["model"]["anchors"].clone().try_into().unwrap();
        assert_eq!(back, fitted);
        let data = DataConfig { min_size: 96, max_size: 97, ..DataConfig::default() };
        assert_eq!(input(&data), "\n[data]\nmin_size = 96\nmax_size = 97\n");
        let data = DataConfig { fixed_size: Some([64, 96]), ..data };
        assert_eq!(input(&data), "\n[data]\nfixed_size = [64, 96]\n");
    }
}
