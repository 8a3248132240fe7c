"""`tf.train`: optimizers, learning-rate schedules, the global step, moving averages, checkpoints."""
from ..graph_def import write_graph
from .checkpoint import (CheckpointReader, CheckpointState, NewCheckpointReader, checkpoint_exists, generate_checkpoint_state_proto,
                         get_checkpoint_mtimes, get_checkpoint_state, latest_checkpoint, list_variables, load_checkpoint, load_variable,
                         remove_checkpoint, update_checkpoint_state)
from . import queue_runner
from .coordinator import Coordinator, LooperThread
from .hooks import (CheckpointSaverHook, CheckpointSaverListener, FeedFnHook, FinalOpsHook, GlobalStepWaiterHook, LoggingTensorHook,
                    NanLossDuringTrainingError, NanTensorHook, ProfilerHook, SecondOrStepTimer, StepCounterHook, StopAtStepHook,
                    SummarySaverHook)
from .input import *
from .meta_graph import export_meta_graph, import_meta_graph
from .monitored_session import (ChiefSessionCreator, MonitoredSession, MonitoredTrainingSession, Scaffold, SessionCreator,
                                SingularMonitoredSession, WorkerSessionCreator)
from .moving_averages import ExponentialMovingAverage
from .optimizer import Optimizer
from .optimizers import (AdadeltaOptimizer, AdagradDAOptimizer, AdagradOptimizer, AdamOptimizer, FtrlOptimizer, GradientDescentOptimizer,
                         MomentumOptimizer, ProximalAdagradOptimizer, ProximalGradientDescentOptimizer, RMSPropOptimizer)
from .queue_runner import QueueRunner, QueueRunnerDef, add_queue_runner, start_queue_runners
from .saver import Saver, SaverDef, init_from_checkpoint
from .schedules import (cosine_decay, cosine_decay_restarts, exponential_decay, inverse_time_decay, linear_cosine_decay, natural_exp_decay,
                        noisy_linear_cosine_decay, piecewise_constant, piecewise_constant_decay, polynomial_decay)
from .session_manager import SessionManager
from .session_run_hook import SessionRunArgs, SessionRunContext, SessionRunHook, SessionRunValues
from .supervisor import Supervisor
from .training_util import assert_global_step, create_global_step, get_global_step, get_or_create_global_step, global_step

# Messages, made when they are first asked for.
_MESSAGES = ("BytesList", "Example", "Feature", "FeatureList", "FeatureLists", "Features", "FloatList", "Int64List", "SequenceExample")
_SUMMARIES = {"SummaryWriter": "FileWriter", "summary_iterator": "summary_iterator"}  # names of `tf.summary`
__all__ = [n for n in dir() if not n.startswith("_")] + [*_MESSAGES, *_SUMMARIES]


def __getattr__(name):
    """A message class, a name of `tf.summary`; AttributeError for any other name."""
    from .. import errors, proto

    if name in _SUMMARIES:
        from .. import summary

        return getattr(summary, _SUMMARIES[name])
    if name not in _MESSAGES:
        raise AttributeError(f"module 'graphflow.train' has no attribute {name!r}."
                             f"{errors.suggest(name, __all__) if not name.startswith('_') else ''}")
    found = globals()[name] = getattr(proto, name)
    return found
