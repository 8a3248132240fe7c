"""`tf.app`: the entry point of a program whose options are flags."""
from __future__ import annotations

import sys
from typing import Any, Callable, NoReturn, Sequence

from . import flags

__all__ = ["flags", "run"]


def run(main: Callable[[list[str]], Any] | None = None, argv: Sequence[str] | None = None) -> NoReturn:
    """Parses the flags, calls `main(argv)` with what is left of the command line, and exits with what it returns.

    Args:
        main: a function of the list [program, arguments that are no flags, flags nobody defined...]; by default `main` of the script.
        argv: the command line; `sys.argv` by default.

    `--help` prints the flags and exits with 1; a flag with a bad value prints the reason and exits with 1.
    """
    main = main or sys.modules["__main__"].main  # type: ignore[attr-defined]
    try:
        rest = flags.FLAGS(list(sys.argv if argv is None else argv), known_only=True)
        if flags.FLAGS["help"].value or flags.FLAGS["helpfull"].value:
            print(_usage())
            sys.exit(1)
    except flags.Error as e:
        sys.stderr.write(f"FATAL Flags parsing error: {e}\nPass --help to see help on flags.\n")
        sys.exit(1)
    sys.exit(main(rest))


def _usage() -> str:
    """The program's docstring, its own flags, or all."""
    text = (sys.modules["__main__"].__doc__ or f"USAGE: {sys.argv[0]} [flags]").rstrip()
    if flags.FLAGS["helpfull"].value:
        return f"{text}\n{flags.FLAGS.get_help()}"
    return f"{text}\n{flags.FLAGS.main_module_help()}\n\nTry --helpfull to get a list of all flags."
