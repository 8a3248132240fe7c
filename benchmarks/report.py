"""The machine in words, and measurements as a table for the terminal and for Markdown."""
from __future__ import annotations

import os
import platform
import statistics
import sys
from typing import Any

from .workload import MIB, SIDES, Measured, Workload


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


def verdicts(workload: Workload, m: Measured) -> list[tuple[str, str]]:
    """(goal, "met" | "MISSED" | "unknown") of each goal; unknown where a side is missing, and for the tiny sizes."""
    words = {True: "met", False: "MISSED", None: "unknown"}
    return [(g.text, words[None if m.quick else g.test(m)]) for g in workload.goals]


def long(workload: Workload, m: Measured) -> str:
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
        notes = [note(n, facts[n]) for n in workload.aside if n in facts]
        lines.append(text + ("   " + ", ".join(notes) if notes else ""))
    lines += [f"  goal: {text}: {verdict}" for text, verdict in verdicts(workload, m)]
    return "\n".join(lines)


def markdown(rows: list[tuple[Workload, Measured]], about: dict[str, str]) -> str:
    """A table with one line a measurement; peers show their median and, in brackets, their value divided by GraphFlow's."""
    sides = [s for s in SIDES if any(s in m.values or s in m.problems for _, m in rows)]
    head = ["", "threads", *[SIDES[s].title for s in sides], "goal"]
    lines = [_line(head), _line(["---"] * len(head))]
    for workload, m in rows:
        goals = "; ".join(f"{text}: {verdict}" for text, verdict in verdicts(workload, m))
        lines.append(_line([m.workload, str(m.threads), *[_cell(workload, m, s) for s in sides], goals]))
    told = ", ".join(f"{k} {v}" for k, v in about.items())
    return "\n".join(lines) + (f"\n\nMedians; in brackets the paired ratio to GraphFlow's (above 1, GraphFlow is better). "
                               f"Measured on: {told}.\n")


def _cell(workload: Workload, m: Measured, side: str) -> str:
    if side in m.problems:
        return m.problems[side].replace("|", "/")[:60]
    if side not in m.values:
        return ""
    text, ratio = quantity(m.median(side), workload.unit), m.ratio(side)
    return text if side == "graphflow" or ratio is None else f"{text} ({ratio:.2f})"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def as_json(rows: list[tuple[Workload, Measured]], about: dict[str, str]) -> dict[str, Any]:
    return {"machine": about, "argv": sys.argv[1:],
            "measurements": [{**m._asdict(), "unit": w.unit, "goals": dict(verdicts(w, m))} for w, m in rows]}
