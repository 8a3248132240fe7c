"""`tf.sparse`: the functions of sparse_tensor.py under the names TF lists here."""
from .sparse_cross import sparse_cross as cross
from .sparse_cross import sparse_cross_hashed as cross_hashed
from .sparse_tensor import SparseTensor
from .sparse_tensor import sparse_add as add
from .sparse_tensor import sparse_concat as concat
from .sparse_tensor import sparse_expand_dims as expand_dims
from .sparse_tensor import sparse_eye as eye
from .sparse_tensor import sparse_fill_empty_rows as fill_empty_rows
from .sparse_tensor import sparse_from_dense as from_dense
from .sparse_tensor import sparse_maximum as maximum
from .sparse_tensor import sparse_minimum as minimum
from .sparse_tensor import sparse_placeholder as placeholder
from .sparse_tensor import sparse_reduce_max as reduce_max
from .sparse_tensor import sparse_reduce_sum as reduce_sum
from .sparse_tensor import sparse_reorder as reorder
from .sparse_tensor import sparse_reset_shape as reset_shape
from .sparse_tensor import sparse_reshape as reshape
from .sparse_tensor import sparse_retain as retain
from .sparse_tensor import sparse_slice as slice
from .sparse_tensor import sparse_mask as mask
from .sparse_tensor import sparse_merge as merge
from .sparse_tensor import sparse_reduce_max_sparse as reduce_max_sparse
from .sparse_tensor import sparse_reduce_sum_sparse as reduce_sum_sparse
from .sparse_tensor import sparse_segment_mean as segment_mean
from .sparse_tensor import sparse_segment_sqrt_n as segment_sqrt_n
from .sparse_tensor import sparse_segment_sum as segment_sum
from .sparse_tensor import sparse_softmax as softmax
from .sparse_tensor import sparse_split as split
from .sparse_tensor import sparse_tensor_dense_matmul as matmul
from .sparse_tensor import sparse_tensor_dense_matmul as sparse_dense_matmul
from .sparse_tensor import sparse_tensor_to_dense as to_dense
from .sparse_tensor import sparse_to_indicator as to_indicator
from .sparse_tensor import sparse_transpose as transpose

__all__ = ["SparseTensor", "add", "concat", "cross", "cross_hashed", "expand_dims", "eye", "fill_empty_rows", "from_dense", "mask",
           "matmul", "maximum", "merge", "minimum", "placeholder", "reduce_max", "reduce_max_sparse", "reduce_sum",
           "reduce_sum_sparse", "reorder", "reset_shape", "reshape", "retain", "segment_mean", "segment_sqrt_n", "segment_sum",
           "slice", "softmax", "sparse_dense_matmul", "split", "to_dense", "to_indicator", "transpose"]
