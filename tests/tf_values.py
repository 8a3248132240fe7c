"""Calls of many public names, and what TensorFlow gives for them: `tests/golden/tf_values.json`.

`python tests/tf_values.py` in an environment with TensorFlow 2 writes that file again.  Tests read it (tests/test_tf_values.py) and need
no TensorFlow.  A call is an expression of `tf`, `np`, `u` and `sp`; it gives a tensor, or a list or tuple of them.
"""
# ruff: noqa: E501
from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import numpy as np

FILE = pathlib.Path(__file__).parent / "golden" / "tf_values.json"


def u(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0, dtype: str = "float32") -> np.ndarray:
    """Random numbers that are the same everywhere."""
    return np.random.RandomState(seed).uniform(low, high, shape).astype(dtype)


def _sparse(tf: Any) -> Any:
    def sp(rows: Any, shape: Any) -> Any:
        """A SparseTensor from rows (index, value)."""
        return tf.SparseTensor([[int(v) for v in r[:-1]] for r in rows], [r[-1] for r in rows], shape)

    return sp


# Arguments that TensorFlow 2 wants for 1.15's behaviour.
_ONLY_TF = {"matrix_diag": "align='LEFT_LEFT'", "matrix_diag_part": "align='LEFT_LEFT'", "matrix_set_diag": "align='LEFT_LEFT'"}

CASES = """
tf.matrix_diag([1.,2.,3.], k=1)
tf.matrix_diag([1.,2.,3.], k=-2, padding_value=9.)
tf.matrix_diag(u(2,2,3), k=(-1,0))
tf.matrix_diag(u(2,2,3), k=(0,1), num_rows=3, num_cols=4)
tf.matrix_diag([1.,2.], num_rows=2, num_cols=3)
tf.matrix_diag(u(2,2,3), k=(1,2))
tf.matrix_diag_part(u(2,3,4), k=1)
tf.matrix_diag_part(u(2,3,4), k=(-1,2), padding_value=7.)
tf.matrix_diag_part(u(2,3,4), k=(-2,-1))
tf.matrix_set_diag(u(2,3,4), np.ones((2,3)), k=1)
tf.matrix_set_diag(u(2,3,4), np.ones((2,3,3)), k=(-1,1))
tf.unravel_index([5,7,11],[3,4])
tf.unravel_index(22,[2,3,4])
tf.repeat([1,2,3],2)
tf.repeat([[1,2],[3,4]],[1,3],axis=0)
tf.repeat([[1,2],[3,4]],2,axis=1)
tf.repeat([[1,2],[3,4]],[0,2],axis=-1)
tf.repeat([[1,2],[3,4]],[1,2,3,0])
tf.fake_quant_with_min_max_args(u(9)*4,-1.1,2.3,8,False)
tf.fake_quant_with_min_max_args(u(9)*4,-1.1,2.3,3,True)
tf.fake_quant_with_min_max_vars(u(9)*4,0.5,2.3,3)
tf.fake_quant_with_min_max_vars(u(9)*4,0.,0.)
tf.fake_quant_with_min_max_vars_per_channel(u(5,2)*4,[-1.,-2.],[1.5,0.3],3)
tf.fake_quant_with_min_max_vars_gradient(u(9,seed=1),u(9)*4,-1.1,2.3)
tf.fake_quant_with_min_max_args_gradient(u(9,seed=1),u(9)*4,-1.1,2.3)
tf.fake_quant_with_min_max_vars_per_channel_gradient(u(5,2,seed=1),u(5,2)*4,[-1.,-2.],[1.5,0.3],3)
tf.quantization.quantize_and_dequantize(u(9)*3,-1.2,2.1,True,8,True)
tf.quantization.quantize_and_dequantize(u(9)*3,-1.2,2.1,True,3,False)
tf.quantization.quantize_and_dequantize(u(9)*3,-1.2,2.1,False,3,True,'HALF_UP')
tf.quantization.quantize_and_dequantize(u(9)*3,-1.2,2.1,True,3,True,narrow_range=True)
# sparse
tf.sparse_reduce_sum_sparse(sp([[0,1,1.],[0,3,2.],[2,0,3.]],[3,4]), 1)
tf.sparse_reduce_sum_sparse(sp([[0,1,1.],[0,3,2.],[2,0,3.]],[3,4]), 0, keepdims=True)
tf.sparse_reduce_max_sparse(sp([[0,1,1.],[0,3,2.],[2,0,-3.]],[3,4]), [1])
tf.sparse_segment_sum(u(5,2), [0,3,3,1], [0,0,1,3])
tf.sparse_segment_sum(u(5,2), [0,3,3,1], [0,0,1,3], num_segments=6)
tf.sparse_segment_mean(u(5,2), [0,3,3,1], [0,0,1,1])
tf.sparse_segment_mean(u(5,2), [0,3,3,1], [0,0,1,1], num_segments=3)
tf.sparse_segment_sqrt_n(u(5,2), [0,3,3,1], [0,0,0,2])
tf.sparse_segment_sqrt_n(u(5,2), [0,3,3,1], [0,0,0,2], num_segments=4)
(lambda x: tf.gradients(tf.square(tf.sparse_segment_mean(x,[0,3,3,1],[0,0,0,2])), x))(tf.constant(u(5,2)))
tf.sparse_merge(sp([[0,0,2],[0,1,5],[2,0,1]],[3,2]), sp([[0,0,2.],[0,1,5.],[2,0,1.]],[3,2]), 7)
tf.sparse_matmul(u(3,4), u(5,4,seed=1), transpose_b=True)
(lambda s: [s.values, s.indices])(tf.sparse_mask(tf.IndexedSlices(tf.constant(u(4,2)), tf.constant([1,5,2,7])), [5,7]))
# sets
tf.sets.intersection(tf.constant([[1,2,3],[4,4,6]]), tf.constant([[3,1,1,9],[6,4,0,0]]))
tf.sets.difference(tf.constant([[1,2,3],[4,4,6]]), tf.constant([[3,1,1,9],[6,4,0,0]]))
tf.sets.difference(tf.constant([[1,2,3],[4,4,6]]), tf.constant([[3,1,1,9],[6,4,0,0]]), aminusb=False)
tf.sets.union(tf.constant([[1,2,3],[4,4,6]]), tf.constant([[3,1,1,9],[6,4,0,0]]))
tf.sets.size(sp([[0,0,2],[0,1,2],[2,0,1]],[3,2]))
tf.sets.union(tf.constant([[b'a',b'c'],[b'b',b'b']]), tf.constant([[b'b'],[b'b']]))
# embeddings
tf.nn.embedding_lookup_sparse(tf.constant(u(6,3)), sp([[0,0,2],[0,1,5],[1,0,1]],[2,2]), None, combiner='sum')
tf.nn.embedding_lookup_sparse(tf.constant(u(6,3)), sp([[0,0,2],[0,1,5],[1,0,1]],[2,2]), None, combiner='mean')
tf.nn.embedding_lookup_sparse(tf.constant(u(6,3)), sp([[0,0,2],[0,1,5],[1,0,1]],[2,2]), None, combiner='sqrtn', max_norm=0.5)
tf.nn.embedding_lookup_sparse(tf.constant(u(6,3)), sp([[0,0,2],[0,1,5],[1,0,1]],[2,2]), sp([[0,0,.5],[0,1,1.5],[1,0,2.]],[2,2]), combiner='mean')
tf.nn.embedding_lookup_sparse(tf.constant(u(6,3)), sp([[0,0,2],[0,1,5],[1,0,1]],[2,2]), sp([[0,0,.5],[0,1,1.5],[1,0,2.]],[2,2]), combiner='sqrtn')
tf.nn.safe_embedding_lookup_sparse([tf.constant(u(6,3))], sp([[0,0,2],[0,1,-5],[2,0,1]],[4,2]))
tf.nn.safe_embedding_lookup_sparse([tf.constant(u(6,3))], sp([[0,0,2],[0,1,4],[2,0,1]],[4,2]), sp([[0,0,.5],[0,1,0.],[2,0,2.]],[4,2]), default_id=3)
tf.nn.safe_embedding_lookup_sparse([tf.constant(u(6,3))], sp([[0,0,0,2],[0,1,1,4],[1,0,0,1]],[2,2,2]), combiner='sum')
tf.nn.compute_accidental_hits(tf.constant([[0,2],[4,1]],tf.int64), tf.constant([1,4,2,0],tf.int64), 2)
# windows
tf.nn.dilation2d(u(2,5,6,3), u(2,3,3,seed=1), [1,1,1,1], [1,1,1,1], 'SAME')
tf.nn.dilation2d(u(2,5,6,3), u(2,2,3,seed=1), [1,2,1,1], [1,1,2,1], 'VALID')
tf.nn.dilation2d(u(1,7,6,2), u(3,3,2,seed=1), [1,2,3,1], [1,2,1,1], 'SAME')
tf.nn.erosion2d(u(2,5,6,3), u(2,3,3,seed=1), [1,1,2,1], [1,1,1,1], 'SAME')
(lambda x, w: tf.gradients(tf.square(tf.nn.dilation2d(x, w, [1,1,2,1], [1,2,1,1], 'SAME')), [x, w]))(tf.constant(u(1,5,6,2)), tf.constant(u(2,3,2,seed=1)))
tf.nn.depthwise_conv2d_backprop_input([2,5,6,3], u(2,3,3,2), u(2,5,6,6,seed=1), [1,1,1,1], 'SAME')
tf.nn.depthwise_conv2d_backprop_filter(u(2,5,6,3), [2,3,3,2], u(2,4,4,6,seed=1), [1,1,1,1], 'VALID')
tf.nn.depthwise_conv2d_native_backprop_filter(u(2,5,6,3), [2,2,3,1], u(2,3,3,3,seed=1), [1,2,2,1], 'SAME')
tf.nn.conv3d_backprop_filter(u(1,4,5,3,2), [2,2,2,2,3], u(1,4,5,3,3,seed=1), [1,1,1,1,1], 'SAME')
tf.nn.conv_transpose(u(1,3,4,2), u(2,2,3,2,seed=1), [1,6,8,3], 2)
tf.nn.conv_transpose(u(1,3,2), u(2,3,2,seed=1), [1,6,3], 2)
tf.nn.max_pool2d(u(1,4,6,2), 2, 2, 'VALID')
tf.nn.avg_pool2d(u(1,4,6,2), [2,3], [2,1], 'SAME')
tf.nn.max_pool_v2(u(1,4,6,2), [2,2], [1,1], 'SAME')
tf.nn.avg_pool_v2(u(1,6,2), 3, 2, 'VALID')
tf.nn.compute_average_loss(tf.constant(u(4)), tf.constant([1.,2.,0.,1.]), 8)
# counts, old names
tf.histogram_fixed_width([-1.0, 0.0, 1.5, 2.0, 5.0, 15.0], [0.0, 5.0], nbins=5)
tf.histogram_fixed_width_bins(u(3,4), [-0.5, 0.7], nbins=7, dtype=tf.int64)
tf.histogram_fixed_width(tf.constant([3,4,9,0]), [0,10], nbins=4, dtype=tf.int64)
# images
tf.image.crop_and_resize(u(2,5,6,3), [[0.1,0.2,0.7,0.9],[0.9,0.1,0.2,1.3],[0,0,1,1]], [0,1,1], [3,4])
tf.image.crop_and_resize(u(2,5,6,3), [[0.1,0.2,0.7,0.9],[0.9,0.1,0.2,1.3],[0,0,1,1]], [0,1,1], [3,4], method='nearest', extrapolation_value=0.5)
tf.image.crop_and_resize(u(2,5,6,1), [[0.1,0.2,0.7,0.9]], [1], [1,1])
(lambda x, b: tf.gradients(tf.square(tf.image.crop_and_resize(x, b, [0,1], [3,4])), [x, b]))(tf.constant(u(2,5,6,2)), tf.constant([[0.11,0.22,0.73,0.94],[0.9,0.1,0.2,0.8]]))
tf.image.draw_bounding_boxes(u(2,7,8,3), [[[0.1,0.2,0.7,0.9],[0,0,1,1]],[[-0.2,0.3,0.5,1.4],[0.6,0.6,0.7,0.65]]])
tf.image.draw_bounding_boxes(u(1,6,6,1), [[[0.1,0.2,0.7,0.9],[0.3,0.3,0.9,0.95]]])
tf.image.draw_bounding_boxes(u(1,6,6,4), [[[0.1,0.2,0.7,0.9],[0.3,0.3,0.9,0.95]]], colors=[[0.1,0.2,0.3,0.4]])
tf.image.extract_glimpse(u(2,8,9,2), [3,4], [[0.1,-0.2],[0.,0.3]])
tf.image.extract_glimpse(u(2,8,9,2), [3,4], [[0.4,0.5],[0.5,0.4]], centered=False)
tf.image.extract_glimpse(u(2,8,9,2), [3,2], [[3.,2.],[4.5,4.2]], centered=False, normalized=False)
tf.image.extract_glimpse(u(2,8,9,2), [3,2], [[1.,2.],[-0.5,4.2]], normalized=False)
tf.image.non_max_suppression(u(30,4,low=0), u(30,low=0,seed=1), 8, 0.3)
tf.image.non_max_suppression(u(30,4,low=0), u(30,low=0,seed=1), tf.constant(5), tf.constant(0.1), 0.4)
tf.image.non_max_suppression_with_scores(u(30,4,low=0), u(30,low=0,seed=1), 9, 0.3, 0.2, soft_nms_sigma=0.5)
tf.image.non_max_suppression_with_scores(u(30,4,low=0), u(30,low=0,seed=1), 9, 1.0, 0.1, soft_nms_sigma=0.3)
tf.image.non_max_suppression_padded(u(10,4,low=0), u(10,low=0,seed=1), 12, 0.3, pad_to_max_output_size=True)
tf.image.non_max_suppression_overlaps(u(10,10,low=0), u(10,low=0,seed=1), 6, 0.6)
tf.image.combined_non_max_suppression(u(2,9,1,4,low=0), u(2,9,3,low=0,seed=1), 2, 5, 0.3, 0.2)
tf.image.combined_non_max_suppression(u(2,9,3,4,low=-0.2,high=1.3), u(2,9,3,low=0,seed=1), 2, 10, 0.3, 0.2, pad_per_class=True)
tf.image.combined_non_max_suppression(u(2,9,3,4,low=-0.2,high=1.3), u(2,9,3,low=0,seed=1), 2, 4, 0.3, 0.2, clip_boxes=False)
tf.image.rgb_to_yiq(u(2,3,3))
tf.image.yiq_to_rgb(u(2,3,3))
tf.image.rgb_to_yuv(u(2,3,3))
tf.image.yuv_to_rgb(u(2,3,3))
tf.image.sobel_edges(tf.constant(u(1,4,5,2)))
tf.image.ssim_multiscale(u(2,48,50,3,low=0), u(2,48,50,3,low=0,seed=1)*.2+u(2,48,50,3,low=0)*.8, 1.0, filter_size=3)
tf.image.ssim_multiscale(u(45,44,1,low=0), u(45,44,1,low=0)*.9, 1.0, power_factors=(.3,.7), filter_size=5, filter_sigma=1.)
tf.image.ssim(u(2,16,17,3,low=0), u(2,16,17,3,low=0,seed=1), 1.0)
tf.image.psnr(u(2,16,17,3,low=0), u(2,16,17,3,low=0,seed=1), 1.0)
tf.image.psnr(np.arange(48,dtype='uint8').reshape(4,4,3), np.arange(48,dtype='uint8').reshape(4,4,3)+3, 255)
tf.image.extract_image_patches(u(1,6,7,2), [1,2,3,1], [1,2,1,1], [1,1,2,1], 'SAME')
tf.image.adjust_hue(u(4,4,3,low=0), 0.3)
tf.image.adjust_hue(np.arange(48,dtype='uint8').reshape(4,4,3)*5, -0.2)
tf.image.adjust_saturation(u(4,4,3,low=0), 1.7)
tf.image.adjust_saturation(np.arange(48,dtype='uint8').reshape(4,4,3)*5, 0.4)
tf.image.adjust_brightness(u(4,4,3,low=0), 0.3)
tf.image.adjust_brightness(np.arange(48,dtype='uint8').reshape(4,4,3)*5, 0.3)
tf.image.adjust_contrast(u(4,4,3,low=0), 1.4)
tf.image.adjust_contrast(np.arange(48,dtype='uint8').reshape(4,4,3)*5, 0.4)
tf.image.adjust_gamma(u(4,4,3,low=0), 0.7, 1.2)
tf.image.rgb_to_hsv(u(3,4,3,low=0))
tf.image.hsv_to_rgb(u(3,4,3,low=0))
tf.image.rgb_to_grayscale(np.arange(48,dtype='uint8').reshape(4,4,3)*5)
tf.image.grayscale_to_rgb(tf.constant(u(3,4,1)))
tf.image.per_image_standardization(u(2,4,4,3))
tf.image.total_variation(tf.constant(u(2,5,4,3)))
tf.image.image_gradients(tf.constant(u(2,5,4,3)))
tf.image.central_crop(u(7,8,3), 0.5)
tf.image.central_crop(u(2,9,10,3), 0.33)
tf.image.rot90(u(3,4,2), 3)
tf.image.rot90(u(2,3,4,2), 1)
tf.image.transpose_image(u(3,4,2))
tf.image.flip_left_right(u(2,3,4,1))
tf.image.flip_up_down(u(3,4,1))
tf.image.pad_to_bounding_box(u(3,4,2), 1, 2, 6, 7)
tf.image.crop_to_bounding_box(u(6,7,2), 1, 2, 3, 4)
tf.image.resize_image_with_crop_or_pad(u(5,6,2), 7, 3)
tf.image.resize_image_with_pad(u(5,6,2), 8, 7)
tf.image.convert_image_dtype(np.arange(12,dtype='uint8').reshape(2,2,3)*20, tf.float32)
tf.image.convert_image_dtype(u(2,2,3,low=-.2,high=1.2), tf.uint8, saturate=True)
tf.image.convert_image_dtype(np.arange(12,dtype='uint8').reshape(2,2,3)*20, tf.uint16)
tf.image.resize_images(u(2,5,6,2), [7,4])
tf.image.resize_images(u(2,5,6,2), [7,4], 1)
tf.image.resize_images(u(2,5,6,2), [7,4], 2)
tf.image.resize_images(u(2,5,6,2), [7,4], 3)
tf.image.resize_images(u(2,5,6,2), [7,4], 0, True)
tf.image.resize_images(u(2,5,6,2), [7,4], 2, True)
tf.image.resize_images(u(5,6,2), [10,14], preserve_aspect_ratio=True)
tf.image.resize_bilinear(u(1,5,6,2), [8,9], half_pixel_centers=True)
tf.image.resize_bicubic(u(1,5,6,2), [8,9], half_pixel_centers=True)
tf.image.resize_nearest_neighbor(u(1,5,6,2), [8,9], half_pixel_centers=True)
tf.image.resize_nearest_neighbor(np.arange(30,dtype='int32').reshape(1,5,6,1), [3,4], align_corners=True)
tf.image.resize_area(u(1,5,6,2), [3,4])
(lambda x: tf.gradients(tf.square(tf.image.resize_bilinear(x, [7,4])), x))(tf.constant(u(1,5,6,2)))
(lambda x: tf.gradients(tf.square(tf.image.resize_bicubic(x, [7,4], align_corners=True)), x))(tf.constant(u(1,5,6,2)))
(lambda x: tf.gradients(tf.square(tf.image.resize_nearest_neighbor(x, [3,8])), x))(tf.constant(u(1,5,6,2)))
# linear algebra
tf.linalg.lu(u(2,4,4))
tf.linalg.lu_reconstruct(*tf.linalg.lu(u(2,4,4)))
tf.linalg.lu_solve(*tf.linalg.lu(u(2,4,4)), u(2,4,3,seed=1))
tf.linalg.lu_matrix_inverse(*tf.linalg.lu(u(2,4,4)))
tf.linalg.matvec(u(2,3,4), u(2,4,seed=1))
tf.linalg.matvec(u(2,3,4), u(2,3,seed=1), transpose_a=True)
tf.linalg.normalize(u(2,3), axis=1)
tf.linalg.normalize(u(2,3), ord=1)
tf.linalg.tridiagonal_solve(tf.constant(u(3,5)), tf.constant(u(5,2,seed=1)))
tf.linalg.tridiagonal_solve(tf.constant(u(2,3,5)), tf.constant(u(2,5,seed=1)))
tf.linalg.tridiagonal_solve(tf.constant(u(3,5)), tf.constant(u(2,5,seed=1)), transpose_rhs=True)
tf.linalg.tridiagonal_solve([tf.constant(u(5,seed=k)) for k in range(3)], tf.constant(u(5,2,seed=3)), diagonals_format='sequence')
tf.linalg.tridiagonal_solve(tf.constant(np.diag(u(5))+np.diag(u(4,seed=1),1)+np.diag(u(4,seed=2),-1)), tf.constant(u(5,2,seed=3)), diagonals_format='matrix')
(lambda d, r: tf.gradients(tf.square(tf.linalg.tridiagonal_solve(d, r)), [d, r]))(tf.constant(u(3,5,dtype='float64')), tf.constant(u(5,2,seed=1,dtype='float64')))
tf.linalg.tridiagonal_matmul(u(3,5), u(5,2,seed=1))
tf.linalg.tridiagonal_matmul([u(2,5,seed=k) for k in range(3)], u(2,5,2,seed=3), diagonals_format='sequence')
tf.linalg.logm(tf.constant([[2.,0.5],[0.3,1.5]],tf.complex128))
tf.linalg.logm(tf.cast(tf.constant(u(3,4,4)*.3+4*np.eye(4)),tf.complex128))
tf.linalg.expm(u(2,3,3,dtype='float64'))
tf.linalg.sqrtm(tf.constant(u(3,3,dtype='float64')*.3+4*np.eye(3)))
tf.linalg.pinv(u(2,4,3,dtype='float64'))
tf.linalg.lstsq(u(2,4,3,dtype='float64'), u(2,4,2,seed=1,dtype='float64'), 0.3)
tf.linalg.logdet(tf.constant(u(3,3,dtype='float64')*.1+4*np.eye(3)))
tf.linalg.slogdet(u(2,3,3,dtype='float64'))
tf.linalg.cross(u(2,3), u(2,3,seed=1))
tf.linalg.trace(u(2,3,4))
tf.linalg.adjoint(tf.complex(u(2,3), u(2,3,seed=1)))
tf.norm(u(3,4), ord=1, axis=0)
tf.norm(u(3,4), ord=np.inf)
tf.norm(u(2,3,4), ord='fro', axis=[-2,-1], keepdims=True)
tf.norm(u(2,3,4), ord=1, axis=[-2,-1])
tf.norm(u(2,3,4), ord=2, axis=[-2,-1])
tf.norm(u(2,3,4), ord=3, axis=1)
tf.linalg.global_norm([u(2,3), u(4)])
""".split("\n")
CASES = [c for c in CASES if c and not c.startswith("#")]


def evaluate(tf: Any, expression: str) -> list[np.ndarray]:
    """The values of one call, flat, in a graph of its own."""
    with tf.Graph().as_default(), tf.Session() as sess:
        found = eval(expression, {"tf": tf, "np": np, "u": u, "sp": _sparse(tf)})
        found = [t for part in (found if isinstance(found, (list, tuple)) else [found])
                 for t in ((part.indices, part.values, part.dense_shape) if isinstance(part, tf.SparseTensor) else (part,)) if t is not None]
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        return [np.asarray(r) for r in sess.run(found)]


def _plain(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind == "c":
        values: list[Any] = [float(f"{v:.7g}") for z in array.reshape(-1) for v in (z.real, z.imag)]
    elif array.dtype.kind == "f":
        values = [float(f"{v:.7g}") for v in array.reshape(-1)]
    else:
        values = [v.decode() if isinstance(v, bytes) else v for v in array.reshape(-1).tolist()]
    return {"dtype": "string" if array.dtype.kind in "SO" else array.dtype.name, "shape": list(array.shape), "values": values}


def main() -> None:
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    found = {}
    for case in CASES:
        name = case.split("(")[0].split(".")[-1]
        extra = _ONLY_TF.get(name)
        try:
            found[case] = [_plain(a) for a in evaluate(tf, case[:-1] + f", {extra})" if extra else case)]
        except Exception as e:
            print(f"{case}: {type(e).__name__}: {str(e)[:300]}", file=sys.stderr)
    FILE.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in found.items()) + "\n}\n")
    print(f"{len(found)} of {len(CASES)} calls")


if __name__ == "__main__":
    main()
