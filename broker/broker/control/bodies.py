"""Reading what a control call was given."""

from collections.abc import Collection

import msgspec
from flask import Request

from broker.errors import Fault, InvalidRequest, MalformedRequest, UnsupportedContent


def json_object(request: Request) -> dict[str, object]:
    """Return the body as a JSON object; no body is an empty one."""
    body = request.get_data()
    if not body.strip():
        return {}
    if request.mimetype and not (request.is_json or request.mimetype == "text/json"):
        raise UnsupportedContent(
            f"This call takes application/json, not {request.mimetype}. "
            "Set the header Content-Type: application/json."
        )
    try:
        document = msgspec.json.decode(body)
        body.decode()
    except RecursionError:
        raise MalformedRequest("The body is JSON nested too deeply to be read.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"The body is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise MalformedRequest("The body must be a JSON object.")
    return document


def only_query(request: Request, *known: str) -> None:
    """Refuse query parameters that the call does not have."""
    told = f"is not a parameter; there are {', '.join(known)}" if known else "is not a parameter"
    faults = [Fault(name, told) for name in request.args if name not in known]
    if faults:
        raise InvalidRequest(faults)


def query_integer(request: Request, name: str, default: int, low: int, high: int) -> int:
    """Return a whole number from the query string."""
    text = request.args.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and low <= int(text) <= high:
        return int(text)
    raise InvalidRequest([Fault(name, f"must be a whole number from {low} to {high}")])


def query_choice(request: Request, name: str, choices: Collection[str]) -> str:
    """Return one of the choices from the query string; there is no default."""
    text = request.args.get(name)
    if text is None or text not in choices:
        raise InvalidRequest([Fault(name, f"must be {' or '.join(choices)}")])
    return text


def query_flag(request: Request, name: str) -> bool:
    """Return a flag from the query string: absent is false."""
    text = request.args.get(name, "false").lower()
    if text not in {"true", "false"}:
        raise InvalidRequest([Fault(name, "must be true or false")])
    return text == "true"
