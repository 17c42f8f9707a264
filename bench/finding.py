"""What a study found."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from bench.scale import Scale
from bench.table import Table

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points to be joined by a line."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Curves over one pair of axes; `name` is that of the file without its ending."""

    name: str
    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    x_log: bool = False
    y_log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Tables and charts, what they come to in sentences, and the figures for programs."""

    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Study:
    """Something that takes more than one rate to tell, measured once a run.

    `method` says how, in sentences. `measure` works in a folder of its own and says how far it is.
    """

    name: str
    title: str
    method: str
    measure: Callable[[Path, Scale, Say], Finding]


class LeftOut(Exception):
    """Something cannot be measured on this machine; the text says why."""
