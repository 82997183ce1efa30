//! Weights that inference packs and transforms once instead of in every convolution.
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::CpuTensor;
use super::scratch::Scratch;

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

/// What is kept while there is a [`KeptWeights`].
#[derive(Default)]
struct Kept {
    /// Number of [`KeptWeights`].
    users: usize,
    weights: HashMap<Key, Entry>,
}

/// Address and number of the elements of a weight, the type of what was prepared from it, and its rows and depth.
type Key = (usize, usize, TypeId, [usize; 2]);

struct Entry {
    /// A clone of the weight. While it lives, the memory of the weight is neither freed nor changed, because whoever
    /// wants to write to a tensor that others hold has to copy it.
    _weight: Box<dyn Any + Send>,
    prepared: Arc<dyn Any + Send + Sync>,
}

/// While it lives, convolutions on a CPU keep the form into which they bring their weights, and use it again for the
/// same weight. Returned by [`keep_weights`].
#[derive(Debug)]
pub struct KeptWeights(());

/// Makes convolutions on a CPU keep their prepared weights until the result is dropped. This is for inference: what is
/// kept takes up to four times the memory of the weights, and a weight that changes is prepared anew.
///
/// Kept weights change no result. Other devices are not affected.
pub fn keep_weights() -> KeptWeights {
    kept().get_or_insert_default().users += 1;
    KeptWeights(())
}

impl Drop for KeptWeights {
    fn drop(&mut self) {
        let mut kept = kept();
        let last = kept.as_mut().is_none_or(|kept| {
            kept.users -= 1;
            kept.users == 0
        });
        if last {
            *kept = None;
        }
    }
}

fn kept() -> MutexGuard<'static, Option<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether [`prepared`] keeps what is prepared from this contiguous weight.
pub(crate) fn are_kept<T: CpuTensor>(weight: &mut T) -> bool {
    weight.f32s_mut().is_none() && kept().is_some()
}

/// What `prepare` makes of a contiguous weight of `[rows, depth]`, or of the same weight before, if it was kept.
/// `prepare` gets the values and a function that returns a buffer of a length. A weight that nobody else holds is not
/// kept, because it was computed for this call alone.
pub(crate) fn prepared<T: CpuTensor, P: Send + Sync + 'static>(
    weight: &mut T,
    dims: [usize; 2],
    prepare: impl FnOnce(&[f32], fn(usize) -> Scratch) -> P,
) -> Arc<P> {
    let lasts = weight.f32s_mut().is_none();
    let values = weight.f32s();
    let key = (values.as_ptr().addr(), values.len(), TypeId::of::<P>(), dims);
    let found =
        kept().as_ref().filter(|_| lasts).map(|kept| kept.weights.get(&key).map(|entry| Arc::clone(&entry.prepared)));
    match found {
        None => Arc::new(prepare(values, Scratch::of)),
        Some(Some(prepared)) => prepared.downcast().expect("the key has the type"),
        Some(None) => {
            let prepared = Arc::new(prepare(values, Scratch::exactly));
            if let Some(kept) = kept().as_mut() {
                let entry = Entry { _weight: Box::new(weight.clone()), prepared: prepared.clone() };
                kept.weights.insert(key, entry);
            }
            prepared
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::flex::FlexTensor;

    use super::*;

    #[test]
    fn a_weight_is_prepared_once_until_it_changes() {
        let mut weight = FlexTensor::from_f32s(vec![1.0, 2.0], [2]);
        let first = |weight: &FlexTensor| prepared(&mut weight.clone(), [1, 2], |values, _| values[0]);
        let again = |weight: &FlexTensor| prepared::<_, f32>(&mut weight.clone(), [1, 2], |_, _| panic!("it was kept"));
        {
            let _kept = keep_weights();
            let other = keep_weights();
            assert_eq!(*first(&weight), 1.0);
            drop(other);
            assert_eq!(*again(&weight), 1.0);
            assert!(weight.f32s_mut().is_none(), "a kept weight could change");
            weight = FlexTensor::from_f32s(vec![3.0, 4.0], [2]);
            assert_eq!(*first(&weight), 3.0);
            assert_eq!(*prepared(&mut weight.clone(), [2, 1], |_, _| 5.0f32), 5.0);
            let mut alone = FlexTensor::from_f32s(vec![6.0], [1]);
            assert_eq!(*prepared(&mut alone, [1, 1], |values, _| values[0]), 6.0);
            assert!(alone.f32s_mut().is_some(), "a weight of one call is kept");
        }
        assert!(weight.f32s_mut().is_some(), "the weight is still kept");
    }
}
