"""What the services have in common is copied, so that each folder can be taken as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import notification_service
import order_service
import shipping_service

FOLDERS = [
    Path(package.__path__[0]) for package in (order_service, shipping_service, notification_service)
]


@pytest.mark.parametrize("name", ["background.py", "database.py", "problems.py"])
def test_copies_of_a_common_file_are_the_same(name: str) -> None:
    texts = {(folder / name).read_text() for folder in FOLDERS}

    assert len(texts) == 1
