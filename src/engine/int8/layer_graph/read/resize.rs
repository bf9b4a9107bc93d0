//! Resize: nearest by a whole factor, which moves int8 values, or linear, which computes floats.

use super::{Fact, Op, Reader, Reason, Value};
use crate::engine::onnx::NodeProto;
use crate::engine::qdq::tensor;
use crate::engine::qdq::wiring::{input, name};

impl<'a> Reader<'a> {
    pub(super) fn resize(&mut self, node: &'a NodeProto) -> Reason<Value<'a>> {
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
    pub(super) fn factors(&self, node: &'a NodeProto, fact: &Fact) -> Reason<[f32; 2]> {
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
}
