"""Two versions: of the API, which TF1 programs compare with, and of this package."""

VERSION = "1.15.0"  # of the TensorFlow API whose names and behaviour these are; `tf.__version__` too
GRAPHFLOW_VERSION = "0.1.0"

# What TF1 says of its build; a program may print it.
GIT_VERSION, COMPILER_VERSION = f"v{VERSION}-graphflow-{GRAPHFLOW_VERSION}", "LLVM"
CXX11_ABI_FLAG = MONOLITHIC_BUILD = 0
GRAPH_DEF_VERSION, GRAPH_DEF_VERSION_MIN_CONSUMER, GRAPH_DEF_VERSION_MIN_PRODUCER = 134, 0, 0
