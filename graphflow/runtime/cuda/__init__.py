"""NVIDIA GPUs at run time: the driver (`driver`), its devices (`device`), plans on them, and arrays shared with other programs (`arrays`).

Needs only the NVIDIA driver, through ctypes; nothing is loaded before a device is asked for (rank 5).
"""
