"""Reading what a control call was given."""

import msgspec
from flask import Request

from broker.errors import MalformedRequest, UnsupportedContent


def json_object(request: Request) -> dict[str, object]:
    """Return the body as a JSON object; no body is an empty one."""
    body = request.get_data()
    if not body:
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
