"""The topic that a call is about, read from its first request as it came."""

from google.protobuf.descriptor import MethodDescriptor

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


def topic_in(method: MethodDescriptor, request: bytes) -> str | None:
    """Return the topic that a request names, None where it names none or cannot be read.

    The rest is passed over: it may be long, and whoever serves the call reads it anyway.
    """
    field = method.input_type.fields_by_name.get("topic")
    if field is None:
        return None
    try:
        found = _last(request, field.number)
        return None if found is None else found.decode() or None
    except (IndexError, ValueError):
        return None


def _last(message: bytes, number: int) -> bytes | None:
    """Return what a field of bytes has, at its last place: that is the one that counts."""
    at, found = 0, None
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _BYTES:
            size, at = _varint(message, at)
            end = at + size
            if tag >> 3 == number:
                found = message[at:end]
        elif kind == _VARINT:
            _, end = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            end = at + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError("a group, or nothing that there is")
        if end > len(message):
            raise ValueError("it is cut off")
        at = end
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number and where it ends. Raises IndexError, ValueError."""
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("the number does not end")
