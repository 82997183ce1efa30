//! Counts the operations that Burn's fusion registers and the blocks that it runs.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::backend::fusion::custom::OperationIr;
use burn::backend::fusion::observer::{BlockOperations, FusionObservation, FusionObserver};
use burn::tensor::Device;

/// Operations that start no kernel: the end of a tensor, an upload that was already made, and new strides of the same
/// memory.
const WITHOUT_KERNEL: [&str; 5] = ["Drop", "Init", "SwapDims", "Permute", "Expand"];

/// Number of times that each measurement is made; the last one counts. The first ones let Burn explore how operations
/// can be fused, as the first steps of a training do.
const ROUNDS: usize = 3;

/// What a piece of work needs on the device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Number of registered operations of each name, without [`WITHOUT_KERNEL`].
    operations: BTreeMap<String, usize>,
    /// Number of blocks by the operations in them. A block is one fused kernel or one operation that is not fused.
    /// Blocks in which all operations are [`WITHOUT_KERNEL`] are not counted.
    blocks: BTreeMap<String, usize>,
    /// Number of blocks in which all operations are [`WITHOUT_KERNEL`], except those that only drop tensors.
    views: usize,
}

impl Counts {
    /// Number of registered operations.
    pub(crate) fn operations(&self) -> usize {
        self.operations.values().sum()
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.values().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<String, usize>| {
            let mut rows: Vec<_> = counts.iter().map(|(name, count)| (*count, name.as_str())).collect();
            rows.sort_by_key(|(count, name)| (std::cmp::Reverse(*count), *name));
            rows.into_iter().fold(String::new(), |mut text, (count, name)| {
                write!(text, "\n    {count:>5}  {name}").expect("a string grows");
                text
            })
        };
        let Self { operations, blocks, views } = self;
        write!(f, "{} operations, {} blocks, {views} views", self.operations(), self.blocks())?;
        write!(f, "\n  operations:{}\n  blocks:{}", list(operations), list(blocks))
    }
}

#[derive(Default)]
struct Recorder(Mutex<Counts>);

impl Recorder {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FusionObserver for Recorder {
    fn registered(&self, operation: &OperationIr) {
        let name = name(operation);
        if !WITHOUT_KERNEL.contains(&name.as_str()) {
            *self.counts().operations.entry(name).or_default() += 1;
        }
    }

    fn block_starts(&self, block: BlockOperations<'_>) {
        let names: Vec<String> = block.iter().map(name).filter(|name| name != "Drop").collect();
        let mut counts = self.counts();
        if names.iter().any(|name| !WITHOUT_KERNEL.contains(&name.as_str())) {
            *counts.blocks.entry(names.join(" ")).or_default() += 1;
        } else if !names.is_empty() {
            counts.views += 1;
        }
    }

    fn block_ran(&self) {}
}

/// The name of an operation without the type of its tensors, such as `Add`; for an operation of an extension its id.
fn name(operation: &OperationIr) -> String {
    if let OperationIr::Custom(custom) = operation {
        return custom.id.clone();
    }
    // Such as `NumericFloat(F32, Add(BinaryOpIr { .. }))`, `BaseFloat(Reshape(..))` or `Drop(TensorIr { .. })`.
    let text = format!("{operation:?}");
    let (kind, rest) = text.split_once('(').unwrap_or((&text, ""));
    let rest =
        rest.split_once(", ").map_or(rest, |(first, after)| if first.contains(['(', ' ']) { rest } else { after });
    let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
    if rest[..end].ends_with("Ir") { kind.into() } else { rest[..end].into() }
}

/// Counts what `work` needs on the device in its last of three rounds. `prepare` makes its input and is not counted.
///
/// Nothing else may use the device meanwhile: Burn's observer sees the whole process.
pub(crate) fn count<I, O>(device: &Device, mut prepare: impl FnMut() -> I, mut work: impl FnMut(I) -> O) -> Counts {
    let mut counts = Counts::default();
    for _ in 0..ROUNDS {
        let input = prepare();
        device.sync().expect("the device works");
        let recorder = Arc::new(Recorder::default());
        let watching = FusionObservation::new(recorder.clone());
        let output = work(input);
        device.sync().expect("the device works");
        drop(watching);
        drop(output);
        counts = std::mem::take(&mut *recorder.counts());
    }
    counts
}
