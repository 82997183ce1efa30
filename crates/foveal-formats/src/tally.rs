//! A count with its first instance, for the notes of a conversion.

/// A count and the first instance of what was counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub count: usize,
    pub first: String,
}

impl Tally {
    /// Counts one more; `instance` describes it, and is called for the first one alone.
    pub(crate) fn add(&mut self, instance: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = instance();
        }
        self.count += 1;
    }

    /// `what: count (first: instance)`, or `None` if nothing was counted.
    pub(crate) fn sentence(&self, what: &str) -> Option<String> {
        let Self { count, first } = self;
        (*count > 0).then(|| format!("{what}: {count} (first: {first})"))
    }
}
