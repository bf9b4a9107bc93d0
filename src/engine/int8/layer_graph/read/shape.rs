//! Operators that compute nothing: Concat along the channels, and reshapes of a single pixel.

use super::{Id, Op, Reader, Reason, Value};
use crate::engine::onnx::NodeProto;
use crate::engine::qdq::wiring::attribute;

impl<'a> Reader<'a> {
    pub(super) fn concat(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
        // From the end, the channels are the third dimension of a picture; a tensor without height and width has no
        // third one.
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

    /// Shapes of one pixel: nothing moves.
    pub(super) fn flatten(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
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
}
