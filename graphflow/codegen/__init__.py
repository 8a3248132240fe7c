"""Graph -> kernels -> object code; importing this package imports neither Numba nor llvmlite."""
