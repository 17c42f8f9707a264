"""Small charts, as points of an SVG path."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 48


@dataclass(frozen=True, slots=True)
class Chart:
    """A line and the area below it, in a box of WIDTH by HEIGHT; `most` is what its top stands for.

    Where less is known than fits, the line begins later.
    """

    line: str
    area: str
    now: float
    most: float


def chart(values: Sequence[float], steps: int) -> Chart:
    """Draw values, the newest at the right end, on a scale from 0."""
    if not values:
        return Chart("", "", 0.0, 0.0)
    most = max(values)
    scale = (HEIGHT - 2) / most if most else 0.0
    step = WIDTH / max(1, steps - 1)
    left = WIDTH - step * (len(values) - 1)
    points = [
        f"{left + step * at:.1f} {HEIGHT - 1 - value * scale:.1f}"
        for at, value in enumerate(values)
    ]
    line = "M" + "L".join(points)
    return Chart(line, f"{line}L{WIDTH} {HEIGHT}L{left:.1f} {HEIGHT}Z", values[-1], most)
