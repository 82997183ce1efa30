//! Selection of the processor's best instruction set at run time, and calls of generic code compiled for it.
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Instruction sets for which the kernels are compiled. The best one that the processor supports is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Plain arrays, which the compiler vectorises for the target's baseline instruction set.
    Portable,
    /// AVX2 with fused multiply-add: 8 lanes of `f32`.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512F: 16 lanes of `f32`.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON: 4 lanes of `f32`.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// The name of the vector instruction set that the fused CPU kernels use on this processor: `AVX-512`, `AVX2`, `NEON`
/// or `portable` (what the compiler makes of plain arrays).
pub fn instruction_set() -> &'static str {
    match isa() {
        Isa::Portable => "portable",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => "AVX2",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => "AVX-512",
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => "NEON",
    }
}

/// The instruction set that [`force_instruction_set`] asked for: its place in [`ISAS`] plus one, or 0 for
/// [`unforced_isa`].
static FORCED: AtomicUsize = AtomicUsize::new(0);

/// All instruction sets of this architecture with their names for [`force_instruction_set`].
const ISAS: &[(&str, Isa)] = &[
    ("portable", Isa::Portable),
    #[cfg(target_arch = "x86_64")]
    ("avx2", Isa::Avx2),
    #[cfg(target_arch = "x86_64")]
    ("avx512", Isa::Avx512),
    #[cfg(target_arch = "aarch64")]
    ("neon", Isa::Neon),
];

/// Makes the fused CPU kernels of the whole process use the instruction set `name` (`portable`, `avx2`, `avx512` or
/// `neon`) instead of the best one. Intended for measurements and tests; call it before the first operation.
///
/// # Errors
/// If the name is unknown, or this processor lacks the instruction set. The text names the sets that it has.
pub fn force_instruction_set(name: &str) -> Result<(), String> {
    FORCED.store(rank(by_name(name)?) + 1, Ordering::Relaxed);
    Ok(())
}

/// The instruction set of this processor with a name, or a text that names those that it has.
fn by_name(name: &str) -> Result<Isa, String> {
    if let Some((_, isa)) = supported().iter().find(|(known, _)| *known == name) {
        return Ok(*isa);
    }
    let known: Vec<&str> = supported().iter().map(|(name, _)| *name).collect();
    Err(format!("found the instruction set {name:?}, expected one of this processor: {}", known.join(", ")))
}

/// The instruction sets that this processor supports, with their names.
fn supported() -> &'static [(&'static str, Isa)] {
    &ISAS[..=rank(best_isa())]
}

/// The place of an instruction set in [`ISAS`]: a processor that has one has all before it.
fn rank(isa: Isa) -> usize {
    ISAS.iter().position(|(_, other)| *other == isa).expect("all instruction sets are listed")
}

/// The instruction set that the kernels use: the best one of this processor, unless another one was asked for.
pub(crate) fn isa() -> Isa {
    match FORCED.load(Ordering::Relaxed) {
        0 => unforced_isa(),
        place => ISAS[place - 1].1,
    }
}

/// The instruction set that the environment variable `FOVEAL_ISA` names, or the best one. With the variable, the tests
/// of all crates run on any instruction set of the processor (`scripts/check`).
///
/// # Panics
/// If the processor does not have the instruction set. The binary refuses the variable before.
fn unforced_isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| match std::env::var_os("FOVEAL_ISA") {
        None => best_isa(),
        Some(name) => by_name(&name.to_string_lossy()).unwrap_or_else(|error| panic!("FOVEAL_ISA: {error}")),
    })
}

/// The best instruction set that this processor supports.
fn best_isa() -> Isa {
    #[cfg(target_arch = "x86_64")]
    return best(Features::detected());
    #[cfg(target_arch = "aarch64")]
    return Isa::Neon;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Isa::Portable
}

/// The features of the processor that functions of this crate enable with `target_feature`, each under its own name.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
struct Features {
    avx2: bool,
    fma: bool,
    avx512f: bool,
}

#[cfg(target_arch = "x86_64")]
impl Features {
    /// The features of this processor.
    fn detected() -> Self {
        Self {
            avx2: std::is_x86_feature_detected!("avx2"),
            fma: std::is_x86_feature_detected!("fma"),
            avx512f: std::is_x86_feature_detected!("avx512f"),
        }
    }

    /// Whether functions with `target_feature(enable = "avx2,fma")` may be called.
    fn avx2_and_fma(self) -> bool {
        self.avx2 && self.fma
    }

    /// Whether functions with `target_feature(enable = "avx512f,avx2,fma")` may be called.
    fn avx512f_avx2_and_fma(self) -> bool {
        self.avx512f && self.avx2_and_fma()
    }
}

/// The best instruction set that all enabled features of its functions allow. A processor, or a virtual machine that
/// hides some features, can have AVX-512 without AVX2 or FMA.
#[cfg(target_arch = "x86_64")]
fn best(features: Features) -> Isa {
    if features.avx512f_avx2_and_fma() {
        Isa::Avx512
    } else if features.avx2_and_fma() {
        Isa::Avx2
    } else {
        Isa::Portable
    }
}

/// Guard that fixes the instruction set for one test: while it lives, no other test can change it.
#[cfg(test)]
pub(crate) struct Held(#[allow(dead_code)] std::sync::MutexGuard<'static, ()>);

#[cfg(test)]
impl Drop for Held {
    fn drop(&mut self) {
        FORCED.store(0, Ordering::Relaxed);
    }
}

/// Makes the whole process use an instruction set until the guard is dropped.
#[cfg(test)]
pub(crate) fn hold(isa: Isa) -> Held {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let held = Held(LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    FORCED.store(rank(isa) + 1, Ordering::Relaxed);
    held
}

/// All instruction sets that this processor supports.
#[cfg(test)]
pub(crate) fn all() -> Vec<Isa> {
    supported().iter().map(|(_, isa)| *isa).collect()
}

/// Defines `$name`, which calls the generic function `$generic::<Lanes, VECTORS, WIDE>` compiled for the best
/// instruction set. `VECTORS` vectors make up [`COLUMNS`](super::COLUMNS) elements; `WIDE` is the number of rows that
/// fill the registers.
macro_rules! on_best_isa {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $generic:ident) => {
        $(#[$meta])*
        $vis unsafe fn $name($($arg: $type),*) {
            use $crate::cpu::matmul::isa::{Isa, isa};
            #[cfg(target_arch = "x86_64")]
            use std::arch::x86_64::{__m256, __m512};
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            unsafe fn avx512($($arg: $type),*) {
                // SAFETY: the caller's promise.
                unsafe { $generic::<__m512, 1, 12>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) {
                // SAFETY: the caller's promise.
                unsafe { $generic::<__m256, 2, 6>($($arg),*) }
            }
            // SAFETY: the caller's promise, and the processor supports the instruction set that `isa` returns.
            unsafe {
                match isa() {
                    Isa::Portable => $generic::<[f32; 4], 4, 6>($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => $generic::<std::arch::aarch64::float32x4_t, 4, 6>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use on_best_isa;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_forced_by_its_name_if_the_processor_has_it() {
        let _isa = hold(best_isa());
        force_instruction_set("portable").unwrap();
        assert_eq!((isa(), instruction_set()), (Isa::Portable, "portable"));
        let error = force_instruction_set("sse9").unwrap_err();
        assert!(error.contains("\"sse9\"") && error.contains("portable"), "{error}");
        assert_eq!(isa(), Isa::Portable, "an unknown name changes nothing");
    }

    #[test]
    fn every_enabled_feature_is_asked_for() {
        for bits in 0..8 {
            let [avx2, fma, avx512f] = [1, 2, 4].map(|bit| bits & bit != 0);
            let expected = match (avx2, fma, avx512f) {
                (true, true, true) => Isa::Avx512,
                (true, true, false) => Isa::Avx2,
                _ => Isa::Portable,
            };
            assert_eq!(best(Features { avx2, fma, avx512f }), expected, "avx2 {avx2}, fma {fma}, avx512f {avx512f}");
        }
    }
}
