"""What can go wrong with a model or an image.

ModelError
├── ImageError            one image cannot be used; `code` is the item's error code
├── UnknownModel          no such name, version, alias or preset; carries near names
├── InvalidModel          a model file or its labels cannot be accepted, with the reason
├── ModelRefused          the probe's answers differ from the stored ones
├── HubUnreachable        pretrained weights could not be fetched
├── InvalidRecipe         a training's recipe, or its data, cannot be
├── LeakedImages          the same picture is trained on and validated on
└── EngineError           a batch failed in the engine
    └── EngineOutOfMemory the batch was too large for the device
"""

from collections.abc import Sequence


class ModelError(Exception):
    """Root of every error that this package raises on purpose."""


class ImageError(ModelError):
    """One image cannot be used. `code` is stable and documented; the message is for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnknownModel(ModelError):
    """No model, version, alias or preset has this name."""

    def __init__(self, reference: str, near: Sequence[str] = (), look: str = "pixmill models list") -> None:
        hint = f" Did you mean {' or '.join(near)}?" if near else f" `{look}` shows what there is."
        super().__init__(f"There is no model {reference!r}.{hint}")
        self.reference = reference
        self.near = tuple(near)


class InvalidModel(ModelError):
    """A model file, its labels or its preprocessing cannot be accepted."""


class ModelRefused(ModelError):
    """At load, the model does not answer its probe as it did when it was registered."""


class HubUnreachable(ModelError):
    """Pretrained weights could not be fetched from their hub."""


class InvalidRecipe(ModelError):
    """A training cannot be as it was asked for: its recipe, its data or its base do not fit."""


class LeakedImages(ModelError):
    """The same picture is in the part that is trained on and in one that is validated or tested on."""


class EngineError(ModelError):
    """A batch failed inside the engine."""


class EngineOutOfMemory(EngineError):
    """The batch did not fit the device's memory; a smaller one may."""
