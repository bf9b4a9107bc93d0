//! In: the bytes of an ONNX file. Out: what in it breaks the bundle's contract (models/README.md), rule by rule.
//!
//! It reads the file's structure alone and runs nothing, so that hostile bytes are refused before a loader meets them:
//! no size that the file claims is believed before the bytes are there.

use std::fmt;

use prost::Message;

use super::onnx::ModelProto;
use super::{Error, Shape};

mod file;
pub(super) mod rules;
pub(super) mod tensor;
pub(super) mod wiring;

use wiring::Wiring;

/// The rule against float layers among int8 ones.
pub const FLOAT_LAYER: u8 = 5;

/// One broken rule, at one node or in the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// 1 to 8, as in models/README.md; 0 is the file itself: inputs, outputs, opset, domains, values.
    pub rule: u8,
    /// The node's or tensor's name; empty for the file as a whole.
    pub node: String,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    fn new(rule: u8, node: &str, message: impl Into<String>) -> Self {
        Self { rule, node: node.to_owned(), message: message.into() }
    }

    fn file(node: &str, message: impl Into<String>) -> Self {
        Self::new(0, node, message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rule > 0 {
            write!(f, "rule {}: ", self.rule)?;
        }
        if !self.node.is_empty() {
            write!(f, "{}: ", self.node.escape_debug())?;
        }
        f.write_str(&self.message)
    }
}

/// Every broken rule of a network file; `int8` asks for the QDQ rules as well as those of the interface.
///
/// ```
/// use fcam::bundle::Bundle;
/// use fcam::engine::qdq;
///
/// let bundle = Bundle::embedded()?;
/// assert_eq!(qdq::problems(bundle.onnx(), bundle.shape(), true), []);
/// let problems = qdq::problems(b"no network", bundle.shape(), true);
/// assert_eq!((problems.len(), problems[0].rule), (1, 0)); // the file itself
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn problems(onnx: &[u8], shape: Shape, int8: bool) -> Vec<Problem> {
    let model = match parse(onnx) {
        Ok(model) => model,
        Err(error) => return vec![Problem::file("", error.to_string())],
    };
    let mut found = file::problems(&model, shape);
    if let (true, Some(graph)) = (int8, &model.graph) {
        let wiring = Wiring::new(graph);
        found.extend(rules::problems(&wiring));
    }
    found
}

/// Reads the protobuf; refuses what is not an ONNX model.
pub(super) fn parse(onnx: &[u8]) -> Result<ModelProto, Error> {
    ModelProto::decode(onnx).map_err(|error| Error::Load(format!("it is not an ONNX file: {error}")))
}

/// Height and width of the only input of anybody's network, and the names of its outputs; refuses a file that is not
/// sound.
pub(super) fn interface(model: &ModelProto) -> Result<([usize; 2], Vec<&str>), Error> {
    file::interface(model).map_err(|problems| Error::Shape(first_words(&problems)))
}

/// Refuses a name of `engine.float_layers` that is not that of a float convolution in an int8 network.
pub(super) fn check_float_layers(model: &ModelProto, names: &[String]) -> Result<(), Error> {
    let Some(graph) = model.graph.as_ref().filter(|_| !names.is_empty()) else { return Ok(()) };
    let wiring = Wiring::new(graph);
    let quantised = is_quantised(model);
    for name in names {
        if let Some(reason) = float_layer_problem(&wiring, quantised, name) {
            return Err(Error::FloatLayer { node: name.escape_debug().to_string(), reason });
        }
    }
    Ok(())
}

fn float_layer_problem(wiring: &Wiring, quantised: bool, name: &str) -> Option<String> {
    let of_that_name = wiring.nodes.iter().filter(|node| wiring::name(node) == name);
    match of_that_name.collect::<Vec<_>>().as_slice() {
        _ if !quantised => Some("and the whole network is float".into()),
        [] => Some("and the network has no such node".into()),
        nodes => nodes.iter().find_map(|node| match node.op_type.as_str() {
            "Conv" if rules::float_side(wiring, node).is_some() => None,
            "Conv" => Some("which is quantised and stays int8".into()),
            other => Some(format!("which is a {} and no convolution", other.escape_debug())),
        }),
    }
}

/// True if the graph has QuantizeLinear nodes.
pub(super) fn is_quantised(model: &ModelProto) -> bool {
    model.graph.iter().flat_map(|graph| &graph.node).any(|node| node.op_type == "QuantizeLinear")
}

fn first_words(problems: &[Problem]) -> String {
    problems.iter().take(8).map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

/// The positions of `logits` and `map` among the outputs, of a file that has the contract's interface and honest sizes.
pub(super) fn check_interface(model: &ModelProto, shape: Shape) -> Result<[usize; 2], Error> {
    let found = file::problems(model, shape);
    if !found.is_empty() {
        return Err(Error::Shape(first_words(&found)));
    }
    let outputs: Vec<&str> = model.graph.iter().flat_map(|graph| &graph.output).map(|o| o.name.as_str()).collect();
    let find = |name: &str| {
        outputs.iter().position(|o| *o == name).ok_or_else(|| Error::Shape(format!("it has no output `{name}`")))
    };
    Ok([find("logits")?, find("map")?])
}
