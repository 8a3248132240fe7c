"""The devices of a session: the CPU of this process, and the GPUs that its config lets it use.

Nothing is asked of a driver before `gpus` or `reason` is read.  Knows configs and the CUDA driver; knows no op (rank 5).
"""
from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass, replace
from typing import Any

from .. import errors

# What the NVIDIA driver makes in Linux: on PCI, under WSL, on Tegra.
NODES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvmap")
HOST = "/job:localhost/replica:0/task:0"
LOCAL_CPU = f"{HOST}/device:CPU:0"


@dataclass(frozen=True)
class Device:
    """A device of a session.

    kind, index: what the session calls it ("GPU", 0).  ordinal: the driver's number of a GPU, else -1.  limit: bytes that values may
    take, 0 where that is not known.  text: what it is, as TF1 describes it.  capability: of CUDA.
    """

    kind: str
    index: int
    ordinal: int = -1
    limit: int = 0
    text: str = ""
    capability: tuple[int, int] = (0, 0)

    @property
    def short(self) -> str:
        """`GPU:0`."""
        return f"{self.kind}:{self.index}"

    @property
    def name(self) -> str:
        """`/job:localhost/replica:0/task:0/device:GPU:0`."""
        return f"{HOST}/device:{self.short}"

    @property
    def incarnation(self) -> int:
        """A number that another process, or another GPU under this name, does not have."""
        return _incarnation(self.name, self.ordinal, self.text)


@functools.cache
def _incarnation(*_: Any) -> int:
    return int.from_bytes(os.urandom(8), "little") | 1


@functools.cache
def host_memory() -> int:
    """Bytes of memory that this machine has, 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no sysconf on Windows
        return 0


class Devices:
    """What a `tf.ConfigProto` leaves of this machine's devices.

    Args:
        config: `device_count` says how many CPUs and GPUs there are at most ({"GPU": 0} hides them), `gpu_options.visible_device_list`
            which GPUs and in which order, `.per_process_gpu_memory_fraction` how much of their memory values may take.
        gpus, reason: instead of asking the driver: the GPUs, and why there are none.

    Raises:
        InvalidArgumentError, from `gpus`, `cpus` and `reason`: a count below 0, a list of devices that are not there.
    """

    def __init__(self, config: Any = None, gpus: tuple[Device, ...] | None = None, reason: str = ""):
        self.config = config
        self._given = None if gpus is None else (tuple(gpus), reason)

    @functools.cached_property
    def cpus(self) -> tuple[Device, ...]:
        limit = getattr(self.config, "memory_budget", 0) or host_memory()
        return tuple(Device("CPU", i, limit=limit) for i in range(max(1, self._count("CPU", 1))))

    @functools.cached_property
    def _found(self) -> tuple[tuple[Device, ...], str]:
        if self._given is not None:
            return self._given
        most = self._count("GPU", 1 << 30)
        if most == 0:
            return (), "the session's config hides the GPUs: device_count={'GPU': 0}"
        if _nowhere():
            return (), ""
        there, reason = _physical()
        options = getattr(self.config, "gpu_options", None)
        chosen = _visible(getattr(options, "visible_device_list", ""), there, reason)[:most]
        fraction = getattr(options, "per_process_gpu_memory_fraction", 0.0) or 1.0
        return tuple(replace(d, index=i, limit=int(d.limit * min(fraction, 1.0))) for i, d in enumerate(chosen)), reason

    @property
    def gpus(self) -> tuple[Device, ...]:
        """The GPUs that can be used, GPU:0 first."""
        return self._found[0]

    @property
    def reason(self) -> str:
        """Why there is no GPU, or not the one that is asked for: a sentence without its full stop."""
        found = self._found[1]
        if not found and not self.gpus:  # nobody has asked the driver so far
            found = _physical()[1] or "there is none in /dev"
        return found.rstrip(".")

    @property
    def all(self) -> tuple[Device, ...]:
        return self.cpus + self.gpus

    @property
    def names(self) -> str:
        return ", ".join(d.name for d in self.all)

    def _count(self, kind: str, default: int) -> int:
        counts = getattr(self.config, "device_count", None) or {}
        n = counts.get(kind, default)
        if not isinstance(n, int) or n < 0:
            raise _refused(f"ConfigProto.device_count[{kind!r}] must be a number of devices, 0 or more, got {n!r}")
        return n


def _nowhere() -> bool:
    """Whether it is plain, without asking (and loading, 8 ms) the driver's part of this package, that there is no GPU."""
    return (sys.platform == "linux" and f"{__package__}.cuda.driver" not in sys.modules and "GRAPHFLOW_LIBCUDA" not in os.environ
            and not any(map(os.path.exists, NODES)))


def _physical() -> tuple[tuple[Device, ...], str]:
    """The machine's usable GPUs, numbered as the driver does, and why others (or all) cannot be used."""
    from .cuda import driver

    try:
        found = driver.current()
    except driver.Unavailable as e:
        return (), e.reason
    devices, refused = [], []
    for ordinal in range(found.count()):
        p = found.properties(ordinal)
        old = driver.too_old(p, ordinal)
        if old:
            refused.append(old)
            continue
        text = (f"device: {ordinal}, name: {p.name}, pci bus id: {p.pci_bus_id}, compute capability: "
                f"{p.capability[0]}.{p.capability[1]}")
        devices.append(Device("GPU", len(devices), ordinal, p.memory, text, p.capability))
    return tuple(devices), " ".join(refused)


def _visible(text: str, there: tuple[Device, ...], reason: str) -> tuple[Device, ...]:
    """The GPUs of a `visible_device_list`, in its order; all for an empty one."""
    if not text.strip():
        return there
    if not there:
        return ()
    by_ordinal, chosen = {d.ordinal: d for d in there}, []
    for item in text.split(","):
        if not item.strip().isdigit():
            raise _refused(f"Could not parse entry in 'visible_device_list': {item!r}. visible_device_list = {text!r}; it is a list of "
                           "numbers like '0,1'")
        if int(item) not in by_ordinal:
            raise _refused(f"'visible_device_list' listed an invalid GPU id {item.strip()!r}; the GPUs that can be used are "
                           f"{sorted(by_ordinal)}" + (f". {reason}" if reason else ""))
        chosen.append(by_ordinal[int(item)])
    if len(set(chosen)) < len(chosen):
        raise _refused(f"visible_device_list contained a duplicate entry: {text!r}")
    return tuple(chosen)


def _refused(message: str) -> Exception:
    return errors.InvalidArgumentError(None, None, message)
