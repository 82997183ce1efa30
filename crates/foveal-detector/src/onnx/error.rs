//! Errors of an export to ONNX.

/// Error of writing or verifying an ONNX file.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The bytes are not a valid ONNX protobuf message.
    #[error("expected an ONNX file, found bytes that do not decode ({0})")]
    Decode(#[from] prost::DecodeError),
    /// The file is valid protobuf, but its graph is missing, inconsistent or has damaged weights.
    #[error("expected a valid ONNX graph, found {found}")]
    Graph {
        /// The first fault in the graph, as the end of a sentence: `two definitions of the value ...`.
        found: String,
    },
    /// The output file could not be written.
    #[error(transparent)]
    Write(#[from] foveal_base::WriteError),
}
