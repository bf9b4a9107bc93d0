//! Pools and means: MaxPool, AveragePool, GlobalAveragePool, and ReduceMean over height and width.

use super::window::window;
use super::{Clamp, Fact, Op, Reader, Reason, Value, Window};
use crate::engine::onnx::NodeProto;
use crate::engine::qdq::tensor;
use crate::engine::qdq::wiring::{attribute, input, name};

impl<'a> Reader<'a> {
    pub(super) fn max_pool(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let input = self.view(node, 0)?;
        let fact = self.fact(input)?.clone();
        let window = window(node)?;
        let (height, width) = pool_output(node, &window, &fact)?;
        let fact = Fact { height, width, ..fact };
        self.push(name(node), Op::MaxPool { input, window }, fact).map(Value::View)
    }

    pub(super) fn average_pool(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let input = self.view(node, 0)?;
        let fact = self.fact(input)?.clone();
        let window = window(node)?;
        let size = pool_output(node, &window, &fact)?;
        let include_pads = attribute(node, "count_include_pad", 0) == 1;
        let op = Op::AveragePool { input, window, include_pads, clamp: Clamp::NONE };
        Ok(self.open(node, op, size, fact.channels))
    }

    pub(super) fn global_average(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
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

    pub(super) fn mean(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
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

    pub(super) fn mean_of(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        let id = self.float_id(input(node, 0))?;
        let fact = Fact { height: 1, width: 1, ..self.fact(id)?.clone() };
        self.push(name(node), Op::Mean { input: id }, fact).map(Value::Float)
    }
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
