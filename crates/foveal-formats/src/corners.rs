//! Upright boxes around points.

/// Left, top, right and bottom edge of the smallest upright box around points; `None` if there is no point.
pub(crate) fn around(points: &[[f64; 2]]) -> Option<[f64; 4]> {
    let [x, y] = *points.first()?;
    let start = [x, y, x, y];
    Some(points.iter().fold(start, |[x1, y1, x2, y2], [x, y]| [x1.min(*x), y1.min(*y), x2.max(*x), y2.max(*y)]))
}
