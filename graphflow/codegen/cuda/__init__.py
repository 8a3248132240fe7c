"""Kernels for NVIDIA GPUs: device words, PTX, and Kernel IR arranged for blocks of threads."""
