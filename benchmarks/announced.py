"""What GraphFlow says of a step before it runs. The one place that knows the shape of `tf.explain`'s answer."""
from __future__ import annotations

from typing import Any


def announced(tf: Any, fetches: Any, feed_dict: Any, session: Any = None) -> dict[str, Any]:
    """{"kernels": how many, "announced": peak bytes} of one `Session.run(fetches, feed_dict)`, without running it; empty for a
    library that cannot say (TensorFlow) and for the reference interpreter."""
    if not hasattr(tf, "explain"):
        return {}
    from graphflow.flags import flags

    if flags.interpret:
        return {}
    report = tf.explain(fetches, feed_dict, session)
    return {"kernels": len(report.kernels), "announced": report.peak_bytes}
