"""What a command works with: what was typed, where it speaks, and the memories, opened when it asks for them."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from memos_engine.cli.arguments import CUBE
from memos_engine.cli.render import Screen
from memos_engine.cube import MemCube
from memos_engine.engine import MemOS
from memos_engine.errors import EmbedderUnavailable, NotFound
from memos_engine.items import Scope
from memos_engine.models.embed import SentenceEmbedder
from memos_engine.ports import Embedder, Vectors
from memos_engine.store.catalog import CATALOG_DATABASE


class _NoModel:
    """Stands in where a command makes no vectors, so that no weights are looked for, read or hashed."""

    @property
    def fingerprint(self) -> str:
        self._refuse()

    def embed(self, texts: object) -> Vectors:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise EmbedderUnavailable("this command works without a model: it must not have asked for one")


class Workplace:
    """One run of a command."""

    def __init__(self, options: argparse.Namespace, screen: Screen, embedder: Embedder | None) -> None:
        """`embedder` stands before `--model` and the default."""
        self.options = options
        self.screen = screen
        self._embedder = embedder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def memos(self, *, create: bool = False, model: bool = False) -> MemOS:
        """The memories, as the user that was named; background jobs are left to programs that stay.

        Args:
            create: Make the root when it is not there.
            model: The command makes vectors.

        Raises:
            NotFound: there are no memories at the root.
            StoreError: they cannot be opened.
        """
        root: Path = self.options.root
        if not create and not root.is_file() and not (root / CATALOG_DATABASE).is_file():
            raise NotFound(
                f"there are no memories at {str(root)!r}: capture something, or name the folder by --root"
            )
        embedder = self._chosen() if model else _NoModel()
        opened = self._stack.enter_context(MemOS.open(root, embedder=embedder, background=False))
        user: str | None = self.options.user
        return opened if user is None else opened.acting_as(Scope(user=user))

    def cube(self, *, create: bool = False, model: bool = False) -> MemCube:
        """The cube that was named.

        Raises:
            NotFound: it is not there, or not yours to see.
            StoreError: it cannot be opened.
            EmbedderMismatch: its vectors were made by another model.
        """
        memos = self.memos(create=create, model=model)
        name = CUBE if self.options.cube is None else self.options.cube
        return memos.cube(name, owner=self.options.owner, create=create)

    def _chosen(self) -> Embedder | None:
        model: str | None = self.options.model
        if self._embedder is not None or model is None:
            return self._embedder
        return SentenceEmbedder(model)
