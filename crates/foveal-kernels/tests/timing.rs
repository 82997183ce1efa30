#![allow(deprecated)]
mod common;
use burn::tensor::{Device, Tensor};
use common::*;
use foveal_kernels::*;
use std::time::Instant;
fn stored(x: Tensor<4>) -> Tensor<4> {
    if std::env::var("LAST").is_ok() { (x.permute([0, 2, 3, 1]) * 1.0).permute([0, 3, 1, 2]) } else { x }
}
fn time(what: &str, mut f: impl FnMut()) {
    f();
    let mut best = f64::MAX;
    for _ in 0..7 { let t = Instant::now(); f(); best = best.min(t.elapsed().as_secs_f64()); }
    println!("{what:40} {:9.3} ms", best * 1e3);
}
fn both(what: &str, x: &Tensor<4>, f: impl Fn(Tensor<4>) -> Tensor<4>) {
    let plain = x.clone().without_autodiff();
    time(&format!("{what} {:?} forward", x.dims()), || drop(f(plain.clone())));
    let device = x.device();
    let mut best = f64::MAX;
    for _ in 0..7 {
        let x = x.clone().detach().require_grad();
        let y = f(x);
        let c = y.dims()[1];
        // gives a gradient in the layout of the kernels
        let loss = affine(y, Tensor::ones([c], &device), Tensor::zeros([c], &device), None, Activation::None).sum();
        let t = Instant::now();
        drop(loss.backward());
        best = best.min(t.elapsed().as_secs_f64());
    }
    println!("{:40} {:9.3} ms", format!("{what} backward+"), best * 1e3);
}
#[test]
fn timing() {
    let device = Device::flex().autodiff();
    for dims in [[2, 64, 200, 200], [2, 256, 100, 100], [2, 512, 25, 25], [2, 2048, 7, 7]] {
        let c = dims[1];
        let x = stored(tensor(1, dims, &device));
        let r = stored(tensor(2, dims, &device)).without_autodiff();
        let r = Tensor::from_inner(r);
        let p = |i| tensor::<1>(i, [c], &device).require_grad();
        let (w, b) = (p(3), p(4));
        both("zero (baseline)", &x, |x| x);
        both("relu", &x, relu);
        both("affine relu residual", &x, |x| affine(x, w.clone(), b.clone(), Some(if w.is_require_grad() { r.clone() } else { r.clone() }), Activation::Relu));
        both("batch norm", &x, |x| batch_norm_train(x, w.clone(), b.clone(), 1e-5).y);
        both("group norm", &x, |x| group_norm(x, w.clone(), b.clone(), 32, 1e-5, Activation::Relu));
        both("pool", &x, max_pool_3x3_s2_p1);
        let top = stored(tensor(5, [2, c, dims[2].div_ceil(2), dims[3].div_ceil(2)], &device)).require_grad();
        both("upsample", &x, |x| upsample_add(x, top.clone()));
    }
    let sizes = [[100, 100], [50, 50], [25, 25], [13, 13], [7, 7]];
    let maps: Vec<Tensor<4>> = sizes.iter().map(|[h, w]| stored(tensor(1, [2, 256, *h, *w], &device)).require_grad()).collect();
    let s: Vec<MapSize> = maps.iter().map(MapSize::of).collect();
    let (w, b) = (tensor::<1>(3, [256], &device).require_grad(), tensor::<1>(4, [256], &device).require_grad());
    let join = |maps: &[Tensor<4>]| join_maps(maps);
    time("join", || drop(join(&maps)));
    let mut best = [f64::MAX; 3];
    for _ in 0..7 {
        let y = join(&maps);
        let t = Instant::now();
        let n = group_norm_maps(y, &s, w.clone(), b.clone(), 32, 1e-5, Activation::Relu);
        best[0] = best[0].min(t.elapsed().as_secs_f64());
        let t = Instant::now();
        let rows = channels_last(n).reshape([2, 13343 * 64, 4]);
        best[1] = best[1].min(t.elapsed().as_secs_f64());
        let l = rows.sum();
        let t = Instant::now();
        drop(l.backward());
        best[2] = best[2].min(t.elapsed().as_secs_f64());
    }
    println!("maps: group norm {:.3} ms, rows {:.3}, backward {:.3}", best[0] * 1e3, best[1] * 1e3, best[2] * 1e3);
}
