"""The sandboxed child that opens a stranger's model file: `python -m models.sandbox`, request on standard input.

First it gives its rights away (`models.confinement`), then it looks at the weights, and only then does TensorFlow
start and Keras open the file. Before the first step nothing is imported that starts threads, as NumPy does.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.archive_check import unpack_weights
from models.children import Progress, answer_with
from models.confinement import GIB, confine
from models.errors import InvalidModel

# TensorFlow and OpenVINO together reserve 3.3 GB of address space for MobileNetV2 on two cores; arenas and stacks
# grow with cores.
BASE_MEMORY_BYTES = 12 * GIB
MEMORY_PER_CORE_BYTES = GIB // 4
MEMORY_PER_FILE_BYTE = 16
CPU_PER_SECOND = 4  # processor seconds for each second of the time limit, in case nobody is left to enforce that


def open_file(request: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
    """Do what `models.opening.prepare` or `.recheck` says, behind the fences.

    request: `work` ("prepare" or "recheck"), `source` (the .keras file), `folder` (the only place to write to),
    `timeout_s`, and what the work itself asks for. The answer also says which `fences` hold.
    """
    source, folder = Path(request["source"]), Path(request["folder"])
    size = source.stat().st_size
    memory = BASE_MEMORY_BYTES + MEMORY_PER_FILE_BYTE * size + MEMORY_PER_CORE_BYTES * (os.cpu_count() or 1)
    fences = confine(
        folder, memory_bytes=memory, cpu_s=int(CPU_PER_SECOND * request["timeout_s"]), file_bytes=4 * size + GIB
    )
    # No import statements, here and below: what stands above must have happened before a library is loaded.
    importlib.import_module("models.weights_check").check_weights(unpack_weights(source, folder / "work"))
    progress("starting Keras")
    opening = importlib.import_module("models.opening")
    try:
        answer: Mapping[str, Any] = getattr(opening, request["work"])(request, progress)
    except MemoryError as error:
        raise InvalidModel(f"{source.name}: opening it needs more than {memory / GIB:.0f} GiB of memory.") from error
    return {**answer, "fences": fences}


if __name__ == "__main__":
    answer_with(open_file)
