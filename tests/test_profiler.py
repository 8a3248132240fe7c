"""tf.profiler: parameters and float operations, against the report of TensorFlow 2.21 for the same program."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow.profiler import float_ops

OPTIONS = tf.profiler.ProfileOptionBuilder


def network():
    x = tf.placeholder(tf.float32, [2, 8, 8, 3], name="x")
    w, b = tf.get_variable("conv/w", [3, 3, 3, 4]), tf.get_variable("conv/b", [4])
    h = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME"), b))
    h = tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    y = tf.nn.softmax(tf.matmul(tf.reshape(h, [2, 64]), tf.get_variable("fc/w", [64, 5])))
    tf.get_variable("no", [3], trainable=False)
    return tf.reduce_mean(tf.square(y))


PARAMETERS = """Profile:
node name | # parameters
_TFProfRoot (--/432 params)
  conv (--/112 params)
    conv/b (4, 4/4 params)
    conv/w (3x3x3x4, 108/108 params)
  fc (--/320 params)
    fc/w (64x5, 320/320 params)
"""


def test_parameters(capsys):
    network()
    found = tf.profiler.profile(tf.get_default_graph(), options=OPTIONS.trainable_variables_parameter())
    assert capsys.readouterr().out == PARAMETERS
    assert (found.name, found.total_parameters, found.parameters) == ("_TFProfRoot", 432, 0)
    assert [(c.name, c.total_parameters, len(c.children)) for c in found.children] == [("conv", 112, 2), ("fc", 320, 1)]


def test_float_operations(capsys):
    network()
    found = tf.profiler.profile(options=OPTIONS.float_operation(), cmd="scope")
    assert found.total_float_ops == 30896
    assert [(c.name, c.total_float_ops, c.float_ops) for c in found.children] == [
        ("Conv2D", 27648, 27648), ("MatMul", 1280, 1280), ("fc/w/Initializer/random_uniform", 641, 320), ("BiasAdd", 512, 512),
        ("MaxPool", 512, 512), ("conv/w/Initializer/random_uniform", 217, 108), ("Softmax", 50, 50), ("Mean", 10, 10), ("Square", 10, 10),
        ("conv/b/Initializer/random_uniform", 9, 4), ("no/Initializer/random_uniform", 7, 3)]
    written = capsys.readouterr().out
    assert "| # float_ops\n_TFProfRoot (--/30.90k flops)\n  Conv2D (27.65k/27.65k flops)\n  MatMul (1.28k/1.28k flops)\n" in written


x = np.ones((2, 6, 6, 4), np.float32)
FORMULAS = [  # (op, float operations by TF1's formulas)
    (lambda: tf.add_n([tf.ones([3, 4])] * 3), 24), (lambda: tf.nn.l2_loss(tf.ones([5])), 14),
    (lambda: tf.reduce_sum(tf.ones([3, 4]), 1), 9), (lambda: tf.reduce_mean(tf.ones([3, 4]), 1), 12),
    (lambda: tf.argmax(tf.ones([3, 4]), 1), 9), (lambda: tf.rsqrt(tf.ones([3])), 6),
    (lambda: tf.squared_difference(tf.ones([3]), 1.0), 6), (lambda: tf.ones([2, 3]) * tf.ones([3]), 6),
    (lambda: tf.nn.relu(tf.ones([3])), 0), (lambda: tf.matmul(tf.ones([2, 3, 4]), tf.ones([2, 4, 5])), 2 * 4 * 30),
    (lambda: tf.matmul(tf.ones([4, 3]), tf.ones([4, 5]), transpose_a=True), 2 * 4 * 15),
    (lambda: tf.nn.conv2d(x, tf.ones([3, 3, 4, 7]), [1, 2, 2, 1], "SAME"), 2 * 2 * 9 * 7 * 36),
    (lambda: tf.nn.depthwise_conv2d(x, tf.ones([3, 3, 4, 2]), [1, 1, 1, 1], "VALID"), 2 * 2 * 16 * 8 * 9),
    (lambda: tf.nn.conv2d_backprop_input([2, 6, 6, 4], tf.ones([3, 3, 4, 7]), tf.ones([2, 3, 3, 7]), [1, 2, 2, 1], "SAME"),
     2 * 2 * 36 * 9 * 4 * 7 // 4),
    (lambda: tf.nn.avg_pool(x, [1, 3, 3, 1], [1, 3, 3, 1], "SAME"), 9 * 2 * 4 * 4)]


@pytest.mark.parametrize("build, count", FORMULAS, ids=[str(i) for i in range(len(FORMULAS))])
def test_formulas(build, count):
    assert float_ops(build().op) == count


def test_times_of_a_traced_run(capsys):
    y, metadata = tf.tanh(tf.placeholder(tf.float32, [3], name="x"), name="scope/y"), tf.RunMetadata()
    with tf.Session() as sess:
        sess.run(y, {"x:0": np.ones(3)}, tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), metadata)
    options = OPTIONS().with_min_execution_time(1).order_by("micros").select(["micros"]).build()
    found = tf.profiler.profile(run_meta=metadata, options=options)
    expected = sum(n.all_end_rel_micros for n in metadata.step_stats.dev_stats[0].node_stats if n.node_name == "scope/y")
    assert found.total_exec_micros == expected > 0 and "execution time" in capsys.readouterr().out


def test_options(tmp_path, capsys):
    network()
    base = OPTIONS(OPTIONS.trainable_variables_parameter()).with_empty_output()

    def names(options):
        found = tf.profiler.profile(options=options)
        return [c.name for c in found.children], found.total_parameters

    assert names(base.build()) == (["conv", "fc"], 432)
    assert names(OPTIONS(base.build()).with_node_names(hide_name_regexes=["fc.*"]).build()) == (["conv"], 112)
    assert names(OPTIONS(base.build()).with_node_names(show_name_regexes=[".*w"]).build()) == (["conv/w", "fc/w"], 428)
    assert names(OPTIONS(base.build()).with_node_names(trim_name_regexes=["conv"]).build()) == (["fc"], 320)
    assert names(OPTIONS(base.build()).with_node_names(start_name_regexes=["conv"]).build()) == (["conv"], 112)
    assert names(OPTIONS(base.build()).with_min_parameters(100).build()) == (["conv/w", "fc/w"], 428)
    hidden = OPTIONS(base.build()).with_min_parameters(200).account_displayed_op_only(False).build()
    assert names(hidden) == (["fc"], 432)
    assert names(OPTIONS(base.build()).with_accounted_types(["VariableV2"]).build()) == (["conv", "fc", "no"], 435)
    assert names(OPTIONS(base.build()).order_by("params").build()) == (["fc", "conv"], 432)
    assert names(OPTIONS(base.build()).with_max_depth(0).account_displayed_op_only(False).build()) == (["conv", "fc"], 432)
    assert capsys.readouterr().out == ""
    path = tmp_path / "report"
    tf.profiler.profile(options=OPTIONS(base.build()).with_file_output(str(path)).build())
    assert path.read_text() == PARAMETERS
    tf.profiler.profile(options=OPTIONS(base.build()).with_stdout_output().build())
    assert capsys.readouterr().out == PARAMETERS
    for options, words in (({"select": ["bytes"]}, "'bytes' is not counted here"), ({"order": 1}, "unknown option"),
                           ({"output": "nowhere"}, "output is"), ({"order_by": "param"}, "Did you mean 'params'")):
        with pytest.raises(ValueError, match=words):
            tf.profiler.profile(options=options)
    with pytest.raises(ValueError, match="the view 'op' is not in this release"):
        tf.profiler.profile(cmd="op")


def test_unknown_sizes_are_told():
    y = tf.square(tf.placeholder(tf.float32, [None, 3], name="x"))
    with pytest.warns(UserWarning, match="sizes are not known: x:0 of shape"):
        assert tf.profiler.profile(options=OPTIONS(OPTIONS.float_operation()).with_empty_output().build()).total_float_ops == 0
    assert y.op.type == "Square"


def test_the_older_names(capsys):
    network()
    analyzer = tf.contrib.tfprof.model_analyzer
    found = analyzer.print_model_analysis(tf.get_default_graph(), tfprof_options=analyzer.TRAINABLE_VARS_PARAMS_STAT_OPTIONS)
    assert found.total_parameters == 432 and capsys.readouterr().out == PARAMETERS
    assert analyzer.print_model_analysis(tf.get_default_graph(), tfprof_options=analyzer.FLOAT_OPS_OPTIONS).total_float_ops == 30896
