"""MemOS: opens a root folder, hands out cubes, and keeps the background work going.

The only place that knows every part: catalog, shelves, jobs, threads. Two handles of one root
(`MemOS.open` and what `acting_as` returns) share one Host and differ in who is asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from memos_engine.blocks.activations import checked_budgets
from memos_engine.capture.validate import check_name, check_scope
from memos_engine.cube import MemCube
from memos_engine.errors import AccessDenied, BadInput, Closed, Conflict, CubeNotFound, StoreError
from memos_engine.govern.access import ROOT, permits, principal_of
from memos_engine.host import PAGE_BYTES_MAX, Host
from memos_engine.items import CheckReport, CubeRow, Job, KVBudgets, Scope
from memos_engine.models.embed import SentenceEmbedder
from memos_engine.ports import Clock, Embedder, Reranker, RewriteQuery
from memos_engine.schedule.policy import INDEX_ABOVE
from memos_engine.shelf import Models
from memos_engine.store.threads import Threads
from memos_engine.upkeep import Progress, check_cube, rebuild_cube, reembed_cube

DRAIN_TIMEOUT_S = 600.0


class MemOS:
    """Memories under one root folder, as one principal may use them. Thread-safe.

    Open it with `MemOS.open`; close it with `close` or a `with` block.
    """

    def __init__(self, host: Host, scope: Scope | None) -> None:
        """Not for callers: use `MemOS.open` and `acting_as`."""
        self._host = host
        self._scope = scope
        self._principal = principal_of(scope)
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        embedder: Embedder | None = None,
        reranker: Reranker | None = None,
        rewrite: RewriteQuery | None = None,
        clock: Clock | None = None,
        background: bool = True,
        page_bytes_max: int = PAGE_BYTES_MAX,
        index_above: int = INDEX_ABOVE,
        kv_budgets: KVBudgets | None = None,
    ) -> Self:
        """Open or create the memories in folder `path`; several processes may do so at once.

        Args:
            path: The root folder.
            embedder: Makes the vectors. None: all-MiniLM-L6-v2, loaded at the first use.
            reranker: Reads a query's first hits and puts them in order, such as `CrossEncoderReranker(folder)`.
            rewrite: Makes further queries of what `recall` is asked, such as `ChatRewriter(chat_model)`.
            clock: The current moment, aware. None: the system's.
            background: Run jobs (index, organise, expire) in a daemon thread. Else `drain` runs them.
            page_bytes_max: RAM for vectors over all cubes; the least recently used leave first.
            index_above: Vectors of a cube from which a Chroma index serves beside the exact scan.
            kv_budgets: What blocks of activation memory may take on disk and in memory. None: a few GiB.

        Raises:
            BadInput: the embedder, the reranker or the rewriter is none, or a budget cannot be taken.
            BadRoot: the path is a file, cannot be written, or its catalog is another program's.
            SchemaTooNew: a newer version of this package wrote it.
            StoreDamaged: its catalog is malformed.
        """
        if embedder is not None and not callable(getattr(type(embedder), "embed", None)):
            raise BadInput(
                f"embedder is a {type(embedder).__name__}: hand over SentenceEmbedder(folder), or "
                "FunctionEmbedder(function, fingerprint=...)"
            )
        if reranker is not None and not callable(getattr(type(reranker), "scores", None)):
            raise BadInput(
                f"reranker of type {type(reranker).__name__} is none: hand over CrossEncoderReranker(folder), or "
                "FunctionReranker(function, fingerprint=...)"
            )
        if rewrite is not None and not callable(rewrite):
            raise BadInput(
                f"rewrite of type {type(rewrite).__name__} is none: hand over ChatRewriter(chat_model), or a function"
            )
        host = Host(
            Path(path),
            Models(embedder or SentenceEmbedder(), reranker, rewrite),
            clock=clock,
            page_bytes_max=page_bytes_max,
            index_above=index_above,
            kv_budgets=checked_budgets(kv_budgets),
        )
        if background:
            host.start()
        return cls(host, None)

    @property
    def scope(self) -> Scope | None:
        """Under whose identity this handle acts. None: the root's, who opened the folder."""
        return self._scope

    @property
    def embedder(self) -> Embedder:
        """What makes the vectors; it runs in the caller's thread."""
        return self._host.models.embedder

    def acting_as(self, scope: Scope) -> Self:
        """The same memories with the rights of `scope`: the only way in which an identity is passed.

        Raises:
            AccessDenied: the scope names nobody, or this handle is itself somebody else's.
            BadName: a name in it cannot be taken.
        """
        self._check_open()
        principal = principal_of(check_scope(scope))
        if self._scope is not None:
            bound = self._scope.session
            if principal != self._principal or bound not in (None, scope.session):
                raise AccessDenied(
                    f"{self._principal!r} cannot act as another, nor in another session: use the handle of MemOS.open"
                )
        return type(self)(self._host, scope)

    def cube(self, name: str, *, owner: str | Scope | None = None, create: bool = True) -> MemCube:
        """A MemCube by name, created on first use when it is your own.

        Args:
            name: Unique per owner.
            owner: Whose cube. None: your own. Another's is there only for who was granted a right on it.
            create: Make it when it is not there.

        Raises:
            CubeNotFound: it is not there, or nobody granted you anything on it.
            EmbedderMismatch: its vectors were made by another embedder.
            BadName: the name cannot be taken.
        """
        self._check_open()
        check_name(name, "cube name")
        holder = (
            self._principal if owner is None else owner if isinstance(owner, str) else principal_of(owner)
        )
        row = self._host.catalog.cube(holder, name)
        if row is None and create and holder == self._principal:
            row = self._host.create(holder, name)
        if row is None or not self._sees(row):
            raise CubeNotFound(
                f"there is no cube {name!r} that {self._principal!r} may see: check the name and its owner, or "
                "have it shared with cube.grant(scope, right)"
            )
        self._host.check_embedder(row.id)
        return MemCube(self._host, row, self._scope)

    def cubes(self) -> list[CubeRow]:
        """The cubes you own or were granted a right on, oldest first; all of them for the root's handle."""
        self._check_open()
        return self._host.catalog.cubes(None if self._principal == ROOT else self._principal)

    def delete(self, name: str, *, owner: str | Scope | None = None) -> None:
        """Erase a cube with all it holds: its folder is removed, a tombstone stays.

        Raises:
            CubeNotFound: it is not there, or not yours to see.
            AccessDenied: only its owner may.
        """
        row = self._row(name, owner, "owner")
        self._host.delete(row.id)

    @property
    def threads(self) -> Threads:
        """Chat logs and checkpoints of frameworks, by thread: yours alone."""
        self._check_open()
        return self._host.threads(self._principal)

    def load(self, path: str | Path, *, name: str | None = None, progress: Progress = None) -> MemCube:
        """Make a new cube of your own out of what `cube.dump` wrote.

        Args:
            path: The folder or the `.tar.zst` file.
            name: What to call it. None: the name it was dumped under.
            progress: Called with (done, total) items.

        Raises:
            ArchiveError: it cannot be loaded; the leaf says why. Nothing was taken.
            Conflict: you have a cube of that name.
        """
        from memos_engine.store import archive  # noqa: PLC0415 -- pydantic models take 0.1 s; few processes load

        self._check_open()
        source = Path(path)
        wanted = check_name(name or archive.read_manifest(source).name, "cube name")
        if self._host.catalog.cube(self._principal, wanted) is not None:
            raise Conflict(
                f"you have a cube {wanted!r} already: load under another name, as in load(path, name=...)"
            )
        row = self._host.load(source, self._principal, wanted, progress)
        return MemCube(self._host, row, self._scope)

    def check(self, name: str | None = None) -> CheckReport:
        """Compare the truth of one of your cubes, or of all you own, with itself and its projections.

        Raises:
            CubeNotFound: it is not there, or not yours to see.
        """
        rows = [self._row(name, None, "owner")] if name is not None else self._owned()
        reports = {self._called(row): self._checked(row) for row in rows}
        return CheckReport(
            tuple(f"{cube}: {part}" for cube, report in reports.items() for part in report.checked),
            tuple(f"{cube}: {problem}" for cube, report in reports.items() for problem in report.problems),
        )

    def _called(self, row: CubeRow) -> str:
        return row.name if row.owner == self._principal else f"{row.owner}/{row.name}"

    def _checked(self, row: CubeRow) -> CheckReport:
        try:
            return check_cube(self._host.shelf(row.id))
        except StoreError as exc:  # what cannot be opened or read is what `check` is there to tell
            return CheckReport(("database",), (str(exc),))

    def rebuild(self, name: str, *, owner: str | Scope | None = None) -> CheckReport:
        """Make words, page and index of a cube anew from its truth, then check it.

        Raises:
            CubeNotFound: it is not there, or not yours to see.
            AccessDenied: only its owner may.
        """
        row = self._row(name, owner, "owner")
        return rebuild_cube(self._host.shelf(row.id), self._principal)

    def reembed(self, name: str, *, owner: str | Scope | None = None, progress: Progress = None) -> int:
        """Make all vectors of a cube anew with this MemOS's embedder; returns how many items got some.

        The old vectors serve until the last new one is there; after an interruption, call it again.

        Raises:
            CubeNotFound: it is not there, or not yours to see.
            AccessDenied: only its owner may.
        """
        row = self._row(name, owner, "owner")
        return reembed_cube(self._host.shelf(row.id), self._host.models.embedder, self._principal, progress)

    def drain(self, *, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Run every background job that is due, here and now, and wait for those that run elsewhere.

        Raises:
            AccessDenied: only the root's handle may.
            JobFailed: one ended as a dead letter, or time is up.
        """
        self._check_root()
        self._host.drain(timeout_s)

    def jobs(self) -> Sequence[Job]:
        """Jobs that wait, run, or ended as dead letters.

        Raises:
            AccessDenied: only the root's handle may.
        """
        self._check_root()
        return self._host.queue.jobs(states=("waiting", "running", "dead"))

    def close(self) -> None:
        """Close this handle; the root's closes the files and stops the background too."""
        if not self._closed and self._scope is None:
            self._host.close()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __copy__(self) -> Self:
        """Itself, as by `copy.deepcopy`: a handle is shared, like a connection."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise BadInput(
            f"the {type(self).__name__} of {self._principal!r} is a handle on open files and cannot be pickled: "
            "open the folder in the other process with MemOS.open(path)"
        )

    def _row(self, name: str, owner: str | Scope | None, needed: str) -> CubeRow:
        """A cube by name without opening its vectors, once the right is there."""
        self._check_open()
        holder = (
            self._principal if owner is None else owner if isinstance(owner, str) else principal_of(owner)
        )
        row = self._host.catalog.cube(holder, check_name(name, "cube name"))
        if row is None or not self._sees(row):
            raise CubeNotFound(
                f"there is no cube {name!r} that {self._principal!r} may see: check the name and owner"
            )
        if self._principal not in (ROOT, row.owner):
            raise AccessDenied(f"{self._principal!r} does not own cube {name!r}: only its owner may do this")
        return row

    def _owned(self) -> list[CubeRow]:
        return [row for row in self.cubes() if self._principal in (ROOT, row.owner)]

    def _sees(self, row: CubeRow) -> bool:
        return self._principal == ROOT or permits(self._host.catalog.right(row.id, self._principal), "read")

    def _check_root(self) -> None:
        self._check_open()
        if self._principal != ROOT:
            raise AccessDenied(
                f"{self._principal!r} may not run the jobs of all: use the handle of MemOS.open"
            )

    def _check_open(self) -> None:
        if self._closed or self._host.closed:
            raise Closed("this MemOS is closed: open it again with MemOS.open(path)")
