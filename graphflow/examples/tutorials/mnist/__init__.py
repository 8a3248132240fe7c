"""`tf.examples.tutorials.mnist`: the data, and the model of the MNIST tutorial."""
from . import input_data, mnist
