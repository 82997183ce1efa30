//! Pages: self-contained HTML files with charts, tables and images.
//!
//! A [`Page`] is one file that needs no network: style sheet, script and images are inside it. All text passes through
//! [`el`], which escapes it, so that a name from data is never markup. The page's content security policy names
//! the SHA-256 of the one script and the one style sheet, so that a browser would run nothing else either.

mod chart;
mod document;
mod grid;
mod html;
mod picture;
mod table;

pub(crate) use chart::{Axis, BarChart, Bars, Bin, HeatMap, Histogram, LineChart, Series};
pub(crate) use document::{Page, Section};
pub(crate) use grid::{Card, Grid, Mark, MarkKind, ScoreRange};
pub(crate) use html::{Html, el};
pub(crate) use picture::{around, crop, jpeg, jpeg_of_side};
pub(crate) use table::{Cell, Table, facts};
