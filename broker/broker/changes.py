"""What the log tells of changes: who may ask later has the request's id, the topic and the name."""

import logging
from collections.abc import Mapping

log = logging.getLogger("broker.changes")


def topic_changed(action: str, topic: str) -> None:
    """Tell of a change that is on disk, such as `topic_created`."""
    _tell(action, topic, {"topic": topic})


def subscription_changed(action: str, topic: str, name: str, **about: object) -> None:
    """Tell of a change that is on disk, such as `subscription_created`."""
    _tell(action, f"{topic}/{name}", {"topic": topic, "subscription": name, **about})


def key_changed(action: str, id_: str, name: str) -> None:
    """Tell of an API key that was created, changed or revoked."""
    _tell(action, name, {"key_id": id_, "key_name": name})


def _tell(action: str, what: str, about: Mapping[str, object]) -> None:
    done = action.replace("_", " ").capitalize()
    log.info("%s: %s.", done, what, extra={**about, "action": action})
