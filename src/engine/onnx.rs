//! The messages of an ONNX file that fcam reads, as prost decodes them: names and tags are those of onnx.proto. Fields
//! that nothing here asks for are skipped; of what the contract refuses, only whether it is there is kept.

// Each name stands in ONNX's specification with its meaning.
#![allow(missing_docs)]

/// A message of which only the presence counts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unread {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelProto {
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<Unread>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<Unread>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(string, tag = "7")]
    pub domain: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub f: f32,
    #[prost(int64, tag = "3")]
    pub i: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    pub g: Option<Unread>,
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<Unread>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Unread>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(enumeration = "DataType", tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Unread>,
    #[prost(enumeration = "DataLocation", optional, tag = "14")]
    pub data_location: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DataType {
    Undefined = 0,
    Float = 1,
    Uint8 = 2,
    Int8 = 3,
    Uint16 = 4,
    Int16 = 5,
    Int32 = 6,
    Int64 = 7,
    String = 8,
    Bool = 9,
    Float16 = 10,
    Double = 11,
    Uint32 = 12,
    Uint64 = 13,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DataLocation {
    Default = 0,
    External = 1,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Dimension {
    #[prost(oneof = "Size", tags = "1, 2")]
    pub value: Option<Size>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Size {
    #[prost(int64, tag = "1")]
    DimValue(i64),
    #[prost(string, tag = "2")]
    DimParam(String),
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tract_onnx::pb;

    use super::*;

    fn same_tensor(ours: &TensorProto, theirs: &pb::TensorProto) {
        assert_eq!((&ours.name, ours.data_type, &ours.dims), (&theirs.name, theirs.data_type, &theirs.dims));
        assert_eq!((&ours.raw_data, &ours.float_data), (&theirs.raw_data, &theirs.float_data));
        assert_eq!((&ours.int32_data, &ours.int64_data), (&theirs.int32_data, &theirs.int64_data));
    }

    fn same_node(ours: &NodeProto, theirs: &pb::NodeProto) {
        assert_eq!((&ours.name, &ours.op_type, &ours.domain), (&theirs.name, &theirs.op_type, &theirs.domain));
        assert_eq!((&ours.input, &ours.output), (&theirs.input, &theirs.output));
        assert_eq!(ours.attribute.len(), theirs.attribute.len());
        for (ours, theirs) in ours.attribute.iter().zip(&theirs.attribute) {
            assert_eq!((&ours.name, ours.f, ours.i, &ours.s), (&theirs.name, theirs.f, theirs.i, &theirs.s));
            assert_eq!((&ours.ints, &ours.floats), (&theirs.ints, &theirs.floats));
            ours.t.iter().zip(&theirs.t).for_each(|(ours, theirs)| same_tensor(ours, theirs));
        }
    }

    #[test]
    fn a_file_reads_as_tract_reads_it() {
        let file = std::fs::read("models/default/model.onnx").unwrap();
        let (ours, theirs) = (ModelProto::decode(&*file).unwrap(), pb::ModelProto::decode(&*file).unwrap());
        assert_eq!(ours.opset_import[0].version, theirs.opset_import[0].version);
        let (ours, theirs) = (ours.graph.unwrap(), theirs.graph.unwrap());
        assert!(ours.node.len() > 100);
        assert_eq!((ours.node.len(), ours.initializer.len()), (theirs.node.len(), theirs.initializer.len()));
        ours.node.iter().zip(&theirs.node).for_each(|(ours, theirs)| same_node(ours, theirs));
        ours.initializer.iter().zip(&theirs.initializer).for_each(|(ours, theirs)| same_tensor(ours, theirs));
        for (ours, theirs) in ours.input.iter().chain(&ours.output).zip(theirs.input.iter().chain(&theirs.output)) {
            let Some(pb::type_proto::Value::TensorType(tensor)) = &theirs.r#type.as_ref().unwrap().value else {
                panic!()
            };
            let (shape, dims) = (
                &ours.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape,
                &tensor.shape.as_ref().unwrap().dim,
            );
            for (ours, theirs) in shape.as_ref().unwrap().dim.iter().zip(dims) {
                let pb::tensor_shape_proto::dimension::Value::DimValue(size) = theirs.value.clone().unwrap() else {
                    panic!()
                };
                assert_eq!(ours.value, Some(Size::DimValue(size)));
            }
            assert_eq!(ours.name, theirs.name);
        }
    }
}
