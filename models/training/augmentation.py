"""Changes training pictures by chance with KerasCV's layers; the one file that knows them.

KerasCV draws from generators with a hidden state, and from TensorFlow's global one. Here every draw is stateless: a
function of the run's seed, the epoch, the step, and the draw's own number. So a run that is resumed in the middle draws
what it would have drawn, and so does one with operations made deterministic, where hidden states are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras_cv
import numpy as np
import tensorflow as tf

from models.recipes import AugmentationChoice

# As in KerasCV's own guide to classification, which DESIGN §6 follows for training from nothing.
CROP_AREA, ASPECT_RATIO = (0.8, 1.0), (0.9, 1.1)
ROUNDS, MAGNITUDE_DEVIATION = 3, 0.2  # of RandAugment: operations per picture, and how their strengths vary
CUTOUT = 0.4  # of height and width
LAYER_SEED = 1  # of the generators that KerasCV insists on and that are never drawn from
NEEDS_COLOUR = (keras_cv.layers.RandomColorDegeneration,)

Change = Callable[[Any, Any], tuple[Any, Any]]


class Augmenter:
    """Augments batches: a pure function of (seed, epoch, step, input), so that a resumed run draws the same.

    `shape` is (height, width, channels). The chain is compiled when it is made, which takes a few seconds; it may be
    called from any one thread afterwards.
    """

    def __init__(self, choice: AugmentationChoice, shape: tuple[int, int, int], classes: int, seed: int) -> None:
        self.choice, self.shape, self.classes, self.seed = choice, shape, classes, seed
        self._draws = _Draws()
        self._chain = _chain(choice, shape, self._draws)
        self._compiled = self._compile() if self._chain else None

    def __call__(self, images: Any, labels: Any, epoch: int, step: int) -> tuple[Any, Any]:
        """Images 0–255 [B, H, W, C] and one-hot labels [B, K], changed: float32 tensors of TensorFlow.

        A choice of nothing returns the inputs untouched.
        """
        if self._compiled is None:
            return images, labels
        # SeedSequence spreads neighbouring numbers over all bits.
        words = np.random.SeedSequence([self.seed, epoch, step]).generate_state(2).view(np.int32)
        changed = self._compiled(tf.cast(images, tf.float32), tf.cast(labels, tf.float32), tf.constant(words))
        return changed[0], changed[1]

    def _compile(self) -> Any:
        """One graph for batches of every size, so that the last batch of an epoch compiles nothing."""

        def augment(images: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
            self._draws.begin(seed)
            for change in self._chain:
                images, labels = change(images, labels)
            return tf.clip_by_value(images, 0.0, 255.0), labels

        specs = (
            tf.TensorSpec([None, *self.shape], tf.float32),
            tf.TensorSpec([None, self.classes], tf.float32),
            tf.TensorSpec([2], tf.int32),
        )
        return tf.function(augment, autograph=False).get_concrete_function(*specs)


class _Draws:
    """Stateless numbers in the place of a `tf.random.Generator`: the n-th draw of a graph depends on (seed, n)."""

    def __init__(self) -> None:
        self._seed: Any = None
        self._count = 0

    def begin(self, seed: Any) -> None:
        self._seed, self._count = seed, 0

    def next_seed(self) -> Any:
        self._count += 1
        return tf.random.experimental.stateless_fold_in(self._seed, self._count)

    def uniform(self, shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = tf.float32) -> Any:
        return tf.random.stateless_uniform(shape, self.next_seed(), minval, maxval, dtype, alg="philox")

    def normal(self, shape: Any, mean: float, stddev: float, dtype: Any = tf.float32) -> Any:
        return tf.random.stateless_normal(shape, self.next_seed(), mean, stddev, dtype, alg="philox")

    def beta(self, count: Any, alpha: float) -> Any:
        """Numbers [count] of Beta(alpha, alpha), by way of two Gamma distributions."""
        first, second = (tf.random.stateless_gamma([count], self.next_seed(), alpha) for _ in range(2))
        tiny = np.finfo(np.float32).tiny  # both can be zero for a small alpha
        return (first + tiny) / (first + second + 2 * tiny)

    def order(self, count: Any) -> Any:
        """A permutation of `count` things."""
        return tf.argsort(self.uniform([count]), stable=True)


class _Uniform(keras_cv.core.FactorSampler):  # type: ignore[misc]  # KerasCV has no types
    """KerasCV's UniformFactorSampler, from our draws."""

    def __init__(self, original: Any, draws: _Draws) -> None:
        self.lower, self.upper, self.draws = original.lower, original.upper, draws

    def __call__(self, shape: Any = (), dtype: Any = tf.float32) -> Any:
        return self.draws.uniform(shape, self.lower, self.upper, dtype)


class _Normal(keras_cv.core.FactorSampler):  # type: ignore[misc]  # KerasCV has no types
    """KerasCV's NormalFactorSampler, from our draws."""

    def __init__(self, original: Any, draws: _Draws) -> None:
        self.original, self.draws = original, draws

    def __call__(self, shape: Any = (), dtype: Any = tf.float32) -> Any:
        wanted = self.original
        factors = self.draws.normal(shape, wanted.mean, wanted.stddev, dtype)
        return tf.clip_by_value(factors, wanted.min_value, wanted.max_value)


def _chain(choice: AugmentationChoice, shape: tuple[int, int, int], draws: _Draws) -> Sequence[Change]:
    """The changes of a choice in their order: geometry, colours, then what covers and mixes."""
    # Some of KerasCV's layers take TensorFlow's global generator whatever seed they are given, and with deterministic
    # operations there is none until it is set.
    tf.random.set_global_generator(tf.random.Generator.from_seed(LAYER_SEED))
    layers = keras_cv.layers
    chain: list[Change] = []
    if choice.flip:
        chain.append(_images_only(_stateless(Flip("horizontal", seed=LAYER_SEED), draws)))
    if choice.shift:
        shift = layers.RandomTranslation(choice.shift, choice.shift, fill_mode="nearest", seed=LAYER_SEED)
        chain.append(_images_only(_stateless(shift, draws)))
    if choice.crop_and_resize:
        crop = BatchCropAndResize(shape[:2], CROP_AREA, ASPECT_RATIO, seed=LAYER_SEED)
        chain.append(_images_only(_stateless(crop, draws)))
    if choice.rand_augment:
        chain.append(_RandAugment(choice.magnitude, shape[2], draws))
    if choice.cutout:
        chain.append(_images_only(_stateless(layers.RandomCutout(CUTOUT, CUTOUT, seed=LAYER_SEED), draws)))
    if choice.mix != "none":
        chain.append(_Mix(choice.mix, draws))
    return chain


def _images_only(layer: Any) -> Change:
    return lambda images, labels: (layer(images), labels)


def _stateless(layer: Any, draws: _Draws) -> Any:
    """The layer, drawing all its chance from `draws`."""
    layer._random_generator = draws  # where KerasCV's layers draw from, by their base class's description
    for name, value in list(vars(layer).items()):
        if isinstance(value, keras_cv.core.UniformFactorSampler):
            setattr(layer, name, _Uniform(value, draws))
        elif isinstance(value, keras_cv.core.NormalFactorSampler):
            setattr(layer, name, _Normal(value, draws))
    return layer


class Flip(keras_cv.layers.RandomFlip):  # type: ignore[misc]  # KerasCV has no types
    """KerasCV's RandomFlip, left to right, without a chance for each pixel: three times as fast."""

    def augment_images(self, images: Any, transformations: Any, **_others: Any) -> Any:
        """Pixels [B, H, W, C], the pictures turned that were drawn."""
        turned = transformations["flip_horizontals"][:, :, None, None] > 1.0 - self.rate
        return tf.where(turned, tf.reverse(images, axis=[2]), images)


class BatchCropAndResize(keras_cv.layers.RandomCropAndResize):  # type: ignore[misc]  # KerasCV has no types
    """KerasCV's RandomCropAndResize for a whole batch at once: the original maps over single pictures."""

    def _batch_augment(self, inputs: dict[str, Any]) -> dict[str, Any]:
        images = inputs["images"]
        count = tf.shape(images)[0]
        area, ratio = self.crop_area_factor((count,)), self.aspect_ratio_factor((count,))
        height, width = tf.minimum(tf.sqrt(area / ratio), 1.0), tf.minimum(tf.sqrt(area * ratio), 1.0)
        top = self._random_generator.uniform((count,)) * (1.0 - height)
        left = self._random_generator.uniform((count,)) * (1.0 - width)
        boxes = tf.stack([top, left, top + height, left + width], axis=1)
        cropped = tf.image.crop_and_resize(images, boxes, tf.range(count), self.target_size, self.interpolation)
        return {**inputs, "images": cropped}


class BatchEqualization(keras_cv.layers.Equalization):  # type: ignore[misc]  # KerasCV has no types
    """KerasCV's Equalization with the histograms of all pictures and channels counted at once, not one by one."""

    def augment_images(self, images: Any, **_others: Any) -> Any:
        """Pixels 0–255 [B, H, W, C], evened channel by channel."""
        count, height, width, channels = tf.unstack(tf.shape(images))
        rows = tf.reshape(tf.transpose(images, [0, 3, 1, 2]), [count * channels, height * width])
        values = tf.cast(rows, tf.int32)
        table = tf.gather(_lookup_tables(values), values, batch_dims=1)
        return tf.transpose(tf.reshape(table, [count, channels, height, width]), [0, 2, 3, 1])


def _lookup_tables(values: Any) -> Any:
    """What each of 256 values becomes for an even histogram, float32 [rows, 256], of values int32 [rows, pixels].

    The mapping of Pillow's ImageOps.equalize, whose integer arithmetic RandAugment was published with.
    """
    rows = tf.shape(values)[0]
    slots = tf.reshape(values + 256 * tf.range(rows)[:, None], [-1])
    counts = tf.math.unsorted_segment_sum(tf.ones_like(slots, tf.float32), slots, 256 * rows)
    histogram = tf.cast(tf.reshape(counts, [rows, 256]), tf.int32)
    last = tf.reduce_max(values, axis=1)
    step = (tf.shape(values)[1] - tf.gather(histogram, last, batch_dims=1)) // 255
    step = step[:, None]
    before = tf.cumsum(histogram, axis=1, exclusive=True)
    even = tf.clip_by_value((before + step // 2) // tf.maximum(step, 1), 0, 255)
    return tf.cast(tf.where(step == 0, tf.range(256)[None, :], even), tf.float32)


class _RandAugment:
    """KerasCV's RandAugment policy: every picture gets so many operations, each chosen anew for each picture.

    KerasCV goes picture by picture. Here, in each round, the pictures are put in the order of their operations, and
    every operation's layer takes its own at once.
    """

    def __init__(self, magnitude: float, channels: int, draws: _Draws) -> None:
        policy = keras_cv.layers.RandAugment.get_standard_policy(
            (0, 255), magnitude, MAGNITUDE_DEVIATION, seed=LAYER_SEED
        )
        fit = [layer for layer in policy if channels == 3 or not isinstance(layer, NEEDS_COLOUR)]
        self.layers = [_stateless(_faster(layer), draws) for layer in fit]
        self.draws = draws

    def __call__(self, images: Any, labels: Any) -> tuple[Any, Any]:
        for _ in range(ROUNDS):
            images = self._round(images)
        return images, labels

    def _round(self, images: Any) -> Any:
        kinds = len(self.layers)
        chosen = tf.cast(self.draws.uniform([tf.shape(images)[0]]) * kinds, tf.int32)
        chosen = tf.minimum(chosen, kinds - 1)  # a draw just below one may be rounded up
        order = tf.argsort(chosen, stable=True)
        counts = tf.reduce_sum(tf.one_hot(chosen, kinds, dtype=tf.int32), axis=0)
        parts = tf.split(tf.gather(images, order), counts, num=kinds)
        changed = [self._apply(layer, part) for layer, part in zip(self.layers, parts, strict=True)]
        return tf.ensure_shape(tf.gather(tf.concat(changed, axis=0), tf.argsort(order)), images.shape)

    def _apply(self, layer: Any, part: Any) -> Any:
        """Some layers cannot take a batch of none."""
        return tf.cond(tf.shape(part)[0] > 0, lambda: layer(part), lambda: part)


def _faster(layer: Any) -> Any:
    is_equalization = isinstance(layer, keras_cv.layers.Equalization)
    return BatchEqualization(layer.value_range, seed=LAYER_SEED) if is_equalization else layer


class _Mix:
    """CutMix, MixUp, or one of them chosen for each batch."""

    def __init__(self, which: str, draws: _Draws) -> None:
        mixes = {"cutmix": StatelessCutMix, "mixup": StatelessMixUp}
        kinds = list(mixes.values()) if which == "both" else [mixes[which]]
        self.layers = [_stateless(kind(seed=LAYER_SEED), draws) for kind in kinds]
        self.draws = draws

    def __call__(self, images: Any, labels: Any) -> tuple[Any, Any]:
        inputs = {"images": images, "labels": labels}
        first, last = self.layers[0], self.layers[-1]
        if first is last:
            mixed = first(inputs)
        else:
            mixed = tf.cond(self.draws.uniform([]) < 0.5, lambda: first(dict(inputs)), lambda: last(dict(inputs)))
        return tf.ensure_shape(mixed["images"], images.shape), tf.ensure_shape(mixed["labels"], labels.shape)


class StatelessCutMix(keras_cv.layers.CutMix):  # type: ignore[misc]  # KerasCV has no types
    """KerasCV's CutMix, stateless, and with labels by the share of pixels that were really put in."""

    def _batch_augment(self, inputs: dict[str, Any]) -> dict[str, Any]:
        images, labels, draws = inputs["images"], inputs["labels"], self._random_generator
        count, height, width = tf.unstack(tf.shape(images)[:3])
        side = tf.sqrt(1.0 - draws.beta(count, self.alpha))
        inside = _stretch(draws, count, height, side)[:, :, None] & _stretch(draws, count, width, side)[:, None, :]
        kept = 1.0 - tf.reduce_mean(tf.cast(inside, tf.float32), axis=(1, 2))
        order = draws.order(count)
        mixed = tf.where(inside[..., None], tf.gather(images, order), images)
        return {**inputs, "images": mixed, "labels": self._update_labels(labels, kept, order)}


class StatelessMixUp(keras_cv.layers.MixUp):  # type: ignore[misc]  # KerasCV has no types
    """KerasCV's MixUp, stateless."""

    def _batch_augment(self, inputs: dict[str, Any]) -> dict[str, Any]:
        images, labels, draws = inputs["images"], inputs["labels"], self._random_generator
        count = tf.shape(images)[0]
        kept, order = draws.beta(count, self.alpha), draws.order(count)
        weight = tf.reshape(kept, [-1, 1, 1, 1])
        mixed = weight * images + (1.0 - weight) * tf.gather(images, order)
        return {**inputs, "images": mixed, "labels": self._update_labels(labels, kept, order)}


def _stretch(draws: _Draws, count: Any, length: Any, part: Any) -> Any:
    """For each picture, which places of a side lie in a stretch of that part of it, put anywhere: [count, length]."""
    size = tf.cast(part * tf.cast(length, tf.float32), tf.int32)
    begin = draws.uniform([count], 0, length, tf.int32) - size // 2
    places = tf.range(length)[None, :]
    return (places >= begin[:, None]) & (places < (begin + size)[:, None])
