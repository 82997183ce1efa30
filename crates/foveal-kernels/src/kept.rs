//! Results that are kept for as long as the tensors that they were computed from keep their values.
use std::fmt;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Tensor;

/// Identity of the value of a tensor on a GPU. Tensors with equal identities have equal values.
///
/// Burn's fusion backend numbers the result of every operation. It never uses a number twice within a process, and an
/// operation that writes into the memory of its input gives the result another number. A number therefore stands for
/// one value, also after the tensor was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueId(u64);

/// Returns the identity of the value of `x`, or `None` for a tensor of a CPU, which has none.
///
/// A tensor that another thread created gets a new identity with every clone.
pub fn value_id<const D: usize>(x: &Tensor<D>) -> Option<ValueId> {
    #[cfg(feature = "wgpu")]
    {
        use burn::backend::{BackendTensor, DispatchTensorKind};
        fn of_kind(kind: &DispatchTensorKind) -> Option<ValueId> {
            match kind {
                DispatchTensorKind::Cube(BackendTensor::Float(x)) => Some(ValueId(x.id.value())),
                DispatchTensorKind::Cube(BackendTensor::Autodiff(x)) => Some(ValueId(x.primitive().id.value())),
                DispatchTensorKind::Autodiff(inner) => of_kind(inner),
                _ => None,
            }
        }
        of_kind(&x.clone().into_dispatch().kind)
    }
    #[cfg(not(feature = "wgpu"))]
    {
        let _ = x;
        None
    }
}

/// A result of type `V` that is kept together with the key that it was computed for.
///
/// The key contains the [identities](value_id) of the tensors that the result was computed from. A lookup by another
/// key computes the result anew and replaces the kept one, so a kept result is never out of date. A clone starts with
/// the same result and is independent afterwards.
pub struct Kept<K, V>(Mutex<Option<(K, V)>>);

impl<K: PartialEq, V: Clone> Kept<K, V> {
    /// Returns the kept result if it was computed for `key`, else the result of `compute`, which is then kept.
    pub fn get(&self, key: K, compute: impl FnOnce() -> V) -> V {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((kept, value)) = &*lock()
            && *kept == key
        {
            return value.clone();
        }
        let value = compute();
        *lock() = Some((key, value.clone()));
        value
    }
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<K: Clone, V: Clone> Clone for Kept<K, V> {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }
}

impl<K, V> fmt::Debug for Kept<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_result_is_computed_once_for_each_key() {
        let kept = Kept::<u32, &str>::default();
        assert_eq!(kept.get(1, || "one"), "one");
        assert_eq!(kept.get(1, || unreachable!("the result for 1 is kept")), "one");
        let clone = kept.clone();
        assert_eq!(kept.get(2, || "two"), "two");
        assert_eq!(kept.get(1, || "computed again"), "computed again");
        assert_eq!(clone.get(1, || unreachable!("the clone keeps the result for 1")), "one");
    }

    #[test]
    fn tensors_of_a_cpu_have_no_identity() {
        assert_eq!(value_id(&Tensor::<1>::ones([1], &Device::flex())), None);
        assert_eq!(value_id(&Tensor::<1>::ones([1], &Device::flex().autodiff())), None);
    }
}
