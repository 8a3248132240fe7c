"""Running plans: memory, state, threads, the native runner; importing this package imports no Numba."""
