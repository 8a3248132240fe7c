"""`tensorflow.python.training.training_ops`: the optimizers' updates as functions of variables, for optimizers written by users.

Each is an optimizer of this package that is given its slots: `apply_adam(var, m, v, ...)`, `sparse_apply_adam` on rows, and the
`resource_` names, which return an operation in place of the variable's new value.
"""
from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any, Callable

from .. import array_ops, control_flow_ops, graph, math_ops
from ..ops import sparse_rows
from ..ops.opdef import convert_to_tensor
from . import optimizers as kinds
from .optimizer import Optimizer, Rows, Whole, as_type, hyper

_DEFAULTS = {"use_locking": False, "use_nesterov": False, "update_slots": True, "name": None}


def _adam(a: dict[str, Any]) -> Optimizer:
    made = kinds.AdamOptimizer(0.0, a["beta1"], a["beta2"], a["epsilon"])
    one, two = (as_type(a[p], a["var"]) for p in ("beta1_power", "beta2_power"))
    made._rate = as_type(a["lr"], a["var"]) * math_ops.sqrt(1.0 - two) / (1.0 - one)
    return made


def _ftrl(a: dict[str, Any]) -> Optimizer:
    made = kinds.FtrlOptimizer(a["lr"])
    made._l1, made._l2, made._power, made._shrinkage = a["l1"], a["l2"], hyper(a["lr_power"]), a.get("l2_shrinkage", 0.0)
    return made


def _proximal(made: Any, a: dict[str, Any]) -> Optimizer:
    made._l1, made._l2 = (as_type(a[k], a["var"]) for k in ("l1", "l2"))
    return made


# name: (arguments, of which `grad` is followed by `indices` in the sparse form; its slots, by the optimizer's names; the optimizer)
_UPDATES: dict[str, tuple[str, dict[str, str], Callable[[dict[str, Any]], Any]]] = {
    "gradient_descent": ("var alpha grad use_locking name", {}, lambda a: kinds.GradientDescentOptimizer(a["alpha"])),
    "momentum": ("var accum lr grad momentum use_locking use_nesterov name", {"momentum": "accum"},
                 lambda a: kinds.MomentumOptimizer(a["lr"], a["momentum"], use_nesterov=a["use_nesterov"])),
    "adam": ("var m v beta1_power beta2_power lr beta1 beta2 epsilon grad use_locking name", {"m": "m", "v": "v"}, _adam),
    "rms_prop": ("var ms mom lr rho momentum epsilon grad use_locking name", {"rms": "ms", "momentum": "mom"},
                 lambda a: kinds.RMSPropOptimizer(a["lr"], a["rho"], a["momentum"], a["epsilon"])),
    "centered_rms_prop": ("var mg ms mom lr rho momentum epsilon grad use_locking name", {"rms": "ms", "momentum": "mom", "mg": "mg"},
                          lambda a: kinds.RMSPropOptimizer(a["lr"], a["rho"], a["momentum"], a["epsilon"], centered=True)),
    "adagrad": ("var accum lr grad use_locking name", {"accumulator": "accum"}, lambda a: kinds.AdagradOptimizer(a["lr"])),
    "adadelta": ("var accum accum_update lr rho epsilon grad use_locking name", {"accum": "accum", "accum_update": "accum_update"},
                 lambda a: kinds.AdadeltaOptimizer(a["lr"], a["rho"], a["epsilon"])),
    "ftrl": ("var accum linear grad lr l1 l2 lr_power use_locking name", {"accum": "accum", "linear": "linear"}, _ftrl),
    "ftrl_v2": ("var accum linear grad lr l1 l2 l2_shrinkage lr_power use_locking name", {"accum": "accum", "linear": "linear"}, _ftrl),
    "proximal_gradient_descent": ("var alpha l1 l2 grad use_locking name", {},
                                  lambda a: _proximal(kinds.ProximalGradientDescentOptimizer(a["alpha"]), a)),
    "proximal_adagrad": ("var accum lr l1 l2 grad use_locking name", {"accumulator": "accum"},
                         lambda a: _proximal(kinds.ProximalAdagradOptimizer(a["lr"]), a)),
    "adagrad_da": ("var gradient_accumulator gradient_squared_accumulator grad lr l1 l2 global_step use_locking name",
                   {"gradient_accumulator": "gradient_accumulator", "gradient_squared_accumulator": "gradient_squared_accumulator"},
                   lambda a: _proximal(kinds.AdagradDAOptimizer(a["lr"], convert_to_tensor(a["global_step"]) - 1), a)),  # it counts itself
}
_DELTA = ("gradient_descent", "proximal_gradient_descent")  # whose dense gradient is called delta


def _function(name: str, update: str, sparse: bool, resource: bool) -> Callable[..., Any]:
    arguments, slots, make = _UPDATES[update]
    names = arguments.split()
    if sparse:
        names.insert(names.index("grad") + 1, "indices")
    elif update in _DELTA:
        names[names.index("grad")] = "delta"
    kind = Parameter.POSITIONAL_OR_KEYWORD
    signature = Signature([Parameter(n, kind, default=_DEFAULTS[n]) if n in _DEFAULTS else Parameter(n, kind) for n in names])

    def apply(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        a = bound.arguments
        var = a["var"]
        optimizer = make(a)
        optimizer._slots = {slot: {var: a[argument]} for slot, argument in slots.items()}
        gradient = convert_to_tensor(a["delta"] if "delta" in a else a["grad"], var.dtype.base_dtype)
        with graph.get_default_graph().name_scope(a["name"] or "".join(w.capitalize() for w in name.split("_"))) as scope:
            if sparse:
                indices = convert_to_tensor(a["indices"])
                sums, _ = sparse_rows.summed_rows(gradient, indices, var.shape.as_list()[0])
                writes = optimizer._update(sums, var, Rows(indices))
            else:
                writes = optimizer._update(gradient, var, Whole())
            if resource:
                return control_flow_ops.group(*writes, name=scope)
            with graph.get_default_graph().control_dependencies(writes):
                return array_ops.identity(var.value(), name=scope)

    apply.__name__ = apply.__qualname__ = name
    apply.__signature__ = signature  # type: ignore[attr-defined]
    where = " in the rows `indices`, whose values add up where they repeat" if sparse else ""
    apply.__doc__ = (f"The update of {update.replace('_', ' ')}{where}; {'an operation' if resource else 'the new value of `var`'}.")
    return apply


__all__: list[str] = []
for _update in _UPDATES:
    for _resource in (False, True):
        for _sparse in (False, True):
            if _sparse and _update in ("gradient_descent", "adam"):
                continue  # TF has none either
            _name = f"{'resource_' if _resource else ''}{'sparse_' if _sparse else ''}apply_{_update}"
            globals()[_name] = _function(_name, _update, _sparse, _resource)
            __all__.append(_name)
