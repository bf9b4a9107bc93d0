//! The eight rules that make one int8 file legal for tract and TensorRT alike, in the words of models/README.md, and
//! the input's own quantisation, which lets an int8 engine take the camera's tensor as it is.

use super::super::onnx::{DataType, NodeProto};
use super::tensor::{elements, floats, has_type, int8_zeros};
use super::wiring::{DEQUANTIZE, QUANTIZE, Wiring, attribute, axis, input, name, output};
use super::{FLOAT_LAYER, Problem};

const INPUT_SCALE: f32 = 1.0 / 128.0;
const WEIGHTED: [&str; 3] = ["Conv", "ConvTranspose", "Gemm"];
const INTEGER: [&str; 5] = ["QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"];

/// What is wrong with a node, if anything.
type Check<'a> = &'a dyn Fn(&NodeProto) -> Option<String>;

pub(super) fn problems(wiring: &Wiring) -> Vec<Problem> {
    let mut found = input_quantised(wiring);
    let body = wiring.body();
    let at_each_node: [(u8, Check); 8] = [
        (1, &|node| parameters(wiring, node)),
        (2, &|node| granularity(wiring, node)),
        (3, &|node| weights(wiring, node)),
        (4, &|node| bias(wiring, node)),
        (FLOAT_LAYER, &|node| body.contains(output(node)).then(|| layer(wiring, node)).flatten()),
        (6, &|node| INTEGER.contains(&node.op_type.as_str()).then(|| format!("{} is not QDQ", node.op_type))),
        (7, &|node| (node.op_type == "BatchNormalization").then(|| "is not folded into its Conv".into())),
        (8, &|node| activation(wiring, node)),
    ];
    for (rule, check) in at_each_node {
        let broken = wiring.nodes.iter().filter_map(|node| Some(Problem::new(rule, name(node), check(node)?)));
        found.extend(broken);
    }
    found
}

fn is_quantiser(node: &NodeProto) -> bool {
    node.op_type == QUANTIZE || node.op_type == DEQUANTIZE
}

/// The input goes into QuantizeLinear of scale 1/128 and nowhere else.
fn input_quantised(wiring: &Wiring) -> Vec<Problem> {
    let readers = wiring.readers("input");
    let mut found = Vec::new();
    if readers.is_empty() || readers.iter().any(|node| node.op_type != QUANTIZE) {
        found.push(Problem::file("input", "is not followed at once by QuantizeLinear alone"));
    }
    for node in readers.iter().filter(|node| node.op_type == QUANTIZE) {
        let scale = wiring.constant(input(node, 1)).and_then(floats).map(Iterator::collect::<Vec<f32>>);
        if scale.as_deref() != Some(&[INPUT_SCALE]) {
            found.push(Problem::file(name(node), "quantises the input with a scale that is not 1/128"));
        }
    }
    found
}

/// Rule 1: three inputs, a constant finite scale above zero, a number or a list, and int8 zeros of its shape.
fn parameters(wiring: &Wiring, node: &NodeProto) -> Option<String> {
    if !is_quantiser(node) {
        return None;
    }
    if node.input.len() != 3 || node.input.iter().any(String::is_empty) {
        let inputs = node.input.iter().filter(|name| !name.is_empty()).count();
        return Some(format!("{} has {inputs} inputs, not 3", node.op_type));
    }
    let (Some(scale), Some(zero)) = (wiring.constant(input(node, 1)), wiring.constant(input(node, 2))) else {
        return Some("scale or zero point is not constant".into());
    };
    let usable = floats(scale).is_some_and(|mut values| values.all(|value| value.is_finite() && value > 0.0));
    if !usable {
        return Some("scale is not a finite float32 above zero".into());
    }
    if scale.dims.len() > 1 {
        return Some(format!("scale has {} dimensions: it is a number or a list", scale.dims.len()));
    }
    match int8_zeros(zero) {
        None => Some("zero point is not all int8 zeros".into()),
        Some(_) if zero.dims != scale.dims => {
            Some(format!("zero point has the shape {:?} and scale {:?}", zero.dims, scale.dims))
        }
        Some(_) => None,
    }
}

/// Rule 2: activations per tensor, weights per tensor or per output channel.
fn granularity(wiring: &Wiring, node: &NodeProto) -> Option<String> {
    let scales =
        wiring.constant(input(node, 1)).filter(|_| is_quantiser(node)).and_then(|scale| elements(&scale.dims))?;
    if scales == 1 {
        return None;
    }
    let layers = weight_uses(wiring, node);
    let Some(source) = wiring.constant(quantised_source(wiring, node)).filter(|_| !layers.is_empty()) else {
        return Some(format!("an activation has {scales} scales, not one"));
    };
    let axis = axis(node, 1, source.dims.len());
    if let Some(layer) = layers.iter().find(|layer| output_axis(layer) != Some(axis)) {
        return Some(format!(
            "the weights of {} have scales along axis {axis}, not their output channels",
            name(layer)
        ));
    }
    let channels = usize::try_from(axis).ok().and_then(|axis| source.dims.get(axis)).copied().unwrap_or(0);
    (i64::try_from(scales) != Ok(channels)).then(|| format!("{scales} scales for {channels} output channels"))
}

/// The axis of output channels in a layer's weights; none where the contract knows none.
fn output_axis(layer: &NodeProto) -> Option<i64> {
    match layer.op_type.as_str() {
        "Gemm" => (attribute(layer, "transB", 0) == 1).then_some(0),
        "ConvTranspose" => Some(1),
        _ => Some(0),
    }
}

/// The float tensor behind a Q node, or behind a DQ node's Q.
fn quantised_source<'a>(wiring: &Wiring<'a>, node: &'a NodeProto) -> &'a str {
    let first = input(node, 0);
    match wiring.producer(first) {
        Some(before) if node.op_type == DEQUANTIZE => input(before, 0),
        _ => first,
    }
}

/// The layers whose weight input a Q or DQ node leads to.
fn weight_uses<'a>(wiring: &Wiring<'a>, node: &'a NodeProto) -> Vec<&'a NodeProto> {
    let ends: Vec<&NodeProto> = match node.op_type.as_str() {
        DEQUANTIZE => vec![node],
        _ => wiring.followers(node).filter(|node| node.op_type == DEQUANTIZE).collect(),
    };
    let uses = ends.into_iter().flat_map(|end| {
        let layers = wiring.followers(end).filter(|layer| WEIGHTED.contains(&layer.op_type.as_str()));
        layers.filter(move |layer| input(layer, 1) == output(end))
    });
    uses.collect()
}

/// Rule 3: weights are a float32 initialiser behind QuantizeLinear and DequantizeLinear.
fn weights(wiring: &Wiring, node: &NodeProto) -> Option<String> {
    if !WEIGHTED.contains(&node.op_type.as_str()) {
        return None;
    }
    // A float layer is for rule 5 to judge.
    let dequantise = wiring.producer(input(node, 1)).filter(|node| node.op_type == DEQUANTIZE)?;
    let Some(quantise) = wiring.producer(input(dequantise, 0)).filter(|node| node.op_type == QUANTIZE) else {
        return Some("weights are stored as integers, not as float32 behind QuantizeLinear".into());
    };
    let stored = wiring.initializer(input(quantise, 0));
    (!stored.is_some_and(|weights| has_type(weights, DataType::Float)))
        .then(|| "weights are not a float32 initialiser".into())
}

/// Rule 4: no DequantizeLinear of an int32.
fn bias(wiring: &Wiring, node: &NodeProto) -> Option<String> {
    let value = wiring.constant(input(node, 0)).filter(|_| node.op_type == DEQUANTIZE)?;
    has_type(value, DataType::Int32).then(|| "dequantises an int32: biases stay float32".into())
}

/// Rule 5, of a layer outside of the float tail: data and weights come from DequantizeLinear.
fn layer(wiring: &Wiring, node: &NodeProto) -> Option<String> {
    let advice = match node.op_type.as_str() {
        "Conv" => format!("; {}", how_to_allow(name(node))),
        "Gemm" => String::new(),
        _ => return None,
    };
    let side = float_side(wiring, node)?;
    Some(format!("{side} not come from DequantizeLinear, and int8 layers follow{advice}"))
}

/// What to write where for a float convolution that is meant to be there.
pub(in crate::engine) fn how_to_allow(name: &str) -> String {
    format!(
        "float_layers = [{name:?}] under [engine] in the station file (--float-layer on the command line) has it computed in float, \
         at the cost of speed"
    )
}

/// Which side of a layer is float, with its verb; none if both come from DequantizeLinear.
pub(super) fn float_side(wiring: &Wiring, node: &NodeProto) -> Option<&'static str> {
    let sides = ["data does", "weights do"].into_iter().enumerate();
    let is_float = |index| wiring.producer(input(node, index)).is_none_or(|source| source.op_type != DEQUANTIZE);
    sides.filter(|(index, _)| is_float(*index)).map(|(_, side)| side).next()
}

/// Rule 8: no QuantizeLinear between a Conv and the Relu or Clip that follows it.
fn activation(wiring: &Wiring, node: &NodeProto) -> Option<String> {
    let conv = wiring.producer(input(node, 0)).filter(|conv| conv.op_type == "Conv" && node.op_type == QUANTIZE)?;
    let mut behind = wiring.followers(node).flat_map(|dequantise| wiring.followers(dequantise));
    let cut = behind.any(|node| matches!(node.op_type.as_str(), "Relu" | "Clip"));
    cut.then(|| format!("stands between {} and its activation", name(conv)))
}
