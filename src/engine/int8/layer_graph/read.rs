//! The rewriter. In: an ONNX graph that keeps the QDQ rules of models/README.md. Out: the same network as a list of integer layers.
//!
//! The graph is read as the file has it, before tract types it: there every scale and every weight still stands beside its
//! QuantizeLinear, while typing folds the weights into floats. Reading goes forward once. A DequantizeLinear is a way to look at
//! an int8 tensor, no computation; what a layer computes stays open until a QuantizeLinear names its scale, so that an activation
//! in between becomes a clamp. Operators that choose values and make none (nearest Resize, MaxPool) stay in int8 whether or not a
//! QuantizeLinear follows.
//!
//! What it does not know is refused by name ([`Unsupported`]), and so is a convolution that is not quantised, unless the station file
//! lists it.

use std::collections::HashMap;
use std::rc::Rc;

use super::super::super::onnx::{GraphProto, ModelProto, NodeProto, TensorProto};
use super::super::super::qdq::rules::how_to_allow;
use super::super::super::qdq::tensor;
use super::super::super::qdq::wiring::{DEQUANTIZE, QUANTIZE, attribute, axis, input, name, output};
use super::{Clamp, Conv, Fact, FloatConv, Function, Id, Layer, LayerGraph, Op, Unsupported, Window, clamp_of};

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
    Ok(LayerGraph { facts: reader.facts, layers: reader.layers, input: 0, outputs })
}

/// A value of the ONNX graph while it is read.
#[derive(Debug, Clone)]
enum Value<'a> {
    /// A constant of the file.
    Constant(&'a TensorProto),
    /// Quantised weights, or those behind their DequantizeLinear.
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
struct Quantized {
    values: Vec<i8>,
    scales: Vec<f32>,
    dims: Vec<usize>,
}

impl Quantized {
    /// The real numbers: DequantizeLinear of ONNX.
    fn floats(&self) -> Reason<Vec<f32>> {
        let rows = self.dims.first().copied().unwrap_or(0).max(1);
        let scales = spread(&self.scales, rows)?;
        let rows = self.values.chunks((self.values.len() / rows).max(1)).zip(scales);
        Ok(rows.flat_map(|(row, scale)| row.iter().map(move |value| f32::from(*value) * scale)).collect())
    }
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
    layers: Vec<Layer>,
    values: HashMap<&'a str, Value<'a>>,
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
        Self { facts: vec![fact], layers: Vec::new(), values, float_layers }
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

    // --- values -----------------------------------------------------------------------------------------------------

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

    // --- quantisation -----------------------------------------------------------------------------------------------

    /// The scales of a Q or DQ node, whose zero points must be as many int8 zeros.
    fn scales(&self, node: &'a NodeProto) -> Reason<Vec<f32>> {
        let scales = self.floats(node, 1)?;
        match tensor::int8_zeros(self.constant(node, 2)?) {
            Some(zeros) if zeros == scales.len() => Ok(scales),
            _ => Err("its zero point is not one int8 zero a scale".into()),
        }
    }

    fn quantize(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let scales = self.scales(node)?;
        if !scales.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
            return Err("a scale is not a finite number above zero".into());
        }
        if let Value::Constant(tensor) = self.value(node, 0)? {
            let axis = axis(node, 1, tensor.dims.len());
            return quantize_constant(tensor, scales, axis).map(|w| Value::Weights(Rc::new(w)));
        }
        let [scale] = scales.as_slice() else { return Err("an activation has more than one scale".into()) };
        let scale = *scale;
        match self.value(node, 0)? {
            Value::View(id) if self.fact(*id)?.scale == Some(scale) => Ok(Value::Int8(*id)),
            Value::View(id) => {
                let (input, fact) = (*id, Fact { scale: Some(scale), ..self.fact(*id)?.clone() });
                self.push(name(node), Op::Requantize { input, clamp: Clamp::NONE }, fact).map(Value::Int8)
            }
            Value::Open(pending) if !matches!(pending.op, Op::FloatConv(_)) => {
                self.write(input(node, 0), Some(scale)).map(Value::Int8)
            }
            Value::Open(_) | Value::Float(_) => {
                let id = self.float_id(input(node, 0))?;
                let fact = Fact { scale: Some(scale), ..self.fact(id)?.clone() };
                self.push(name(node), Op::Quantize { input: id }, fact).map(Value::Int8)
            }
            Value::Int8(_) | Value::Weights(_) | Value::Constant(_) => Err("quantises what is not real".into()),
        }
    }

    fn dequantize(&self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let scales = self.scales(node)?;
        match self.value(node, 0)? {
            Value::Int8(id) if Some(scales.as_slice()) == self.fact(*id)?.scale.as_ref().map(std::slice::from_ref) => {
                Ok(Value::View(*id))
            }
            Value::Weights(weights) if scales.len() != 1 && axis(node, 1, weights.dims.len()) != 0 => {
                Err("its axis is not that of its QuantizeLinear".into())
            }
            Value::Weights(weights) if weights.scales == scales => Ok(Value::Weights(Rc::clone(weights))),
            _ => Err("its scale is not that of its QuantizeLinear".into()),
        }
    }

    // --- layers with weights ----------------------------------------------------------------------------------------

    fn weights(&self, node: &'a NodeProto) -> Reason<Rc<Quantized>> {
        match self.value(node, 1)? {
            Value::Weights(weights) => Ok(Rc::clone(weights)),
            _ => Err("its weights are not int8".into()),
        }
    }

    fn bias(&self, node: &'a NodeProto, channels: usize) -> Reason<Vec<f32>> {
        if input(node, 2).is_empty() {
            return Ok(vec![0.0; channels]);
        }
        let bias = self.floats(node, 2)?;
        if bias.len() == channels { Ok(bias) } else { Err(format!("{} biases for {channels} channels", bias.len())) }
    }

    fn conv(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        if self.float_layers.iter().any(|listed| listed == name(node)) {
            return self.float_conv(node);
        }
        let id = self.view(node, 0).map_err(|_| not_listed(node, "its data is"))?;
        let weights = self.weights(node).map_err(|_| not_listed(node, "its weights are"))?;
        let (window, group, out, size) = convolved(node, self.fact(id)?, &weights.dims)?;
        let conv = Conv {
            input: id,
            weights: weights.values.clone(),
            scales: spread(&weights.scales, out)?,
            bias: self.bias(node, out)?,
            group,
            window,
            clamp: Clamp::NONE,
        };
        Ok(self.open(node, Op::Conv(conv), size, out))
    }

    /// One that the station file lists: data and weights are taken as the real numbers that they stand for.
    fn float_conv(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let id = self.float_id(input(node, 0))?;
        let (weights, dims) = match self.value(node, 1)? {
            Value::Weights(quantised) => (quantised.floats()?, quantised.dims.clone()),
            _ => (self.floats(node, 1)?, lengths(self.constant(node, 1)?)),
        };
        let (window, group, out, size) = convolved(node, self.fact(id)?, &dims)?;
        if weights.len() != dims.iter().product::<usize>() {
            return Err("its weights are not as many as they claim".into());
        }
        let bias = self.bias(node, out)?;
        let conv = FloatConv { input: id, weights, bias, group, window, clamp: Clamp::NONE };
        Ok(self.open(node, Op::FloatConv(conv), size, out))
    }

    /// A Gemm over one pixel is a 1 x 1 convolution.
    fn gemm(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let id = self.view(node, 0)?;
        let fact = self.fact(id)?.clone();
        let weights = self.weights(node)?;
        let &[out, each] = weights.dims.as_slice() else { return Err("its weights are no matrix".into()) };
        let float = |name: &str| node.attribute.iter().find(|a| a.name == name).map_or(1.0, |a| a.f);
        let plain = attribute(node, "transB", 0) == 1
            && attribute(node, "transA", 0) == 0
            && float("alpha") == 1.0
            && float("beta") == 1.0;
        if !plain || (fact.height, fact.width, fact.channels) != (1, 1, each) {
            return Err("is not one vector by a transposed matrix".into());
        }
        let window = Window { size: [1, 1], stride: [1, 1], dilation: [1, 1], pads: [0; 4] };
        let conv = Conv {
            input: id,
            weights: weights.values.clone(),
            scales: spread(&weights.scales, out)?,
            bias: self.bias(node, out)?,
            group: 1,
            window,
            clamp: Clamp::NONE,
        };
        Ok(self.open(node, Op::Conv(conv), (1, 1), out))
    }

    // --- layers without weights -------------------------------------------------------------------------------------

    fn clamp(&mut self, node: &'a NodeProto, clamp: Clamp) -> Reason<Value<'a>> {
        if clamp.low > clamp.high || clamp.low.is_nan() || clamp.high.is_nan() {
            return Err("its bounds are the wrong way round".into());
        }
        match self.value(node, 0)?.clone() {
            Value::Open(mut pending) => {
                pending.written.clear();
                let own = clamp_of(&mut pending.op).ok_or("stands behind a layer that takes no clamp")?;
                *own = own.then(clamp);
                Ok(Value::Open(pending))
            }
            Value::View(input) => {
                let fact = self.fact(input)?;
                let (size, channels) = ((fact.height, fact.width), fact.channels);
                Ok(self.open(node, Op::Requantize { input, clamp }, size, channels))
            }
            _ => self.map(node, Function::Clamp(clamp)),
        }
    }

    fn binary(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        if let (Value::View(a), Value::View(b), "Add") = (self.value(node, 0)?, self.value(node, 1)?, &*node.op_type) {
            let (inputs, one, other) = ([*a, *b], self.fact(*a)?.clone(), self.fact(*b)?);
            if (one.height, one.width, one.channels) != (other.height, other.width, other.channels) {
                return Err("adds tensors of different shapes".into());
            }
            let op = Op::Add { inputs, clamp: Clamp::NONE };
            return Ok(self.open(node, op, (one.height, one.width), one.channels));
        }
        let (at, constant) = match (self.scalar(node, 1), self.scalar(node, 0)) {
            (Ok(Some(constant)), _) => (0, constant),
            (_, Ok(Some(constant))) if matches!(&*node.op_type, "Add" | "Mul") => (1, constant),
            _ => return Err("is neither a sum of int8 tensors nor a float tensor with one number".into()),
        };
        let function = match node.op_type.as_str() {
            "Add" => Function::Affine { factor: 1.0, term: constant },
            "Sub" => Function::Affine { factor: 1.0, term: -constant },
            "Mul" => Function::Affine { factor: constant, term: 0.0 },
            _ => Function::Affine { factor: 1.0 / constant, term: 0.0 },
        };
        self.map_of(node, input(node, at), function)
    }

    fn concat(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        // From the end, the channels are the third dimension of a picture; a tensor without height and width has no third one.
        if !matches!(attribute(node, "axis", 0), 1 | -3) {
            return Err("is not along the channels".into());
        }
        let inputs = (0..node.input.len()).map(|index| self.view(node, index)).collect::<Reason<Vec<Id>>>()?;
        let first = inputs.first().ok_or("has no inputs")?;
        let (height, width) = (self.fact(*first)?.height, self.fact(*first)?.width);
        let mut channels = 0;
        for id in &inputs {
            let fact = self.fact(*id)?;
            if (fact.height, fact.width) != (height, width) {
                return Err("joins tensors of different sizes".into());
            }
            channels += fact.channels;
        }
        Ok(self.open(node, Op::Concat { inputs }, (height, width), channels))
    }

    fn resize(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let text = |key: &str, default: &str| {
            let found = node.attribute.iter().find(|attribute| attribute.name == key);
            found.map_or(default.to_owned(), |attribute| String::from_utf8_lossy(&attribute.s).into_owned())
        };
        let (mode, transform) = (text("mode", "nearest"), text("coordinate_transformation_mode", "half_pixel"));
        if mode == "nearest" {
            let input = self.view(node, 0)?;
            let fact = self.fact(input)?.clone();
            let [down, right] = self.factors(node, &fact)?;
            // Under both a whole factor repeats each value.
            let rounding = text("nearest_mode", "round_prefer_floor");
            let exact =
                matches!((&*transform, &*rounding), ("asymmetric", "floor") | ("half_pixel", "round_prefer_floor"));
            if !exact || down != right || down.fract() != 0.0 || down < 1.0 {
                return Err("is not nearest by one whole factor".into());
            }
            let factor = down as usize;
            let times = |length: usize| length.saturating_mul(factor);
            let fact = Fact { height: times(fact.height), width: times(fact.width), ..fact };
            return self.push(name(node), Op::Upsample { input, factor }, fact).map(Value::View);
        }
        let id = self.float_id(input(node, 0))?;
        let fact = self.fact(id)?.clone();
        let [down, right] = self.factors(node, &fact)?;
        let (height, width) = ((fact.height as f32 * down).floor(), (fact.width as f32 * right).floor());
        if mode != "linear" || transform != "half_pixel" || down < 1.0 || right < 1.0 {
            return Err("is neither nearest nor an enlarging linear half_pixel".into());
        }
        let fact = Fact { height: height as usize, width: width as usize, ..fact };
        self.push(name(node), Op::ResizeLinear { input: id }, fact).map(Value::Float)
    }

    /// Factors down and right, from the scales or from the sizes.
    fn factors(&self, node: &'a NodeProto, fact: &Fact) -> Reason<[f32; 2]> {
        let scales = if input(node, 2).is_empty() { Vec::new() } else { self.floats(node, 2)? };
        if let [batch, channels, down, right] = *scales.as_slice() {
            let fits = batch == 1.0 && channels == 1.0 && down > 0.0 && right > 0.0;
            return if fits { Ok([down, right]) } else { Err("scales more than height and width".into()) };
        }
        let sizes = tensor::integers(self.constant(node, 3)?).ok_or("has neither scales nor sizes")?;
        match *sizes.as_slice() {
            [1, channels, height, width] if channels == fact.channels as i64 && height > 0 && width > 0 => {
                Ok([height as f32 / fact.height as f32, width as f32 / fact.width as f32])
            }
            _ => Err("has neither scales nor sizes".into()),
        }
    }

    fn max_pool(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let input = self.view(node, 0)?;
        let fact = self.fact(input)?.clone();
        let window = window(node)?;
        let (height, width) = pool_output(node, &window, &fact)?;
        let fact = Fact { height, width, ..fact };
        self.push(name(node), Op::MaxPool { input, window }, fact).map(Value::View)
    }

    fn average_pool(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let input = self.view(node, 0)?;
        let fact = self.fact(input)?.clone();
        let window = window(node)?;
        let size = pool_output(node, &window, &fact)?;
        let include_pads = attribute(node, "count_include_pad", 0) == 1;
        let op = Op::AveragePool { input, window, include_pads, clamp: Clamp::NONE };
        Ok(self.open(node, op, size, fact.channels))
    }

    fn global_average(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        if !matches!(self.value(node, 0)?, Value::View(_)) {
            return self.mean_of(node);
        }
        let input = self.view(node, 0)?;
        let fact = self.fact(input)?;
        let size = [fact.height, fact.width];
        let window = Window { size, stride: [1, 1], dilation: [1, 1], pads: [0; 4] };
        let op = Op::AveragePool { input, window, include_pads: false, clamp: Clamp::NONE };
        let channels = fact.channels;
        Ok(self.open(node, op, (1, 1), channels))
    }

    /// Shapes of one pixel: nothing moves.
    fn flatten(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let value = self.value(node, 0)?.clone();
        let size = match &value {
            Value::View(id) | Value::Float(id) | Value::Int8(id) => {
                let fact = self.fact(*id)?;
                (fact.height, fact.width)
            }
            Value::Open(pending) => (pending.height, pending.width),
            Value::Constant(_) | Value::Weights(_) => return Err("reshapes a constant".into()),
        };
        if size == (1, 1) { Ok(value) } else { Err("reshapes more than one pixel".into()) }
    }

    // --- the float tail ---------------------------------------------------------------------------------------------

    fn map(&mut self, node: &'a NodeProto, function: Function) -> Reason<Value<'a>> {
        self.map_of(node, input(node, 0), function)
    }

    fn map_of(&mut self, node: &'a NodeProto, source: &str, function: Function) -> Reason<Value<'a>> {
        let input = self.float_id(source)?;
        let fact = self.fact(input)?.clone();
        self.push(name(node), Op::Map { input, function }, fact).map(Value::Float)
    }

    fn mean(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let axes = node.attribute.iter().find(|a| a.name == "axes").map(|a| a.ints.clone());
        let axes = match axes {
            Some(axes) => axes,
            None => tensor::integers(self.constant(node, 1)?).ok_or("has no axes")?,
        };
        if !matches!(*axes.as_slice(), [2, 3] | [-2, -1] | [3, 2] | [-1, -2]) {
            return Err("is not over height and width".into());
        }
        self.mean_of(node)
    }

    fn mean_of(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let id = self.float_id(input(node, 0))?;
        let fact = Fact { height: 1, width: 1, ..self.fact(id)?.clone() };
        self.push(name(node), Op::Mean { input: id }, fact).map(Value::Float)
    }
}

/// Why a float convolution is refused, and what allows it.
fn not_listed(node: &NodeProto, what: &str) -> String {
    format!("{what} not int8; {}", how_to_allow(name(node)))
}

/// Window, groups, output channels, and height and width of what comes out of a Conv with weights of these dimensions.
fn convolved(node: &NodeProto, fact: &Fact, dims: &[usize]) -> Reason<(Window, usize, usize, (usize, usize))> {
    let &[out, each, rows, columns] = dims else { return Err("is not two-dimensional".into()) };
    let window = Window { size: [rows, columns], ..window(node)? };
    let group = usize::try_from(attribute(node, "group", 1)).map_err(|_| "has a negative group")?;
    if group == 0 || each.checked_mul(group) != Some(fact.channels) || !out.is_multiple_of(group) || out == 0 {
        return Err(format!("{group} groups do not fit {} channels in and {out} out", fact.channels));
    }
    let size = window.output(fact.height, fact.width).ok_or("its kernel is larger than its input")?;
    let [top, left, bottom, right] = window.pads;
    fits(fact.height + top + bottom, fact.width + left + right, fact.channels)?;
    // Groups that do not fit a kernel are computed as one, with zeros between them.
    fits(out.saturating_mul(fact.channels), rows, columns)?;
    Ok((window, group, out, size))
}

/// The dimensions of a stored tensor.
fn lengths(tensor: &TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect()
}

/// The most values in one tensor: sixteen planes of the largest input that a bundle may have.
const MAX_VALUES: usize = 16 * 2048 * 2048;

fn fits(height: usize, width: usize, channels: usize) -> Reason<()> {
    match height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels)) {
        Some(1..=MAX_VALUES) => Ok(()),
        _ => Err(format!("needs {height} x {width} x {channels} values, the limit is {MAX_VALUES}")),
    }
}

/// round(value / scale), half to even, clamped: QuantizeLinear of ONNX.
pub fn quantize(value: f32, scale: f32) -> i8 {
    (value / scale).round_ties_even().clamp(-128.0, 127.0) as i8
}

/// Weights by their scales: one for all, or one for each row of the first axis.
fn quantize_constant(tensor: &TensorProto, scales: Vec<f32>, axis: i64) -> Reason<Quantized> {
    let values: Vec<f32> = tensor::floats(tensor).ok_or("its weights are not float32")?.collect();
    let dims = lengths(tensor);
    let rows = *dims.first().ok_or("quantises a single number")?;
    if rows == 0 || values.len() != dims.iter().product::<usize>() {
        return Err("its weights are empty".into());
    }
    if scales.len() != 1 && (axis != 0 || scales.len() != rows) {
        return Err("has scales that are not along the output channels".into());
    }
    let each = spread(&scales, rows)?;
    let rows = values.chunks(values.len() / rows).zip(&each);
    let values = rows.flat_map(|(row, scale)| row.iter().map(|value| quantize(*value, *scale))).collect();
    Ok(Quantized { values, scales, dims })
}

fn spread(scales: &[f32], channels: usize) -> Reason<Vec<f32>> {
    match scales {
        [scale] => Ok(vec![*scale; channels]),
        _ if scales.len() == channels => Ok(scales.to_vec()),
        _ => Err(format!("{} scales for {channels} channels", scales.len())),
    }
}

/// Kernel, strides, pads and dilations of a node; the kernel is 1 x 1 where the node names none.
fn window(node: &NodeProto) -> Reason<Window> {
    let text = node.attribute.iter().find(|attribute| attribute.name == "auto_pad");
    if text.is_some_and(|attribute| !matches!(attribute.s.as_slice(), b"" | b"NOTSET" | b"VALID")) {
        return Err("pads automatically".into());
    }
    let pair = |key: &str| -> Reason<[usize; 2]> {
        let Some(found) = node.attribute.iter().find(|attribute| attribute.name == key) else { return Ok([1, 1]) };
        match found.ints.as_slice() {
            [down, right] if (1..=64).contains(down) && (1..=64).contains(right) => {
                Ok([*down as usize, *right as usize])
            }
            _ => Err(format!("has {key} that are not two numbers from 1 to 64")),
        }
    };
    let pads = match node.attribute.iter().find(|attribute| attribute.name == "pads").map(|a| a.ints.as_slice()) {
        None | Some([]) => [0; 4],
        Some(&[top, left, bottom, right]) if [top, left, bottom, right].iter().all(|pad| (0..=64).contains(pad)) => {
            [top as usize, left as usize, bottom as usize, right as usize]
        }
        Some(_) => return Err("has pads that are not four numbers from 0 to 64".into()),
    };
    Ok(Window { size: pair("kernel_shape")?, stride: pair("strides")?, dilation: pair("dilations")?, pads })
}

fn pool_output(node: &NodeProto, window: &Window, fact: &Fact) -> Reason<(usize, usize)> {
    let [top, left, bottom, right] = window.pads;
    let [rows, columns] = window.size;
    if attribute(node, "ceil_mode", 0) != 0 || window.dilation != [1, 1] {
        return Err("rounds its size up or is dilated".into());
    }
    if top >= rows || bottom >= rows || left >= columns || right >= columns {
        return Err("pads a whole window".into());
    }
    window.output(fact.height, fact.width).ok_or_else(|| "its window is larger than its input".into())
}
