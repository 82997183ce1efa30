//! Replacement of the adapters in a build without the feature `wgpu`: there are none.

use anyhow::{Result, bail};
use burn::tensor::Device;

use super::adapter::{AdapterInfo, Capabilities};

/// An adapter, of which there is none.
#[allow(dead_code, reason = "it cannot be constructed")]
pub(crate) struct Adapter {
    pub info: AdapterInfo,
    never: std::convert::Infallible,
}

/// An opened adapter.
#[allow(dead_code, reason = "no adapter can be opened")]
pub(crate) struct Opened {
    pub device: Device,
    pub can: Capabilities,
}

impl Adapter {
    pub(crate) fn open(&self) -> Result<Opened> {
        match self.never {}
    }
}

pub(crate) fn adapters(_: &str) -> Vec<Adapter> {
    Vec::new()
}

pub(super) fn find(name: &str, _: Option<usize>) -> Result<Adapter> {
    bail!("device `{name}` is not available: this binary was built without the feature `wgpu`")
}
