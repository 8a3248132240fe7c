"""Modules and functions of the public namespace that are loaded when a program first asks for them: name -> where it lives."""
from __future__ import annotations

MODULES: dict[str, str] = {name: f".{name}" for name in (
    "dtypes", "lookup", "manip", "queue", "quantization", "saved_model", "sets", "signal", "spectral")}

_HOMES = {
    ".accumulators": ["Barrier", "ConditionalAccumulator", "ConditionalAccumulatorBase", "SparseConditionalAccumulator"],
    ".errors": ["OpError"],
    ".histogram_ops": ["histogram_fixed_width", "histogram_fixed_width_bins"],
    ".legacy": ["batch_cholesky", "batch_cholesky_solve", "batch_fft", "batch_fft2d", "batch_fft3d", "batch_ifft", "batch_ifft2d",
                "batch_ifft3d", "batch_matmul", "batch_matrix_band_part", "batch_matrix_determinant", "batch_matrix_diag",
                "batch_matrix_diag_part", "batch_matrix_inverse", "batch_matrix_set_diag", "batch_matrix_solve",
                "batch_matrix_solve_ls", "batch_matrix_transpose", "batch_matrix_triangular_solve", "batch_self_adjoint_eig",
                "batch_self_adjoint_eigvals", "batch_svd", "complex_abs", "inv", "listdiff", "select"],
    ".specs": ["DeviceSpec", "IndexedSlicesSpec", "SparseTensorSpec", "TensorSpec", "TypeSpec"],
    ".string_ops": ["as_string", "decode_base64", "encode_base64", "reduce_join", "regex_replace", "string_join", "string_split",
                    "string_strip", "string_to_hash_bucket", "string_to_hash_bucket_fast", "string_to_hash_bucket_strong",
                    "string_to_number", "substr"],
    ".tensor_util": ["make_ndarray", "make_tensor_proto"],
    ".variables": ["initialize_all_tables"],
    ".version": ["COMPILER_VERSION", "CXX11_ABI_FLAG", "GIT_VERSION", "GRAPH_DEF_VERSION", "GRAPH_DEF_VERSION_MIN_CONSUMER",
                 "GRAPH_DEF_VERSION_MIN_PRODUCER", "MONOLITHIC_BUILD"],
    ".nn": ["extract_volume_patches"],
    ".parsing_ops": ["FixedLenFeature", "FixedLenSequenceFeature", "SparseFeature", "VarLenFeature", "decode_compressed", "decode_csv",
                     "decode_json_example", "decode_raw", "deserialize_many_sparse", "parse_example", "parse_single_example",
                     "parse_single_sequence_example", "parse_tensor", "serialize_many_sparse", "serialize_sparse", "serialize_tensor"],
    ".proto": ["AttrValue", "NameAttrList", "TensorInfo"],
    ".quantization": [f"fake_quant_with_min_max_{kind}{gradient}" for kind in ("args", "vars", "vars_per_channel")
                      for gradient in ("", "_gradient")],
    ".special_math": ["betainc", "igamma", "igammac", "polygamma", "zeta"],
    ".spectral": ["fft", "fft2d", "fft3d", "ifft", "ifft2d", "ifft3d"],
}
NAMES: dict[str, str] = {name: home for home, names in _HOMES.items() for name in names}

# What TF 1.15 has and this package does not, and why.
_ONLY_GRAPHS = "ops build a graph that a Session runs; eager execution is not there"
ABSENT: dict[str, str] = {
    **dict.fromkeys(("GradientTape", "Module", "enable_eager_execution", "enable_v2_behavior", "function", "wrap_function"), _ONLY_GRAPHS),
    **dict.fromkeys(("load_library", "load_op_library", "load_file_system_library"),
                    "compiled ops of TensorFlow cannot be loaded; see docs/add-an-op.md for ops of your own"),
    "py_function": "it calls its function with eager tensors, which are not there; tf.py_func gives arrays",
    **dict.fromkeys(("RaggedTensor", "ragged"), "ragged tensors are not in this release"),
    **dict.fromkeys(("qint8", "qint16", "qint32", "quint8", "quint16", "quantize", "quantize_v2", "dequantize"),
                    "dtypes of quantised integers are not in this release; tf.quantization has the fake_quant ops"),
}
