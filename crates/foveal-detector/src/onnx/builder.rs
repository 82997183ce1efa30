//! A graph under construction.

use std::collections::HashMap;

use burn::tensor::f16;

use super::schema::{AttributeProto, AttributeType, DataType, GraphProto, NodeProto, TensorProto};

/// A value of the graph, by its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value(pub String);

/// An array's contents.
enum Elements<'a> {
    Ints(&'a [i64]),
    Floats(&'a [f32]),
}

/// Adds nodes in the order of their calls, which is an order in which they can run.
#[derive(Default)]
pub(super) struct Builder {
    graph: GraphProto,
    /// Constants by type, shape and bytes: equal ones are stored once.
    constants: HashMap<(i32, Vec<i64>, Vec<u8>), Value>,
    /// Nodes of each operator so far, for their names.
    counts: HashMap<&'static str, usize>,
    half: bool,
}

impl Builder {
    /// An empty graph; with `half`, weights are stored in half precision and cast where they are used.
    pub fn new(half: bool) -> Self {
        Self { half, ..Self::default() }
    }

    /// The graph without inputs and outputs.
    pub fn finish(self) -> GraphProto {
        self.graph
    }

    /// An operation with one result.
    pub fn node(&mut self, op: &'static str, inputs: &[&Value], attributes: Vec<AttributeProto>) -> Value {
        let name = self.fresh(op);
        self.push(op, inputs, attributes, vec![name.clone()]);
        Value(name)
    }

    /// An operation with two results.
    pub fn node2(&mut self, op: &'static str, inputs: &[&Value], attributes: Vec<AttributeProto>) -> [Value; 2] {
        let name = self.fresh(op);
        let names = [format!("{name}.0"), format!("{name}.1")];
        self.push(op, inputs, attributes, names.to_vec());
        names.map(Value)
    }

    /// Gives `value` the name of an output.
    pub fn output(&mut self, value: &Value, name: &str) {
        self.push("Identity", &[value], vec![], vec![name.to_owned()]);
    }

    /// A vector of integers.
    pub fn ints(&mut self, values: &[i64]) -> Value {
        self.constant(vec![values.len() as i64], Elements::Ints(values))
    }

    /// An integer without axes.
    pub fn int(&mut self, value: i64) -> Value {
        self.constant(vec![], Elements::Ints(&[value]))
    }

    /// An array of numbers.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> Value {
        self.constant(shape.iter().map(|n| *n as i64).collect(), Elements::Floats(values))
    }

    /// A number without axes.
    pub fn float(&mut self, value: f32) -> Value {
        self.constant(vec![], Elements::Floats(&[value]))
    }

    /// A weight under its own name. In half precision where the graph has it and the values fit.
    pub fn weight(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
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

    /// `value` in another type.
    pub fn cast(&mut self, value: &Value, to: DataType) -> Value {
        self.node("Cast", &[value], vec![int_attribute("to", to as i64)])
    }

    /// `value` joined to others along `axis`.
    pub fn concat(&mut self, values: &[&Value], axis: i64) -> Value {
        self.node("Concat", values, vec![int_attribute("axis", axis)])
    }

    /// Entries of `value` along `axis`.
    pub fn gather(&mut self, value: &Value, indices: &Value, axis: i64) -> Value {
        self.node("Gather", &[value, indices], vec![int_attribute("axis", axis)])
    }

    /// `value` in another shape: 0 keeps an axis, -1 takes what is left.
    pub fn reshape(&mut self, value: &Value, shape: &[i64]) -> Value {
        let shape = self.ints(shape);
        self.node("Reshape", &[value, &shape], vec![])
    }

    /// `start..end` of the last axis.
    pub fn last_axis(&mut self, value: &Value, start: i64, end: i64) -> Value {
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

/// A setting that is an integer.
pub(super) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// A setting that is several integers.
pub(super) fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// A setting that is a text.
pub(super) fn text_attribute(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, AttributeType::String) }
}
