//! In: the bytes of an ONNX file. Out: what in it breaks the bundle's contract (models/README.md), rule by rule.

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::{Error, Shape};

/// Reads the protobuf; refuses what is not an ONNX model.
pub(super) fn parse(onnx: &[u8]) -> Result<ModelProto, Error> {
    tract_onnx::onnx().proto_model_for_read(&mut &*onnx).map_err(|error| Error::Load(format!("{error:#}")))
}

/// True if the graph has QuantizeLinear nodes.
pub(super) fn is_quantised(model: &ModelProto) -> bool {
    model.graph.iter().flat_map(|graph| &graph.node).any(|node| node.op_type == "QuantizeLinear")
}

/// The positions of `logits` and `map` among the outputs.
pub(super) fn check_interface(model: &ModelProto, _shape: Shape) -> Result<[usize; 2], Error> {
    let outputs: Vec<&str> = model.graph.iter().flat_map(|graph| &graph.output).map(|o| o.name.as_str()).collect();
    let find = |name: &str| {
        outputs.iter().position(|o| *o == name).ok_or_else(|| Error::Shape(format!("it has no output `{name}`")))
    };
    Ok([find("logits")?, find("map")?])
}
