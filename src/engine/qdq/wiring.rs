//! Who makes and who reads each tensor of a graph, and which tensors are constant. Cycles and names used twice are
//! looked at like anything else: nothing here follows a path without an end.

use std::collections::{HashMap, HashSet};

use super::super::onnx::{GraphProto, NodeProto, TensorProto};

pub(in crate::engine) const QUANTIZE: &str = "QuantizeLinear";
pub(in crate::engine) const DEQUANTIZE: &str = "DequantizeLinear";

pub(super) struct Wiring<'a> {
    pub nodes: &'a [NodeProto],
    initializers: HashMap<&'a str, &'a TensorProto>,
    producers: HashMap<&'a str, &'a NodeProto>,
    readers: HashMap<&'a str, Vec<&'a NodeProto>>,
}

impl<'a> Wiring<'a> {
    pub fn new(graph: &'a GraphProto) -> Self {
        let mut new = Self {
            nodes: &graph.node,
            initializers: graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
            producers: HashMap::new(),
            readers: HashMap::new(),
        };
        for node in &graph.node {
            new.producers.extend(node.output.iter().map(|name| (name.as_str(), node)));
            for name in node.input.iter().filter(|name| !name.is_empty()) {
                new.readers.entry(name).or_default().push(node);
            }
        }
        new
    }

    pub fn of_type(&self, op_type: &'static str) -> impl Iterator<Item = &'a NodeProto> + use<'a> {
        self.nodes.iter().filter(move |node| node.op_type == op_type)
    }

    pub fn initializer(&self, name: &str) -> Option<&'a TensorProto> {
        self.initializers.get(name).copied()
    }

    /// The value of an initialiser or of a Constant node.
    pub fn constant(&self, name: &str) -> Option<&'a TensorProto> {
        self.initializer(name).or_else(|| {
            let node = self.producer(name).filter(|node| node.op_type == "Constant")?;
            node.attribute.iter().find(|attribute| attribute.name == "value")?.t.as_ref()
        })
    }

    pub fn producer(&self, name: &str) -> Option<&'a NodeProto> {
        self.producers.get(name).copied()
    }

    pub fn readers(&self, name: &str) -> &[&'a NodeProto] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    /// The nodes that read what this node makes.
    pub fn followers(&self, node: &'a NodeProto) -> impl Iterator<Item = &'a NodeProto> {
        node.output.iter().flat_map(|name| self.readers(name)).copied()
    }

    /// The outputs of all nodes from which a QuantizeLinear or DequantizeLinear is reached: everything but the float
    /// tail.
    pub fn body(&self) -> HashSet<&'a str> {
        let quantisers = self.of_type(QUANTIZE).chain(self.of_type(DEQUANTIZE));
        let mut waiting: Vec<&str> = quantisers.flat_map(|node| &node.input).map(String::as_str).collect();
        let mut body = HashSet::new();
        while let Some(name) = waiting.pop() {
            if body.insert(name) {
                let above = self.producer(name).into_iter().flat_map(|node| &node.input);
                waiting.extend(above.map(String::as_str));
            }
        }
        body
    }
}

/// The node's input of that position, empty if it has none.
pub(in crate::engine) fn input(node: &NodeProto, index: usize) -> &str {
    node.input.get(index).map_or("", String::as_str)
}

/// The first thing that the node makes.
pub(in crate::engine) fn output(node: &NodeProto) -> &str {
    node.output.first().map_or("", String::as_str)
}

/// What to call a node in a message: nodes need not have names.
pub(in crate::engine) fn name(node: &NodeProto) -> &str {
    if node.name.is_empty() { output(node) } else { &node.name }
}

/// The axis of a node, counted from the front: a negative one counts from the end of a tensor of `rank` dimensions.
pub(in crate::engine) fn axis(node: &NodeProto, default: i64, rank: usize) -> i64 {
    let axis = attribute(node, "axis", default);
    if axis < 0 { axis.saturating_add(rank as i64) } else { axis }
}

pub(in crate::engine) fn attribute(node: &NodeProto, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name == name).map_or(default, |attribute| attribute.i)
}
