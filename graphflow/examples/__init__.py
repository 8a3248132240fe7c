"""`tf.examples`: the modules that TF1's tutorials import."""
from . import tutorials
