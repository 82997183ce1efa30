//! What can go wrong with an export.

/// An error of an export to ONNX.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The bytes are no ONNX file.
    #[error("expected an ONNX file, found bytes that do not decode ({0})")]
    Decode(#[from] prost::DecodeError),
    /// The file's graph cannot run.
    #[error("expected a graph that can run, found {found}")]
    Graph {
        /// What was found.
        found: String,
    },
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] foveal_base::WriteError),
}
