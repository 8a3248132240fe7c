"""`tf.contrib.signal`: the functions of `tf.signal`."""
from ..signal import (dct, frame, hamming_window, hann_window, idct, inverse_stft, inverse_stft_window_fn, linear_to_mel_weight_matrix,
                      mfccs_from_log_mel_spectrograms, overlap_and_add, stft)

__all__ = ["dct", "frame", "hamming_window", "hann_window", "idct", "inverse_stft", "inverse_stft_window_fn",
           "linear_to_mel_weight_matrix", "mfccs_from_log_mel_spectrograms", "overlap_and_add", "stft"]
