"""Modules and functions of the public namespace that are loaded when a program first asks for them: name -> where it lives."""
from __future__ import annotations

MODULES: dict[str, str] = {name: f".{name}" for name in ("dtypes", "manip", "quantization", "sets", "signal", "spectral")}

_HOMES = {
    ".quantization": [f"fake_quant_with_min_max_{kind}{gradient}" for kind in ("args", "vars", "vars_per_channel")
                      for gradient in ("", "_gradient")],
    ".special_math": ["betainc", "igamma", "igammac", "polygamma", "zeta"],
    ".spectral": ["fft", "fft2d", "fft3d", "ifft", "ifft2d", "ifft3d"],
}
NAMES: dict[str, str] = {name: home for home, names in _HOMES.items() for name in names}
