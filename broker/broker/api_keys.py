"""The use cases of API keys: made, listed, changed, revoked."""

import asyncio
import logging
import re
import secrets
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from broker.auth import ApiKey, Keys, digest_of, from_document, new_key, to_document
from broker.changes import key_changed
from broker.errors import (
    BrokerError,
    EditConflict,
    Fault,
    InvalidRequest,
    OutcomeUnknown,
    StoreUnavailable,
)
from broker.fields import Body, Field, Refused, number
from broker.names import name
from broker.scopes import MAX_SCOPES, SCOPE, Scope, parse_scopes
from broker.store.port import Conflict, Store, Unavailable
from broker.views import KeyView, key_view

log = logging.getLogger(__name__)

DOCUMENT = "api-keys"
MAX_KEYS = 1000
MIN_CHOSEN, MAX_CHOSEN = 32, 256
USE_KEPT_S = 60.0


class KeyNotFound(BrokerError):
    """No key has this id."""

    status = 404
    code = "key_not_found"

    def __init__(self, id_: str) -> None:
        super().__init__(f'There is no key with the id "{id_}". GET /v1/keys lists them.')


class KeyNameTaken(BrokerError):
    """Another key has this name."""

    status = 409
    code = "key_name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(
            f'There is such a key already, named "{name}". Revoke it first, or choose another name.'
        )


class ApiKeys:
    """Every key. Its methods run on the event loop; each raises a BrokerError for a refusal."""

    def __init__(self, store: Store, keys: Keys, now: Callable[[], float]) -> None:
        self._store = store
        self._keys = keys
        self._now = now
        self._all: dict[str, ApiKey] = {}

    def load(self) -> None:
        """Take over the keys that the store holds."""
        for document, _ in self._store.documents(DOCUMENT).values():
            self._take({key.id: key for key in from_document(document)})

    def list_keys(self) -> list[KeyView]:
        """Return all keys, in the order in which they were made."""
        return [key_view(key) for key in self._used().values()]

    def show(self, id_: str) -> KeyView:
        """Return one key."""
        key = self._used().get(id_)
        if key is None:
            raise KeyNotFound(id_)
        return key_view(key)

    async def create(self, body: Mapping[str, object]) -> tuple[bool, KeyView]:
        """Make a key; return whether it is new, and its view with `key`, which is shown only now.

        A caller may bring the key itself. The same name, scopes, rate and key again change nothing.
        """
        values = FIELDS.require(body)
        text = new_key() if values.get("key") is None else values["key"]
        key = ApiKey(
            secrets.token_hex(6),
            values["name"],
            values["scopes"],
            digest_of(text),
            self._now(),
            publish_rate=values.get("publish_rate"),
        )
        for known in self._all.values():
            if _said(known) == _said(key):
                return False, self.show(known.id)
            if known.name == key.name or known.digest == key.digest:
                raise KeyNameTaken(known.name)
        if len(self._all) >= MAX_KEYS:
            raise InvalidRequest([Fault("name", f"there may be at most {MAX_KEYS} keys")])
        await self._write({**self._used(), key.id: key})
        key_changed("key_created", key.id, key.name)
        return True, replace(key_view(key), key=text)

    async def update(self, id_: str, body: Mapping[str, object]) -> KeyView:
        """Change how much a key may publish; return its view."""
        values = CHANGES.require(body)
        keys = self._used()
        before = keys.get(id_)
        if before is None:
            raise KeyNotFound(id_)
        after = keys[id_] = replace(before, **values)
        if after != before:
            await self._write(keys)
            key_changed("key_updated", id_, after.name)
        return key_view(after)

    async def delete(self, id_: str) -> None:
        """Revoke a key: from now on it opens nothing."""
        left = self._used()
        revoked = left.pop(id_, None)
        if revoked is None:
            raise KeyNotFound(id_)
        await self._write(left)
        key_changed("key_revoked", id_, revoked.name)

    async def keep_use(self) -> None:
        """Write down when keys were used, every minute, until cancelled."""
        while True:
            await asyncio.sleep(USE_KEPT_S)
            used = self._used()
            if used == self._all:
                continue
            try:
                await self._write(used)
            except BrokerError as error:
                log.warning(
                    "When keys were used is not written: %s",
                    error,
                    extra={"action": "use_not_written"},
                )

    def _used(self) -> dict[str, ApiKey]:
        """Return all keys with the time of their last use."""
        used = self._keys.used
        return {
            id_: replace(key, used_at=used[id_]) if id_ in used else key
            for id_, key in self._all.items()
        }

    def _take(self, keys: dict[str, ApiKey]) -> None:
        self._all = keys
        self._keys.use(keys.values())

    async def _write(self, keys: dict[str, ApiKey]) -> None:
        if (failure := self._store.writable()) is not None:
            raise StoreUnavailable(failure)
        found = self._store.documents(DOCUMENT).get(DOCUMENT)
        try:
            await self._store.put_document(
                DOCUMENT, to_document(keys.values()), found[1] if found else 0
            )
        except Conflict:
            raise EditConflict from None
        except Unavailable:
            raise OutcomeUnknown from None
        self._take(keys)


def _said(key: ApiKey) -> tuple[object, ...]:
    """Return what a caller says of a key."""
    return key.name, key.digest, set(key.scopes), key.publish_rate


def _scopes() -> Field:
    def check(value: object) -> tuple[Scope, ...]:
        try:
            return parse_scopes(value)
        except InvalidRequest as wrong:
            faults = [
                Fault(fault.field.removeprefix("scopes"), fault.message) for fault in wrong.faults
            ]
            raise Refused(faults) from None

    items = {"type": "string", "pattern": f"^{SCOPE}$"}
    return Field(check, {"type": "array", "minItems": 1, "maxItems": MAX_SCOPES, "items": items})


def _chosen_key() -> Field:
    allowed = f"[\\x21-\\x7e]{{{MIN_CHOSEN},{MAX_CHOSEN}}}"

    def check(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(allowed, value):
            raise ValueError(
                f"must be {MIN_CHOSEN} to {MAX_CHOSEN} printable ASCII characters without a space"
            )
        return value

    return Field(check, {"type": "string", "pattern": f"^{allowed}$"})


_PUBLISH_RATE = number(
    0.001,
    1_000_000,
    "must be messages a second, from 0.001 to 1000000, or null for no limit",
).says(
    "Most messages a second that it may publish, and as many at once as in one second; beyond it "
    "429. null: no limit"
)
FIELDS = Body(
    "KeyFields",
    {
        "name": name().says("Whose key it is; no other has this name"),
        "scopes": _scopes().says(
            "What it allows: `admin`, or `publish:`, `subscribe:` or `read:` and a topic's name, "
            "the beginning of one and a `*`, or `*` alone"
        ),
        "publish_rate": _PUBLISH_RATE,
        "key": _chosen_key().says("The key itself; the broker makes one where none is given"),
    },
    required=("name", "scopes"),
).defaults({"publish_rate": None})
CHANGES = Body("KeyChanges", {"publish_rate": _PUBLISH_RATE})
