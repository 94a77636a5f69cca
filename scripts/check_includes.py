#!/usr/bin/env python3
"""Checks the direction of includes: a layer of fovea/ may include only what stands to its left.

Usage: check_includes.py [ROOT]. Prints FILE:LINE and what is wrong, exits 1 when something is.
"""

import pathlib
import re
import sys

# Each layer with the layers that it may include beside itself (docs/architecture.md has the picture).
LAYERS = {"core": set()}
LAYERS["pattern"] = {"core"}
LAYERS["reference"] = {"core", "pattern"}
LAYERS["kernels"] = {"core", "pattern"}
LAYERS["attention"] = LAYERS["kernels"] | {"kernels"}
LAYERS["text"] = {"core"}
LAYERS["io"] = {"core"}
LAYERS["data"] = {"core", "text", "io"}
LAYERS["ops"] = LAYERS["attention"] | {"attention"}
LAYERS["nn"] = LAYERS["ops"] | {"ops"}
LAYERS["models"] = LAYERS["nn"] | {"nn", "io"}
LAYERS["train"] = LAYERS["models"] | {"models", "text", "data"}
LAYERS["explain"] = LAYERS["train"] | {"train"}
LAYERS["serve"] = LAYERS["train"] | {"train"}

TORCH_LAYERS = {"ops", "nn", "models", "train", "explain", "serve"}
TORCH = re.compile(r"(torch|ATen|c10)/")
# Third-party headers that only some layers include.
HOMES = {
    re.compile(r"hwy/"): {"kernels"},
    re.compile(r"CLI/"): set(),
    re.compile(r"unicode/"): {"text"},
    re.compile(r"(zlib|zstd)\.h"): {"io"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def problems_of_include(layer, quote, path):
    first, _, rest = path.partition("/")
    if first == "fovea":
        target = rest.partition("/")[0]
        if target not in LAYERS:
            yield f"no such layer: {target}"
        elif target != layer and target not in LAYERS[layer]:
            yield f"{layer} may not include {target}"
        return
    if quote == '"' and (path.startswith(".") or "/" not in path):
        yield f'write "{path}" from the source root: "fovea/{layer}/..."'
    if first == "tools" or first == "tests":
        yield f"{layer} may not include {first}"
    if TORCH.match(path) and layer not in TORCH_LAYERS:
        yield f"{layer} has no torch"
    for header, homes in HOMES.items():
        if header.match(path) and layer not in homes:
            yield f"{path} is included by {', '.join(sorted(homes)) or 'tools/cli'} only"


def check(root):
    problems = []
    for file in sorted((root / "fovea").rglob("*")):
        if file.suffix not in (".h", ".cpp", ".cu", ".cuh", ".inc"):
            continue
        name = file.relative_to(root)
        layer = name.parts[1]
        if layer not in LAYERS or len(name.parts) < 3:
            problems.append(f"{name}:1: no such layer: {layer} (scripts/check_includes.py lists them)")
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if match := INCLUDE.match(line):
                found = problems_of_include(layer, *match.groups())
                problems += [f"{name}:{number}: {problem}" for problem in found]
    return problems


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    problems = check(root)
    print("\n".join(problems) or "includes: each layer includes only what stands to its left")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
