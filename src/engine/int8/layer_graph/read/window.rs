//! The window of a convolution or a pool, from a node's attributes.

use super::{Reason, Window};
use crate::engine::onnx::NodeProto;

/// Kernel, strides, pads and dilations of a node; the kernel is 1 x 1 where the node names none.
pub(super) fn window(node: &NodeProto) -> Reason<Window> {
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
