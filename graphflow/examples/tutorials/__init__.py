"""`tf.examples.tutorials`."""
from . import mnist
