"""Streams of a broker that may leave what it owns to another one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from broker.errors import NoOwner

T = TypeVar("T")


async def until(
    responses: AsyncGenerator[T, None], ending: asyncio.Event
) -> AsyncGenerator[T, None]:
    """Pass on what comes until an event is set. Raises NoOwner then: another broker goes on."""
    ended = asyncio.ensure_future(ending.wait())
    try:
        async with aclosing(responses):
            while True:
                coming = asyncio.ensure_future(anext(responses, None))
                try:
                    await asyncio.wait((coming, ended), return_when=asyncio.FIRST_COMPLETED)
                    if not coming.done():
                        raise NoOwner
                finally:
                    if not coming.done():  # it cannot be closed while it is asked
                        coming.cancel()
                        await asyncio.wait((coming,))
                response = coming.result()
                if response is None:
                    return
                yield response
    finally:
        ended.cancel()
