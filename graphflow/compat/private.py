"""Names of TF1's own modules that programs import though they were never public (`tensorflow.python.layers.utils.smart_cond`).

layout.py says in which module each is found.  Thin: each is a public function of this package in other words.
"""
from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types as _types
from typing import Any, Callable, Sequence

from .. import array_ops, control_flow_ops, graph, types, variables
from ..config import DeviceAttributes
from ..ops.opdef import constant_value, convert_to_tensor
from ..platform import gfile
from ..random_ops import get_seed
from ..runtime.devices import Devices
from ..session import device_attributes, get_default_session
from ..types import TensorShape

__all__ = ["get_seed", "get_default_session", "constant_value"]


# ---------------------------------------------------------------- python.client.device_lib, python.eager.context


def list_local_devices(session_config: Any = None) -> list[DeviceAttributes]:
    """The devices of this process, as a session of that config has them: its CPU, and the GPUs that can be used."""
    return device_attributes(Devices(session_config))


def executing_eagerly() -> bool:
    """False: ops build the graph."""
    return False


def in_eager_mode() -> bool:
    """False: ops build the graph."""
    return False


# ---------------------------------------------------------------- python.framework


def scalar() -> TensorShape:
    """The shape of a scalar."""
    return TensorShape([])


def vector(length: Any) -> TensorShape:
    """The shape of a vector; `length` may be None."""
    return TensorShape([length])


def matrix(rows: Any, cols: Any) -> TensorShape:
    """The shape of a matrix; sizes may be None."""
    return TensorShape([rows, cols])


def unknown_shape(ndims: int | None = None, rank: int | None = None, **_: Any) -> TensorShape:
    """A shape of `ndims` unknown sizes, or of unknown rank."""
    count = ndims if rank is None else rank
    return TensorShape(None) if count is None else TensorShape([None] * count)


def as_shape(shape: Any) -> TensorShape:
    """`shape` as a TensorShape."""
    return shape if isinstance(shape, TensorShape) else TensorShape(shape)


def constant_value_as_shape(tensor: Any) -> TensorShape:
    """The shape that a vector of sizes holds, as far as the graph determines it; -1 is unknown."""
    known = convert_to_tensor(tensor, types.int32).known
    if known is None:
        return unknown_shape(convert_to_tensor(tensor).shape.as_list()[0])
    return TensorShape([v if isinstance(v, int) and v >= 0 else None for v in known.tolist()])


def is_tensor(x: Any) -> bool:
    """Whether `x` is a Tensor, SparseTensor, IndexedSlices or Variable."""
    from ..ops.indexed_slices import IndexedSlices
    from ..sparse_tensor import SparseTensor

    return isinstance(x, (graph.Tensor, variables.Variable, IndexedSlices, SparseTensor))


def set_shapes_for_outputs(op: graph.Operation) -> None:
    """Nothing: shapes are inferred when an op is made."""


def name_from_scope_name(name: str) -> str:
    """An op's name from that of its scope: without the last slash."""
    return name[:-1] if name.endswith("/") else name


def shape_n(input: Sequence[Any], out_type: Any = types.int32, name: str | None = None) -> list[Any]:
    """The shapes of several tensors."""
    return [array_ops.shape(x, name=name, out_type=out_type) for x in input]


def make_shape(v: Any, arg_name: str) -> TensorShape:
    """`v` as a shape whose sizes are all known.  Raises TypeError or ValueError."""
    shape = TensorShape(v)
    if not shape.is_fully_defined():
        raise ValueError(f"{arg_name} must be fully defined, got {shape}")
    return shape


# ---------------------------------------------------------------- python.layers.utils, python.framework.smart_cond


def smart_constant_value(pred: Any) -> bool | None:
    """The predicate's value if it is known while the graph is built.  Raises TypeError for what is no predicate."""
    if isinstance(pred, bool) or pred in (0, 1) and not isinstance(pred, graph.Tensor):
        return bool(pred)
    if isinstance(pred, (graph.Tensor, variables.Variable)):
        value = constant_value(pred)
        return None if value is None else bool(value)
    raise TypeError(f"pred must be a Tensor, a Python bool, or 1 or 0, got {type(pred).__name__}: {pred!r}")


def smart_cond(pred: Any, true_fn: Callable[[], Any] | None = None, false_fn: Callable[[], Any] | None = None, name: str | None = None,
               fn1: Callable[[], Any] | None = None, fn2: Callable[[], Any] | None = None) -> Any:
    """`tf.cond`, or only the branch that a predicate known now takes."""
    yes, no = true_fn or fn1, false_fn or fn2
    if not callable(yes) or not callable(no):
        raise TypeError("smart_cond needs two functions, true_fn and false_fn")
    known = smart_constant_value(pred)
    return control_flow_ops.cond(pred, yes, no, name=name) if known is None else yes() if known else no()


def normalize_tuple(value: Any, n: int, name: str) -> tuple[int, ...]:
    """`value` as `n` ints.  Raises ValueError."""
    from ..layers.base import numbers

    return numbers(value, n, name)


def convert_data_format(data_format: str, ndim: int) -> str:
    """"channels_last" of 4 dimensions is "NHWC"."""
    from ..layers.base import channels_first, format_of

    return format_of(channels_first(data_format), ndim - 2)


def conv_output_length(input_length: int | None, filter_size: int, padding: str, stride: int, dilation: int = 1) -> int | None:
    """Length of one axis after a convolution (tf.nn.convolution)."""
    if input_length is None:
        return None
    if padding not in ("same", "valid", "full"):
        raise ValueError(f"padding must be 'same', 'valid' or 'full', got {padding!r}")
    covered = filter_size + (filter_size - 1) * (dilation - 1)
    found = input_length + {"same": 0, "valid": 1 - covered, "full": covered - 1}[padding]
    return (found + stride - 1) // stride


# ---------------------------------------------------------------- python.ops


def initialize_resources(resource_list: Any, name: str = "init") -> graph.Operation:
    """Nothing to do: what a Session owns is made when it is first used."""
    return control_flow_ops.no_op(name)


def shared_resources() -> list[Any]:
    """The resources that need an initializer: none."""
    return []


local_resources = shared_resources
ResourceVariable = variables.Variable


def is_resource_variable(var: Any) -> bool:
    """True for every variable: reads and writes are in program order."""
    return isinstance(var, variables.Variable)


def _linear(args: Any, output_size: int, bias: bool, bias_initializer: Any = None, kernel_initializer: Any = None) -> Any:
    """sum_i args[i] W[i] + b, with the variables "kernel" and "bias" of the current variable scope.

    Raises:
        ValueError: no input, or one that is no matrix with a known second size.
    """
    from ..init_ops import zeros_initializer
    from ..ops.contraction import matmul
    from ..variable_scope import get_variable

    given = [convert_to_tensor(a) for a in (args if isinstance(args, (list, tuple)) else [args])]
    if not given:
        raise ValueError("`args` must be specified")
    widths = [a.shape.with_rank(2).as_list()[1] for a in given]
    if None in widths:
        raise ValueError(f"linear expects a known second dimension of every input, got the shapes {[str(a.shape) for a in given]}")
    dtype = given[0].dtype
    kernel = get_variable("kernel", [sum(widths), output_size], dtype=dtype, initializer=kernel_initializer)
    found = matmul(given[0] if len(given) == 1 else array_ops.concat(given, 1), kernel)
    if not bias:
        return found
    start = zeros_initializer(dtype=dtype) if bias_initializer is None else bias_initializer
    return found + get_variable("bias", [output_size], dtype=dtype, initializer=start)


# ---------------------------------------------------------------- python.training


def create_slot(primary: Any, val: Any, name: str, colocate_with_primary: bool = True) -> Any:
    """A variable named after `primary` and `name`, starting at the tensor `val`."""
    from ..train.optimizer import make_slot

    return make_slot(primary, lambda: convert_to_tensor(val), name)


def create_zeros_slot(primary: Any, name: str, dtype: Any = None, colocate_with_primary: bool = True) -> Any:
    """A slot of zeros in the shape of `primary`."""
    return create_slot(primary, array_ops.zeros(primary.shape, dtype or primary.dtype.base_dtype), name)


def weighted_moving_average(value: Any, decay: Any, weight: Any, truediv: bool = True, collections: Any = None,
                            name: str | None = None) -> Any:
    """The moving average of value * weight divided by that of weight; both start at zero."""
    from ..train.moving_averages import assign_moving_average
    from ..variable_scope import get_variable, variable_scope

    keys = [graph.GraphKeys.GLOBAL_VARIABLES] if collections is None else collections
    value, weight = convert_to_tensor(value), convert_to_tensor(weight)
    from ..init_ops import zeros_initializer

    with variable_scope(name, "WeightedMovingAvg"):
        parts = []
        for part, like in ((value * weight, "value_x_weight"), (weight, "weight")):
            var = get_variable(like, part.shape, part.dtype, initializer=zeros_initializer(), trainable=False, collections=keys)
            parts.append(assign_moving_average(var, part, decay, zero_debias=False))
        return parts[0] / parts[1]


def print_tensors_in_checkpoint_file(file_name: str, tensor_name: str, all_tensors: bool = False, all_tensor_names: bool = False,
                                     **_: Any) -> None:
    """Prints names, and values where they are asked for, of a checkpoint."""
    from ..train.checkpoint import NewCheckpointReader

    reader = NewCheckpointReader(file_name)
    for key in sorted(reader.get_variable_to_shape_map()):
        if all_tensors or all_tensor_names or key == tensor_name:
            print("tensor_name: ", key)
            if all_tensors or key == tensor_name:
                print(reader.get_tensor(key))


# ---------------------------------------------------------------- python.lib.io.file_io


def read_file_to_string(filename: Any, binary_mode: bool = False) -> Any:
    with gfile.GFile(filename, "rb" if binary_mode else "r") as f:
        return f.read()


def write_string_to_file(filename: Any, file_content: Any) -> None:
    with gfile.GFile(filename, "wb" if isinstance(file_content, bytes) else "w") as f:
        f.write(file_content)


FileIO = gfile.GFile
file_exists, is_directory, create_dir, recursive_create_dir = gfile.Exists, gfile.IsDirectory, gfile.MkDir, gfile.MakeDirs
list_directory, get_matching_files, delete_file, delete_recursively = (gfile.ListDirectory, gfile.Glob, gfile.Remove,
                                                                       gfile.DeleteRecursively)
copy, rename, walk, stat = gfile.Copy, gfile.Rename, gfile.Walk, gfile.Stat


# ---------------------------------------------------------------- python.util


def _module(name: str, **names: Any) -> Any:
    made = _types.ModuleType(f"{__name__}.{name}")
    made.__dict__.update(names)
    sys.modules[made.__name__] = made  # where the table of modules finds it
    return made


def _deprecated(date: Any = None, instructions: Any = None, *_: Any, **__: Any) -> Callable[[Any], Any]:
    """A decorator that leaves the function as it is."""
    return lambda fn: fn


def _make_decorator(target: Any, decorator_func: Any, decorator_name: Any = None, *_: Any, **__: Any) -> Any:
    """`decorator_func` with the name and documentation of `target`."""
    return functools.update_wrapper(decorator_func, target)


def _remove_undocumented(module_name: str, allowed_exception_list: Any = None, doc_string_modules: Any = None) -> None:
    """Leaves the module's names as they are."""


def _getargspec(fn: Any) -> Any:
    found = inspect.getfullargspec(fn)
    return ArgSpec(found.args, found.varargs, found.varkw, found.defaults)


class ArgSpec(tuple):
    """Python 2's `(args, varargs, keywords, defaults)`."""

    def __new__(cls, args: Any, varargs: Any, keywords: Any, defaults: Any) -> ArgSpec:
        return super().__new__(cls, (args, varargs, keywords, defaults))

    args, varargs = property(lambda self: self[0]), property(lambda self: self[1])
    keywords, defaults = property(lambda self: self[2]), property(lambda self: self[3])


tf_inspect = _module("tf_inspect", **{n: getattr(inspect, n) for n in dir(inspect) if not n.startswith("_")})
tf_inspect.getargspec, tf_inspect.ArgSpec = _getargspec, ArgSpec
tf_contextlib = _module("tf_contextlib", contextmanager=contextlib.contextmanager)
tf_decorator = _module("tf_decorator", make_decorator=_make_decorator, keyword_args_only=lambda fn: fn,
                       unwrap=lambda fn: ([], inspect.unwrap(fn)))
deprecation = _module("deprecation", deprecated=_deprecated, deprecated_args=_deprecated, deprecated_arg_values=_deprecated,
                      deprecated_endpoints=_deprecated, silence=contextlib.nullcontext)
all_util = _module("all_util", remove_undocumented=_remove_undocumented, make_all=lambda name, *_: dir(name))
tf_export = _module("tf_export", tf_export=_deprecated, keras_export=_deprecated, estimator_export=_deprecated)
types_pb2 = _module("types_pb2", **{"DT_" + {"float32": "FLOAT", "float64": "DOUBLE"}.get(d.name, d.name.upper()): d.as_datatype_enum
                                    for d in (*types.ALL, types.string)})
