"""`tf.contrib.slim`: the layers, scopes, losses and metrics of contrib under one name.

What is Slim's own so far: `model_analyzer`.  Its training and evaluation loops and its data providers are not there yet.
"""
from ..framework import *
from ..layers import *
from .. import losses, metrics
from . import model_analyzer
