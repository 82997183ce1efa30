//! Verification of exported ONNX files.

use std::collections::HashSet;

use prost::Message;

use super::OnnxError;
use super::schema::{DataType, GraphProto, ModelProto, TensorProto};

/// Decodes the bytes of an ONNX file and checks that the graph is consistent: every value is defined exactly once and
/// before it is used, every output is defined, and every weight has the right number of bytes and only finite 32-bit
/// values. The operators are not executed.
///
/// # Errors
/// [`OnnxError::Decode`] if the bytes are not an ONNX file; [`OnnxError::Graph`] with the first fault in the graph.
pub fn verify(bytes: &[u8]) -> Result<(), OnnxError> {
    let model = ModelProto::decode(bytes)?;
    let graph = model.graph.as_ref().ok_or_else(|| OnnxError::Graph { found: "no graph".into() })?;
    values(graph)
        .and_then(|()| graph.initializer.iter().try_for_each(weight))
        .map_err(|found| OnnxError::Graph { found })
}

fn values(graph: &GraphProto) -> Result<(), String> {
    let mut known = HashSet::from([""]);
    let given = graph.input.iter().map(|v| v.name.as_str()).chain(graph.initializer.iter().map(|t| t.name.as_str()));
    for name in given {
        if !known.insert(name) {
            return Err(format!("two definitions of the value {name:?}"));
        }
    }
    for node in &graph.node {
        if let Some(name) = node.input.iter().find(|name| !known.contains(name.as_str())) {
            let (op, node) = (&node.op_type, &node.name);
            return Err(format!("the {op} node {node:?} with the input {name:?}, which no earlier node defines"));
        }
        if let Some(name) = node.output.iter().find(|name| !known.insert(name)) {
            return Err(format!("two definitions of the value {name:?}"));
        }
    }
    match graph.output.iter().find(|v| !known.contains(v.name.as_str())) {
        Some(output) => Err(format!("the output {:?}, which no node defines", output.name)),
        None => Ok(()),
    }
}

fn weight(tensor: &TensorProto) -> Result<(), String> {
    let (name, kind) = (&tensor.name, tensor.data_type());
    let expected = tensor.dims.iter().map(|n| *n as usize).product::<usize>() * kind.size();
    let found = tensor.raw_data.len();
    if found != expected {
        return Err(format!("a weight {name:?} of {found} bytes instead of {expected}"));
    }
    let finite = match kind {
        DataType::Float => tensor.raw_data.as_chunks::<4>().0.iter().all(|b| f32::from_le_bytes(*b).is_finite()),
        _ => true,
    };
    if finite { Ok(()) } else { Err(format!("a non-finite value in the weight {name:?}")) }
}
