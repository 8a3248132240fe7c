"""`tensorflow.examples.tutorials.mnist.input_data`: see graphflow/contrib/learn/datasets/mnist.py."""
from ....contrib.learn.datasets.base import Datasets, maybe_download
from ....contrib.learn.datasets.mnist import DataSet, dense_to_one_hot, extract_images, extract_labels, read_data_sets

__all__ = ["DataSet", "Datasets", "dense_to_one_hot", "extract_images", "extract_labels", "maybe_download", "read_data_sets"]
