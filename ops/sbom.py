"""Write what each image has of Python, as CycloneDX: `make sbom`, into `build/sbom/<image>.json`.

Versions and hashes are those that the image is built from, its `requirements.txt`; licences, words
and who needs whom are those of the same versions in the development environment. What the image has
of its base is not among them: that is told by a scanner of images.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "sbom"
IMAGES = ("broker", "order-service", "shipping-service", "notification-service")
CLIENT = "broker-client"  # goes into the services' images from this repository
VERSION = "1.6"
_OF_THE_ENVIRONMENT = ("description", "licenses")


def sbom(image: str, environment: Json) -> Json:
    """Make the bill of one image, with what an environment's bill knows of the same packages."""
    part = ROOT / image
    required = run_tool(
        *("requirements", str(part / "requirements.txt")),
        *("--pyproject", str(part / "pyproject.toml")),
    )
    return joined(required, environment)


def run_tool(*arguments: str) -> Json:
    """Run the generator of the CycloneDX project."""
    options = ("--spec-version", VERSION, "--output-reproducible", "--output-file", "-")
    command = (sys.executable, "-W", "ignore", "-m", "cyclonedx_py", *arguments, *options)
    made = subprocess.run(command, check=True, capture_output=True)  # noqa: S603 its own arguments
    document: Json = json.loads(made.stdout)
    return document


def joined(required: Json, environment: Json) -> Json:
    """Add to a bill of requirements what an environment tells of them. Pure."""
    known = {_key(each): each for each in environment["components"]}
    needs = {each["ref"]: each.get("dependsOn", ()) for each in environment["dependencies"]}
    root = dict(required["metadata"]["component"])
    components = [_with_words(each, known) for each in required["components"]]
    if own := _client(root, known, needs):
        components.append(own)

    refs = {_key(each): each["bom-ref"] for each in components}
    refs[_key(root)] = root["bom-ref"]
    by_environment = {each["bom-ref"]: refs.get(_key(each)) for each in known.values()}
    dependencies = [
        {"ref": ref, "dependsOn": sorted(_found(needs[known[key]["bom-ref"]], by_environment))}
        for key, ref in refs.items()
        if key in known
    ]
    return {**required, "components": components, "dependencies": dependencies}


def _key(component: Json) -> tuple[str, str]:
    return _name(component["name"]), component.get("version", "")


def _name(written: str) -> str:
    """Write a package's name as all its spellings have it in common."""
    return re.sub(r"[-_.]+", "-", written).lower()


def _with_words(component: Json, known: dict[tuple[str, str], Json]) -> Json:
    """Name a requirement by its package, and say what is known of it."""
    found = known.get(_key(component), {})
    words = {name: found[name] for name in _OF_THE_ENVIRONMENT if name in found}
    bare = {name: value for name, value in component.items() if name != "description"}
    return {**bare, **words, "bom-ref": component["purl"]}


def _client(root: Json, known: dict[tuple[str, str], Json], needs: dict[str, Any]) -> Json | None:
    """Return the client library, where the image's own package needs it."""
    package = known[_key(root)]
    for each in known.values():
        if _name(each["name"]) == CLIENT and each["bom-ref"] in needs[package["bom-ref"]]:
            told = {name: each[name] for name in ("name", "version", "description")}
            return {**told, "type": "library", "bom-ref": CLIENT}
    return None


def _found(refs: Any, by_environment: dict[str, str | None]) -> set[str]:
    return {ref for each in refs if (ref := by_environment.get(each)) is not None}


def main() -> None:
    """Write the bill of every image."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    environment = run_tool("environment", sys.executable)
    for image in IMAGES:
        document = sbom(image, environment)
        (FOLDER / f"{image}.json").write_text(json.dumps(document, indent=2) + "\n")
        print(f"build/sbom/{image}.json: {len(document['components'])} packages")


if __name__ == "__main__":
    main()
