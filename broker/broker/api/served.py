"""What answers requests: all of the store, or a part of it that is owned here."""

from dataclasses import dataclass

from broker.api.answers import AsgiApp
from broker.serving import Serving


@dataclass(slots=True, kw_only=True)
class Served(Serving):
    """A broker, and the control plane before it."""

    control: AsgiApp
