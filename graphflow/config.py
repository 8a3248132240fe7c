"""TF1's configuration messages as plain classes with the same field names.

With a meaning here: `ConfigProto.intra_op_parallelism_threads`, `.operation_timeout_in_ms`, `.memory_budget`, `.log_device_placement`,
`.allow_soft_placement`, `.device_count`, `.gpu_options` (some of it); `RunOptions.timeout_in_ms`, `.trace_level`.  Every
other field is accepted, kept and without effect.
(`RunMetadata` is a message of graphflow/proto.)
"""
from __future__ import annotations

import copy
import json
from typing import Any

from . import errors

__all__ = ["ConfigProto", "GPUOptions", "GraphOptions", "OptimizerOptions", "RunOptions", "DeviceAttributes"]


class Message:
    """Fields with defaults, set by keyword or attribute; an unknown one raises and names the nearest."""

    _fields: dict[str, Any] = {}

    def __init__(self, **values: Any):
        for name, default in self._fields.items():
            object.__setattr__(self, name, default() if callable(default) else copy.copy(default))
        for name, value in values.items():
            if value is not None or name not in self._fields:  # None leaves a field as it is
                setattr(self, name, self._coerce(name, value))

    def _coerce(self, name: str, value: Any) -> Any:
        default = self._fields.get(name)
        return default(**value) if isinstance(value, dict) and isinstance(default, type) and issubclass(default, Message) else value

    def __setattr__(self, name: str, value: Any) -> None:
        default = self._fields.get(name, self)
        if default is self:
            raise self._unknown(name)
        if isinstance(default, (bool, int, float)) and not isinstance(value, (bool, int, float)):
            raise TypeError(f"{type(self).__name__}.{name} must be a number, got {value!r} of type {type(value).__name__}")
        if name == "memory_budget" and value < 0:
            raise ValueError(f"{type(self).__name__}.memory_budget is a number of bytes, 0 for no limit, got {value!r}")
        if isinstance(default, type) and issubclass(default, Message) and not isinstance(value, default):
            raise TypeError(f"{type(self).__name__}.{name} must be a {default.__name__}, got {value!r} of type {type(value).__name__}")
        object.__setattr__(self, name, value)

    def _unknown(self, name: str) -> Exception:
        class UnknownField(ValueError, AttributeError):
            """Both what a constructor and what an attribute raises."""
        return UnknownField(f'Protocol message {type(self).__name__} has no "{name}" field.{errors.suggest(name, self._fields)}')

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._unknown(name)

    def CopyFrom(self, other: Any) -> None:
        """Takes over all fields of another message of this type."""
        for name in self._fields:
            object.__setattr__(self, name, copy.deepcopy(getattr(other, name)))

    def as_dict(self) -> dict[str, Any]:
        return {k: v.as_dict() if isinstance(v, Message) else v for k in self._fields for v in [getattr(self, k)]}

    def SerializeToString(self) -> bytes:
        return json.dumps(self.as_dict(), default=str).encode()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.as_dict() == other.as_dict()  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        changed = {k: getattr(self, k) for k, d in self._fields.items() if getattr(self, k) != (d() if callable(d) else d)}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in changed.items())})"


class GPUOptions(Message):
    """GPUs of a session, and their memory.

    visible_device_list: numbers of the machine's GPUs, as in "1,0": the first is GPU:0 of the session; empty for all.
    per_process_gpu_memory_fraction: the share of a GPU's memory that values may take; 0 for all of it.
    allow_growth: False also takes memory only when it is needed: the pool always grows, up to that limit.
    The other fields are accepted without effect.
    """

    class Experimental(Message):
        _fields = {"virtual_devices": list, "use_unified_memory": False, "num_dev_to_dev_copy_streams": 0}

    _fields = {"per_process_gpu_memory_fraction": 0.0, "allow_growth": False, "allocator_type": "", "deferred_deletion_bytes": 0,
               "visible_device_list": "", "polling_active_delay_usecs": 0, "polling_inactive_delay_msecs": 0, "force_gpu_compatible": False,
               "experimental": Experimental}


class OptimizerOptions(Message):
    """TF1's graph optimiser; accepted without effect (see `graphflow.flags`)."""

    L0, L1 = -1, 0
    DEFAULT, OFF, ON_1, ON_2 = 0, -1, 1, 2
    _fields = {"do_common_subexpression_elimination": False, "do_constant_folding": False, "do_function_inlining": False,
               "max_folded_constant_in_bytes": 0, "opt_level": 0, "global_jit_level": 0}


class RewriterConfig(Message):
    """TF1's Grappler switches; accepted without effect."""

    DEFAULT, ON, OFF, AGGRESSIVE, NO_MEM_OPT, MANUAL = 0, 1, 2, 3, 1, 2
    _fields = dict.fromkeys(("layout_optimizer", "constant_folding", "shape_optimization", "remapping", "arithmetic_optimization",
                             "dependency_optimization", "loop_optimization", "function_optimization", "debug_stripper",
                             "scoped_allocator_optimization", "pin_to_host_optimization", "auto_mixed_precision", "memory_optimization",
                             "meta_optimizer_iterations", "min_graph_nodes"), 0) | {
        "disable_model_pruning": False, "disable_meta_optimizer": False, "optimizers": list}


class GraphOptions(Message):
    """Graph options; accepted without effect."""

    _fields = {"enable_recv_scheduling": False, "optimizer_options": OptimizerOptions, "build_cost_model": 0, "build_cost_model_after": 0,
               "infer_shapes": False, "place_pruned_graph": False, "enable_bfloat16_sendrecv": False, "timeline_step": 0,
               "rewrite_options": RewriterConfig}


class ConfigProto(Message):
    """`tf.Session(config=...)`.

    intra_op_parallelism_threads: threads of one kernel, 0 for as many as there are cores (more are cut to that); 1 starts none.
    operation_timeout_in_ms: longest time of one `run`; beyond it DeadlineExceededError.
    device_count: how many devices of a kind there are at most: {"GPU": 0} hides the GPUs, {"CPU": 2} makes two names of one CPU.
    gpu_options: see `GPUOptions`.
    log_device_placement: prints each op's device when a step is compiled, once a session.
    memory_budget: most bytes one `run` may use (variables, constants, temporaries, feeds and results), 0 for no limit.  A step that
        needs more computes values again instead of keeping them; one that still does not fit raises ResourceExhaustedError
        before it runs.
    allow_soft_placement: an op whose device is missing, or has no kernel for it, runs on another (docs/devices.md) instead of raising.
    The other fields are accepted without effect.
    """

    class Experimental(Message):
        _fields = {"collective_group_leader": "", "executor_type": "", "optimize_for_static_graph": False,
                   "disable_output_partition_graphs": False,
                   "enable_mlir_bridge": False, "xla_fusion_autotuner_thresh": 0}

    _fields = {"device_count": dict, "intra_op_parallelism_threads": 0, "inter_op_parallelism_threads": 0, "use_per_session_threads": False,
               "session_inter_op_thread_pool": list, "placement_period": 0, "device_filters": list, "gpu_options": GPUOptions,
               "allow_soft_placement": False, "log_device_placement": False, "graph_options": GraphOptions, "operation_timeout_in_ms": 0,
               "memory_budget": 0,
               "rpc_options": None, "cluster_def": None, "isolate_session_state": False, "share_cluster_devices_in_session": False,
               "experimental": Experimental}


_default: ConfigProto | None = None


def default() -> ConfigProto | None:
    """The config of sessions that are made without one: what `tf.config` has said, None if that is nothing."""
    return copy.deepcopy(_default)


def defaults() -> ConfigProto:
    """The same, to be changed."""
    global _default
    if _default is None:
        _default = ConfigProto()
    return _default


class RunOptions(Message):
    """`sess.run(..., options=...)`: `timeout_in_ms` and `trace_level` have a meaning, the rest is accepted."""

    NO_TRACE, SOFTWARE_TRACE, HARDWARE_TRACE, FULL_TRACE = range(4)
    _fields = {"trace_level": 0, "timeout_in_ms": 0, "inter_op_thread_pool": 0, "output_partition_graphs": False, "debug_options": None,
               "report_tensor_allocations_upon_oom": False}


class DeviceLocality(Message):
    """Where a device is in the machine; without meaning here."""

    _fields = {"bus_id": 0, "numa_node": 0, "links": list}


class DeviceAttributes(Message):
    """A device as `Session.list_devices()` and `device_lib.list_local_devices()` tell it.

    memory_limit_bytes (also `memory_limit`): what values may take there, 0 where that is not known.  incarnation: a number that another
    process does not have.  physical_device_desc: which GPU it is.
    """

    _fields = {"name": "", "device_type": "CPU", "memory_limit_bytes": 0, "incarnation": 0, "physical_device_desc": "",
               "locality": DeviceLocality}

    def __init__(self, name: str = "", device_type: str = "CPU", memory_limit_bytes: int = 0, incarnation: int = 0,
                 physical_device_desc: str = ""):
        super().__init__(name=name, device_type=device_type, memory_limit_bytes=memory_limit_bytes, incarnation=incarnation,
                         physical_device_desc=physical_device_desc)

    memory_limit = property(lambda self: self.memory_limit_bytes)

    def __repr__(self) -> str:
        return f"_DeviceAttributes({self.name}, {self.device_type}, {self.memory_limit_bytes}, {self.incarnation})"
