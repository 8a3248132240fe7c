"""`tf.contrib.feature_column`: columns of sequences."""
from ..feature_column import (sequence_categorical_column_with_hash_bucket, sequence_categorical_column_with_identity,
                              sequence_categorical_column_with_vocabulary_file, sequence_categorical_column_with_vocabulary_list,
                              sequence_numeric_column)
from ..feature_column.layers import sequence_input_layer

__all__ = ["sequence_categorical_column_with_hash_bucket", "sequence_categorical_column_with_identity",
           "sequence_categorical_column_with_vocabulary_file", "sequence_categorical_column_with_vocabulary_list", "sequence_input_layer",
           "sequence_numeric_column"]
