use super::*;

fn values(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
}

type Multiply = unsafe fn(Size, Panels<'_>, Panels<'_>, Target<'_>, bool);

/// Checks a product against its definition. The target has additional rows and columns, which must not change.
fn check(what: &str, size: Size, multiply: Multiply) {
    let Size { rows, columns, depth } = size;
    let (a, b) = (values(1, rows * depth), values(2, depth * columns));
    let mut left = vec![0.0; rows.next_multiple_of(ROWS) * depth];
    for row in 0..rows {
        for k in 0..depth {
            left[row / ROWS * ROWS * depth + k * ROWS + row % ROWS] = a[row * depth + k];
        }
    }
    let mut right = vec![0.0; columns.next_multiple_of(COLUMNS) * depth];
    for k in 0..depth {
        put_row(&mut right, depth, k, &b[k * columns..][..columns]);
    }
    let stride = columns + 3;
    let mut c = values(3, (rows + 1) * stride);
    let before = c.clone();
    for accumulate in [false, true] {
        let a = Panels { data: &left, stride: depth * ROWS };
        let b = Panels { data: &right, stride: depth * COLUMNS };
        let c = Target::new(&mut c, stride, COLUMNS);
        // SAFETY: operands and target have the sizes in `size`.
        unsafe { multiply(size, a, b, c, accumulate) };
    }
    for (i, (got, before)) in c.iter().zip(before).enumerate() {
        let (row, column) = (i / stride, i % stride);
        let inside = row < rows && column < columns;
        let expected = if inside {
            let product = |k: usize| f64::from(a[row * depth + k]) * f64::from(b[k * columns + column]);
            2.0 * (0..depth).map(product).sum::<f64>()
        } else {
            f64::from(before)
        };
        let error = (f64::from(*got) - expected).abs();
        assert!(error <= 1e-5 * depth as f64, "{what} {size:?}, row {row} column {column}: {got}, not {expected}");
    }
}

/// Products with the shapes of all instruction sets: one, two and four vectors per panel, six and twelve rows at
/// once.
#[test]
fn products_equal_their_definition() {
    for rows in [1, 5, 6, 7, 12, 17, 24, 31] {
        for (columns, depth) in [(1, 3), (16, 1), (33, 40), (64, 7)] {
            let size = Size { rows, columns, depth };
            for isa in isa::all() {
                let _isa = isa::hold(isa);
                check(&format!("{isa:?}"), size, multiply);
            }
            check("4 lanes", size, multiply_on::<[f32; 4], 4, 6>);
            check("8 lanes", size, multiply_on::<[f32; 8], 2, 6>);
            check("16 lanes, tall", size, multiply_on::<[f32; 16], 1, 12>);
        }
    }
}
