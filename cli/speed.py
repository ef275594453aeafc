"""How fast something goes, measured over its last seconds."""

from collections import deque

from cli.clock import clock

WINDOW_S = 10.0


class Speed:
    """Images per second over the last seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def note(self, done: int, now: float) -> None:
        """Note how many are done at a time."""
        self._points.append((now, done))
        while now - self._points[0][0] > WINDOW_S and len(self._points) > 2:
            self._points.popleft()

    @property
    def rate(self) -> float:
        """Images per second; 0 while unknown."""
        (first, before), (last, after) = self._points[0], self._points[-1]
        return (after - before) / (last - first) if last > first else 0.0

    def left(self, pending: int) -> str:
        """The time left, for people."""
        return clock(pending / self.rate) if self.rate > 0 else "–"
