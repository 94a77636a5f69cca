"""Finds, loads and checks the library of operators."""

import os
from pathlib import Path

import torch

VERSION = "0.1.0"  # of this package and of the library that it needs: project() in CMakeLists.txt


def library_path() -> str:
    """Path of the operators' library; raises ImportError that lists where it was looked for."""
    name = "libfovea_ops.so"
    if chosen := os.environ.get("FOVEA_OPS_LIBRARY"):
        if not Path(chosen).is_file():
            raise ImportError(f"FOVEA_OPS_LIBRARY: expected a file, found nothing at {chosen}")
        return chosen
    here = Path(__file__).resolve().parent
    root = here.parent.parent
    places = [here / name, *(root / "build" / preset / "lib" / name for preset in ("release", "dev"))]
    for place in places:
        if place.is_file():
            return str(place)
    looked = "\n  ".join(str(place) for place in places)
    raise ImportError(
        f"{name} was not found; build it (scripts/setup, cmake --preset release) or set "
        f"FOVEA_OPS_LIBRARY. Looked in:\n  {looked}"
    )


def check_version(found: str | None, path: str) -> None:
    """Raises ImportError unless the library at ``path`` is of this package's version.

    ``found`` is None for a library from before it could tell.
    """
    if found == VERSION:
        return
    theirs = f"is version {found}" if found else "is an older build, which does not tell its version"
    raise ImportError(
        f"the Python package fovea {VERSION} in {Path(__file__).resolve().parent} needs operators of "
        f"that version, but {path} {theirs}; build both from one source tree (cmake --build "
        f"--preset release --target fovea_ops), or set FOVEA_OPS_LIBRARY to the library that "
        f"belongs to the package"
    )


def load() -> None:
    """Registers ``torch.ops.fovea.*``."""
    path = library_path()
    torch.ops.load_library(path)
    version = getattr(torch.ops.fovea, "version", None)
    check_version(version and version(), path)
