//! A look at a written file: whether another reader can use it.

use std::collections::HashSet;

use prost::Message;

use super::OnnxError;
use super::schema::{DataType, GraphProto, ModelProto, TensorProto};

/// Reads a file back and checks that it is a graph that can run: every value made before it is read, no name made
/// twice, every output made, every weight whole and finite. What the operators compute it does not check; the tests
/// do, in two other runtimes.
///
/// # Errors
/// [`OnnxError`] with what was found.
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
            return Err(format!("the value {name:?} twice"));
        }
    }
    for node in &graph.node {
        if let Some(name) = node.input.iter().find(|name| !known.contains(name.as_str())) {
            return Err(format!("{} {:?} reading {name:?}, which nothing before it makes", node.op_type, node.name));
        }
        if let Some(name) = node.output.iter().find(|name| !known.insert(name)) {
            return Err(format!("the value {name:?} twice"));
        }
    }
    match graph.output.iter().find(|v| !known.contains(v.name.as_str())) {
        Some(output) => Err(format!("the output {:?}, which nothing makes", output.name)),
        None => Ok(()),
    }
}

fn weight(tensor: &TensorProto) -> Result<(), String> {
    let (name, kind) = (&tensor.name, tensor.data_type());
    let expected = tensor.dims.iter().map(|n| *n as usize).product::<usize>() * kind.size();
    let found = tensor.raw_data.len();
    if found != expected {
        return Err(format!("{found} bytes in the weight {name:?}, expected {expected}"));
    }
    let finite = match kind {
        DataType::Float => tensor.raw_data.as_chunks::<4>().0.iter().all(|b| f32::from_le_bytes(*b).is_finite()),
        _ => true,
    };
    if finite { Ok(()) } else { Err(format!("a value in the weight {name:?} that is not finite")) }
}
