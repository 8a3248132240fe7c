"""The machine in words, and measurements as a table for the terminal and for Markdown."""
from __future__ import annotations

import os
import platform
import statistics
import sys
from typing import Any

from .workload import MIB, SIDES, Derived, Measured, Program, Workload

Row = tuple[Workload | Derived, Measured]


def machine(versions: dict[str, str]) -> dict[str, str]:
    """CPU, cores this process may use, memory, system, and the version of each library."""
    out = {"cpu": _cpu(), "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        out["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    out["system"] = f"{platform.system()} {platform.release()}"
    out["python"] = platform.python_version()
    if hasattr(os, "getloadavg"):
        out["load before"] = f"{os.getloadavg()[0]:.2f}"
    for package in ("numba", "llvmlite"):
        out[package] = _version(package)
    out.update({SIDES[s].package: v or "not installed" for s, v in versions.items()})
    return out


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as f:
            fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in f)}
        if "model name" in fields:
            return f"{fields['model name']}, family {fields.get('cpu family')} model {fields.get('model')}"
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def quantity(value: float | None, unit: str) -> str:
    """Three digits and a unit: 1.23 us, 45.6 MiB."""
    if value is None:
        return "-"
    if unit == "B":
        return f"{value / MIB:.4g} MiB"
    for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= scale:
            return f"{value / scale:.3g} {name}"
    return f"{value * 1e9:.3g} ns"


def note(name: str, value: Any) -> str:
    if name in ("announced", "engine"):
        return f"{name} {quantity(value, 'B')}"
    if name == "step":
        return f"{quantity(value, 's')} a step"
    return f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"


def rate(m: Measured) -> str:
    """What GraphFlow reaches: "201 GFLOP/s, 89% of the limit"; "" for a workload that does not count its work."""
    seconds, share = m.median("graphflow"), m.ratio("limit")
    if not seconds or not any(m.work):
        return ""
    text = f"{m.work[0] / seconds / 1e9:.3g} GFLOP/s" if m.work[0] else f"{m.work[1] / seconds / 1e9:.3g} GB/s"
    return text + (f", {share:.0%} of the limit" if share is not None else "")


def compared(m: Measured) -> str:
    """The best peer and the ratio: "TF Session 1.31"."""
    peer = m.best()
    return f"{SIDES[peer].title} {m.ratio(peer):.2f}" if peer else ""


def summary(rows: list[Row]) -> str:
    """For each number of threads the geometric mean of the ratios to the best peer, and who is behind."""
    lines = []
    steady = [m for w, m in rows if not isinstance(w, (Program, Derived)) and m.best()]
    for threads in sorted({m.threads for m in steady}):
        found = {m.workload: m.ratio(m.best() or "") or 0 for m in steady if m.threads == threads}
        behind = ", ".join(f"{name} ({r:.2f})" for name, r in sorted(found.items(), key=lambda item: item[1]) if r < 1)
        lines.append(f"{threads} thread{'s' * (threads > 1)}: geometric mean of the best peer's time by GraphFlow's over {len(found)} "
                     f"workloads {statistics.geometric_mean(max(r, 1e-9) for r in found.values()):.2f}; behind: {behind or 'none'}")
    return "\n\n".join(lines)


def plot(rows: list[Row], file: str) -> str:
    """Draws the ratio to the best peer of every workload; the answer says where, or why not."""
    try:
        import matplotlib
    except ImportError:
        return f"{file} not drawn: matplotlib is not installed"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(m.workload for _, m in rows if m.best()))[::-1]
    counts = sorted({m.threads for _, m in rows})
    figure, axes = pyplot.subplots(figsize=(10, 1 + 0.28 * len(names)))
    for i, threads in enumerate(counts):
        found = {m.workload: m.ratio(m.best() or "") for _, m in rows if m.threads == threads and m.best()}
        places = [names.index(name) + (i + 0.5) / len(counts) * 0.8 - 0.4 for name in found]
        axes.barh(places, [r - 1 for r in found.values()], 0.8 / len(counts), left=1, label=f"{threads} thread{'s' * (threads > 1)}")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", yticks=range(len(names)), yticklabels=[n[:60] for n in names],
             xlabel="time of the best peer / time of GraphFlow (right of 1: GraphFlow is faster)")
    axes.margins(y=0.01)
    axes.legend()
    figure.savefig(file, bbox_inches="tight", dpi=120)
    pyplot.close(figure)
    return f"drawn: {file}"


def verdicts(workload: Workload | Derived, m: Measured) -> list[tuple[str, str]]:
    """(goal, "met" | "MISSED" | "unknown") of each goal; unknown where a side is missing, and for the tiny sizes."""
    words = {True: "met", False: "MISSED", None: "unknown"}
    return [(g.text, words[None if m.quick else g.test(m)]) for g in workload.goals]


def long(workload: Workload | Derived, m: Measured) -> str:
    """One measurement: a line a side with median, spread and the paired ratio to GraphFlow, then the goals."""
    lines = [f"{m.workload}   [{m.threads} thread{'s' * (m.threads > 1)}]"]
    for side in (s for s in SIDES if s in m.values or s in m.problems):
        title = f"  {SIDES[side].title:14}"
        if side in m.problems:
            lines.append(f"{title}{m.problems[side]}")
            continue
        values, ratios, facts = m.values[side], m.ratios(side), m.facts.get(side, {})
        text = (f"{title}{quantity(m.median(side), workload.unit):>11}   "
                f"{quantity(min(values), workload.unit)} .. {quantity(max(values), workload.unit)}")
        if ratios and side != "graphflow":
            text = f"{text:58} {statistics.median(ratios):8.2f} x GraphFlow's   {min(ratios):.2f} .. {max(ratios):.2f}"
        if side == "graphflow" and rate(m):
            text = f"{text:58} {rate(m)}"
        notes = [note(n, facts[n]) for n in workload.aside if n in facts]
        lines.append(text + ("   " + ", ".join(notes) if notes else ""))
    lines += [f"  goal: {text}: {verdict}" for text, verdict in verdicts(workload, m)]
    return "\n".join(lines)


def markdown(rows: list[Row], about: dict[str, str]) -> str:
    """A table with one line a measurement; peers show their median and, in brackets, their value divided by GraphFlow's."""
    sides = [s for s in SIDES if s != "limit" and any(s in m.values or s in m.problems for _, m in rows)]
    head = ["", "threads", *[SIDES[s].title for s in sides], "best peer", "rate", "goal"]
    lines = [_line(head), _line(["---"] * len(head))]
    for workload, m in rows:
        goals = "; ".join(f"{text}: {verdict}" for text, verdict in verdicts(workload, m))
        lines.append(_line([m.workload, str(m.threads), *[_cell(workload, m, s) for s in sides], compared(m), rate(m), goals]))
    told = ", ".join(f"{k} {v}" for k, v in about.items())
    words = "Medians; in brackets the paired ratio to GraphFlow's (above 1, GraphFlow is better)."
    return "\n".join(lines) + f"\n\n{summary(rows)}\n\n{words} Measured on: {told}.\n"


def _cell(workload: Workload | Derived, m: Measured, side: str) -> str:
    if side in m.problems:
        return m.problems[side].replace("|", "/")[:60]
    if side not in m.values:
        return ""
    text, ratio = quantity(m.median(side), workload.unit), m.ratio(side)
    return text if side == "graphflow" or ratio is None else f"{text} ({ratio:.2f})"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def as_json(rows: list[Row], about: dict[str, str]) -> dict[str, Any]:
    return {"machine": about, "argv": sys.argv[1:],
            "summary": summary(rows),
            "measurements": [{**m._asdict(), "unit": w.unit, "best": m.best(), "ratio": m.ratio(m.best() or ""), "share": m.ratio("limit"),
                              "goals": dict(verdicts(w, m))} for w, m in rows]}
