"""The one table of test suites of others that are run against ours; `python -m tests.suites` fetches them.

Each is the source distribution of a package on PyPI, which carries its own tests. It is treated as
data: pinned, compared with its SHA-256, and only the test modules named here are unpacked. Standard
library only: `make` runs this before anything else is there. It knows nothing of the engine.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path


class SuiteError(RuntimeError):
    """A pinned suite cannot be had, or is not what the table says."""


@dataclass(frozen=True, slots=True)
class Suite:
    """The tests that a package's source distribution carries."""

    package: str
    version: str
    licence: str
    """SPDX licence of the tests."""
    archive: str
    """File name of the source distribution."""
    sha256: str
    """Of the archive."""
    modules: tuple[str, ...]
    """Test modules within the archive's top folder."""

    @property
    def folder(self) -> Path:
        """Where the modules lie, once they were fetched: a folder of the running interpreter's environment."""
        return Path(sys.prefix) / "share" / "test-suites" / f"{self.package}-{self.version}"

    @property
    def is_there(self) -> bool:
        """Whether every module was fetched."""
        return all((self.folder / Path(module).name).is_file() for module in self.modules)


LANGGRAPH_SQLITE = Suite(
    package="langgraph-checkpoint-sqlite",
    version="3.1.2",
    licence="MIT",
    archive="langgraph_checkpoint_sqlite-3.1.2.tar.gz",
    sha256="4e3f376fa6f192d6ad2a1a4643b039986f1593552ef870e9e45281575de6fbf2",
    modules=("tests/test_store.py", "tests/test_async_store.py", "tests/test_ttl.py"),
)

ALL = (LANGGRAPH_SQLITE,)


def fetch(suite: Suite) -> Path:
    """Download a suite by pip, check it, unpack its modules; return their folder.

    Raises:
        SuiteError: It cannot be downloaded, or is not what the table says.
    """
    with tempfile.TemporaryDirectory() as temporary:
        archive = _downloaded(suite, Path(temporary))
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != suite.sha256:
            message = f"{suite.archive} has SHA-256 {found!r}, expected {suite.sha256!r}: do not use it."
            raise SuiteError(message)
        suite.folder.mkdir(parents=True, exist_ok=True)
        top = suite.archive.removesuffix(".tar.gz")
        with tarfile.open(archive) as files:
            for module in suite.modules:
                member = files.extractfile(f"{top}/{module}")
                if member is None:
                    message = f"{suite.archive} has no {module!r}: correct the table in {__file__!r}."
                    raise SuiteError(message)
                (suite.folder / Path(module).name).write_bytes(member.read())
    return suite.folder


def _downloaded(suite: Suite, folder: Path) -> Path:
    requirement = f"{suite.package}=={suite.version}"
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
        "--no-binary", suite.package, "--dest", str(folder), requirement,
    ]  # fmt: skip
    done = subprocess.run(command, check=False)
    archive = folder / suite.archive
    if done.returncode or not archive.is_file():
        message = f"pip cannot download {suite.archive!r}: see what it says above, then repeat."
        raise SuiteError(message)
    return archive


def main(arguments: list[str]) -> int:
    """Fetch what is not there yet, and print every folder."""
    if arguments:
        print("usage: python -m tests.suites", file=sys.stderr)
        return 2
    for suite in ALL:
        try:
            folder = suite.folder if suite.is_there else fetch(suite)
        except SuiteError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{suite.package} {suite.version} ({suite.licence}): {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
