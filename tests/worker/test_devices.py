"""Which devices a worker may be pinned to."""

from pathlib import Path

import pytest

from worker.devices import CPU, DeviceError, find_devices, list_gpus


def test_gpus_are_named_by_their_uuid_and_locked_machine_wide(tmp_path: Path) -> None:
    first, second = find_devices("GPU-1a2b3c4d-0000,GPU-ffff0000-1111")
    assert (first.name, first.kind, first.visible) == ("gpu-1a2b3c4d", "gpu", "GPU-1a2b3c4d-0000")
    assert first.lock_path(tmp_path) != second.lock_path(tmp_path)
    assert first.lock_path(tmp_path) == first.lock_path(tmp_path / "another-home")


def test_the_cpu_is_locked_per_home(tmp_path: Path) -> None:
    assert find_devices("cpu") == [CPU]
    assert CPU.lock_path(tmp_path).parent == tmp_path


@pytest.mark.parametrize("wanted", ["99", "tpu", "", ",", "GPU-1,GPU-1"])
def test_a_device_that_is_not_there_is_refused_with_what_is(wanted: str) -> None:
    with pytest.raises(DeviceError, match=r"--devices|no device"):
        find_devices(wanted)


def test_auto_falls_back_to_the_cpu() -> None:
    assert find_devices("auto") == (list_gpus() or [CPU])
