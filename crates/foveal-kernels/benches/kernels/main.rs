//! Measures the fused kernels on typical layers of a RetinaNet with ResNet-50 on a 512x512 image.
//!
//! ```text
//! cargo bench --locked --manifest-path crates/foveal-kernels/benches/Cargo.toml -- conv3x3
//! ```
//!
//! `FOVEAL_BENCH_DEVICE=ndarray` selects the backend ndarray instead of flex; `RAYON_NUM_THREADS` sets the number of
//! threads.
//!
//! Benchmark ids are `kernel/direction/layer`. The throughput of convolutions is in floating-point operations, two for
//! each product of the direct method, whichever method is used: `Gelem/s` means GFLOP/s. The throughput of the other
//! kernels is in bytes of the tensors that must be read or written once, that of the losses in logits.
#![allow(deprecated)] // burn-ndarray is deprecated upstream and supported here

mod conv;
mod elementwise;
mod losses;
mod peak;

use std::time::Duration;

use burn::tensor::{Device, Distribution, Tensor};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

/// An allocator that reuses large buffers without page faults, as that of the foveal binary does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The CPU backend that is timed, without autodiff.
fn device() -> Device {
    let device = match std::env::var("FOVEAL_BENCH_DEVICE").as_deref() {
        Err(_) | Ok("flex") => Device::flex(),
        Ok("ndarray") => Device::ndarray(),
        Ok(other) => panic!("FOVEAL_BENCH_DEVICE={other}: expected flex or ndarray"),
    };
    device.seed(0);
    device
}

/// A tensor of standard normal numbers.
fn noise<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Name and amount of work of a benchmark.
struct Timed<'a> {
    kernel: &'a str,
    direction: &'a str,
    layer: &'a str,
    work: Throughput,
}

/// Times only the gradient; the time of `forward` does not count.
fn backward<const D: usize>(c: &mut Criterion, timed: &Timed<'_>, forward: impl Fn() -> Tensor<D>) {
    let mut group = c.benchmark_group(timed.kernel);
    group.throughput(timed.work.clone());
    let id = BenchmarkId::new(timed.direction, timed.layer);
    group.bench_function(id, |b| b.iter_batched(&forward, |y| y.backward(), BatchSize::PerIteration));
    group.finish();
}

/// Times `run`.
fn forward<T>(c: &mut Criterion, timed: &Timed<'_>, run: impl Fn() -> T) {
    let mut group = c.benchmark_group(timed.kernel);
    group.throughput(timed.work.clone());
    group.bench_function(BenchmarkId::new(timed.direction, timed.layer), |b| b.iter(&run));
    group.finish();
}

fn main() {
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let device = device();
    peak::all(&mut c);
    conv::all(&mut c, &device);
    elementwise::all(&mut c, &device);
    losses::all(&mut c, &device);
    c.final_summary();
}
