//! The file itself: inputs, outputs, opset, domains, control flow, and values that are there and finite.

use std::collections::HashSet;

use super::super::onnx::{DataType, GraphProto, ModelProto, NodeProto, Size, TensorProto, TypeProto, ValueInfoProto};
use super::wiring::{Wiring, name};
use super::{Problem, Shape, tensor};

const OPSETS: std::ops::RangeInclusive<i64> = 13..=17;

/// Pixels of a side of the input.
const SIDES: std::ops::RangeInclusive<usize> = 1..=2048;

/// Values that one operator may ask for: sixteen float planes of the largest input that a bundle may have.
const MAX_GROWTH: f64 = 16.0 * 2048.0 * 2048.0;

/// What is wrong with a file of a bundle, whose inputs and outputs are those of the contract.
pub(super) fn problems(model: &ModelProto, shape: Shape) -> Vec<Problem> {
    let Some(graph) = &model.graph else {
        return vec![Problem::file("", "there is no graph in the file")];
    };
    let Shape { width, height, classes } = shape;
    let mut found = ports("input", inputs(graph), &[("input", &[1, 3, height, width])]);
    found.extend(ports("output", graph.output.iter(), &[("logits", &[1, classes]), ("map", &[1, 1, height, width])]));
    found.extend(unsound(model, graph));
    found
}

/// Height and width of the only input of anybody's network, and the names of its outputs.
pub(super) fn interface(model: &ModelProto) -> Result<([usize; 2], Vec<&str>), Vec<Problem>> {
    let Some(graph) = &model.graph else {
        return Err(vec![Problem::file("", "there is no graph in the file")]);
    };
    let mut found = unsound(model, graph);
    if graph.output.is_empty() {
        found.push(Problem::file("", "has no output"));
    }
    let inputs: Vec<&ValueInfoProto> = inputs(graph).collect();
    let size = match inputs.as_slice() {
        [input] => size(input),
        _ => Err(Problem::file("", format!("has {} inputs, and must have one", inputs.len()))),
    };
    match size {
        Ok(size) if found.is_empty() => Ok((size, graph.output.iter().map(|output| output.name.as_str()).collect())),
        Ok(_) => Err(found),
        Err(problem) => {
            found.push(problem);
            Err(found)
        }
    }
}

/// Height and width of a picture's tensor.
fn size(input: &ValueInfoProto) -> Result<[usize; 2], Problem> {
    let shape =
        input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()).and_then(|tensor| tensor.shape.as_ref());
    let dims = shape.iter().flat_map(|shape| &shape.dim).map(|dim| match dim.value {
        Some(Size::DimValue(size)) => size,
        _ => 0,
    });
    let sides = match dims.collect::<Vec<i64>>().as_slice() {
        &[1, 3, height, width] => [height, width].map(|side| usize::try_from(side).unwrap_or(0)),
        _ => [0; 2],
    };
    let known = describe(input.r#type.as_ref());
    if known.starts_with("float32") && sides.iter().all(|side| SIDES.contains(side)) {
        return Ok(sides);
    }
    let (least, most) = (SIDES.start(), SIDES.end());
    Err(Problem::file(
        &input.name,
        format!("is {known}, and must be float32 [1, 3, H, W] with H and W of {least} to {most}"),
    ))
}

/// The inputs without the initialisers, which old files list among them.
fn inputs(graph: &GraphProto) -> impl Iterator<Item = &ValueInfoProto> {
    let stored: HashSet<&str> = graph.initializer.iter().map(|value| value.name.as_str()).collect();
    graph.input.iter().filter(move |input| !stored.contains(input.name.as_str()))
}

/// What is wrong with a file, whatever its inputs and outputs mean.
fn unsound(model: &ModelProto, graph: &GraphProto) -> Vec<Problem> {
    let mut found: Vec<Problem> = outputs_made(graph).collect();
    found.extend(domains(model));
    found.extend(values(graph));
    found.extend(graph.node.iter().filter_map(control_flow));
    found.extend(growth(graph));
    if !model.functions.is_empty() {
        found.push(Problem::file("", format!("defines {} functions of its own", model.functions.len())));
    }
    found
}

/// Inputs or outputs other than the contract's, or of another shape.
fn ports<'a>(
    side: &str,
    ports: impl Iterator<Item = &'a ValueInfoProto>,
    expected: &[(&str, &[usize])],
) -> Vec<Problem> {
    let ports: Vec<&ValueInfoProto> = ports.collect();
    let mut found = Vec::new();
    for (name, shape) in expected {
        match ports.iter().filter(|port| port.name == *name).collect::<Vec<_>>().as_slice() {
            [] => found.push(Problem::file("", format!("has no {side} `{name}`"))),
            [port] => {
                let is = describe(port.r#type.as_ref());
                let wanted = format!("float32 {shape:?}");
                if is != wanted {
                    found.push(Problem::file(name, format!("is {is}, and must be {wanted} by the manifest")));
                }
            }
            _ => found.push(Problem::file(name, format!("is an {side} twice"))),
        }
    }
    let unknown = ports.iter().filter(|port| expected.iter().all(|(name, _)| *name != port.name));
    found
        .extend(unknown.map(|port| Problem::file(&port.name, format!("is an {side} that the contract does not have"))));
    found
}

/// `float32 [1, 3, 64, 64]`, or as near to it as the file gets.
fn describe(port: Option<&TypeProto>) -> String {
    let Some(TypeProto { tensor_type: Some(tensor) }) = port else {
        return "not a tensor".into();
    };
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim).take(9).map(|dim| match &dim.value {
        Some(Size::DimValue(size)) => size.to_string(),
        Some(Size::DimParam(name)) => name.escape_debug().to_string(),
        None => "?".into(),
    });
    let dims = dims.collect::<Vec<_>>().join(", ");
    let is_float = tensor.elem_type == DataType::Float as i32;
    format!("{} [{dims}]", if is_float { "float32".into() } else { format!("of type {}", tensor.elem_type) })
}

/// tract looks an output's name up without asking whether it is there.
fn outputs_made(graph: &GraphProto) -> impl Iterator<Item = Problem> {
    let made: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    let lost = graph.output.iter().filter(move |output| !made.contains(output.name.as_str()));
    lost.map(|output| Problem::file(&output.name, "is an output that no node makes"))
}

fn domains(model: &ModelProto) -> Vec<Problem> {
    let is_default = |domain: &str| matches!(domain, "" | "ai.onnx");
    let mut found = Vec::new();
    let mut opsets = 0;
    for opset in &model.opset_import {
        if !is_default(&opset.domain) {
            let domain = opset.domain.escape_debug();
            found.push(Problem::file("", format!("imports the operator domain {domain}: only ONNX's own is allowed")));
            continue;
        }
        opsets += 1;
        if !OPSETS.contains(&opset.version) {
            found.push(Problem::file("", format!("opset {} is not one of 13 to 17", opset.version)));
        }
    }
    if opsets != 1 {
        found.push(Problem::file("", format!("names {opsets} opsets of ONNX's own domain, not one")));
    }
    let nodes = model.graph.iter().flat_map(|graph| &graph.node).filter(|node| !is_default(&node.domain));
    found.extend(nodes.map(|node| {
        Problem::file(name(node), format!("{} is of the operator domain {}", node.op_type, node.domain.escape_debug()))
    }));
    found
}

/// Stored tensors that are not what they claim, among the initialisers and the attributes.
fn values(graph: &GraphProto) -> Vec<Problem> {
    let check = |name: &str, value: &TensorProto| tensor::problem(value).map(|why| Problem::file(name, why));
    let mut found: Vec<Problem> = graph.initializer.iter().filter_map(|value| check(&value.name, value)).collect();
    for node in &graph.node {
        let attributes = node.attribute.iter().flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
        found.extend(attributes.filter_map(|value| check(name(node), value)));
    }
    let sparse = graph.node.iter().flat_map(|node| &node.attribute).any(|attribute| attribute.sparse_tensor.is_some());
    if sparse || !graph.sparse_initializer.is_empty() {
        found.push(Problem::file("", "has sparse tensors"));
    }
    found
}

/// Operators that make a large tensor of a small constant. Loaders compute them while they load, and to run out of
/// memory ends the process: what asks for too much in one step is refused here, what multiplies up over several by the
/// loaded sizes.
fn growth(graph: &GraphProto) -> Vec<Problem> {
    const GROWING: [&str; 7] = ["ConstantOfShape", "Expand", "OneHot", "Pad", "Range", "Resize", "Tile"];
    let wiring = Wiring::new(graph);
    let growing = graph.node.iter().filter(|node| GROWING.contains(&node.op_type.as_str()));
    let broken = growing.filter(|node| {
        // The first input of the others is what grows.
        let parameters = if matches!(node.op_type.as_str(), "ConstantOfShape" | "Range") { 0 } else { 1 };
        let mut constants = node.input.iter().skip(parameters).filter_map(|name| wiring.constant(name));
        constants.any(|constant| tensor::product(constant) > MAX_GROWTH)
    });
    broken.map(|node| Problem::file(name(node), format!("{} asks for a tensor of absurd size", node.op_type))).collect()
}

fn control_flow(node: &NodeProto) -> Option<Problem> {
    let mut attributes = node.attribute.iter();
    let inner = attributes.any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty());
    let control = inner || matches!(node.op_type.as_str(), "If" | "Loop" | "Scan");
    control.then(|| Problem::file(name(node), format!("{} is control flow", node.op_type)))
}
