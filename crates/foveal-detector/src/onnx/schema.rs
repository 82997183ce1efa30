//! The part of ONNX's schema (`onnx.proto`, IR version 8) that exports use, with the same field numbers.
//!
//! The scalar fields of an attribute are `optional`, because readers tell by presence which one is set, even if its
//! value is 0.

use prost::{Enumeration, Message, Oneof};

/// Top-level message of an ONNX file (`ModelProto` in `onnx.proto`): the graph, its operator sets and the metadata.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    /// Version of ONNX's file format (IR version) that the file uses.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Name of the program that wrote the file.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// Version of the program that wrote the file.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// Description of the model in plain text.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// Computation graph of the model.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Operator sets that the graph uses, with their versions.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Metadata entries for users and serving software, such as the class names.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// Reference to a version of an operator set (`OperatorSetIdProto`).
#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSetIdProto {
    /// Domain of the operator set; the empty string stands for ONNX's own operators.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Version of the operator set, such as 17.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// Metadata entry of a file (`StringStringEntryProto`): a key and a value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StringStringEntryProto {
    /// Key of the metadata entry.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value of the metadata entry.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Computation graph (`GraphProto`): nodes, weights, inputs and outputs.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphProto {
    /// Operations in a valid order of execution.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Name of the graph, which runtimes show in messages.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Weights and constants of the graph.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Inputs of the graph, which the caller supplies.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs of the graph, which the runtime returns.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

/// One operation of the graph (`NodeProto`).
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeProto {
    /// Names of the input values; an empty name leaves an optional input out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the values that the node defines.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name of the node, unique in the graph.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Name of the operator, such as `Conv`.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Attributes of the operator, such as strides and pads.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
}

/// Attribute of a node (`AttributeProto`): a name and one value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributeProto {
    /// Name of the attribute, such as `strides`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value of an attribute of the type `Float`.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// Value of an attribute of the type `Int`.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// Value of an attribute of the type `String`, as UTF-8 bytes.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    /// Values of an attribute of the type `Ints`.
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// Type of the attribute, an [`AttributeType`], which says which of the value fields is set.
    #[prost(enumeration = "AttributeType", tag = "20")]
    pub r#type: i32,
}

/// Type of an attribute's value (`AttributeProto.AttributeType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum AttributeType {
    /// No value is set.
    Undefined = 0,
    /// A 32-bit floating-point number, in the field `f`.
    Float = 1,
    /// A 64-bit integer, in the field `i`.
    Int = 2,
    /// A UTF-8 string, in the field `s`.
    String = 3,
    /// A list of 64-bit integers, in the field `ints`.
    Ints = 7,
}

/// Stored tensor (`TensorProto`): a weight or a constant.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    /// Shape of the tensor; empty for a scalar.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// Element type, a [`DataType`].
    #[prost(enumeration = "DataType", tag = "2")]
    pub data_type: i32,
    /// Name of the value that the tensor defines.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Elements in row-major order as little-endian bytes.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

/// Element type of a tensor (`TensorProto.DataType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum DataType {
    /// No type is set.
    Undefined = 0,
    /// 32-bit floating point (`f32`).
    Float = 1,
    /// 64-bit signed integer (`i64`).
    Int64 = 7,
    /// 16-bit floating point (`f16`).
    Float16 = 10,
}

impl DataType {
    /// Returns the size of one element in bytes; 0 for `Undefined`.
    pub fn size(self) -> usize {
        match self {
            Self::Undefined => 0,
            Self::Float16 => 2,
            Self::Float => 4,
            Self::Int64 => 8,
        }
    }
}

/// Name and type of a graph's input or output (`ValueInfoProto`).
#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfoProto {
    /// Name of the input or output value.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Element type and shape of the input or output.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// Description of the input or output in plain text.
    #[prost(string, tag = "3")]
    pub doc_string: String,
}

/// Type of a value (`TypeProto`). Of the kinds in ONNX's schema only tensors are supported.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeProto {
    /// Element type and shape of the tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// Element type and shape of a tensor (`TypeProto.Tensor`).
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorTypeProto {
    /// Element type, a [`DataType`].
    #[prost(enumeration = "DataType", tag = "1")]
    pub elem_type: i32,
    /// Shape of the tensor.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// Shape of a tensor whose axes may be free (`TensorShapeProto`).
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorShapeProto {
    /// Length of each axis, outermost first.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// Length of one axis (`TensorShapeProto.Dimension`).
#[derive(Clone, PartialEq, Message)]
pub(super) struct DimensionProto {
    /// Fixed length or the name of a free length.
    #[prost(oneof = "Dimension", tags = "1, 2")]
    pub value: Option<Dimension>,
}

/// Length of an axis: fixed, or free and identified by a name.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Dimension {
    /// Fixed length of the axis.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// Name of a free length, which is known when the graph runs.
    #[prost(string, tag = "2")]
    Param(String),
}
