//! Shapes of CVAT and the upright boxes around them.

use roxmltree::Node;

use crate::notes::Kind;

/// A shape.
pub(super) enum Shape {
    /// Left, top, right and bottom edge, and the rotation about the centre in degrees.
    Box([f64; 4], f64),
    Polygon(Vec<[f64; 2]>),
    /// Centre, radii, and the rotation about the centre in degrees.
    Ellipse([f64; 4], f64),
    /// Left, top, right and bottom edge.
    Mask([f64; 4]),
    /// A shape that has no box.
    Other,
}

impl Shape {
    /// Reads the element of a shape.
    ///
    /// # Errors
    /// The element, the attribute, the expected and the found value.
    pub(super) fn read(node: Node<'_, '_>) -> Result<Self, String> {
        let tag = node.tag_name().name();
        let number = |key: &str| number(node, key);
        let rotation = || if node.has_attribute("rotation") { number("rotation") } else { Ok(0.0) };
        match tag {
            "box" => Ok(Self::Box([number("xtl")?, number("ytl")?, number("xbr")?, number("ybr")?], rotation()?)),
            "polygon" => {
                let points = points(node)?;
                if points.len() < 3 {
                    return Err(format!("a <polygon> has {} points, expected at least 3", points.len()));
                }
                Ok(Self::Polygon(points))
            }
            "ellipse" => Ok(Self::Ellipse([number("cx")?, number("cy")?, number("rx")?, number("ry")?], rotation()?)),
            "mask" => {
                let [left, top] = [number("left")?, number("top")?];
                Ok(Self::Mask([left, top, left + number("width")?, top + number("height")?]))
            }
            "points" | "polyline" | "cuboid" | "skeleton" | "tag" => Ok(Self::Other),
            _ => Err(format!(
                "found the element <{tag}>, expected box, polygon, ellipse, mask, points, polyline, cuboid, skeleton or \
                 tag"
            )),
        }
    }

    /// What is to be noted about the conversion to a box.
    pub(super) fn note(&self) -> Option<Kind> {
        match self {
            Self::Box(_, rotation) if turned(*rotation) => Some(Kind::Rotated),
            Self::Box(..) => None,
            Self::Polygon(_) => Some(Kind::Polygon),
            Self::Ellipse(..) => Some(Kind::Circle),
            Self::Mask(_) => Some(Kind::Mask),
            Self::Other => Some(Kind::NoShapeBox),
        }
    }

    /// Left, top, right and bottom edge of the upright box around the shape in pixels, if it has one.
    pub(super) fn corners(&self) -> Option<[f64; 4]> {
        match self {
            Self::Box(edges, rotation) if !turned(*rotation) => Some(*edges),
            Self::Box([x1, y1, x2, y2], rotation) => {
                let (sin, cos) = rotation.to_radians().sin_cos();
                let [cx, cy, rx, ry] = [(x1 + x2) / 2.0, (y1 + y2) / 2.0, (x2 - x1) / 2.0, (y2 - y1) / 2.0];
                let [dx, dy] = [(rx * cos).abs() + (ry * sin).abs(), (rx * sin).abs() + (ry * cos).abs()];
                // A box of negative size stays one, so that it is left out.
                if rx <= 0.0 || ry <= 0.0 {
                    return Some([*x1, *y1, *x2, *y2]);
                }
                Some([cx - dx, cy - dy, cx + dx, cy + dy])
            }
            Self::Ellipse([cx, cy, rx, ry], rotation) => {
                let (sin, cos) = rotation.to_radians().sin_cos();
                let [dx, dy] = [(rx * cos).hypot(ry * sin), (rx * sin).hypot(ry * cos)];
                Some([cx - dx, cy - dy, cx + dx, cy + dy])
            }
            Self::Polygon(points) => crate::corners::around(points),
            Self::Mask(edges) => Some(*edges),
            Self::Other => None,
        }
    }
}

fn turned(rotation: f64) -> bool {
    rotation % 360.0 != 0.0
}

fn number(node: Node<'_, '_>, key: &str) -> Result<f64, String> {
    let tag = node.tag_name().name();
    let value = node.attribute(key).ok_or_else(|| format!("a <{tag}> has no `{key}`, expected a number"))?;
    let parsed = value.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    parsed.ok_or_else(|| format!("`{key}` of a <{tag}> is {value:?}, expected a number"))
}

/// The points `x,y;x,y;...` of a shape.
fn points(node: Node<'_, '_>) -> Result<Vec<[f64; 2]>, String> {
    let tag = node.tag_name().name();
    let text = node.attribute("points").ok_or_else(|| format!("a <{tag}> has no `points`, expected x,y;x,y;..."))?;
    let point = |pair: &str| {
        let (x, y) = pair.split_once(',')?;
        let [x, y] = [x.trim().parse::<f64>().ok()?, y.trim().parse::<f64>().ok()?];
        (x.is_finite() && y.is_finite()).then_some([x, y])
    };
    let pairs = text.split(';').filter(|pair| !pair.trim().is_empty());
    let parsed = pairs.map(|pair| {
        point(pair).ok_or_else(|| format!("`points` of a <{tag}> has the point {pair:?}, expected two numbers x,y"))
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<[f64; 4]>, expected: [f64; 4]) {
        let found = found.unwrap();
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} {expected:?}");
    }

    #[test]
    fn boxes_around_turned_shapes() {
        // A box of 4x2 about (10, 10): by 90 degrees it is 2x4.
        near(Shape::Box([8.0, 9.0, 12.0, 11.0], 90.0).corners(), [9.0, 8.0, 11.0, 12.0]);
        // By 45 degrees its half sides are (2 + 1) / sqrt 2.
        let half = 3.0 / 2.0_f64.sqrt();
        near(Shape::Box([8.0, 9.0, 12.0, 11.0], 45.0).corners(), [10.0 - half, 10.0 - half, 10.0 + half, 10.0 + half]);
        near(Shape::Box([8.0, 9.0, 12.0, 11.0], 360.0).corners(), [8.0, 9.0, 12.0, 11.0]);
        near(Shape::Ellipse([10.0, 10.0, 4.0, 2.0], 0.0).corners(), [6.0, 8.0, 14.0, 12.0]);
        near(Shape::Ellipse([10.0, 10.0, 4.0, 2.0], 270.0).corners(), [8.0, 6.0, 12.0, 14.0]);
        // The half sides of a turned ellipse are sqrt((16 + 4) / 2).
        let half = 10.0_f64.sqrt();
        near(Shape::Ellipse([0.0, 0.0, 4.0, 2.0], 45.0).corners(), [-half, -half, half, half]);
    }
}
