"""The documents of a store, with the secrets in them encrypted.

Between the broker and its store, whichever that is: a store is given, and gives back, documents in
which a secret is either its text or `{"key_id", "sealed"}`.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from broker.encryption import Cipher, Place, Tampered, UnknownKey, key_id_of
from broker.store.port import Document, Store, StoreError, Unusable
from broker.subscription import SECRETS

log = logging.getLogger(__name__)

VARIABLE = "BROKER_ENCRYPTION_KEY"
# Written once nothing is left in the store of what was there before: {"key_id": <that of the key>}.
MARK = "encryption"

Convert: TypeAlias = Callable[[Any, Place], Any]


class SealedDocuments:
    """Reads and writes documents as the store does. Without a cipher secrets are left as they are.

    What is read is decrypted anew each time: keep it.
    """

    def __init__(self, store: Store, cipher: Cipher | None) -> None:
        self._store = store
        self._cipher = cipher

    def documents(self, prefix: str) -> Mapping[str, tuple[Document, int]]:
        """Return what the store has, decrypted. Raises Unusable where that cannot be done."""
        return {
            key: (self._opened(key, document), revision)
            for key, (document, revision) in self._store.documents(prefix).items()
        }

    def revision(self, key: str) -> int:
        """Return a document's revision, 0 where there is none."""
        found = self._store.documents(key).get(key)
        return 0 if found is None else found[1]

    async def put_document(self, key: str, document: Document, expect: int | None) -> int:
        """Write a document, encrypted."""
        return await self._store.put_document(key, self._sealed(key, document), expect)

    async def create_subscription(
        self, topic: str, subscription: str, document: Document, start: int
    ) -> None:
        """Create a subscription, its document encrypted."""
        sealed = self._sealed(f"subscription/{topic}/{subscription}", document)
        await self._store.create_subscription(topic, subscription, sealed, start)

    async def encrypt(self) -> None:
        """Encrypt what is there with the first key, and leave nothing of what was there before.

        Where a run is cut off, the next one goes on. Raises Unusable where a key is missing, and
        has then changed nothing.
        """
        found = self._store.documents("")
        cipher, mark = self._cipher, found.get(MARK, ({}, 0))[0]
        with_keys = {key: _keys_of(key, document) for key, (document, _) in found.items()}
        if cipher is None:
            for key_id in (*itertools.chain(*with_keys.values()), mark.get("key_id")):
                if key_id is not None:
                    raise _missing(key_id, f"{VARIABLE} is not set")
            return
        opened = self.documents("")
        stale = [key for key, key_ids in with_keys.items() if key_ids - {cipher.key_id}]
        if stale or mark.get("key_id") != cipher.key_id:
            await asyncio.gather(*(self.put_document(key, *opened[key]) for key in stale))
            await self._scrub(cipher.key_id)

    async def _scrub(self, key_id: str) -> None:
        try:
            await self._store.scrub()
        except StoreError as error:
            log.warning(
                "All secrets are encrypted, but what they were before may still be in the store's "
                "files: %s. The next start tries again.",
                error,
                extra={"action": "not_scrubbed"},
            )
            return
        await self._store.put_document(MARK, {"key_id": key_id}, None)
        log.info(
            "All secrets in the store are encrypted with the key %s; no other is needed any more.",
            key_id,
            extra={"action": "secrets_encrypted"},
        )

    def _sealed(self, key: str, document: Document) -> Document:
        cipher = self._cipher
        if cipher is None:
            return document
        return _converted(key, document, cipher.seal)

    def _opened(self, key: str, document: Document) -> Document:
        cipher = self._cipher
        if cipher is None:
            return document

        def opened(value: Any, place: Place) -> Any:
            return cipher.open(value, place) if isinstance(value, dict) else value

        try:
            return _converted(key, document, opened)
        except UnknownKey as unknown:
            raise _missing(str(unknown), f"{VARIABLE} has not the key") from None
        except Tampered:
            raise Unusable(
                f"A secret of {key} cannot be decrypted: it is damaged, or was encrypted for "
                f"another place. {VARIABLE} has its key. Restore a backup."
            ) from None


def _missing(key_id: str, what: str) -> Unusable:
    return Unusable(
        f"{what}, and secrets in the store are encrypted with the key {key_id}. Give that one to "
        f"{VARIABLE}, or name a file that has it in {VARIABLE}_FILE. Nothing was changed."
    )


def _keys_of(key: str, document: Document) -> set[str | None]:
    """Return the ids of the keys that a document's secrets need, None for none."""
    values = [value for _, value in secrets_in(key, document)]
    return {key_id_of(value) if isinstance(value, dict) else None for value in values}


def secrets_in(key: str, document: Document) -> Iterator[tuple[Place, Any]]:
    """Yield the secrets of a document with their places."""
    found: list[tuple[Place, Any]] = []
    _converted(key, document, lambda value, place: found.append((place, value)))
    yield from found


def _converted(key: str, document: Document, convert: Convert) -> Document:
    if not key.startswith("subscription/"):
        return document
    for path in SECRETS:
        document = _at(document, path, (key,), convert)
    return document


def _at(value: Any, path: tuple[str, ...], place: Place, convert: Convert) -> Any:
    """Return a copy in which what stands at a path is converted; `*` stands for every item."""
    if not path:
        return convert(value, place)
    step, rest = path[0], path[1:]
    if isinstance(value, dict):
        names = value.keys() if step == "*" else value.keys() & {step}
        items = {name: _at(value[name], rest, (*place, name), convert) for name in names}
        return {**value, **items}
    return [_at(each, rest, (*place, str(n)), convert) for n, each in enumerate(value)]
