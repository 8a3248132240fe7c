"""`tf.contrib.deprecated`: the summary ops of TensorFlow before 1.0."""
from ..summary.old import audio_summary, histogram_summary, image_summary, merge_all_summaries, merge_summary, scalar_summary

__all__ = ["audio_summary", "histogram_summary", "image_summary", "merge_all_summaries", "merge_summary", "scalar_summary"]
