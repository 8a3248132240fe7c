"""`tf.config`: what sessions that are made without a `tf.ConfigProto` have, said once for the process.

TF1.15 had these functions for its eager mode; here they fill in the ConfigProto of such sessions (`default` in graphflow/config.py).
"""
from __future__ import annotations

from typing import Any, NamedTuple, Sequence

from .. import errors
from ..config import default, defaults
from ..runtime import devices

__all__ = ["LogicalDevice", "PhysicalDevice", "experimental", "get_soft_device_placement", "get_visible_devices", "list_logical_devices",
           "list_physical_devices", "set_soft_device_placement", "set_visible_devices", "threading"]


class PhysicalDevice(NamedTuple):
    """A device of the machine: name like "/physical_device:GPU:0", numbered as the driver does."""

    name: str
    device_type: str


class LogicalDevice(NamedTuple):
    """A device of a session."""

    name: str
    device_type: str


def list_physical_devices(device_type: str | None = None) -> list[PhysicalDevice]:
    """The machine's CPU, and the GPUs that can be used; only those of one type if that is given."""
    found = [PhysicalDevice("/physical_device:CPU:0", "CPU")]
    found += [PhysicalDevice(f"/physical_device:GPU:{d.ordinal}", "GPU") for d in devices.Devices().gpus]
    return [d for d in found if device_type in (None, d.device_type)]


def list_logical_devices(device_type: str | None = None) -> list[LogicalDevice]:
    """The devices of a session made now without a config."""
    found = [LogicalDevice(f"/device:{d.short}", d.kind) for d in devices.Devices(default()).all]
    return [d for d in found if device_type in (None, d.device_type)]


def _known(device: Any) -> PhysicalDevice:
    there = list_physical_devices()
    if device not in there:
        raise ValueError(f"Unrecognized device: {device!r}; there are {[d.name for d in there]}"
                         + (f" ({why})" if (why := devices.Devices().reason) else ""))
    return device


def get_visible_devices(device_type: str | None = None) -> list[PhysicalDevice]:
    """Those of the machine's devices that sessions use."""
    session = devices.Devices(default())
    ordinals = [d.ordinal for d in session.gpus]
    found = [d for d in list_physical_devices(device_type) if d.device_type == "CPU" or int(d.name.rpartition(":")[2]) in ordinals]
    return found


def set_visible_devices(devices: Any, device_type: str | None = None) -> None:
    """From now on sessions use these devices (one, or a list) only; the CPU always remains.

    Raises:
        ValueError: a device that is not there, or not of `device_type`.
    """
    chosen = [_known(d) for d in (devices if isinstance(devices, (list, tuple)) and not isinstance(devices, PhysicalDevice) else [devices])]
    wrong = next((d for d in chosen if device_type not in (None, d.device_type)), None)
    if wrong is not None:
        raise ValueError(f"Unrecognized device: {wrong.name} is not of type {device_type}")
    if device_type == "CPU":
        return
    gpus = [d.name.rpartition(":")[2] for d in chosen if d.device_type == "GPU"]
    found = defaults()
    found.gpu_options.visible_device_list = ",".join(gpus)
    found.device_count = {**found.device_count, "GPU": len(gpus)}


def get_memory_growth(device: Any) -> bool:
    """True: memory of a GPU is taken when it is needed."""
    _known(device)
    return True


def set_memory_growth(device: Any, enable: bool) -> None:
    """Accepted: memory of a GPU is always taken when it is needed; `per_process_gpu_memory_fraction` bounds it.

    Raises ValueError for a device that is not there.
    """
    _known(device)
    defaults().gpu_options.allow_growth = bool(enable)


def set_virtual_device_configuration(device: Any, virtual_devices: Sequence[Any]) -> None:
    """Raises UnimplementedError: a GPU is one device here; `per_process_gpu_memory_fraction` bounds what a session takes of it."""
    raise errors.UnimplementedError(None, None, set_virtual_device_configuration.__doc__.partition(": ")[2])  # type: ignore[union-attr]


def get_soft_device_placement() -> bool:
    """Whether sessions replace devices that cannot be had."""
    return bool(getattr(default(), "allow_soft_placement", False))


def set_soft_device_placement(enabled: bool) -> None:
    """Whether sessions made from now on replace devices that cannot be had, instead of raising."""
    defaults().allow_soft_placement = bool(enabled)


class experimental:
    """`tf.config.experimental`."""

    get_memory_growth = staticmethod(get_memory_growth)
    get_visible_devices = staticmethod(get_visible_devices)
    list_logical_devices = staticmethod(list_logical_devices)
    list_physical_devices = staticmethod(list_physical_devices)
    set_memory_growth = staticmethod(set_memory_growth)
    set_virtual_device_configuration = staticmethod(set_virtual_device_configuration)
    set_visible_devices = staticmethod(set_visible_devices)


class threading:
    """`tf.config.threading`: threads of sessions made from now on; 0 for as many as there are cores."""

    @staticmethod
    def get_intra_op_parallelism_threads() -> int:
        return getattr(default(), "intra_op_parallelism_threads", 0)

    @staticmethod
    def set_intra_op_parallelism_threads(num_threads: int) -> None:
        defaults().intra_op_parallelism_threads = num_threads

    @staticmethod
    def get_inter_op_parallelism_threads() -> int:
        return getattr(default(), "inter_op_parallelism_threads", 0)

    @staticmethod
    def set_inter_op_parallelism_threads(num_threads: int) -> None:
        """Accepted without effect."""
        defaults().inter_op_parallelism_threads = num_threads
