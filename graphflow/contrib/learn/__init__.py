"""`tf.contrib.learn`, the parts that need no estimator: data sets, text preprocessing, mode keys."""
from .. import _old_layout
from . import datasets, preprocessing


class ModeKeys:
    """What a model is built for."""

    TRAIN, EVAL, INFER = "train", "eval", "infer"

    @classmethod
    def validate(cls, key: str) -> None:
        """Raises ValueError for any other key."""
        if key not in (cls.TRAIN, cls.EVAL, cls.INFER):
            raise ValueError(f"Invalid mode {key!r}; expected one of {(cls.TRAIN, cls.EVAL, cls.INFER)}")


__all__ = ["ModeKeys", "datasets", "preprocessing"]

__getattr__ = _old_layout(__name__)
