"""`tf.strings`: the string ops under their later names."""
from .string_ops import (as_string, format, length, lower, reduce_join, regex_full_match, regex_replace, split, substr, unicode_encode,
                         unicode_transcode, unsorted_segment_join, upper)
from .string_ops import string_join as join
from .string_ops import string_strip as strip
from .string_ops import string_to_hash_bucket as to_hash_bucket
from .string_ops import string_to_hash_bucket_fast as to_hash_bucket_fast
from .string_ops import string_to_hash_bucket_strong as to_hash_bucket_strong
from .string_ops import string_to_number as to_number

__all__ = ["as_string", "format", "join", "length", "lower", "reduce_join", "regex_full_match", "regex_replace", "split", "strip", "substr",
           "to_hash_bucket", "to_hash_bucket_fast", "to_hash_bucket_strong", "to_number", "unicode_encode", "unicode_transcode",
           "unsorted_segment_join", "upper"]
