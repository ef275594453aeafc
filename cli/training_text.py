"""What a training says of itself in one line: its stage, an epoch, the part beside the bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cli.clock import clock

if TYPE_CHECKING:
    from store.run_rows import EpochRow, RunRow

STAGES = {
    "": "waits for a worker",
    "reading": "reading and checking the pictures",
    "comparing": "looking for copies among them",
    "starting": "building the network",
    "features": "computing features, once",
    "training": "training",
    "finishing": "saving and compiling the model",
    "evaluating": "evaluating it",
    "reporting": "writing the report",
}


def stage_text(stage: str) -> str:
    """A stage in words."""
    return STAGES.get(stage, stage)


def best_so_far(run: RunRow, epochs: Sequence[EpochRow]) -> Iterator[bool]:
    """For each epoch, whether it was the best when it ended: a row knows only whether it is the best of all."""
    sign = 1 if run.monitor.endswith("loss") else -1
    least = run.recipe.get("stopping", {}).get("min_delta", 0.0)
    best: float | None = None
    for epoch in epochs:
        value: float | None = getattr(epoch, run.monitor, None)
        better = value is not None and (best is None or sign * value < best - least)
        if value is not None and better:
            best = sign * value
        yield better


def epoch_line(run: RunRow, epoch: EpochRow, *, best: bool) -> str:
    """One finished epoch, all of it."""
    phase = f" ({epoch.phase})" if run.recipe.get("mode") == "two_phase" else ""
    parts = [
        f"run {run.id}",
        f"epoch {epoch.epoch}/{max(run.epochs_planned, epoch.epoch)}{phase}",
        _number("loss", epoch.loss),
        _number("accuracy", epoch.accuracy),
        _number("val loss", epoch.val_loss),
        _number("val accuracy", epoch.val_accuracy),
        f"{epoch.images_per_s:,.0f} img/s" if epoch.images_per_s else "",
        _patience(epoch.patience_left),
        "best" if best else "",
        "after a restart" if epoch.restarted else "",
    ]
    return " · ".join(part for part in parts if part)


def now_text(progress: dict[str, Any], patience_left: int | None) -> str:
    """What goes beside the bar while epochs run: loss, accuracy, images per second, time left, patience left."""
    parts = [
        _number("loss", progress.get("loss")),
        _number("accuracy", progress.get("accuracy")),
        f"{progress['images_per_s']:,.0f} img/s" if progress.get("images_per_s") else "",
        f"{clock(progress['eta_s'])} left" if progress.get("eta_s") is not None else "",
        _patience(patience_left),
    ]
    return " · ".join(part for part in parts if part)


def how_far(run: RunRow) -> tuple[float, float, str]:
    """How much of the stage is done, of how much, and the stage in words with its epoch; (0, 0) where unknown."""
    progress = run.progress
    if run.stage == "training" and progress.get("epochs"):
        steps = progress.get("steps") or 1
        done = progress["epoch"] - 1 + progress.get("step", 0) / steps
        return done, progress["epochs"], f"epoch {progress['epoch']}/{progress['epochs']}"
    return progress.get("done") or 0, progress.get("total") or 0, stage_text(run.stage)


def _number(name: str, value: float | None) -> str:
    return f"{name} {value:.4f}" if value is not None else ""


def _patience(left: int | None) -> str:
    return f"patience {left}" if left is not None else ""
