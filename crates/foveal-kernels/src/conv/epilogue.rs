//! What is done to a convolution's result while it is still in the cache.

/// `activation(y * scale + shift + residual)`; scale and shift by output channel, the residual of `y`'s layout.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SliceEpilogue<'a> {
    pub(crate) scale: Option<&'a [f32]>,
    pub(crate) shift: Option<&'a [f32]>,
    pub(crate) residual: Option<&'a [f32]>,
    pub(crate) rectify: bool,
}

impl SliceEpilogue<'_> {
    pub(crate) fn scale_of(&self, channel: usize) -> f32 {
        self.scale.map_or(1.0, |s| s[channel])
    }

    pub(crate) fn shift_of(&self, channel: usize) -> f32 {
        self.shift.map_or(0.0, |s| s[channel])
    }
}
