//! A network as a list of integer layers: what the rewriter ([`read`]) finds in an ONNX graph, and what the plan is
//! made from.
//!
//! It is independent of the instruction set: shapes, scales, int8 weights, real biases and clamps.

use super::super::onnx::ModelProto;

mod read;

#[cfg(test)]
pub use read::quantize;

/// Index of a tensor in [`LayerGraph::facts`].
pub type Id = usize;

/// What is known of a tensor at load. One picture: the batch is 1 everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// Rows.
    pub height: usize,
    /// Pixels a row.
    pub width: usize,
    /// Values a pixel.
    pub channels: usize,
    /// The int8 scale; none for a float tensor.
    pub scale: Option<f32>,
}

/// Real bounds that a layer's result is clamped to: ReLU, ReLU6, Clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clamp {
    /// Lower bound, minus infinity if none.
    pub low: f32,
    /// Upper bound, infinity if none.
    pub high: f32,
}

impl Clamp {
    /// No bounds.
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// Both clamps, this one first.
    fn then(self, next: Self) -> Self {
        let clamp = |value: f32| value.max(next.low).min(next.high);
        Self { low: clamp(self.low), high: clamp(self.high) }
    }
}

/// A window that slides over a tensor. Pads are rows or columns of zeros (convolution) or of nothing (pools).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Rows and columns.
    pub size: [usize; 2],
    /// Step down and right.
    pub stride: [usize; 2],
    /// Distance of neighbouring taps, down and right.
    pub dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
}

impl Window {
    /// Height and width of what comes out; none if the window does not fit once.
    fn output(&self, height: usize, width: usize) -> Option<(usize, usize)> {
        let along = |length: usize, axis: usize, pads: usize| {
            let (size, stride, dilation) = (*self.size.get(axis)?, *self.stride.get(axis)?, *self.dilation.get(axis)?);
            let reach = size.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
            Some((length + pads).checked_sub(reach)?.checked_div(stride)? + 1)
        };
        let [top, left, bottom, right] = self.pads;
        Some((along(height, 0, top + bottom)?, along(width, 1, left + right)?))
    }
}

/// A convolution, depthwise and Gemm included.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// What it reads.
    pub input: Id,
    /// int8 weights, `[out][in / group][kernel rows][kernel columns]`.
    pub weights: Vec<i8>,
    /// One scale an output channel.
    pub scales: Vec<f32>,
    /// One real bias an output channel.
    pub bias: Vec<f32>,
    /// Groups of channels that see nothing of each other.
    pub group: usize,
    /// The kernel.
    pub window: Window,
    /// The activation.
    pub clamp: Clamp,
}

/// A convolution in float, between float tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatConv {
    /// What it reads.
    pub input: Id,
    /// `[out][in / group][kernel rows][kernel columns]`.
    pub weights: Vec<f32>,
    /// One an output channel.
    pub bias: Vec<f32>,
    /// As in [`Conv`].
    pub group: usize,
    /// The kernel.
    pub window: Window,
    /// The activation.
    pub clamp: Clamp,
}

/// What a float convolution is called in reports.
pub const FLOAT_CONV: &str = "float conv";

/// Elementwise functions of the float tail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// exp(x).
    Exp,
    /// ln(x).
    Log,
    /// Clip.
    Clamp(Clamp),
    /// x * factor + term.
    Affine {
        /// Multiplier.
        factor: f32,
        /// Addend.
        term: f32,
    },
}

/// What a layer computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Conv, depthwise Conv, Gemm.
    Conv(Conv),
    /// A Conv that was left in float.
    FloatConv(FloatConv),
    /// The sum of two tensors of one shape, or the first minus the second.
    Add {
        /// What it reads; one may be a constant.
        inputs: [Id; 2],
        /// True if the second is subtracted.
        subtract: bool,
        /// The activation.
        clamp: Clamp,
    },
    /// Nearest neighbour, by a whole factor.
    Upsample {
        /// What it reads.
        input: Id,
        /// Rows and columns for each one.
        factor: usize,
    },
    /// Channels one after another.
    Concat {
        /// What it reads.
        inputs: Vec<Id>,
    },
    /// The largest value under the window.
    MaxPool {
        /// What it reads.
        input: Id,
        /// The window.
        window: Window,
    },
    /// The mean under the window.
    AveragePool {
        /// What it reads.
        input: Id,
        /// The window.
        window: Window,
        /// True if padding counts as zeros.
        include_pads: bool,
        /// The activation.
        clamp: Clamp,
    },
    /// int8 to int8 of another scale, or under a clamp.
    Requantize {
        /// What it reads.
        input: Id,
        /// The activation.
        clamp: Clamp,
    },
    /// Float to int8.
    Quantize {
        /// What it reads.
        input: Id,
    },
    /// int8 to float.
    Dequantize {
        /// What it reads.
        input: Id,
    },
    /// An elementwise function of a float tensor.
    Map {
        /// What it reads.
        input: Id,
        /// The function.
        function: Function,
    },
    /// Bilinear resize of a float tensor, half-pixel centres; the size is the output's.
    ResizeLinear {
        /// What it reads.
        input: Id,
    },
    /// Mean of each channel of a float tensor.
    Mean {
        /// What it reads.
        input: Id,
    },
}

impl Op {
    /// The tensors it reads.
    pub fn inputs(&self) -> Vec<Id> {
        match self {
            Self::Conv(conv) => vec![conv.input],
            Self::FloatConv(conv) => vec![conv.input],
            Self::Add { inputs, .. } => inputs.to_vec(),
            Self::Concat { inputs } => inputs.clone(),
            Self::Upsample { input, .. }
            | Self::MaxPool { input, .. }
            | Self::AveragePool { input, .. }
            | Self::Requantize { input, .. }
            | Self::Quantize { input }
            | Self::Dequantize { input }
            | Self::Map { input, .. }
            | Self::ResizeLinear { input }
            | Self::Mean { input } => vec![*input],
        }
    }

    /// What it is called in reports.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Conv(conv) if conv.group > 1 && conv.group == conv.scales.len() => "depthwise",
            Self::Conv(_) => "conv",
            Self::FloatConv(_) => FLOAT_CONV,
            Self::Add { subtract: true, .. } => "subtract",
            Self::Add { .. } => "add",
            Self::Upsample { .. } => "upsample",
            Self::Concat { .. } => "concat",
            Self::MaxPool { .. } => "max pool",
            Self::AveragePool { .. } => "average pool",
            Self::Requantize { .. } => "requantize",
            Self::Quantize { .. } => "quantize",
            Self::Dequantize { .. } => "dequantize",
            Self::Map { .. } => "map",
            Self::ResizeLinear { .. } => "resize",
            Self::Mean { .. } => "mean",
        }
    }
}

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The node's name in the file.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it writes.
    pub output: Id,
}

/// An int8 tensor that is the same for every picture. Only [`Op::Add`] reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Its place among the tensors.
    pub id: Id,
    /// Row by row, the channels of a pixel side by side.
    pub values: Vec<i8>,
}

/// A network as integer layers, in an order in which each reads what is there.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerGraph {
    /// The tensors.
    pub facts: Vec<Fact>,
    /// The tensors that no layer writes, the input aside.
    pub constants: Vec<Constant>,
    /// The layers.
    pub layers: Vec<Layer>,
    /// The network's input: int8, scale 1/128.
    pub input: Id,
    /// The outputs asked for, float, in the order asked.
    pub outputs: Vec<Id>,
}

/// A node that no integer layer stands for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node} ({op}): {reason}")]
pub struct Unsupported {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Why.
    pub reason: String,
}

impl LayerGraph {
    /// Reads the graph of a checked file. `input` is its only input, `outputs` the names of what is asked for,
    /// `float_layers` those of the convolutions that are computed in float.
    pub fn read(
        model: &ModelProto,
        input: [usize; 3],
        outputs: &[&str],
        float_layers: &[String],
    ) -> Result<Self, Unsupported> {
        let mut graph = read::read(model, input, outputs, float_layers)?;
        graph.prune();
        Ok(graph)
    }

    /// Drops layers and constants that no output needs, and folds a lone clamp into the layer before it.
    fn prune(&mut self) {
        let mut needed = self.outputs.clone();
        let mut kept = Vec::new();
        for layer in std::mem::take(&mut self.layers).into_iter().rev() {
            if needed.contains(&layer.output) {
                needed.extend(layer.op.inputs());
                kept.push(layer);
            }
        }
        kept.reverse();
        self.layers = kept;
        self.constants.retain(|constant| needed.contains(&constant.id));
        self.fold_clamps();
    }

    /// Conv, Q, DQ, Clip, Q with one scale is one Conv with a clamp (ONNX Runtime's quantiser writes the former).
    fn fold_clamps(&mut self) {
        for index in (0..self.layers.len()).rev() {
            let Some(Layer { op: Op::Requantize { input, clamp }, output, .. }) = self.layers.get(index).cloned()
            else {
                continue;
            };
            let scale = |id: Id| self.facts.get(id).and_then(|fact| fact.scale);
            let readers = self.layers.iter().filter(|layer| layer.op.inputs().contains(&input)).count();
            if scale(input) != scale(output) || readers != 1 || self.outputs.contains(&input) {
                continue;
            }
            let maker = self.layers.iter_mut().find(|layer| layer.output == input);
            let Some((maker, own)) =
                maker.and_then(|layer| clamp_of(&mut layer.op).map(|own| (&mut layer.output, own)))
            else {
                continue;
            };
            *own = own.then(clamp);
            *maker = output;
            self.layers.remove(index);
        }
    }

    /// Height, width and channels of an output.
    pub fn output_shape(&self, index: usize) -> Option<[usize; 3]> {
        let fact = self.facts.get(*self.outputs.get(index)?)?;
        Some([fact.height, fact.width, fact.channels])
    }
}

fn clamp_of(op: &mut Op) -> Option<&mut Clamp> {
    match op {
        Op::Conv(Conv { clamp, .. })
        | Op::FloatConv(FloatConv { clamp, .. })
        | Op::Add { clamp, .. }
        | Op::AveragePool { clamp, .. }
        | Op::Requantize { clamp, .. } => Some(clamp),
        _ => None,
    }
}
