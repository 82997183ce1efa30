//! Charts as SVG or PNG files, drawn with a compiled-in font.

mod intervals;
mod lines;

use std::path::Path;
use std::sync::OnceLock;

use ab_glyph::FontRef;
use anyhow::{Context, Result, anyhow};
use image::{ExtendedColorType, ImageEncoder, RgbImage, imageops};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle as Style, register_font};

pub(crate) use intervals::{Interval, Intervals};
pub(crate) use lines::{Axis, Curve, Lines};

use crate::failure::Usage;

/// Colours that people with colour blindness can distinguish (Okabe and Ito, 2008).
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];
const GRID: RGBColor = RGBColor(224, 224, 224);
const INK: RGBColor = RGBColor(40, 40, 40);
/// Pixels of a PNG file per nominal pixel of the figure.
const PNG_SCALE: u32 = 2;
/// Samples along each side of a pixel of a PNG file, because the rasteriser does not smooth thick lines.
const SAMPLES: u32 = 2;

/// A chart. A figure consists of one or more charts side by side.
pub(crate) enum Chart {
    /// Curves over a common axis.
    Lines(Lines),
    /// Rows with one value and its interval each.
    Intervals(Intervals),
}

/// The result of drawing on the backend `DB`.
pub(crate) type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Factor from nominal pixels of the figure to pixels of the backend: 1 for SVG, more for PNG.
#[derive(Clone, Copy)]
pub(crate) struct Scale(u32);

impl Scale {
    fn px(self, size: u32) -> u32 {
        size * self.0
    }

    fn text(self, size: f64) -> TextStyle<'static> {
        FontDesc::new(FontFamily::SansSerif, size * f64::from(self.0), Style::Normal).color(&INK)
    }
}

/// The colour of the curve or row with this index.
pub(crate) fn color(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

/// Checks the file name of a figure, so that a wrong one is reported before anything is computed.
///
/// # Errors
/// [`Usage`] if the file name ends in neither `.svg` nor `.png`.
pub(crate) fn check_name(path: &Path) -> Result<()> {
    match extension(path).as_str() {
        "svg" | "png" => Ok(()),
        _ => Err(Usage(format!("{}: expected a file name that ends in .svg or .png", path.display())).into()),
    }
}

/// Draws charts side by side, each of the given size in nominal pixels, into an `.svg` or `.png` file. A PNG file has
/// twice as many pixels along each side.
///
/// # Errors
/// [`Usage`] if the file name ends in neither `.svg` nor `.png`; another error if the file cannot be written.
pub(crate) fn write(path: &Path, charts: &[Chart], width: u32, height: u32) -> Result<()> {
    check_name(path)?;
    load_font()?;
    let size = (width * charts.len() as u32, height);
    let bytes = if extension(path) == "svg" { svg(charts, size)?.into_bytes() } else { png(charts, size)? };
    crate::output::write_file(path, &bytes)
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// Registers the compiled-in font as `sans-serif`, the name that both file formats use. An SVG viewer shows the text in
/// its own sans-serif font.
fn load_font() -> Result<()> {
    static LOADED: OnceLock<bool> = OnceLock::new();
    let load = || {
        let font = dejavu::sans::regular();
        FontRef::try_from_slice(font).is_ok() && register_font("sans-serif", Style::Normal, font).is_ok()
    };
    if *LOADED.get_or_init(load) { Ok(()) } else { Err(anyhow!("the compiled-in font cannot be read")) }
}

fn svg(charts: &[Chart], size: (u32, u32)) -> Result<String> {
    let mut text = String::new();
    draw(SVGBackend::with_string(&mut text, size), charts, Scale(1))?;
    Ok(text)
}

fn png(charts: &[Chart], (width, height): (u32, u32)) -> Result<Vec<u8>> {
    let scale = PNG_SCALE * SAMPLES;
    let mut large = RgbImage::new(width * scale, height * scale);
    draw(BitMapBackend::with_buffer(&mut large, (width * scale, height * scale)), charts, Scale(scale))?;
    let (width, height) = (width * PNG_SCALE, height * PNG_SCALE);
    let resized = imageops::resize(&large, width, height, imageops::FilterType::Triangle);
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(resized.as_raw(), width, height, ExtendedColorType::Rgb8)
        .context("cannot encode the figure")?;
    Ok(bytes)
}

fn draw<DB: DrawingBackend>(backend: DB, charts: &[Chart], scale: Scale) -> Result<()> {
    let on = || -> Drawn<DB> {
        let root = backend.into_drawing_area();
        root.fill(&WHITE)?;
        for (area, chart) in root.split_evenly((1, charts.len())).iter().zip(charts) {
            match chart {
                Chart::Lines(lines) => lines.draw(area, scale)?,
                Chart::Intervals(intervals) => intervals.draw(area, scale)?,
            }
        }
        root.present()
    };
    on().map_err(|error| anyhow!("cannot draw the figure: {error}"))
}

/// The drawing area of one chart.
pub(crate) type Area<DB> = DrawingArea<DB, Shift>;

#[cfg(test)]
mod tests {
    use super::*;

    fn charts() -> Vec<Chart> {
        let points = (0..=10).map(|i| (f64::from(i), f64::from(i * i) / 100.0)).collect();
        let interval = |name: &str, mid: f64| Interval {
            name: name.to_owned(),
            range: Some([mid - 0.1, mid, mid + 0.1]),
            dots: vec![mid - 0.02, mid + 0.03],
            note: String::new(),
        };
        let mut rows = vec![interval("ärm <1>", 0.3), interval("arm\u{1b}\u{0}\u{ffff}\n2", 0.5)];
        rows.push(Interval { name: "third".to_owned(), range: None, dots: Vec::new(), note: "diverged".to_owned() });
        vec![
            Chart::Lines(Lines {
                title: "A & B".to_owned(),
                x: Axis { label: "step".to_owned(), range: [0.0, 10.0] },
                y: Axis { label: "share".to_owned(), range: [0.0, 1.0] },
                curves: vec![Curve { name: "square".to_owned(), points }],
            }),
            Chart::Intervals(Intervals { title: "AP".to_owned(), range: [0.0, 1.0], rows }),
        ]
    }

    #[test]
    fn an_svg_contains_every_text_escaped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/figure.svg");
        write(&path, &charts(), 300, 200).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let escaped = r"arm\u{1b}\u{0}\u{ffff}\n2";
        for part in ["<svg", "600", "A &amp; B", "ärm &lt;1&gt;", escaped, "diverged", "square", "</svg>"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // XML allows no other control characters than these.
        assert!(text.chars().all(|c| "\t\n\r".contains(c) || !(c.is_control() || c == '\u{ffff}')), "{text}");
    }

    #[test]
    fn a_png_contains_the_colour_of_the_curve_and_dark_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("figure.PNG");
        write(&path, &charts(), 300, 200).unwrap();
        let resized = image::load_from_memory(&std::fs::read(path).unwrap()).unwrap().to_rgb8();
        assert_eq!(resized.dimensions(), (1200, 400));
        let count = |color: [u8; 3]| {
            let near = |p: &&image::Rgb<u8>| p.0.iter().zip(color).all(|(a, b)| a.abs_diff(b) < 12);
            resized.pixels().filter(near).count()
        };
        assert!(count([0, 114, 178]) > 300 && count([40, 40, 40]) > 300 && count([255; 3]) > 200_000);
    }

    #[test]
    fn other_file_name_extensions_are_refused() {
        let error = write(Path::new("figure.gif"), &charts(), 300, 200).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains(".svg"));
    }
}
