//! Peak throughput of the vector units: fused multiply-adds on registers, on every core. The throughput of convolutions
//! is compared with it.

use criterion::Criterion;

/// Number of steps of each chain.
#[cfg(target_arch = "x86_64")]
const STEPS: usize = 1 << 20;

/// Measures the peak throughput on one thread and on all threads, if the processor supports AVX2.
#[cfg(target_arch = "x86_64")]
pub fn all(c: &mut Criterion) {
    use criterion::{BenchmarkId, Throughput};
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in if threads > 1 { vec![1, threads] } else { vec![1] } {
        let mut group = c.benchmark_group("peak");
        group.throughput(Throughput::Elements((threads * STEPS * CHAINS * 8 * 2) as u64));
        group.bench_function(BenchmarkId::new("multiply_add", format!("{threads}threads")), |b| {
            b.iter(|| {
                std::thread::scope(|scope| {
                    // SAFETY: the processor supports AVX2 and FMA, as checked above.
                    (0..threads).for_each(|_| drop(scope.spawn(|| std::hint::black_box(unsafe { chains(0.5) }))));
                });
            });
        });
        group.finish();
    }
}

/// Does nothing: the measurement exists only for x86-64.
#[cfg(not(target_arch = "x86_64"))]
pub fn all(_: &mut Criterion) {}

/// Number of independent chains: two units with a latency of up to five steps need ten.
#[cfg(target_arch = "x86_64")]
const CHAINS: usize = 12;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn chains(factor: f32) -> f32 {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (factor, term) = (_mm256_set1_ps(std::hint::black_box(factor)), _mm256_set1_ps(1.0));
    let mut sums = [_mm256_set1_ps(0.0); CHAINS];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, term);
        }
    }
    _mm256_cvtss_f32(sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b)).expect("there are chains"))
}
