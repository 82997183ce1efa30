//! A builder for ONNX graphs.

use std::collections::HashMap;

use burn::tensor::f16;

use super::schema::{AttributeProto, AttributeType, DataType, GraphProto, NodeProto, TensorProto};

/// A value (tensor) of the graph, identified by its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value(pub String);

/// The elements of a constant.
enum Elements<'a> {
    Ints(&'a [i64]),
    Floats(&'a [f32]),
}

/// Builds a graph. Nodes are appended in the order of the calls, which is a valid order of execution.
#[derive(Default)]
pub(super) struct Builder {
    graph: GraphProto,
    /// Constants by type, shape and bytes, so that equal constants are stored once.
    constants: HashMap<(i32, Vec<i64>, Vec<u8>), Value>,
    /// Number of nodes of each operator so far, from which node names are made.
    counts: HashMap<&'static str, usize>,
    /// Whether weights are stored as 16-bit numbers.
    half: bool,
}

impl Builder {
    /// Starts an empty graph. With `half`, weights are stored as 16-bit numbers and cast to 32 bit where they are used.
    pub(super) fn new(half: bool) -> Self {
        Self { half, ..Self::default() }
    }

    /// Returns the graph, whose inputs and outputs the caller has to add.
    pub(super) fn finish(self) -> GraphProto {
        self.graph
    }

    /// Adds an operation of the operator `op` with one output and returns the output.
    pub(super) fn node(&mut self, op: &'static str, inputs: &[&Value], attributes: Vec<AttributeProto>) -> Value {
        let name = self.fresh(op);
        self.push(op, inputs, attributes, vec![name.clone()]);
        Value(name)
    }

    /// Adds an operation of the operator `op` with two outputs and returns them.
    pub(super) fn node2(&mut self, op: &'static str, inputs: &[&Value], attributes: Vec<AttributeProto>) -> [Value; 2] {
        let name = self.fresh(op);
        let names = [format!("{name}.0"), format!("{name}.1")];
        self.push(op, inputs, attributes, names.to_vec());
        names.map(Value)
    }

    /// Makes `value` available under the name of a graph output.
    pub(super) fn output(&mut self, value: &Value, name: &str) {
        self.push("Identity", &[value], vec![], vec![name.to_owned()]);
    }

    /// Adds a constant vector of 64-bit integers, of shape `[values.len()]`.
    pub(super) fn ints(&mut self, values: &[i64]) -> Value {
        self.constant(vec![values.len() as i64], Elements::Ints(values))
    }

    /// Adds a constant scalar 64-bit integer, of shape `[]`.
    pub(super) fn int(&mut self, value: i64) -> Value {
        self.constant(vec![], Elements::Ints(&[value]))
    }

    /// Adds a constant `f32` array of the given shape, row-major.
    pub(super) fn floats(&mut self, shape: &[usize], values: &[f32]) -> Value {
        self.constant(shape.iter().map(|n| *n as i64).collect(), Elements::Floats(values))
    }

    /// Adds a constant scalar `f32`, of shape `[]`.
    pub(super) fn float(&mut self, value: f32) -> Value {
        self.constant(vec![], Elements::Floats(&[value]))
    }

    /// Adds a weight under its own name. It is stored as 16-bit numbers if the graph uses them and all values fit.
    pub(super) fn weight(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let dims = shape.iter().map(|n| *n as i64).collect();
        let fits = values.iter().all(|v| v.abs() <= f16::MAX.to_f32());
        if !(self.half && fits) {
            let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            return self.initializer(name.to_owned(), dims, DataType::Float, raw_data);
        }
        let raw_data = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let stored = self.initializer(name.to_owned(), dims, DataType::Float16, raw_data);
        self.cast(&stored, DataType::Float)
    }

    /// Adds the conversion of `value` to the element type `to`.
    pub(super) fn cast(&mut self, value: &Value, to: DataType) -> Value {
        self.node("Cast", &[value], vec![int_attribute("to", to as i64)])
    }

    /// Adds the concatenation of `values` along `axis`, counted from 0.
    pub(super) fn concat(&mut self, values: &[&Value], axis: i64) -> Value {
        self.node("Concat", values, vec![int_attribute("axis", axis)])
    }

    /// Adds the selection of the entries `indices` of `value` along `axis`, counted from 0.
    pub(super) fn gather(&mut self, value: &Value, indices: &Value, axis: i64) -> Value {
        self.node("Gather", &[value, indices], vec![int_attribute("axis", axis)])
    }

    /// Adds the reshaping of `value`. A 0 in `shape` keeps the length of that axis; a -1 stands for the remaining
    /// elements.
    pub(super) fn reshape(&mut self, value: &Value, shape: &[i64]) -> Value {
        let shape = self.ints(shape);
        self.node("Reshape", &[value, &shape], vec![])
    }

    /// Adds the selection of the entries `start..end` of the last axis of `value`.
    pub(super) fn last_axis(&mut self, value: &Value, start: i64, end: i64) -> Value {
        let [start, end, axis] = [start, end, -1].map(|v| self.ints(&[v]));
        self.node("Slice", &[value, &start, &end, &axis], vec![])
    }

    fn constant(&mut self, dims: Vec<i64>, elements: Elements<'_>) -> Value {
        let (kind, raw_data): (_, Vec<u8>) = match elements {
            Elements::Ints(v) => (DataType::Int64, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Elements::Floats(v) => (DataType::Float, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        };
        let key = (kind as i32, dims.clone(), raw_data.clone());
        if let Some(known) = self.constants.get(&key) {
            return known.clone();
        }
        let name = self.fresh("Constant");
        let value = self.initializer(name, dims, kind, raw_data);
        self.constants.insert(key, value.clone());
        value
    }

    fn initializer(&mut self, name: String, dims: Vec<i64>, kind: DataType, raw_data: Vec<u8>) -> Value {
        self.graph.initializer.push(TensorProto { dims, data_type: kind as i32, name: name.clone(), raw_data });
        Value(name)
    }

    fn fresh(&mut self, op: &'static str) -> String {
        let count = self.counts.entry(op).or_default();
        *count += 1;
        format!("{op}_{count}")
    }

    fn push(&mut self, op: &str, inputs: &[&Value], attribute: Vec<AttributeProto>, output: Vec<String>) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|v| v.0.clone()).collect(),
            name: output[0].clone(),
            output,
            op_type: op.to_owned(),
            attribute,
        });
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
}

/// Attribute with an integer value.
pub(super) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// Attribute with a list of integers.
pub(super) fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// Attribute with a string value.
pub(super) fn text_attribute(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, AttributeType::String) }
}
