"""What the machine is and how object code for it is linked; needs llvmlite (on first use), never Numba.

Knows: the CPU's name and features, the choice of vector width, LLVM's LLJIT. Must not know: kernel text,
caches, plans. Place: `backend` compiles for `features()`, `compile` keys on `identity()` and turns object
code into addresses with `Linker`.
"""

from functools import cache, wraps
from importlib.metadata import version
from itertools import count

from graphflow.flags import flags

ABI = 1
_AVX2 = "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe"

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


def per_isa(function):
    """`functools.cache` for what depends on the instruction set in force (flag `isa`)."""
    made: dict = {}

    @wraps(function)
    def cached(*args):
        key = (flags.isa, *args)
        if key not in made:
            made[key] = function(*args)
        return made[key]
    return cached


@per_isa
def cpu() -> str:
    """LLVM's name of the CPU that kernels are made for: this one, or a lesser one that the flag `isa` names.

    Raises ValueError for an unknown name, and for instructions that this CPU has not.
    """
    if flags.isa == "native":
        return llvm().get_host_cpu_name()
    here = llvm().get_process_triple().startswith(("x86_64", "amd64"))
    if flags.isa == "generic":
        return "x86-64" if here else "generic"
    if flags.isa != "avx2":
        raise ValueError(f"the flag isa (GRAPHFLOW_ISA) is native, avx2 or generic, got {flags.isa!r}")
    if not (here and all(llvm().get_host_cpu_features().get(f) for f in _AVX2.replace("+", "").split(","))):
        raise ValueError("the flag isa (GRAPHFLOW_ISA) is avx2, but this CPU lacks AVX2 or FMA; use native or generic")
    return "x86-64"


@per_isa
def features() -> str:
    """LLVM's feature string for the CPU, with 512-bit vectors allowed where they pay."""
    if cpu() and flags.isa != "native":
        return _AVX2 if flags.isa == "avx2" else ""
    found = llvm().get_host_cpu_features()
    wide = found.get("avx512f") and cpu() not in _PREFER_256
    return found.flatten() + (",-prefer-256-bit" if wide else "")


@per_isa
def identity() -> str:
    """All that decides whether object code made elsewhere or earlier is right for this process."""
    return "\n".join([f"abi {ABI}", llvm().get_process_triple(), cpu(), features(),
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
