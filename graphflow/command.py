"""The command `graphflow`: runs a TensorFlow 1.x script as it is, and tells whether GPUs work.

    graphflow run [--python2] [--as-written] script.py [args...]
    graphflow gpu [--emulated]

`import tensorflow` in the script, and in whatever it imports, is GraphFlow (compat/imports.py); an installed TensorFlow is neither imported
nor changed.  Names that NumPy and Python have dropped since 2015-2019 are given back while the script runs (compat/aged.py), unless
`--as-written` is given.  `--python2` converts Python 2 sources in memory (compat/python2.py); no file is written.
"""
from __future__ import annotations

import argparse
import os
import sys
import traceback
import types
from typing import Any, Sequence

from .version import GRAPHFLOW_VERSION

def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: the script's own, 1 after an exception that it did not catch, 2 when it cannot be run; see gpu_check for `gpu`."""
    parser = argparse.ArgumentParser("graphflow", description="Runs TensorFlow 1.x scripts as they are.")
    parser.add_argument("--version", action="version", version=f"graphflow {GRAPHFLOW_VERSION}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a TensorFlow 1.x script", description="Runs a script with `tensorflow` bound to GraphFlow.")
    run.add_argument("--python2", action="store_true", help="convert Python 2 sources in memory: the script, and modules beside it")
    run.add_argument("--as-written", action="store_true", help="do not give back names that NumPy and Python have dropped (np.float, ...)")
    run.add_argument("script", help="the script")
    run.add_argument("args", nargs=argparse.REMAINDER, help="its arguments")
    gpu = commands.add_parser("gpu", help="see which GPUs there are, and whether they compute what the CPU does",
                              description="Lists the GPUs, and climbs a ladder of short checks on the first one.")
    gpu.add_argument("--emulated", action="store_true", help="without a GPU: the same checks on the emulator, with small arrays")
    gpu.add_argument("--only", metavar="TEXT", nargs="+", default=[], help="only checks with one of these in their name")
    gpu.add_argument("--after", metavar="N", type=int, default=0, help="without the first N checks")
    given = parser.parse_args(argv)
    if given.command == "run":
        return _run(given)
    from .testing import gpu_check

    return gpu_check.main(given)


def _run(given: argparse.Namespace) -> int:
    from .compat import aged, imports, python2

    path = os.path.abspath(given.script)
    try:
        with open(path, "rb") as f:
            source = f.read()
    except OSError as e:
        print(f"graphflow run: cannot read {given.script}: {e.strerror}", file=sys.stderr)
        return 2
    imports.install()
    if not given.as_written:
        aged.restore()
    try:
        if given.python2:
            python2.install(os.path.dirname(path))
            code = python2.compiled(source, path)
        else:
            code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, ImportError) as e:
        print(f"graphflow run: {_unreadable(e, source, given)}", file=sys.stderr)
        return 2
    sys.argv = [given.script, *given.args]
    sys.path[0:1] = [os.path.dirname(path)]
    script = types.ModuleType("__main__")
    script.__dict__.update(__file__=path, __builtins__=__builtins__)
    sys.modules["__main__"] = script
    return _execute(code, script)


def _execute(code: types.CodeType, script: types.ModuleType) -> int:
    """Runs the code; a traceback begins at the script's own lines."""
    try:
        exec(code, script.__dict__)
    except SystemExit as e:
        if e.code is None or isinstance(e.code, int):
            return e.code or 0
        print(e.code, file=sys.stderr)
        return 1
    except BaseException as e:
        own = e.__traceback__.tb_next if e.__traceback__ else None
        traceback.print_exception(type(e), e, own)
        hint = _python2_module(e)
        if hint:
            print(f"graphflow run: {hint}", file=sys.stderr)
        return 130 if isinstance(e, KeyboardInterrupt) else 1
    finally:
        sys.stdout.flush()
    return 0


def _unreadable(e: Exception, source: bytes, given: argparse.Namespace) -> str:
    from .compat import python2

    if isinstance(e, ImportError):
        return str(e)
    where = f"{given.script}:{e.lineno}" if isinstance(e, SyntaxError) else given.script
    text = f"\n    {e.text.strip()}" if isinstance(e, SyntaxError) and e.text else ""
    if not given.python2 and python2.looks_old(source):
        again = " ".join(["graphflow run --python2", given.script, *given.args])
        return (f"{where} is Python 2, which Python {sys.version_info[0]}.{sys.version_info[1]} cannot read ({e.args[0]}):{text}\n"
                f"  Run it with `{again}`: the sources are converted in memory, no file is changed.")
    return f"{where} cannot be read: {e.args[0]}{text}"


def _python2_module(e: BaseException) -> str:
    """A hint where a module beside the script is Python 2."""
    from .compat import python2

    if not isinstance(e, SyntaxError) or not e.filename or not os.path.isfile(e.filename):
        return ""
    with open(e.filename, "rb") as f:
        old: Any = python2.looks_old(f.read())
    return f"{e.filename} is Python 2: run the script with `graphflow run --python2`, which converts it in memory" if old else ""
