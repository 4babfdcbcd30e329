//! The names that a pickle may refer to, and what each of them means as data.

use super::super::dtype::Dtype;

/// How a tensor is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Rebuild {
    /// `_rebuild_tensor(storage, offset, size, stride)` and `_rebuild_tensor_v2` with more.
    Tensor,
    /// `_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, ...)`.
    TensorV3,
    /// `_rebuild_parameter(tensor, ...)`: the tensor itself.
    Parameter,
}

/// A name from the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Global {
    OrderedDict,
    /// `torch.Size`: the tuple it is given.
    Size,
    Rebuild(Rebuild),
    /// A storage class; `None` is the untyped one.
    Storage(Option<Dtype>),
    /// `torch.float32` and its like.
    Dtype(Dtype),
    /// Classes that checkpoints keep beside the weights (options, numpy scalars). Their instances
    /// are opaque here: never built, never called, only skipped.
    Inert,
}

impl Global {
    /// Looks a name up; `None` means that it must be refused.
    pub fn lookup(module: &str, name: &str) -> Option<Self> {
        let found = match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
                Self::Rebuild(Rebuild::Tensor)
            }
            ("torch._utils", "_rebuild_tensor_v3") => Self::Rebuild(Rebuild::TensorV3),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | ("torch.nn.parameter", "Parameter") => Self::Rebuild(Rebuild::Parameter),
            ("torch" | "torch.storage" | "torch.cuda", class) => return torch_type(class),
            _ if is_inert(module, name) => Self::Inert,
            _ => return None,
        };
        Some(found)
    }
}

fn torch_type(name: &str) -> Option<Global> {
    if name == "UntypedStorage" {
        return Some(Global::Storage(None));
    }
    if name == "device" {
        return Some(Global::Inert);
    }
    let class = match name {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        _ => return element_type(name).map(Global::Dtype),
    };
    Some(Global::Storage(Some(class)))
}

fn element_type(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "int64" | "long" => Dtype::I64,
        "int32" | "int" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}

/// Harmless even when run by Python; here they are not run at all.
fn is_inert(module: &str, name: &str) -> bool {
    matches!(
        (module, name),
        ("argparse", "Namespace")
            | ("collections", "defaultdict" | "Counter")
            | ("datetime", "datetime" | "date" | "timedelta")
            | (
                "pathlib",
                "PosixPath" | "WindowsPath" | "PurePosixPath" | "PureWindowsPath"
            )
            | ("_codecs", "encode")
            | ("numpy", "dtype" | "ndarray")
            | (
                "numpy.core.multiarray" | "numpy._core.multiarray",
                "scalar" | "_reconstruct"
            )
            | (
                "builtins" | "__builtin__",
                "set" | "frozenset" | "dict" | "list" | "tuple" | "int" | "float" | "str" | "bool"
            )
    )
}
