"""A model's folder: found on disk, in the Hugging Face cache or on the hub, and read without loading it.

Every kind of local model comes this way: its module says which files it needs and which error of ours
tells the user what to type. huggingface_hub has its one importer here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_engine.errors import MemosError

__all__ = ["Hub", "no_progress_bar"]

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_TIMEOUT_S = 5.0
_HASHED_AT_ONCE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Hub:
    """Where one kind of model comes from."""

    error: type[MemosError]
    """Raised when a model cannot be had."""
    what: str
    """What the model is to the user, such as `embedder`."""
    example: str
    """How its class is called on a folder, with `{}` for the folder's name."""
    default: str
    """A model's name to show where the user gave a folder."""
    files: tuple[str, ...]
    """Patterns of the files to fetch."""
    lacking: Callable[[Path], str]
    """What a folder has not; empty when it can be loaded."""

    def located(self, model: str | Path) -> Path:
        """The folder that holds the model, fetched where a name is not in the cache.

        Raises:
            MemosError: `error`: it cannot be had; the message says what to type.
        """
        folder = Path(model).expanduser()
        if folder.is_dir():
            if lacking := self.lacking(folder):
                raise self.unavailable(model, f"the folder has {lacking}")
            return folder
        if isinstance(model, Path) or not _NAME.fullmatch(model):
            raise self.unavailable(model, "there is no such folder")
        try:
            import huggingface_hub as hub  # noqa: PLC0415 -- needed only when a name was given
        except ImportError as exc:
            raise self.unavailable(
                model, f"{exc} (pip install 'memos-adapters[embed]' fetches models by name)"
            ) from exc
        try:
            cached = hub.try_to_load_from_cache(model, "config.json")
            if isinstance(cached, str) and not self.lacking(Path(cached).parent):
                return Path(cached).parent
            # asked first because it fails fast: a download of the client retries for 23 s without network
            hub.model_info(model, timeout=_TIMEOUT_S)
            folder = Path(hub.snapshot_download(model, allow_patterns=list(self.files)))
        except Exception as exc:  # the hub's errors have no common base; all are translated, none swallowed
            reason = str(exc).partition("\n")[0]
            raise self.unavailable(
                model, f"not in the Hugging Face cache, and the hub said: {reason}"
            ) from exc
        if lacking := self.lacking(folder):
            raise self.unavailable(model, f"it publishes {lacking}")
        return folder

    def json(self, folder: Path, name: str) -> dict[str, Any]:
        """A JSON object of the folder, `{}` where there is no such file; an array becomes `{"items": [...]}`.

        Raises:
            MemosError: `error`: the file cannot be read.
        """
        try:
            value = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            raise self.unavailable(folder, f"its {name} cannot be read ({exc})") from exc
        return value if isinstance(value, dict) else {"items": value}

    def sha256(self, folder: Path, paths: Iterable[Path]) -> str:
        """SHA-256 over the content of files, in the order given (0.05 s for 90 MB).

        Raises:
            MemosError: `error`: one cannot be read.
        """
        digest = hashlib.sha256()
        for path in paths:
            try:
                with path.open("rb") as file:
                    while block := file.read(_HASHED_AT_ONCE_BYTES):
                        digest.update(block)
            except OSError as exc:
                raise self.unavailable(folder, f"{path.name} cannot be read ({exc})") from exc
        return digest.hexdigest()

    def unavailable(self, model: str | Path, why: str) -> MemosError:
        """The error that says what to type, for a model given by folder or by name."""
        name = model if isinstance(model, str) and _NAME.fullmatch(model) else self.default
        base = name.rpartition("/")[2]
        return self.error(
            f"The {self.what} {str(model)!r} is not available: {why}. On a connected machine run "
            f"`hf download {name} --local-dir {base}`, copy that folder here, and pass it: "
            f"{self.example.format(f'/path/to/{base}')}."
        )


@contextmanager
def no_progress_bar(logging: Any) -> Iterator[None]:
    """Transformers' bars are for notebooks: a library loads in silence."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
