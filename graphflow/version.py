"""Two versions: of the API, which TF1 programs compare with, and of this package."""

VERSION = "1.15.0"  # of the TensorFlow API whose names and behaviour these are; `tf.__version__` too
GRAPHFLOW_VERSION = "0.1.0"
