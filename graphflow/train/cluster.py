"""Clusters that lie in one process: `ClusterSpec`, a `Server` that is this process, and where programs place what.

There is no network here.  Every task of a cluster is this process; sessions on a server's target that run the same graph
share their variables, as TF1's do.
"""
from __future__ import annotations

import itertools
import threading
import weakref
from typing import Any, Callable, Mapping

from .. import session
from ..device_spec import DeviceSpec
from ..platform import logging
from ..runtime.store import Store

_PS_OPS = ("Variable", "VariableV2", "AutoReloadVariable", "MutableHashTable", "MutableHashTableV2", "MutableHashTableOfTensors",
           "MutableHashTableOfTensorsV2", "MutableDenseHashTable", "MutableDenseHashTableV2", "VarHandleOp")
_PORTS = itertools.count(40000)


class ClusterSpec:
    """Jobs with their tasks' addresses.

    Args:
        cluster: {job: [address, ...]} or {job: {task: address}}, a ClusterDef or another ClusterSpec.

    Raises:
        TypeError: something else.
    """

    def __init__(self, cluster: Any):
        if isinstance(cluster, ClusterSpec):
            self._jobs = {job: dict(tasks) for job, tasks in cluster._jobs.items()}
        elif isinstance(cluster, Mapping):
            self._jobs = {self._job(job): self._tasks(job, tasks) for job, tasks in cluster.items()}
        elif hasattr(cluster, "job"):
            self._jobs = {job.name: {int(i): str(a) for i, a in job.tasks.items()} for job in cluster.job}
        else:
            raise TypeError("`cluster` must be a dictionary mapping one or more job names to lists of network addresses, or a `ClusterDef` "
                            f"protocol buffer, got {type(cluster).__name__}")

    @staticmethod
    def _job(name: Any) -> str:
        if not isinstance(name, (str, bytes)):
            raise TypeError(f"The job name {name!r} must be of type `str`")
        return name.decode() if isinstance(name, bytes) else name

    @staticmethod
    def _tasks(job: Any, tasks: Any) -> dict[int, str]:
        if isinstance(tasks, (list, tuple)):
            tasks = dict(enumerate(tasks))
        if not isinstance(tasks, Mapping):
            raise TypeError(f"The tasks for job {job!r} must be a list or a dictionary from integers to strings.")
        for i, address in tasks.items():
            if not isinstance(i, int) or not isinstance(address, (str, bytes)):
                raise TypeError(f"Task {i!r} of job {job!r} must have an integer as number and a string as address, got {address!r}")
        return {i: a.decode() if isinstance(a, bytes) else a for i, a in sorted(tasks.items())}

    @property
    def jobs(self) -> list[str]:
        return list(self._jobs)

    def _of(self, job_name: str) -> dict[int, str]:
        if job_name not in self._jobs:
            raise ValueError(f"No such job in cluster: {job_name!r}")
        return self._jobs[job_name]

    def num_tasks(self, job_name: str) -> int:
        """How many tasks a job has.  Raises ValueError when there is no such job."""
        return len(self._of(job_name))

    def task_indices(self, job_name: str) -> list[int]:
        return sorted(self._of(job_name))

    def task_address(self, job_name: str, task_index: int) -> str:
        """Raises ValueError when there is no such job or task."""
        tasks = self._of(job_name)
        if task_index not in tasks:
            raise ValueError(f"No task with index {task_index!r} in job {job_name!r}")
        return tasks[task_index]

    def job_tasks(self, job_name: str) -> list[Any]:
        """Addresses by number; None where a number is missing."""
        tasks = self._of(job_name)
        return [tasks.get(i) for i in range(max(tasks, default=-1) + 1)]

    def as_dict(self) -> dict[str, Any]:
        """{job: list of addresses}, or {job: {task: address}} where numbers are missing."""
        return {job: list(tasks.values()) if list(tasks) == list(range(len(tasks))) else dict(tasks) for job, tasks in self._jobs.items()}

    def as_cluster_def(self) -> Any:
        from ..proto import ClusterDef, JobDef

        return ClusterDef(job=[JobDef(name=job, tasks=self._jobs[job]) for job in sorted(self._jobs)])

    def __bool__(self) -> bool:
        return bool(self._jobs)

    __nonzero__ = __bool__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClusterSpec) and self._jobs == other._jobs

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ClusterSpec({self.as_dict()!r})"


class Server:
    """A task of a cluster that is this process.  `tf.Session(server.target)` runs here.

    Args:
        server_or_cluster_def: a ServerDef, ClusterDef, ClusterSpec or its dict.
        job_name, task_index: which task this is; they may be left out where there is one only.
        protocol, config, start: accepted; "grpc" is the only protocol whose name is known.

    Raises:
        ValueError: a task that the cluster does not have, or none is named and there are several.  TypeError: something else.
    """

    def __init__(self, server_or_cluster_def: Any, job_name: str | None = None, task_index: int | None = None, protocol: str | None = None,
                 config: Any = None, start: bool = True):
        given = server_or_cluster_def
        if hasattr(given, "cluster") and hasattr(given, "job_name"):
            job_name = job_name or given.job_name or None
            task_index = given.task_index if task_index is None else task_index
            protocol, given = protocol or given.protocol or None, given.cluster
        if protocol not in (None, "grpc"):
            raise ValueError(f"Unknown protocol {protocol!r}: a server is this process, and its target begins with grpc://")
        spec = ClusterSpec(given)
        if job_name is None:
            if len(spec.jobs) != 1:
                raise ValueError(f"Must specify an explicit job_name. Options: {', '.join(spec.jobs)}")
            job_name = spec.jobs[0]
        if task_index is None:
            indices = spec.task_indices(job_name)
            if len(indices) != 1:
                raise ValueError(f"Must specify an explicit task_index. Options: {', '.join(map(str, indices))}")
            task_index = indices[0]
        self._job, self._task, self._spec, self._config = job_name, task_index, spec, config
        self._target = "grpc://" + spec.task_address(job_name, task_index)
        self._stores: weakref.WeakKeyDictionary[Any, Store] = weakref.WeakKeyDictionary()
        if start:
            self.start()

    def start(self) -> None:
        """From now on sessions may use the target."""
        session.SERVERS[self._target] = self._store
        logging.info("Started server with target: %s", self._target)
        others = sum(self._spec.num_tasks(job) for job in self._spec.jobs) - 1
        if others:
            logging.log_first_n(
                logging.WARN, "There is no network between the %d tasks of this cluster: each process has its own variables, "
                "and a worker in a process without the chief waits for ever", 1, others + 1)

    def _store(self, g: Any) -> Store:
        """The variables of a graph, which its sessions share."""
        if g not in self._stores:
            self._stores[g] = Store()
        return self._stores[g]

    def join(self) -> None:
        """Waits for ever, as a parameter server does."""
        threading.Event().wait()

    @property
    def target(self) -> str:
        return self._target

    @property
    def server_def(self) -> Any:
        from ..proto import ServerDef

        return ServerDef(cluster=self._spec.as_cluster_def(), job_name=self._job, task_index=self._task, protocol="grpc")

    @staticmethod
    def create_local_server(config: Any = None, start: bool = True) -> Server:
        """A server of a cluster of its own."""
        return Server({"localhost": [f"localhost:{next(_PORTS)}"]}, protocol="grpc", config=config, start=start)


def replica_device_setter(ps_tasks: int = 0, ps_device: str = "/job:ps", worker_device: str = "/job:worker", merge_devices: bool = True,
                          cluster: Any = None, ps_ops: Any = None, ps_strategy: Any = None) -> Callable[[Any], str] | None:
    """A function for `tf.device` that puts variables on the tasks of `ps_device`, one after the other, and ops on `worker_device`.

    Args:
        ps_tasks: how many tasks there are; counted from `cluster` (a ClusterSpec or what makes one) where that is given.
        merge_devices: complete devices that ops have; False leaves these as they are.
        ps_ops: op types that go to `ps_device`; variables and tables by default.
        ps_strategy: a function from an op to the number of its task.

    Returns:
        None where there is no such task.

    Raises:
        TypeError: `cluster` or `ps_strategy` is something else.
    """
    if cluster is not None:
        spec = cluster if isinstance(cluster, ClusterSpec) else ClusterSpec(cluster)
        job = DeviceSpec.from_string(ps_device).job
        if job not in spec.jobs:
            return None
        ps_tasks = spec.num_tasks(job)
    if ps_tasks == 0:
        return None
    if ps_strategy is not None and not callable(ps_strategy):
        raise TypeError("ps_strategy must be callable")
    if not merge_devices:
        logging.warning("DEPRECATION: It is recommended to set merge_devices=true in replica_device_setter")
    turns = itertools.cycle(range(ps_tasks))
    strategy = ps_strategy or (lambda op: next(turns))
    kinds = frozenset(_PS_OPS if ps_ops is None else ps_ops)

    def device_function(op: Any) -> str:
        if not merge_devices and op.device:
            return op.device
        current = DeviceSpec.from_string(op.device or "")
        if ps_device and (op.op if hasattr(op, "op") and isinstance(op.op, str) else op.type) in kinds:
            place = DeviceSpec.from_string(ps_device)
            if place.job and (not current.job or current.job == place.job):
                place = place.replace(task=strategy(op))
            return place.make_merged_spec(current).to_string()
        return DeviceSpec.from_string(worker_device or "").make_merged_spec(current).to_string()

    return device_function
