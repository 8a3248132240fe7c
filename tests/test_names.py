"""The names that TF1 programs use most: each must be there, in graphflow and in graphflow.compat.v1."""
from __future__ import annotations

import functools

import pytest

import graphflow
from graphflow.compat import v1

# By use in public programs, without tf.data, summaries, estimators, queues and servers.
MOST_USED = """
float32 placeholder Session global_variables_initializer reduce_mean Variable matmul train.AdamOptimizer reshape reduce_sum nn.relu cast
variable_scope int32 constant argmax zeros square concat train.Saver get_variable random_normal equal nn.softmax shape name_scope
train.GradientDescentOptimizer expand_dims log trainable_variables transpose add gradients set_random_seed app.run sqrt ones
nn.softmax_cross_entropy_with_logits squeeze ConfigProto Graph random_uniform get_collection nn.sigmoid layers.dense one_hot multiply exp
nn.dropout stack nn.conv2d constant_initializer control_dependencies assign device truncated_normal app.flags.FLAGS sigmoid int64
nn.embedding_lookup add_n group test.TestCase app.flags.DEFINE_string nn.sparse_softmax_cross_entropy_with_logits clip_by_value
random_normal_initializer train.RMSPropOptimizer abs ones_like test.main nn.bias_add nn.sigmoid_cross_entropy_with_logits
app.flags.DEFINE_integer maximum tanh truncated_normal_initializer get_default_graph identity train.latest_checkpoint nn.max_pool split
reduce_max range gather nn.tanh zeros_like bool flags.FLAGS convert_to_tensor tile nn.softplus pow train.get_checkpoint_state
train.exponential_decay initialize_all_variables InteractiveSession logging.set_verbosity layers.conv2d to_float stop_gradient where
GraphKeys.GLOBAL_VARIABLES app.flags.DEFINE_float subtract flags.DEFINE_string nn.l2_loss GraphKeys.TRAINABLE_VARIABLES global_variables
uint8 app.flags.DEFINE_boolean slice unstack flags.DEFINE_integer logging.INFO zeros_initializer string clip_by_global_norm
reset_default_graph train.ExponentialMovingAverage get_variable_scope float64 layers.dropout layers.max_pooling2d
random_uniform_initializer __version__ logging.info no_op metrics.accuracy gfile.MakeDirs minimum app.flags GraphKeys.UPDATE_OPS
gfile.Exists gfile.FastGFile nn.moments less to_int32 Tensor gfile.GFile greater nn.softmax_cross_entropy_with_logits_v2 sin TensorShape
losses.mean_squared_error train.MomentumOptimizer local_variables_initializer add_to_collection errors.OutOfRangeError
train.get_or_create_global_step get_default_session layers.batch_normalization placeholder_with_default train.AdagradOptimizer nn.nce_loss
nn.elu GraphDef flags.DEFINE_float import_graph_def train.get_global_step negative nn.conv2d_transpose variables_initializer reduce_min
round div train.import_meta_graph sign multinomial flags.DEFINE_boolean image.random_flip_left_right losses.softmax_cross_entropy size
nn.batch_normalization AUTO_REUSE cholesky logical_and nn.xw_plus_b nn.avg_pool diag fill flags.DEFINE_bool flags image.resize_images
nn.l2_normalize losses.sparse_softmax_cross_entropy nn.log_softmax nn.top_k gfile.Open ones_initializer gather_nd greater_equal reduce_all
reduce_prod squared_difference image.random_brightness disable_v2_behavior float16 cos nn.relu6 pad image.convert_image_dtype RunMetadata
mod gfile.DeleteRecursively image.resize_image_with_crop_or_pad RunOptions RunOptions.FULL_TRACE linspace argmin image.random_contrast
image.resize_bilinear train.Optimizer errors.InvalidArgumentError train.checkpoint_exists truediv mul eye GraphKeys.REGULARIZATION_LOSSES
image.sample_distorted_bounding_box matrix_diag_part layers.conv2d_transpose nn.in_top_k pack py_func sequence_mask clip_by_norm
dynamic_stitch gfile.Glob matrix_band_part matrix_diag gfile.IsDirectory layers.flatten lgamma logical_or nn.lrn reduce_logsumexp Print
image.random_hue image.random_saturation image.rgb_to_grayscale rank int16 less_equal matrix_triangular_solve norm random_crop reverse
rsqrt is_finite logging.ERROR not_equal matrix_determinant matrix_inverse train.AdadeltaOptimizer Assert assign_add floor logical_not
losses.get_regularization_losses metrics.mean tensordot test.get_temp_dir unsorted_segment_sum assert_equal scatter_update GPUOptions
GraphKeys.SUMMARIES all_variables boolean_mask einsum image.resize_nearest_neighbor assert_greater_equal check_numerics
flags.mark_flag_as_required image.central_crop image.crop_to_bounding_box losses.get_total_loss sub assert_positive get_collection_ref
logging.fatal losses.add_loss nn.conv1d nn.depthwise_conv2d nn.zero_fraction IndexedSlices errors.NotFoundError matrix_transpose
moving_average_variables nn.sampled_softmax_loss
cond while_loop map_fn scan TensorArray case foldl nn.dynamic_rnn nn.rnn_cell.BasicLSTMCell nn.rnn_cell.MultiRNNCell
nn.bidirectional_dynamic_rnn nn.rnn_cell.BasicRNNCell nn.rnn_cell.GRUCell nn.rnn_cell.LSTMCell nn.rnn_cell.DropoutWrapper
nn.rnn_cell.LSTMStateTuple nn.rnn_cell.RNNCell nn.static_rnn nn.raw_rnn nn.static_bidirectional_rnn contrib.rnn.BasicLSTMCell
contrib.rnn.MultiRNNCell contrib.rnn.DropoutWrapper contrib.rnn.LSTMCell contrib.rnn.BasicRNNCell contrib.rnn.static_rnn
contrib.rnn.GRUCell contrib.rnn.static_bidirectional_rnn contrib.rnn.LSTMStateTuple contrib.rnn.RNNCell contrib.rnn.LSTMBlockCell
contrib.rnn.LSTMBlockFusedCell contrib.rnn.stack_bidirectional_dynamic_rnn contrib.rnn.transpose_batch_time
""".split()


@pytest.mark.parametrize("root", [graphflow, v1], ids=["graphflow", "compat.v1"])
@pytest.mark.parametrize("name", [n for n in MOST_USED if not n.endswith(("flags.FLAGS",))])
def test_name(root, name):
    found = functools.reduce(getattr, name.split("."), root)
    assert found is not None
    assert not (isinstance(found, str) and not found)


def test_unknown_names_are_not_there():
    for name in ("no_such_name", "train.no_such_name", "nn.no_such_name"):
        with pytest.raises(AttributeError, match="no_such_name"):
            functools.reduce(getattr, name.split("."), graphflow)
