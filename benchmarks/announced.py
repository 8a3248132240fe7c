"""What GraphFlow says of a step before it runs. The one place that knows the shape of `tf.explain`'s answer."""
from __future__ import annotations

from typing import Any


def announced(tf: Any, fetches: Any, feeds: Any = None) -> dict[str, Any]:
    """{"kernels": how many, "peak": bytes} of one `Session.run(fetches)`; empty for a library that cannot say (TensorFlow)."""
    if not hasattr(tf, "explain"):
        return {}
    report = tf.explain(fetches, feeds) if feeds is not None else tf.explain(fetches)
    out = {}
    if hasattr(report, "kernels"):
        out["kernels"] = report.kernels if isinstance(report.kernels, int) else len(report.kernels)
    for name in ("peak_memory", "peak_bytes", "peak"):
        if hasattr(report, name):
            out["peak"] = int(getattr(report, name))
            break
    return out
