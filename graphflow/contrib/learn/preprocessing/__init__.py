"""`tf.contrib.learn.preprocessing`: documents as sequences of word ids."""
from .text import ByteProcessor, CategoricalVocabulary, VocabularyProcessor, tokenizer

__all__ = ["ByteProcessor", "CategoricalVocabulary", "VocabularyProcessor", "tokenizer"]
