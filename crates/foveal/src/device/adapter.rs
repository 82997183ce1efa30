//! Adapters of the graphics APIs, described without the library that finds them.

use serde::Serialize;

/// The type of an adapter, as its driver states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AdapterKind {
    /// A GPU with memory of its own.
    DiscreteGpu,
    /// A GPU that shares the main memory with the CPU.
    IntegratedGpu,
    /// A GPU that a virtual machine shows.
    VirtualGpu,
    /// A program that computes on the CPU what a GPU would, such as SwiftShader or llvmpipe.
    Software,
}

impl AdapterKind {
    /// Name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DiscreteGpu => "discrete GPU",
            Self::IntegratedGpu => "integrated GPU",
            Self::VirtualGpu => "virtual GPU",
            Self::Software => "software adapter",
        }
    }
}

/// An adapter that was found, and perhaps not opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AdapterInfo {
    /// Name of the adapter.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: AdapterKind,
    /// Name and version of the driver, as the driver states them.
    pub driver: String,
    /// The graphics API: `Vulkan`, `Metal` or `Dx12`.
    pub api: String,
}

impl AdapterInfo {
    /// Name and API in messages.
    pub(crate) fn label(&self) -> String {
        format!("{}, {}", self.name, self.api)
    }
}

/// What an opened adapter can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Capabilities {
    /// The language that kernels are compiled to: `SPIR-V`, `MSL` or `WGSL`.
    pub compiler: String,
    /// Bytes of the memory of the adapter; `None` if the driver does not state it.
    pub memory_bytes: Option<u64>,
    /// Bytes of the largest buffer.
    pub largest_buffer_bytes: u64,
    /// Bytes of the largest part of a buffer that a kernel can bind, which bounds the largest tensor.
    pub largest_binding_bytes: u64,
}
