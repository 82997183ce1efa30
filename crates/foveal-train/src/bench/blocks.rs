//! Counts the operations and fused blocks of a training step on a GPU.

use burn::tensor::Device;

/// Runs `step` on a GPU. Returns the number of its tensor operations and the number of its blocks, which are fused
/// kernels and operations that ran on their own. The observer is process-wide: nothing else may use a GPU meanwhile.
///
/// # Panics
/// When the device fails while it is waited for.
#[cfg(feature = "wgpu")]
pub(super) fn count(device: &Device, step: impl FnOnce()) -> Option<[usize; 2]> {
    use std::sync::Arc;

    use burn::backend::fusion::observer::{FusionObservation, FusionObserver};

    let wait = || device.sync().expect("the device works");
    let counter = Arc::new(observer::Counter::default());
    wait();
    let observation = FusionObservation::new(Arc::clone(&counter) as Arc<dyn FusionObserver>);
    step();
    wait();
    drop(observation);
    Some(counter.counts())
}

/// A build without the feature `wgpu` has no GPU.
#[cfg(not(feature = "wgpu"))]
pub(super) fn count(_device: &Device, _step: impl FnOnce()) -> Option<[usize; 2]> {
    None
}

#[cfg(feature = "wgpu")]
mod observer {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use burn::backend::fusion::observer::{BlockOperations, FusionObserver};
    use burn::backend::ir::OperationIr;

    #[derive(Default)]
    pub(super) struct Counter {
        operations: AtomicUsize,
        blocks: AtomicUsize,
    }

    impl FusionObserver for Counter {
        fn registered(&self, operation: &OperationIr) {
            if !matches!(operation, OperationIr::Drop(_)) {
                self.operations.fetch_add(1, Ordering::Relaxed);
            }
        }

        fn block_starts(&self, block: BlockOperations<'_>) {
            if !block.iter().all(|operation| matches!(operation, OperationIr::Drop(_))) {
                self.blocks.fetch_add(1, Ordering::Relaxed);
            }
        }

        fn block_ran(&self) {}
    }

    impl Counter {
        /// Number of operations and of blocks.
        pub(super) fn counts(&self) -> [usize; 2] {
            [self.operations.load(Ordering::Relaxed), self.blocks.load(Ordering::Relaxed)]
        }
    }
}
