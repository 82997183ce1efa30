use super::isa::{Isa, all, hold};
use super::*;

fn values(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
}

/// How the operands lie in memory.
#[derive(Clone, Copy, Debug)]
struct Form {
    order: Order,
    /// Whether the panels of the right operand are packed, or columns of a matrix.
    packed: bool,
}

/// Checks a product against its definition. The target has additional rows and columns, which must not change.
fn check(isa: Isa, size: Size, form: Form) {
    let Size { rows, columns, depth } = size;
    let (a, b) = (values(1, rows * depth), values(2, depth * columns));
    let a_stride = 3 + if form.order == Order::Rows { depth } else { rows };
    let mut left = vec![f32::NAN; a_stride * rows.max(depth)];
    for (row, k) in (0..rows * depth).map(|i| (i / depth, i % depth)) {
        let at = if form.order == Order::Rows { row * a_stride + k } else { k * a_stride + row };
        left[at] = a[row * depth + k];
    }
    let width = panel_width();
    let whole = columns.next_multiple_of(width);
    let (row_stride, panel_stride) = if form.packed { (width, depth * width) } else { (whole + 5, width) };
    let mut right = vec![f32::NAN; depth * (whole + 5)];
    for (k, column) in (0..depth * columns).map(|i| (i / columns, i % columns)) {
        right[column / width * panel_stride + k * row_stride + column % width] = b[k * columns + column];
    }
    let stride = columns + 3;
    let len = (rows + 1) * stride;
    let (before, residual) = (values(3, len), values(4, len));
    let [scale, shift] = [5, 6].map(|seed| values(seed, whole));
    let finishes = [
        Finish::default(),
        Finish { accumulate: true, ..Finish::default() },
        Finish { scale: Some(&scale), ..Finish::default() },
        Finish { scale: Some(&scale), shift: Some(&shift), residual: Some(&residual), relu: true, ..Finish::default() },
        Finish { shift: Some(&shift), relu: true, ..Finish::default() },
    ];
    for finish in finishes {
        let mut c = before.clone();
        let a_side = Left { data: &left, stride: a_stride, order: form.order };
        let b_side = Right { data: &right, row_stride, panel_stride };
        // SAFETY: the target has the sizes in `size`.
        unsafe { multiply(size, a_side, b_side, Target::new(&mut c, stride), finish) };
        for (i, (got, before)) in c.iter().zip(&before).enumerate() {
            let (row, column) = (i / stride, i % stride);
            let mut expected = f64::from(*before);
            if row < rows && column < columns {
                let product = |k: usize| f64::from(a[row * depth + k]) * f64::from(b[k * columns + column]);
                let sum = (0..depth).map(product).sum::<f64>() + if finish.accumulate { expected } else { 0.0 };
                let of = |values: Option<&[f32]>, i: usize, or: f64| values.map_or(or, |v| f64::from(v[i]));
                expected = sum * of(finish.scale, column, 1.0) + of(finish.shift, column, 0.0);
                expected += of(finish.residual, i, 0.0);
                expected = if finish.relu { expected.max(0.0) } else { expected };
            }
            let error = (f64::from(*got) - expected).abs();
            let what = || format!("{isa:?} {size:?} {form:?} {finish:?}, row {row} column {column}");
            assert!(error <= 1e-5 * depth as f64, "{}: {got}, not {expected}", what());
        }
    }
}

#[test]
fn products_equal_their_definition() {
    for isa in all() {
        let _isa = hold(isa);
        for rows in [1, 3, 5, 6, 13, 14, 17, 31] {
            for (columns, depth) in [(1, 3), (8, 1), (16, 2), (33, 40), (64, 7)] {
                for order in [Order::Rows, Order::Columns] {
                    for packed in [false, true] {
                        check(isa, Size { rows, columns, depth }, Form { order, packed });
                    }
                }
            }
        }
    }
}

#[test]
fn nan_passes_the_relu() {
    for isa in all() {
        let _isa = hold(isa);
        let (a, b, mut c) = ([f32::NAN, 1.0], vec![-1.0; 2 * panel_width()], vec![5.0; 2]);
        let left = Left { data: &a, stride: 1, order: Order::Rows };
        let right = Right { data: &b, row_stride: panel_width(), panel_stride: 2 * panel_width() };
        let finish = Finish { relu: true, ..Finish::default() };
        // SAFETY: the target has two elements.
        unsafe { multiply(Size { rows: 2, columns: 1, depth: 1 }, left, right, Target::new(&mut c, 1), finish) };
        assert!(c[0].is_nan() && c[1] == 0.0, "{isa:?}: {c:?}");
    }
}
