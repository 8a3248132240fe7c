"""`tf.resource_loader`: files that lie beside the code."""
from __future__ import annotations

import os
import sys

__all__ = ["get_data_files_path", "get_path_to_datafile", "get_root_dir_with_all_resources", "load_resource", "readahead_file_path"]


def _caller() -> str:
    return os.path.dirname(os.path.abspath(sys._getframe(2).f_code.co_filename))


def get_data_files_path() -> str:
    """The folder of the file that calls."""
    return _caller()


def get_path_to_datafile(path: str) -> str:
    """`path` in the folder of the file that calls."""
    return os.path.join(_caller(), path)


def get_root_dir_with_all_resources() -> str:
    """The folder of the file that calls."""
    return _caller()


def load_resource(path: str) -> bytes:
    """The bytes of a file of this package, by its path in it.  Raises OSError."""
    with open(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), path), "rb") as f:
        return f.read()


def readahead_file_path(path: str, readahead: str = "128M") -> str:
    """The path as it is: local files need no hint."""
    return path
