"""Bills of materials have what the images are built from; vulnerabilities are asked about."""

from __future__ import annotations

import json
import re
import runpy
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
SBOM = runpy.run_path(str(ROOT / "ops" / "sbom.py"))
VULNERABILITIES = runpy.run_path(str(ROOT / "ops" / "vulnerabilities.py"))
judged = VULNERABILITIES["judged"]


@cache
def environment() -> Json:
    """What is installed here."""
    found: Json = SBOM["run_tool"]("environment", sys.executable)
    return found


@cache
def bill(image: str) -> Json:
    """The bill of an image."""
    made: Json = SBOM["sbom"](image, environment())
    return made


def pinned(image: str) -> dict[str, tuple[str, set[str]]]:
    """Read the requirements: version and hashes by name, by no more than the file's own form."""
    text = (ROOT / image / "requirements.txt").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if pin := re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line):
            found[pin[1].lower()] = (pin[2], set(re.findall(r"--hash=sha256:([0-9a-f]{64})", line)))
    return found


images = pytest.mark.parametrize("image", SBOM["IMAGES"])


@images
def test_bill_is_valid(image: str) -> None:
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill(image)))

    assert fault is None, fault


@images
def test_every_pinned_requirement_is_there_with_its_hashes(image: str) -> None:
    listed = {
        each["name"].lower(): (
            each["version"],
            {digest["content"] for of in each["externalReferences"] for digest in of["hashes"]},
        )
        for each in bill(image)["components"]
        if "purl" in each
    }

    assert len(listed) > 20
    assert listed == pinned(image)
    assert all(hashes for _, hashes in listed.values())


@images
def test_licence_is_told_wherever_the_package_tells_it(image: str) -> None:
    key = SBOM["_key"]
    known = {key(each): each.get("licenses") for each in environment()["components"]}
    for each in bill(image)["components"]:
        assert each.get("licenses") == known.get(key(each))
    told = [each for each in bill(image)["components"] if "licenses" in each]
    assert len(told) > 0.9 * len(bill(image)["components"])


@images
def test_dependencies_lead_from_the_image_to_its_packages(image: str) -> None:
    needs = {each["ref"]: each["dependsOn"] for each in bill(image)["dependencies"]}
    root = bill(image)["metadata"]["component"]["bom-ref"]
    reached, ahead = set(), [root]
    while ahead:
        one = ahead.pop()
        if one not in reached:
            reached.add(one)
            ahead += needs.get(one, ())

    refs = {each["bom-ref"] for each in bill(image)["components"]}
    assert reached - {root} <= refs
    # Some are needed by an extra only, of which the packages' own words do not say who wants it.
    assert len(reached) > 0.8 * len(refs)


def test_services_have_the_client_library_and_the_broker_has_not() -> None:
    with_it = {
        image
        for image in SBOM["IMAGES"]
        if any(each["name"] == SBOM["CLIENT"] for each in bill(image)["components"])
    }

    assert with_it == set(SBOM["IMAGES"]) - {"broker"}


def test_bill_names_no_place_on_this_machine() -> None:
    assert not any(str(ROOT) in json.dumps(bill(image)) for image in SBOM["IMAGES"])


def test_all_images_of_the_stack_are_asked_about() -> None:
    built = {path.parent.name for path in ROOT.glob("*/Dockerfile")}

    assert set(SBOM["IMAGES"]) == set(VULNERABILITIES["IMAGES"]) == built


SOUND = {"name": "sound", "version": "1", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}
FAULTY = {
    "name": "faulty",
    "version": "1",
    "vulns": [{"id": "CVE-1", "fix_versions": ["2"], "aliases": [], "description": ""}],
}


@pytest.mark.parametrize(
    ("report", "code", "told"),
    [
        (None, 3, "could not be asked"),
        ({"dependencies": [UNKNOWN, UNKNOWN], "fixes": []}, 3, "knows none"),
        ({"dependencies": [SOUND, UNKNOWN], "fixes": []}, 0, "1 packages asked about, 1 unknown"),
        ({"dependencies": [SOUND, FAULTY], "fixes": []}, 1, "faulty 1: CVE-1, mended in 2"),
    ],
)
def test_what_was_not_asked_is_not_taken_for_sound(
    report: Json | None, code: int, told: str
) -> None:
    found, lines = judged(report)

    assert found == code
    assert told in "\n".join(lines)
