//! In: a tensor stored in an ONNX file. Out: its values, or why they cannot be what the file claims.

use super::super::onnx::{DataLocation, DataType, TensorProto};

/// Values in one stored tensor at most; a model of 256 MiB cannot hold more than this as bytes.
const MAX_ELEMENTS: usize = 1 << 28;

/// Values that the dimensions claim; none if they are negative or absurd.
pub(super) fn elements(dims: &[i64]) -> Option<usize> {
    let sides = dims.iter().map(|dim| usize::try_from(*dim).ok());
    let product = sides.into_iter().try_fold(1usize, |product, dim| product.checked_mul(dim?))?;
    (product <= MAX_ELEMENTS).then_some(product)
}

pub(super) fn has_type(tensor: &TensorProto, wanted: DataType) -> bool {
    tensor.data_type == wanted as i32
}

/// Why the tensor cannot be loaded or computed with; none if it can.
pub(super) fn problem(tensor: &TensorProto) -> Option<String> {
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        return Some("keeps its values outside of the file".into());
    }
    let Some(width) = byte_width(tensor) else {
        return Some(format!("has the type {}, which no network here needs", tensor.data_type));
    };
    let Some(claimed) = elements(&tensor.dims) else {
        return Some(format!("claims the impossible size {:?}", tensor.dims));
    };
    let stored = if tensor.raw_data.is_empty() {
        let lists = [tensor.float_data.len(), tensor.int32_data.len(), tensor.int64_data.len()];
        lists.into_iter().sum::<usize>() + tensor.double_data.len() + tensor.uint64_data.len()
    } else if tensor.raw_data.len().is_multiple_of(width) {
        tensor.raw_data.len() / width
    } else {
        return Some(format!("has {} bytes, which is no whole number of values", tensor.raw_data.len()));
    };
    if stored != claimed {
        return Some(format!("holds {stored} values and claims {claimed}"));
    }
    let broken = floats(tensor).is_some_and(|mut values| !values.all(f32::is_finite));
    broken.then(|| "holds values that are not finite numbers".into())
}

fn byte_width(tensor: &TensorProto) -> Option<usize> {
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Bool | DataType::Uint8 | DataType::Int8 => Some(1),
        DataType::Uint16 | DataType::Int16 | DataType::Float16 => Some(2),
        DataType::Float | DataType::Int32 | DataType::Uint32 => Some(4),
        DataType::Double | DataType::Int64 | DataType::Uint64 => Some(8),
        _ => None,
    }
}

/// The values of a float32 tensor; none of any other type.
pub(in crate::engine) fn floats(tensor: &TensorProto) -> Option<impl Iterator<Item = f32>> {
    if !has_type(tensor, DataType::Float) {
        return None;
    }
    let raw = tensor.raw_data.chunks_exact(4).filter_map(|bytes| bytes.try_into().ok()).map(f32::from_le_bytes);
    Some(raw.chain(tensor.float_data.iter().copied()))
}

/// The values of an int64 tensor; none of any other type.
pub(in crate::engine) fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if !has_type(tensor, DataType::Int64) {
        return None;
    }
    let raw = tensor.raw_data.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
    Some(raw.chain(tensor.int64_data.iter().copied()).collect())
}

/// The product of a shape, of pads, repeats or scales: about how many values an operator is asked to make. Signs and
/// zeros do not matter; other types than those of such constants give 1.
pub(super) fn product(tensor: &TensorProto) -> f64 {
    let raw = tensor.raw_data.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
    let whole = raw.chain(tensor.int64_data.iter().copied()).filter(|_| has_type(tensor, DataType::Int64));
    let whole: f64 = whole.map(|value| (value as f64).abs().max(1.0)).product();
    let real: f64 = floats(tensor).into_iter().flatten().map(|value| f64::from(value).abs().max(1.0)).product();
    whole * real
}

/// How many values an int8 tensor of nothing but zeros has; none of any other tensor.
pub(in crate::engine) fn int8_zeros(tensor: &TensorProto) -> Option<usize> {
    let zeros = tensor.raw_data.iter().all(|byte| *byte == 0) && tensor.int32_data.iter().all(|value| *value == 0);
    (has_type(tensor, DataType::Int8) && zeros).then(|| tensor.raw_data.len() + tensor.int32_data.len())
}
