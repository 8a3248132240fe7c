"""`tf.train`: optimizers, learning-rate schedules, the global step, moving averages, checkpoints, sessions that train.

Names are loaded with their module when they are first asked for.
"""
from __future__ import annotations

import importlib
from typing import Any

_PLACES = {
    "..contrib.training.evaluation": "checkpoints_iterator",
    "..graph_def": "write_graph",
    "..proto": "BytesList ClusterDef Example Feature FeatureList FeatureLists Features FloatList Int64List JobDef SequenceExample "
               "ServerDef",
    ".checkpoint": "CheckpointReader CheckpointState NewCheckpointReader checkpoint_exists generate_checkpoint_state_proto "
                   "get_checkpoint_mtimes get_checkpoint_state latest_checkpoint list_variables load_checkpoint load_variable "
                   "remove_checkpoint update_checkpoint_state",
    ".cluster": "ClusterSpec Server replica_device_setter",
    ".coordinator": "Coordinator LooperThread",
    ".hooks": "CheckpointSaverHook CheckpointSaverListener FeedFnHook FinalOpsHook GlobalStepWaiterHook LoggingTensorHook "
              "NanLossDuringTrainingError NanTensorHook ProfilerHook SecondOrStepTimer StepCounterHook StopAtStepHook SummarySaverHook",
    ".input": "batch batch_join input_producer limit_epochs match_filenames_once maybe_batch maybe_batch_join maybe_shuffle_batch "
              "maybe_shuffle_batch_join range_input_producer shuffle_batch shuffle_batch_join slice_input_producer string_input_producer",
    ".meta_graph": "export_meta_graph import_meta_graph",
    ".monitored_session": "ChiefSessionCreator MonitoredSession MonitoredTrainingSession Scaffold SessionCreator SingularMonitoredSession "
                          "WorkerSessionCreator",
    ".moving_averages": "ExponentialMovingAverage",
    ".optimizer": "Optimizer",
    ".optimizers": "AdadeltaOptimizer AdagradDAOptimizer AdagradOptimizer AdamOptimizer FtrlOptimizer GradientDescentOptimizer "
                   "MomentumOptimizer ProximalAdagradOptimizer ProximalGradientDescentOptimizer RMSPropOptimizer",
    ".queue_runner": "QueueRunner QueueRunnerDef add_queue_runner start_queue_runners",
    ".saver": "Saver SaverDef",
    ".schedules": "cosine_decay cosine_decay_restarts exponential_decay inverse_time_decay linear_cosine_decay natural_exp_decay "
                  "noisy_linear_cosine_decay piecewise_constant piecewise_constant_decay polynomial_decay",
    ".session_manager": "SessionManager",
    ".session_run_hook": "SessionRunArgs SessionRunContext SessionRunHook SessionRunValues",
    ".supervisor": "Supervisor basic_train_loop",
    ".sync_replicas": "SyncReplicasOptimizer",
    ".training_util": "assert_global_step create_global_step get_global_step get_or_create_global_step global_step",
    ".warm_starting_util": "VocabInfo init_from_checkpoint warm_start",
    "..summary": "summary_iterator",
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names.split()}
_OTHERS = {"SummaryWriter": ("..summary", "FileWriter"), "SummaryWriterCache": ("..summary", "FileWriterCache")}  # names that differ there
__all__ = [*_MODULES, *_OTHERS, "queue_runner"]


def __getattr__(name: str) -> Any:
    """A name with its module; AttributeError, with the nearest name, for any other."""
    if name == "queue_runner":
        return importlib.import_module(".queue_runner", __name__)
    if name not in _MODULES and name not in _OTHERS:
        from ..errors import suggest

        raise AttributeError(f"module 'graphflow.train' has no attribute {name!r}."
                             f"{suggest(name, __all__) if not name.startswith('_') else ''}")
    module, own = _OTHERS.get(name) or (_MODULES[name], name)
    found = globals()[name] = getattr(importlib.import_module(module, __name__), own)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
