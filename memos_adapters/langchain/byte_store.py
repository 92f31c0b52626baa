"""A byte store of LangChain over the engine's threads: for caches of embeddings, parent documents and such."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

from langchain_core.stores import BaseStore

from memos_adapters._identity import Memories
from memos_adapters.langchain._config import configurable
from memos_engine import Blob, MemOS, Threads

_SPACE = "value"
_VERSION = "1"


class MemosByteStore(BaseStore[str, bytes]):
    """Bytes by key, each user's apart. Thread-safe; durable when a call returns."""

    def __init__(
        self,
        memos: MemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        default_user: str | None = None,
        collection: str = "bytes",
    ) -> None:
        """Keep bytes for the users named here, or by the config of the chain that runs.

        Args:
            memos: What `MemOS.open` returned.
            user_id: Whose, for good.
            agent_id: The agent, for good; its own where there is no user.
            default_user: Who is meant when nobody is named. None: such a call is refused.
            collection: Stores of other names hold other keys.

        Raises:
            BadInput: an argument cannot be taken.
        """
        self._memories = Memories(memos, user_id=user_id, agent_id=agent_id, default_user=default_user)
        self._thread = f"bytes/{collection}"

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The value of each key, None where there is none.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            BadName: a key has more than 4,096 characters, a NUL or a lone surrogate.
        """
        blobs = self._threads().blobs(self._thread, _SPACE, keys=list(keys)) if keys else []
        found = {blob.key: blob.data for blob in blobs}
        return [found.get(key) for key in keys]

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """As `mget`."""
        return await asyncio.to_thread(self.mget, keys)

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Write values, all or none; the last one for a key wins.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            BadInput: a key or a value cannot be taken.
        """
        blobs = [Blob(_SPACE, key, _VERSION, "", value) for key, value in key_value_pairs]
        self._threads().put_blobs(self._thread, blobs)

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """As `mset`."""
        await asyncio.to_thread(self.mset, key_value_pairs)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Erase keys with their values, from the disk too; one that is not there is passed over.

        Raises:
            IdentityMissing: nothing names a user or an agent.
        """
        self._threads().remove_blobs(self._thread, _SPACE, keys=list(keys))

    async def amdelete(self, keys: Sequence[str]) -> None:
        """As `mdelete`."""
        await asyncio.to_thread(self.mdelete, keys)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """The keys that begin with `prefix`, in order, as they are at the first one.

        Raises:
            IdentityMissing: nothing names a user or an agent.
        """
        yield from self._keys(prefix)

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """As `yield_keys`."""
        for key in await asyncio.to_thread(self._keys, prefix):
            yield key

    def _keys(self, prefix: str | None) -> list[str]:
        blobs = self._threads().blobs(self._thread, _SPACE, prefix=prefix, data=False)
        return [blob.key for blob in blobs]

    def _threads(self) -> Threads:
        return self._memories.threads(configurable())
