"""What every engine asks of a batch before it computes."""

from models.engines.base import Batch
from models.errors import EngineError


def check_batch(batch: Batch, batch_size: int, image_shape: tuple[int, ...]) -> None:
    """Raise EngineError unless the batch is uint8 [N, *image_shape] with 1 ≤ N ≤ batch_size."""
    fits = batch.ndim == 4 and batch.shape[1:] == image_shape and 1 <= len(batch) <= batch_size
    if batch.dtype != "uint8" or not fits:
        shape = ", ".join(str(side) for side in image_shape)
        raise EngineError(f"expected a batch uint8 [1–{batch_size}, {shape}], got {batch.dtype} {list(batch.shape)}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of TensorFlow, JAX, torch or OpenVINO says that memory ran out, by its name or its words."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}:
        return True
    words = str(error).lower()
    signs = (
        "resource_exhausted",
        "out of memory",
        "out_of_memory",
        "bad_alloc",
        "failed to allocate",
        "cannot allocate",
    )
    return any(sign in words for sign in signs)
