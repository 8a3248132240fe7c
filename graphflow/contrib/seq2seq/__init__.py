"""`tf.contrib.seq2seq`: decoders that run step by step, attention over a memory, beam search, and the loss of sequences.

A decoder says what one step does, a helper what the next input is; `dynamic_decode` is the loop around them.  Written on the
public API.
"""
from __future__ import annotations

from .. import _old_layout
from .attention import *
from .attention_wrapper import *
from .basic_decoder import *
from .beam_search import *
from .decoder import *
from .helper import *
from .loss import *

__getattr__ = _old_layout(__name__)
