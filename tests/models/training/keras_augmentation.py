"""A child with KerasCV in it: what the augmentation does to pictures.

request: `digests` (only tell what a chain draws, as hashes). Answers those hashes by their names, or a text by check:
the traceback where it failed, nothing where it passed.
"""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from models.children import Progress, answer_with
from models.recipes import AugmentationChoice
from models.training.augmentation import Augmenter, BatchEqualization
from tests.models.training.keras_checks import outcomes

CLASSES = 10
FULL = AugmentationChoice(flip=True, shift=0.1, crop_and_resize=True, rand_augment=True, cutout=True, mix="both")
COLOUR, GREY = (32, 40, 3), (28, 28, 1)


@functools.cache
def full(shape: tuple[int, int, int]) -> Augmenter:
    """Compiled once: it takes seconds."""
    return Augmenter(FULL, shape, CLASSES, seed=7)


def batch(shape: tuple[int, int, int], count: int = 16) -> tuple[Any, Any]:
    """Smooth random pictures, each of its own class as far as there are classes."""
    coarse = np.random.default_rng(5).uniform(0, 255, (count, 4, 4, shape[2]))
    images = tf.image.resize(coarse, shape[:2], "bicubic").numpy().clip(0, 255).astype(np.float32)
    return images, np.eye(CLASSES, dtype=np.float32)[np.arange(count) % CLASSES]


def drawn(augmenter: Augmenter, epoch: int, step: int, count: int = 16) -> str:
    """A hash of everything that comes out."""
    images, labels = augmenter(*batch(augmenter.shape, count), epoch, step)
    return hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


def digests() -> dict[str, str]:
    """Of three steps, out of their order: what was drawn before must not matter."""
    return {f"{epoch}/{step}": drawn(full(COLOUR), epoch, step) for epoch, step in ((3, 1), (0, 0), (3, 0))}


def nothing_chosen_returns_the_input_itself(_request: Mapping[str, Any]) -> None:
    images, labels = batch(COLOUR)
    given = Augmenter(AugmentationChoice(), COLOUR, CLASSES, 7)(images, labels, 0, 0)
    assert given[0] is images
    assert given[1] is labels


def seed_epoch_and_step_each_change_what_is_drawn(_request: Mapping[str, Any]) -> None:
    augmenter = full(COLOUR)
    first = drawn(augmenter, 0, 0)
    others = [drawn(augmenter, 1, 0), drawn(augmenter, 0, 1), drawn(Augmenter(FULL, COLOUR, CLASSES, 8), 0, 0)]
    assert len({first, *others}) == 4
    assert drawn(augmenter, 0, 0) == first


def every_switch_changes_pictures_within_their_range(_request: Mapping[str, Any]) -> None:
    switches: tuple[dict[str, Any], ...] = (
        {"flip": True}, {"shift": 0.2}, {"crop_and_resize": True}, {"rand_augment": True}, {"cutout": True},
        {"mix": "cutmix"}, {"mix": "mixup"},
    )  # fmt: skip
    images, labels = batch(GREY)
    for switch in switches:
        changed, given = Augmenter(AugmentationChoice(**switch), GREY, CLASSES, 7)(images, labels, 0, 0)
        assert changed.shape == images.shape, switch
        assert changed.dtype == tf.float32
        assert np.isfinite(changed).all()
        assert np.min(changed) >= 0
        assert np.max(changed) <= 255
        assert (np.abs(changed - images).max(axis=(1, 2, 3)) > 0.5).sum() > 3, switch
        assert ("mix" in switch) != np.array_equal(given, labels), switch


def a_flip_is_a_flip_of_about_half(_request: Mapping[str, Any]) -> None:
    images, labels = batch(COLOUR, 64)
    changed, _ = Augmenter(AugmentationChoice(flip=True), COLOUR, CLASSES, 7)(images, labels, 0, 0)
    same = [np.array_equal(one, other) for one, other in zip(changed, images, strict=True)]
    turned = [np.array_equal(one, other[:, ::-1]) for one, other in zip(changed, images, strict=True)]
    assert all(one != other for one, other in zip(same, turned, strict=True))
    assert 16 < sum(turned) < 48


def a_shift_moves_no_further_than_asked(_request: Mapping[str, Any]) -> None:
    """A bright square in the middle stays within a tenth of the side, and its colour is not lost."""
    images = np.zeros((64, 40, 40, 1), np.float32)
    images[:, 18:22, 18:22] = 200
    labels = np.eye(CLASSES, dtype=np.float32)[np.zeros(64, int)]
    changed, _ = Augmenter(AugmentationChoice(shift=0.1), (40, 40, 1), CLASSES, 7)(images, labels, 0, 0)
    rows = np.asarray(changed).sum(axis=(2, 3)) @ np.arange(40) / np.asarray(changed).sum(axis=(1, 2, 3))
    assert np.abs(rows - 19.5).max() <= 4.01
    assert np.abs(rows - 19.5).max() > 2
    np.testing.assert_allclose(np.asarray(changed).sum(axis=(1, 2, 3)), images.sum(axis=(1, 2, 3)), rtol=1e-3)


def cutmix_labels_say_how_many_pixels_are_whose(_request: Mapping[str, Any]) -> None:
    """Pictures of one grey each: whose pixels are whose can be counted."""
    images = np.broadcast_to(np.arange(CLASSES, dtype=np.float32)[:, None, None, None] * 20, (CLASSES, 16, 24, 3))
    augmenter = Augmenter(AugmentationChoice(mix="cutmix"), (16, 24, 3), CLASSES, 7)
    mixed = 0
    for step in range(5):
        changed, labels = augmenter(images, np.eye(CLASSES, dtype=np.float32), 0, step)
        shares = (np.asarray(changed)[..., :1] == np.arange(CLASSES) * 20).mean(axis=(1, 2))
        np.testing.assert_allclose(labels, shares, atol=1e-5)
        mixed += int((np.max(labels, axis=1) < 0.99).sum())
    assert mixed > CLASSES


def mixup_labels_are_mixed_as_the_pixels_are(_request: Mapping[str, Any]) -> None:
    images = np.broadcast_to(np.eye(CLASSES, dtype=np.float32)[:, None, None, :] * 255, (CLASSES, 4, 4, CLASSES))
    augmenter = Augmenter(AugmentationChoice(mix="mixup"), (4, 4, CLASSES), CLASSES, 7)
    mixed = 0
    for step in range(5):
        changed, labels = augmenter(images, np.eye(CLASSES, dtype=np.float32), 0, step)
        np.testing.assert_allclose(np.asarray(changed)[:, 0, 0] / 255, labels, atol=1e-5)
        np.testing.assert_allclose(np.sum(labels, axis=1), 1, atol=1e-5)
        mixed += int((np.max(labels, axis=1) < 0.99).sum())
    assert mixed > 5


def both_chooses_one_of_them_for_each_batch(_request: Mapping[str, Any]) -> None:
    """CutMix leaves every pixel as it was in one of two pictures; MixUp makes new values."""
    images = np.broadcast_to(np.arange(CLASSES, dtype=np.float32)[:, None, None, None] * 20, (CLASSES, 16, 16, 3))
    augmenter = Augmenter(AugmentationChoice(mix="both"), (16, 16, 3), CLASSES, 7)
    cut = [
        bool(np.isin(augmenter(images, np.eye(CLASSES, dtype=np.float32), 0, step)[0], np.arange(CLASSES) * 20).all())
        for step in range(24)
    ]
    assert 4 < sum(cut) < 20, cut


def equalization_is_that_of_pillow(_request: Mapping[str, Any]) -> None:
    images = np.floor(batch((24, 24, 3))[0] / 3 + 40)
    images[0] = 77  # one value only
    images[1, :12] = 0
    ours = BatchEqualization((0, 255), seed=1)(tf.constant(images)).numpy()
    theirs = [np.asarray(ImageOps.equalize(Image.fromarray(image.astype(np.uint8)))) for image in images]
    np.testing.assert_array_equal(ours, np.stack(theirs))


def the_last_smaller_batch_works_and_one_picture_too(_request: Mapping[str, Any]) -> None:
    augmenter = full(COLOUR)
    for count in (1, 2, 5, 33):
        images, labels = augmenter(*batch(COLOUR, count), 0, 0)
        assert images.shape == (count, *COLOUR)
        assert labels.shape == (count, CLASSES)


CHECKS = (
    nothing_chosen_returns_the_input_itself,
    seed_epoch_and_step_each_change_what_is_drawn,
    every_switch_changes_pictures_within_their_range,
    a_flip_is_a_flip_of_about_half,
    a_shift_moves_no_further_than_asked,
    cutmix_labels_say_how_many_pixels_are_whose,
    mixup_labels_are_mixed_as_the_pixels_are,
    both_chooses_one_of_them_for_each_batch,
    equalization_is_that_of_pillow,
    the_last_smaller_batch_works_and_one_picture_too,
)


def work(request: Mapping[str, Any], _progress: Progress) -> Mapping[str, Any]:
    tf.config.experimental.enable_op_determinism()  # as a training does
    if request.get("digests"):
        tf.random.set_seed(request["global_seed"])
        return digests()
    return {**outcomes(CHECKS, request), **digests()}


if __name__ == "__main__":
    answer_with(work)
