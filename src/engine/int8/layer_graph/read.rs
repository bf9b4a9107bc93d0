//! The rewriter. In: an ONNX graph that keeps the QDQ rules of models/README.md. Out: the same network as a list of
//! integer layers.
//!
//! The graph is read as the file has it, before tract types it: there every scale and every weight still stands beside
//! its QuantizeLinear, while typing folds the weights into floats. Reading goes forward once. A DequantizeLinear is a
//! way to look at an int8 tensor, no computation; what a layer computes stays open until a QuantizeLinear names its
//! scale, so that an activation in between becomes a clamp. Operators that choose values and make none (nearest Resize,
//! MaxPool) stay in int8 whether or not a QuantizeLinear follows.
//!
//! What it does not know is refused by name ([`Unsupported`]), and so is a convolution that is not quantised, unless
//! the station file lists it.

mod convolution;
mod elementwise;
mod pooling;
mod quantization;
mod resize;
mod shape;
mod window;

use std::collections::HashMap;
use std::rc::Rc;

use quantization::Quantized;
#[cfg(test)]
pub use quantization::quantize;

use super::{
    Clamp, Constant, Conv, Fact, FloatConv, Function, Id, Layer, LayerGraph, Op, Unsupported, Window, clamp_of,
};
use crate::engine::onnx::{GraphProto, ModelProto, NodeProto, TensorProto};
use crate::engine::qdq::tensor;
use crate::engine::qdq::wiring::{DEQUANTIZE, QUANTIZE, input, name, output};

/// Reads the graph of a checked file.
pub(super) fn read(
    model: &ModelProto,
    input: [usize; 3],
    outputs: &[&str],
    float_layers: &[String],
) -> Result<LayerGraph, Unsupported> {
    let Some(graph) = &model.graph else { return Err(unsupported("", "", "the file has no graph")) };
    let mut reader = Reader::new(graph, input, float_layers);
    reader.read(graph)?;
    let outputs = outputs.iter().map(|name| reader.float(name)).collect::<Result<Vec<Id>, _>>()?;
    let Reader { facts, constants, layers, .. } = reader;
    Ok(LayerGraph { facts, constants, layers, input: 0, outputs })
}

/// A value of the ONNX graph while it is read.
#[derive(Debug, Clone)]
enum Value<'a> {
    /// A constant of the file.
    Constant(&'a TensorProto),
    /// Quantised weights or a quantised map, or those behind their DequantizeLinear.
    Weights(Rc<Quantized>),
    /// An int8 tensor.
    Int8(Id),
    /// The same seen through DequantizeLinear.
    View(Id),
    /// A computed result whose int8 scale is not known yet.
    Open(Box<Pending>),
    /// A float tensor.
    Float(Id),
}

#[derive(Debug, Clone)]
struct Pending {
    name: String,
    op: Op,
    height: usize,
    width: usize,
    channels: usize,
    /// What it was written as, once for each scale (none: float).
    written: Vec<(Option<u32>, Id)>,
}

fn unsupported(node: &str, op: &str, reason: impl Into<String>) -> Unsupported {
    Unsupported { node: node.into(), op: op.into(), reason: reason.into() }
}

struct Reader<'a> {
    facts: Vec<Fact>,
    constants: Vec<Constant>,
    layers: Vec<Layer>,
    values: HashMap<&'a str, Value<'a>>,
    /// The constants by the name that nodes read them by.
    maps: HashMap<&'a str, Id>,
    /// Names of the convolutions that are computed in float.
    float_layers: &'a [String],
}

/// Why a node cannot be read; the node's name is added outside.
type Reason<T> = Result<T, String>;

impl<'a> Reader<'a> {
    fn new(graph: &'a GraphProto, [height, width, channels]: [usize; 3], float_layers: &'a [String]) -> Self {
        let fact = Fact { height, width, channels, scale: Some(super::super::INPUT_SCALE) };
        let constants = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), Value::Constant(tensor)));
        let mut values: HashMap<&str, Value> = constants.collect();
        values.insert("input", Value::View(0));
        Self {
            facts: vec![fact],
            constants: Vec::new(),
            layers: Vec::new(),
            values,
            maps: HashMap::new(),
            float_layers,
        }
    }

    /// Reads node after node; a file may list them in any order that has no cycle.
    fn read(&mut self, graph: &'a GraphProto) -> Result<(), Unsupported> {
        let mut waiting: Vec<&'a NodeProto> = graph.node.iter().collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut later = Vec::new();
            for node in waiting {
                if node.input.iter().all(|name| name.is_empty() || self.values.contains_key(name.as_str())) {
                    let value = self.node(node).map_err(|reason| unsupported(name(node), &node.op_type, reason))?;
                    if self.values.insert(output(node), value).is_some() {
                        return Err(unsupported(name(node), &node.op_type, "another node writes the same tensor"));
                    }
                } else {
                    later.push(node);
                }
            }
            if later.len() == before {
                let stuck = later.first().map_or("", |node| name(node));
                return Err(unsupported(stuck, "", "nothing makes what it reads"));
            }
            waiting = later;
        }
        Ok(())
    }

    fn node(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        match node.op_type.as_str() {
            "Constant" => self.constant_node(node),
            "Identity" | "Dropout" => self.value(node, 0).cloned(),
            QUANTIZE => self.quantize(node),
            DEQUANTIZE => self.dequantize(node),
            "Conv" => self.conv(node),
            "Gemm" => self.gemm(node),
            "Relu" => self.clamp(node, Clamp { low: 0.0, high: f32::INFINITY }),
            "Clip" => {
                let low = self.scalar(node, 1)?.unwrap_or(f32::NEG_INFINITY);
                let high = self.scalar(node, 2)?.unwrap_or(f32::INFINITY);
                self.clamp(node, Clamp { low, high })
            }
            "Add" | "Mul" | "Sub" | "Div" => self.binary(node),
            "Concat" => self.concat(node),
            "Resize" => self.resize(node),
            "MaxPool" => self.max_pool(node),
            "AveragePool" => self.average_pool(node),
            "GlobalAveragePool" => self.global_average(node),
            "Flatten" | "Reshape" | "Squeeze" => self.flatten(node),
            "Sigmoid" => self.map(node, Function::Sigmoid),
            "Exp" => self.map(node, Function::Exp),
            "Log" => self.map(node, Function::Log),
            "ReduceMean" => self.mean(node),
            _ => Err("is not known to the int8 engine".into()),
        }
    }

    fn value(&self, node: &'a NodeProto, index: usize) -> Reason<&Value<'a>> {
        self.values.get(input(node, index)).ok_or_else(|| format!("has no input {index}"))
    }

    fn constant_node(&self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let value = node.attribute.iter().find(|attribute| attribute.name == "value").and_then(|a| a.t.as_ref());
        value.map(Value::Constant).ok_or_else(|| "has no tensor".into())
    }

    fn constant(&self, node: &'a NodeProto, index: usize) -> Reason<&'a TensorProto> {
        match self.value(node, index)? {
            Value::Constant(tensor) => Ok(tensor),
            _ => Err(format!("input {index} is not constant")),
        }
    }

    fn floats(&self, node: &'a NodeProto, index: usize) -> Reason<Vec<f32>> {
        let tensor = self.constant(node, index)?;
        tensor::floats(tensor).map(Iterator::collect).ok_or_else(|| format!("input {index} is not float32"))
    }

    /// An optional scalar input.
    fn scalar(&self, node: &'a NodeProto, index: usize) -> Reason<Option<f32>> {
        if input(node, index).is_empty() {
            return Ok(None);
        }
        match self.floats(node, index)?.as_slice() {
            [value] => Ok(Some(*value)),
            _ => Err(format!("input {index} is not one number")),
        }
    }

    fn fact(&self, id: Id) -> Reason<&Fact> {
        self.facts.get(id).ok_or_else(|| "reads a tensor that is not there".into())
    }

    /// Adds a layer and what it writes; refuses what would not fit into any camera's memory.
    fn push(&mut self, node: &str, op: Op, fact: Fact) -> Reason<Id> {
        let Fact { height, width, channels, .. } = fact;
        fits(height, width, channels)?;
        let output = self.facts.len();
        self.facts.push(fact);
        self.layers.push(Layer { name: node.into(), op, output });
        Ok(output)
    }

    /// The int8 tensor that an input looks at.
    fn view(&self, node: &'a NodeProto, index: usize) -> Reason<Id> {
        match self.value(node, index)? {
            Value::View(id) => Ok(*id),
            _ => Err(format!("input {index} does not come from DequantizeLinear")),
        }
    }

    /// A result that waits for its scale.
    fn open(&self, node: &'a NodeProto, op: Op, size: (usize, usize), channels: usize) -> Value<'a> {
        let (height, width) = size;
        let name = name(node).to_owned();
        Value::Open(Box::new(Pending { name, op, height, width, channels, written: Vec::new() }))
    }

    /// The value of a name as a tensor: int8 of that scale, or float if there is none.
    fn write(&mut self, name: &str, scale: Option<f32>) -> Reason<Id> {
        let Some(Value::Open(pending)) = self.values.get(name) else { return Err("is no result of a layer".into()) };
        let key = scale.map(f32::to_bits);
        if let Some((_, id)) = pending.written.iter().find(|(written, _)| *written == key) {
            return Ok(*id);
        }
        let Pending { name: layer, op, height, width, channels, .. } = (**pending).clone();
        if scale.is_none() && !matches!(op, Op::Conv(_) | Op::FloatConv(_)) {
            return Err(format!("the result of {layer} is not quantised"));
        }
        let id = self.push(&layer, op, Fact { height, width, channels, scale })?;
        if let Some(Value::Open(pending)) = self.values.get_mut(name) {
            pending.written.push((key, id));
        }
        Ok(id)
    }

    /// The float tensor of a name.
    fn float_id(&mut self, name: &str) -> Reason<Id> {
        match self.values.get(name) {
            Some(Value::Float(id)) => Ok(*id),
            Some(Value::Open(_)) => self.write(name, None),
            Some(Value::View(id)) => {
                let (input, fact) = (*id, Fact { scale: None, ..self.fact(*id)?.clone() });
                self.push(name, Op::Dequantize { input }, fact)
            }
            _ => Err("is no float tensor".into()),
        }
    }

    fn float(&mut self, name: &str) -> Result<Id, Unsupported> {
        self.float_id(name).map_err(|reason| unsupported(name, "output", reason))
    }
}

/// The most values in one tensor: sixteen planes of the largest input that a bundle may have.
const MAX_VALUES: usize = 16 * 2048 * 2048;

fn fits(height: usize, width: usize, channels: usize) -> Reason<()> {
    match height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels)) {
        Some(1..=MAX_VALUES) => Ok(()),
        _ => Err(format!("needs {height} x {width} x {channels} values, the limit is {MAX_VALUES}")),
    }
}
