"""Where TF1's own modules keep their names: `tensorflow.python.ops.array_ops.concat` is `tf.concat`.

Programs import from `tensorflow.python.*` and `tensorflow.core.*` though these are not public.  The table says for each such module
in which public namespaces its names are looked up.  A module is there if it is in the table, or a folder of one that is; a name that
no namespace has raises AttributeError and names the nearest.
"""
from __future__ import annotations

import functools
import importlib
import types
from typing import Any

from .. import errors

# Folder -> {modules: namespaces searched in this order}.  "" is `tf` itself, "+name" a module of this package that is not public.
_TABLE: dict[str, dict[str, str]] = {
    "python": {
        "pywrap_tensorflow pywrap_tensorflow_internal": "train",
    },
    "python.client": {
        "session": "+session", "timeline": "+debug.timeline", "device_lib": "+compat.private",
    },
    "python.debug": {},
    "python.eager": {
        "context": "+compat.private",
    },
    "python.feature_column": {
        "feature_column feature_column_v2 feature_column_lib": "feature_column",
        "sequence_feature_column": "feature_column contrib.feature_column",
    },
    "python.framework": {
        "ops": " +graph +compat.private +framework", "dtypes": " +types dtypes", "tensor_shape": " +compat.private",
        "errors errors_impl": "errors", "constant_op": "", "random_seed": "+compat.private  random",
        "graph_util graph_util_impl": "graph_util", "tensor_util": "+compat.private ", "sparse_tensor": "", "importer": "",
        "meta_graph": "train", "device": "", "function": "", "common_shapes": "+compat.private",
        "test_util": "+compat.private +platform.googletest test", "load_library": "", "versions": " ", "graph_io": "train",
        "tensor_spec": "", "smart_cond": "+compat.private", "op_def_library": "",
    },
    "python.layers": {
        "base core convolutional normalization pooling layers": "layers +layers.base", "utils": "+compat.private",
    },
    "python.lib.io": {
        "file_io": "+compat.private gfile io.gfile", "tf_record": "python_io io", "python_io": "python_io",
    },
    "python.ops": {
        "array_ops gen_array_ops": "  +array_ops manip +compat.private", "math_ops gen_math_ops": " math +math_ops +compat.private",
        "nn nn_ops nn_impl gen_nn_ops nn_grad": "nn +compat.private ",
        "control_flow_ops gen_control_flow_ops": " +control_flow_ops +compat.private", "rnn": "nn +rnn",
        "rnn_cell rnn_cell_impl": "nn.rnn_cell +rnn_cell +compat.private contrib.rnn", "seq2seq": "contrib.legacy_seq2seq contrib.seq2seq",
        "init_ops": " initializers", "random_ops": " random", "stateless_random_ops": "random", "variables": " ",
        "variable_scope": " ", "resource_variable_ops": "+compat.private ", "state_ops gen_state_ops": " ", "standard_ops": "",
        "gradients gradients_impl": " +ops.gradients", "gradient_checker": "test", "custom_gradient": "", "embedding_ops": "nn",
        "clip_ops": "", "tensor_array_ops": "", "functional_ops map_fn": "", "script_ops": "", "check_ops": " debugging",
        "sparse_ops gen_sparse_ops": " sparse", "linalg_ops": " linalg", "linalg.linalg linalg.linalg_impl": "linalg ",
        "special_math_ops": " math", "spectral_ops": " spectral", "bitwise_ops": "bitwise",
        "image_ops image_ops_impl gen_image_ops": "image +image", "io_ops gen_io_ops": " io",
        "data_flow_ops gen_data_flow_ops": "  queue +accumulators", "lookup_ops": " +lookup_ops lookup",
        "parsing_ops gen_parsing_ops": " io",
        "string_ops gen_string_ops": " strings", "summary_ops": "summary", "logging_ops gen_logging_ops": " summary",
        "metrics metrics_impl": "metrics", "confusion_matrix": "", "numerics": "", "template": "",
        "candidate_sampling_ops": "nn random", "ctc_ops": "nn", "partitioned_variables": " ", "resources": "+compat.private",
        "losses.losses losses.losses_impl": "losses", "losses.util": "losses", "distributions.distributions": "distributions",
        "distributions.distribution": "distributions",
        "distributions.normal distributions.bernoulli distributions.categorical": "distributions",
        "distributions.uniform distributions.gamma distributions.beta distributions.dirichlet": "distributions",
        "distributions.laplace distributions.student_t distributions.multinomial": "distributions",
        "distributions.exponential": "distributions", "distributions.kullback_leibler": "distributions",
        "distributions.util": "distributions contrib.distributions", "sets_impl": "sets", "manip_ops": "manip", "sort_ops": "",
        "histogram_ops": "", "batch_ops": "", "weights_broadcast_ops": "losses",
    },
    "python.data.ops": {
        "dataset_ops readers": "data", "iterator_ops": "data",
    },
    "python.data.experimental": {
        "": "data.experimental",
    },
    "python.platform": {
        "app": "app", "flags": "flags", "gfile": "gfile", "tf_logging": "logging", "test": "test",
        "googletest": "+platform.googletest", "resource_loader": "resource_loader",

    },
    "python.saved_model": {
        "builder builder_impl": "saved_model.builder saved_model", "loader loader_impl": "saved_model.loader saved_model",
        "simple_save": "saved_model", "signature_constants": "saved_model.signature_constants",
        "tag_constants": "saved_model.tag_constants",
        "signature_def_utils signature_def_utils_impl": "saved_model.signature_def_utils saved_model",
        "utils": "saved_model.utils saved_model", "constants": "saved_model.constants saved_model",
    },
    "python.profiler": {
        "model_analyzer option_builder profile_context tfprof_logger": "profiler",
    },
    "python.summary": {
        "summary": "summary", "writer.writer writer.writer_cache writer.event_file_writer": "summary +summary.writer",
        "summary_iterator": "train", "event_accumulator event_multiplexer": "summary",
    },
    "python.tools": {
        "freeze_graph": "graph_util", "inspect_checkpoint": "+compat.private train", "optimize_for_inference_lib": "graph_util",
    },
    "python.training": {
        "saver checkpoint_management checkpoint_utils": "train", "optimizer": "train",
        "moving_averages": "+train.moving_averages +compat.private train", "training training_util": "train",
        "training_ops gen_training_ops": "+train.training_ops", "learning_rate_decay": "train", "input": "train",
        "queue_runner queue_runner_impl": "train", "coordinator": "train", "basic_session_run_hooks session_run_hook": "train",
        "monitored_session": "train", "session_manager": "train", "supervisor": "train", "summary_io": "train summary",
        "device_setter": "train", "server_lib": "train", "slot_creator": "+compat.private", "sync_replicas_optimizer": "train",
        "saveable_object": "+train.saver train", "warm_starting_util": "train", "evaluation": "contrib.training",
        "adam adagrad adadelta momentum rmsprop gradient_descent ftrl proximal_adagrad": "train",
        "proximal_gradient_descent adagrad_da": "train",
    },
    "python.util": {
        "nest": "+nest", "compat": "compat", "tf_inspect": "+compat.private.tf_inspect",
        "tf_contextlib": "+compat.private.tf_contextlib", "tf_decorator": "+compat.private.tf_decorator",
        "deprecation": "+compat.private.deprecation", "all_util": "+compat.private.all_util",
        "tf_export": "+compat.private.tf_export", "keyword_args": "+compat.private.tf_decorator",
    },
    "core.example": {
        "example_pb2 feature_pb2": "train",
    },
    "core.framework": {
        "summary_pb2": " summary", "graph_pb2": "", "node_def_pb2": "", "attr_value_pb2": "", "tensor_pb2": "+proto",
        "tensor_shape_pb2": "+proto", "types_pb2": "+compat.private.types_pb2", "variable_pb2": "", "step_stats_pb2": "+proto",
        "versions_pb2": "+proto",
    },
    "core.protobuf": {
        "config_pb2": "", "meta_graph_pb2": "", "saver_pb2": "train", "rewriter_config_pb2": "", "cluster_pb2": "train",
        "tensorflow_server_pb2": "train", "saved_model_pb2": "saved_model", "queue_runner_pb2": "train",
    },
    "core.util": {
        "event_pb2": " summary",
    },
    "contrib.crf.python.ops": {
        "": "contrib.crf", "crf": "contrib.crf",
    },
    "contrib.distributions.python.ops": {
        "": "contrib.distributions", "bijectors": "contrib.distributions.bijectors",
        "distribution_util mvn_diag mvn_tril mvn_full_covariance mixture mixture_same_family": "contrib.distributions",
        "independent relaxed_onehot_categorical relaxed_bernoulli onehot_categorical logistic": "contrib.distributions",
        "gumbel half_normal inverse_gamma poisson geometric binomial chi2 deterministic": "contrib.distributions",
        "negative_binomial cauchy": "contrib.distributions",
    },
    "contrib.framework.python.framework": {
        "": "contrib.framework", "tensor_util checkpoint_utils graph_util": "contrib.framework",
    },
    "contrib.framework.python.ops": {
        "": "contrib.framework", "arg_scope variables ops script_ops sort_ops": "contrib.framework",
    },
    "contrib.image.python.ops": {
        "image_ops": "contrib.image",
    },
    "contrib.layers.python.layers": {
        "": "contrib.layers", "utils": "contrib.layers.utils",
        "layers initializers regularizers optimizers summaries encoders embedding_ops": "contrib.layers",
        "normalization": "contrib.layers",
    },
    "contrib.learn.python": {
        "": "contrib.learn", "learn": "contrib.learn",
    },
    "contrib.learn.python.learn.datasets": {
        "": "contrib.learn.datasets", "mnist": "contrib.learn.datasets.mnist", "base": "contrib.learn.datasets.base",
        "synthetic": "contrib.learn.datasets.synthetic",
    },
    "contrib.learn.python.learn.preprocessing": {
        "": "contrib.learn.preprocessing", "text categorical_vocabulary": "contrib.learn.preprocessing",
    },
    "contrib.losses.python": {
        "losses losses.loss_ops": "contrib.losses",
        "metric_learning metric_learning.metric_loss_ops": "contrib.losses.metric_learning",
    },
    "contrib.metrics.python": {
        "ops.metric_ops ops.confusion_matrix_ops ops.set_ops metrics metrics.classification": "contrib.metrics",
    },
    "contrib.nn.python.ops": {
        "alpha_dropout cross_entropy sampling_ops scaled_softplus": "contrib.nn",
    },
    "contrib.opt.python.training": {
        "external_optimizer nadam_optimizer moving_average_optimizer weight_decay_optimizers": "contrib.opt",
        "adamax powersign addsign variable_clipping_optimizer lazy_adam_optimizer": "contrib.opt",
    },
    "contrib.rnn.python.ops": {
        "core_rnn_cell rnn_cell rnn core_rnn_cell_impl core_rnn": "contrib.rnn nn.rnn_cell",
    },
    "contrib.seq2seq.python.ops": {
        "attention_wrapper basic_decoder beam_search_decoder decoder helper loss": "contrib.seq2seq",
    },
    "contrib.training.python.training": {
        "": "contrib.training", "hparam training evaluation bucket_ops": "contrib.training",
    },
}


@functools.cache
def _modules() -> dict[str, tuple[str, ...]]:
    """Full module name below `tensorflow` -> its namespaces; folders have none."""
    out: dict[str, tuple[str, ...]] = {}
    for folder, modules in _TABLE.items():
        for names, places in modules.items():
            for name in names.split() or [""]:
                out[f"{folder}.{name}".rstrip(".")] = tuple(places.split(" ")) if places else ("",)
    for name in [*out, *_TABLE]:
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            out.setdefault(".".join(parts[:i]), ())
    return out


def known(name: str) -> bool:
    """Whether TF1 has a module of this name that is mapped here, for instance "python.ops.array_ops"."""
    return name in _modules()


def nearest(name: str) -> str:
    return errors.suggest(name, _modules())


def _namespace(place: str) -> Any:
    """The object of an entry of the table, or None where this release lacks it."""
    import graphflow

    try:
        if place.startswith("+"):
            return importlib.import_module(f"graphflow.{place[1:]}")
        return functools.reduce(getattr, place.split(".") if place else [], graphflow)
    except (AttributeError, ModuleNotFoundError):
        return None


class Module(types.ModuleType):
    """A module of TF1's own layout: its names are those of public namespaces."""

    def __init__(self, name: str):
        super().__init__(f"graphflow.{name}", f"The names of tensorflow.{name}, from where they are public.")
        self.__path__: list[str] = []
        self.__package__ = f"graphflow.{name}"
        self._name = name

    def __getattr__(self, attr: str) -> Any:
        if attr.startswith("__"):
            raise AttributeError(attr)
        inner = f"{self._name}.{attr}"
        places = _modules()[self._name]
        for place in places:
            if place == "" and attr in ("python", "core", "contrib"):
                continue
            found = getattr(_namespace(place), attr, None)
            if found is not None and not (isinstance(found, types.ModuleType) and known(inner)):
                return found
        if known(inner):
            return module(inner)
        near = errors.suggest(attr, self.__dir__())
        raise AttributeError(f"module 'tensorflow.{self._name}' has no attribute {attr!r} here.{near}")

    def __dir__(self) -> list[str]:
        inner = {n.removeprefix(self._name + ".").split(".")[0] for n in _modules() if n.startswith(self._name + ".")}
        return sorted(inner.union(*[[n for n in dir(_namespace(p)) if not n.startswith("_")] for p in _modules()[self._name]]))


@functools.cache
def module(name: str) -> Module:
    """The one module of this name below `tensorflow`."""
    return Module(name)
