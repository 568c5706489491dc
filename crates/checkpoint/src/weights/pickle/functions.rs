//! The functions of Python that a file of weights refers to.

use safetensors::Dtype;

/// What a pickle may call or name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `collections.OrderedDict`, called without arguments.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`: storage, offset, shape, strides and ignored arguments.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: a tensor, and whether it is trained.
    RebuildParameter,
    /// A class of storages, by the format of its elements.
    Storage(Dtype),
    /// `torch.Size` and `torch.device`: built from a tuple, whose content is not used.
    Opaque,
}

/// Modules and names in the form of protocol 2.
const KNOWN: [(&str, &str, Function); 16] = [
    ("collections", "OrderedDict", Function::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Function::RebuildTensor),
    ("torch._utils", "_rebuild_parameter", Function::RebuildParameter),
    ("torch._utils", "_rebuild_parameter_with_state", Function::RebuildParameter),
    ("torch", "FloatStorage", Function::Storage(Dtype::F32)),
    ("torch", "HalfStorage", Function::Storage(Dtype::F16)),
    ("torch", "BFloat16Storage", Function::Storage(Dtype::BF16)),
    ("torch", "DoubleStorage", Function::Storage(Dtype::F64)),
    ("torch", "LongStorage", Function::Storage(Dtype::I64)),
    ("torch", "IntStorage", Function::Storage(Dtype::I32)),
    ("torch", "ShortStorage", Function::Storage(Dtype::I16)),
    ("torch", "CharStorage", Function::Storage(Dtype::I8)),
    ("torch", "ByteStorage", Function::Storage(Dtype::U8)),
    ("torch", "BoolStorage", Function::Storage(Dtype::BOOL)),
    ("torch", "Size", Function::Opaque),
    ("torch", "device", Function::Opaque),
];

/// Number formats with their own names: `torch.float32`.
const NUMBER_FORMATS: [&str; 10] = [
    "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool",
];

/// The meaning of `module.name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Function(Function),
    Opaque,
}

impl Named {
    pub fn find(module: &str, name: &str) -> Option<Self> {
        if module == "torch" && NUMBER_FORMATS.contains(&name) {
            return Some(Named::Opaque);
        }
        let known = KNOWN.iter().find(|known| (known.0, known.1) == (module, name))?;
        Some(Named::Function(known.2))
    }
}
