"""The devices that workers are pinned to: this machine's GPUs by UUID, or its CPU."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path


class DeviceError(Exception):
    """The devices asked for are not there; the message says what is."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device. `visible` is what CUDA_VISIBLE_DEVICES is set to before any framework is imported."""

    name: str  # "cpu" or "gpu-1a2b3c4d"
    visible: str  # "" for the CPU, else the GPU's UUID
    title: str

    @property
    def kind(self) -> str:
        """ "cpu" or "gpu"."""
        return "gpu" if self.visible else "cpu"

    def worker_id(self, run_folder: Path, queue: str = "classify") -> str:
        """The name under which its worker signs in: host/device, and for a CPU, which homes share, which home."""
        post = "" if queue == "classify" else f"/{queue}"
        if self.visible:
            return f"{socket.gethostname()}/{self.name}{post}"
        return f"{socket.gethostname()}/{self.name}-{hashlib.sha256(os.fsencode(run_folder)).hexdigest()[:6]}{post}"

    def lock_path(self, run_folder: Path, queue: str = "classify") -> Path:
        """The exclusive lock of a queue: one per machine for a GPU; one per home for the CPU, which homes may share."""
        name = self.name if queue == "classify" else f"{self.name}-{queue}"
        if self.visible:
            return Path(tempfile.gettempdir()) / f"pixmill-{name}.lock"
        return run_folder / f"{name}.lock"


CPU = Device("cpu", "", "CPU")


def gpu(uuid: str, title: str = "GPU") -> Device:
    """A GPU by its UUID, `GPU-1a2b3c4d-…`."""
    return Device(f"gpu-{uuid.removeprefix('GPU-')[:8].lower()}", uuid, title)


def find_devices(wanted: str) -> list[Device]:
    """The devices of `auto` (every GPU, else the CPU), `cpu`, or a comma-separated list of GPU numbers and UUIDs.

    Raises DeviceError.
    """
    if wanted == "cpu":
        return [CPU]
    if wanted == "auto":
        return list_gpus() or [CPU]
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    found = [_one(name) for name in names]
    if not found or len({device.name for device in found}) < len(found):
        raise DeviceError(f"Expected auto, cpu, or GPU numbers or UUIDs, each once, got --devices {wanted!r}.")
    return found


def _one(name: str) -> Device:
    if name.upper().startswith("GPU-"):
        return gpu("GPU-" + name[4:])
    gpus = list_gpus()
    if name.isdecimal() and int(name) < len(gpus):
        return gpus[int(name)]
    there = ", ".join(f"{n} ({device.title}, {device.visible})" for n, device in enumerate(gpus)) or "no GPU at all"
    raise DeviceError(f"There is no device {name!r} on this machine; it has {there}. The word cpu names its CPU.")


def list_gpus() -> list[Device]:
    """The NVIDIA GPUs of this machine, by the driver's library; none where there is no driver."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return [gpu(_text(pynvml.nvmlDeviceGetUUID(h)), _text(pynvml.nvmlDeviceGetName(h))) for h in handles]
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
