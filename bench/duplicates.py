"""Which copies of pictures are found, what is taken for a copy by mistake, and how long it takes.

    python bench/duplicates.py [--sample 200] [--sheet FILE.png] [--many 1000000] FOLDER|ARCHIVE...

For every folder (or tar archive) of pictures: the pairs of copies that it holds by itself; then, for each way to make
a copy, the share of copies that are found among all the pictures, and the pairs that join a copy to a picture that is
neither its source nor a copy of that. --sheet draws the pairs that a set holds by itself, for a person to judge them.
--many measures the search alone, in so many thumbnails that are mixed from those of the first set.
Set OPENBLAS_NUM_THREADS=1 to measure one core.
"""

import argparse
import io
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from models.datasets.duplicates import Pair, find_pairs, thumbnail
from models.formats import IMAGE_EXTENSIONS
from models.images import load_picture
from models.manifest import Preprocessing

Thumbnails = NDArray[np.uint8]
Change = Callable[[Image.Image], bytes]


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def resized(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


CHANGES: dict[str, Change] = {
    "JPEG, quality 40": lambda image: jpeg(image, 40),
    "JPEG, quality 60": lambda image: jpeg(image, 60),
    "JPEG, quality 80": lambda image: jpeg(image, 80),
    "JPEG, quality 95": lambda image: jpeg(image, 95),
    "size x0.3": lambda image: jpeg(resized(image, 0.3)),
    "size x0.5": lambda image: jpeg(resized(image, 0.5)),
    "size x0.7": lambda image: jpeg(resized(image, 0.7)),
    "size x2": lambda image: jpeg(resized(image, 2)),
    "brightness x0.8": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(0.8)),
    "brightness x1.1": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(1.1)),
    "brightness x1.2": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(1.2)),
    "contrast x0.8": lambda image: jpeg(ImageEnhance.Contrast(image).enhance(0.8)),
}


def seen_as(files: list[Path]) -> Preprocessing:
    """Small pictures of one size as they are, others as a common model sees them."""
    sizes = {Image.open(path).size for path in files[:100]}
    if len(sizes) == 1 and max(next(iter(sizes))) <= 64:
        width, height = sizes.pop()
        return Preprocessing(width, height, 1 if Image.open(files[0]).mode == "L" else 3, "squash")
    return Preprocessing()


def measure(name: str, folder: Path, sample: int, sheet: Path | None) -> Thumbnails:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_EXTENSIONS)
    preprocessing = seen_as(files)
    start = time.perf_counter()
    thumbnails = np.stack([thumbnail(load_picture(path.read_bytes(), preprocessing).pixels) for path in files])
    reading = time.perf_counter() - start
    digests = [path.read_bytes() for path in files]
    start = time.perf_counter()
    pairs = find_pairs(thumbnails, digests)
    seconds = time.perf_counter() - start
    print(f"{name}: {len(files):,} pictures; {reading:.1f} s to read them, {seconds:.2f} s to compare them")
    crossing = sum(
        files[pair.a].relative_to(folder).parts[:-2] != files[pair.b].relative_to(folder).parts[:-2] for pair in pairs
    )
    identical = sum(pair.kind == "identical" for pair in pairs)
    print(
        f"  holds by itself: {identical} identical pairs, {len(pairs) - identical} near ones; {crossing} across splits"
    )
    if sheet:
        draw(pairs, files, sheet.with_stem(f"{sheet.stem}_{name.partition('.')[0]}"))
    chosen = np.random.default_rng(1).choice(len(files), min(sample, len(files)), replace=False).tolist()
    for change, make in CHANGES.items():
        copies = np.stack([copied(files[place], make, preprocessing) for place in chosen])
        found, wrong = planted(thumbnails, digests, chosen, copies, pairs)
        print(f"  {change:18} recall {found / len(chosen):6.1%}, wrong pairs {wrong}")
    return thumbnails


def copied(path: Path, make: Change, preprocessing: Preprocessing) -> Thumbnails:
    image = Image.open(path)
    data = make(image.convert("L" if image.mode == "L" else "RGB"))
    return thumbnail(load_picture(data, preprocessing).pixels)


def planted(
    thumbnails: Thumbnails, digests: list[bytes], chosen: list[int], copies: Thumbnails, known: list[Pair]
) -> tuple[int, int]:
    """How many copies are found, and how many pairs join one with a stranger."""
    related = {(pair.a, pair.b) for pair in known} | {(pair.b, pair.a) for pair in known}
    count = len(thumbnails)
    names = [f"copy {place}".encode() for place in chosen]
    pairs = find_pairs(np.concatenate([thumbnails, copies]), [*digests, *names])
    joined = [(pair.a, chosen[pair.b - count]) for pair in pairs if pair.a < count <= pair.b]
    found = {source for place, source in joined if place == source}
    wrong = sum(place != source and (place, source) not in related for place, source in joined)
    return len(found), wrong


def draw(pairs: list[Pair], files: list[Path], path: Path, side: int = 84, columns: int = 9) -> None:
    """A sheet of pairs with their numbers, the nearest first."""
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * (2 * side + 8), max(1, rows) * (side + 14)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, pair in enumerate(sorted(pairs, key=lambda pair: pair.distance)):
        x, y = number % columns * (2 * side + 8), number // columns * (side + 14)
        pen.text(
            (x, y), f"{number}: {pair.distance:.3f} {files[pair.a].name[:8]} {files[pair.b].name[:8]}", fill="black"
        )
        for half, place in enumerate((pair.a, pair.b)):
            sheet.paste(Image.open(files[place]).convert("RGB").resize((side, side)), (x + half * side, y + 14))
    sheet.save(path)
    print(f"  the pairs are drawn in {path}")


def search(thumbnails: Thumbnails, count: int, copies: int = 1000) -> None:
    """Time and recall among many pictures: random mixtures of two, and copies of some with a little noise."""
    noise = np.random.default_rng(2)
    mixed = np.empty((count, *thumbnails.shape[1:]), np.uint8)
    for start in range(0, count, 10_000):
        end = min(count, start + 10_000)
        first, second = thumbnails[noise.integers(len(thumbnails), size=(2, end - start))].astype(np.float32)
        part = noise.uniform(0.2, 0.5, (end - start, 1, 1, 1)).astype(np.float32)
        mixed[start:end] = part * first + (1 - part) * second
    sources = noise.choice(count - copies, copies, replace=False)
    noisy = mixed[sources] + noise.normal(0, 1, (copies, *mixed.shape[1:]))
    mixed[count - copies :] = noisy.round().clip(0, 255)
    start_s = time.perf_counter()
    pairs = find_pairs(mixed, [str(place).encode() for place in range(count)])
    seconds = time.perf_counter() - start_s
    found = {(pair.a, pair.b) for pair in pairs}
    recall = sum((int(source), count - copies + place) in found for place, source in enumerate(sources)) / copies
    print(f"{count:,} mixed thumbnails: {seconds:.1f} s, recall {recall:.1%}, {len(pairs):,} pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--many", type=int, nargs="*", default=[])
    arguments = parser.parse_args()
    thumbnails = []
    for path in arguments.sets:
        with tempfile.TemporaryDirectory(prefix="pixmill-duplicates-") as folder:
            if path.is_file():
                with tarfile.open(path) as archive:
                    archive.extractall(folder, filter="data")
            thumbnails.append(
                measure(path.name, Path(folder) if path.is_file() else path, arguments.sample, arguments.sheet)
            )
    for count in arguments.many:
        search(thumbnails[0], count)
    print(f"memory at its highest: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
