"""What the machine is and how object code for it is linked; needs llvmlite (on first use), never Numba.

Knows: the CPU's name and features, the choice of vector width, LLVM's LLJIT. Must not know: kernel text,
caches, plans. Place: `backend` compiles for `features()`, `compile` keys on `identity()` and turns object
code into addresses with `Linker`.
"""

from functools import cache
from importlib.metadata import version
from itertools import count

ABI = 1

# Their 512-bit units slow the whole core down; on later ones full width gave 1.5-2x on exp, 1x on copies.
_PREFER_256 = {"skylake-avx512", "cascadelake", "cooperlake", "cannonlake"}


@cache
def llvm():
    """llvmlite's binding, ready for this machine."""
    import llvmlite.binding as binding
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


def symbol() -> str:
    """The one name each object exports."""
    return "kernel"


@cache
def features() -> str:
    """LLVM's feature string for this CPU, with 512-bit vectors allowed where they pay."""
    found = llvm().get_host_cpu_features()
    wide = found.get("avx512f") and llvm().get_host_cpu_name() not in _PREFER_256
    return found.flatten() + (",-prefer-256-bit" if wide else "")


@cache
def identity() -> str:
    """All that decides whether object code made elsewhere or earlier is right for this process."""
    return "\n".join([f"abi {ABI}", llvm().get_process_triple(), llvm().get_host_cpu_name(), features(),
                      *(f"{name} {version(name)}" for name in ("numba", "llvmlite", "numpy"))])


class Linker:
    """Links object code into this process. Linked code stays for the life of the Linker; use `linker()`."""

    def __init__(self) -> None:
        self._jit = llvm().create_lljit_compiler(use_jit_link=True)     # one contiguous block an object
        self._alive: list = []
        self._number = count()

    def link(self, image: bytes, label: str) -> int:
        """The address of `kernel` in an object. Raises RuntimeError naming `label` if it cannot link."""
        builder = llvm().JITLibraryBuilder().add_object_img(image).add_current_process()
        try:
            library = builder.export_symbol(symbol()).link(self._jit, f"graphflow{next(self._number)}")
        except RuntimeError as error:
            raise RuntimeError(f"kernel {label} does not link: {error} (a function it calls is neither in "
                               "the object nor in this process; LLVM names it on stderr)") from None
        self._alive.append(library)
        return library[symbol()]


@cache
def linker() -> Linker:
    """The process's one linker: an address it gave out stays good for ever."""
    return Linker()
