"""The code base keeps its own rules, those that no linter knows: sizes, names, reasons, no mocks."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PACKAGES = ("memos_engine", "memos_adapters")
EVERYWHERE = (*PACKAGES, "tests", "benchmarks", "examples")

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 400
BANNED_NAMES = frozenset({"common", "helper", "helpers", "misc", "util", "utils"})

SUPPRESSION = re.compile(r"#\s*(?:ruff:\s*)?noqa\b|#\s*type:\s*ignore\b|#\s*mypy:|#\s*pragma: no cover")
REASON = re.compile(r" -- \S")


def files(*folders: str) -> list[Path]:
    """Return the Python files of these folders of the repository, sorted."""
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def place(path: Path, line: int = 1) -> str:
    """Name a line so that an editor can jump to it."""
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"{name.as_posix()}:{line}"


def tree(path: Path) -> ast.Module:
    """Parse one file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def report(faults: list[str]) -> None:
    """Fail with one line per fault."""
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def long_functions(path: Path) -> Iterator[str]:
    """Yield the functions that are longer than a screen or two."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield (
                    f"{place(path, node.lineno)}: {node.name} has {lines} lines, at most "
                    f"{FUNCTION_LINES_MAX}: a phase of it is a function of its own"
                )


def mock_imports(path: Path) -> Iterator[str]:
    """Yield the imports of mocks, in any spelling."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                modules = [module, *(f"{module}.{alias.name}" for alias in names)]
            case _:
                continue
        if any(name == "mock" or name.startswith(("unittest.mock", "pytest_mock")) for name in modules):
            yield f"{place(path, node.lineno)}: imports a mock: use the fakes of memos_engine.testing"


def bare_suppressions(source: str, path: Path) -> Iterator[str]:
    """Yield the comments that silence a checker and do not say why."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found = SUPPRESSION.search(token.string)
            if found and not REASON.search(token.string, found.end()):
                yield f"{place(path, token.start[0])}: {token.string!r} has no reason: end it with ' -- why'"


def test_functions_are_short() -> None:
    """No function of the packages is longer than 70 lines."""
    report([fault for path in files(*PACKAGES) for fault in long_functions(path)])


def test_files_are_short() -> None:
    """No file of the packages is longer than 400 lines."""
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files(*PACKAGES)}
    report(
        [
            f"{place(path, lines)}: the file has {lines} lines, at most {FILE_LINES_MAX}: split it by topic"
            for path, lines in sizes.items()
            if lines > FILE_LINES_MAX
        ]
    )


def test_every_module_says_what_it_is() -> None:
    """Every module, package and script opens with a docstring."""
    report(
        [
            f"{place(path)}: no module docstring: say what it holds and what it does not know"
            for path in files(*EVERYWHERE)
            if not (ast.get_docstring(tree(path)) or "").strip()
        ]
    )


def test_fakes_not_mocks() -> None:
    """Nothing imports unittest.mock or the like."""
    report([fault for path in files(*EVERYWHERE) for fault in mock_imports(path)])


def test_suppressions_carry_a_reason() -> None:
    """Every `noqa` and `type: ignore` says why after ` -- `."""
    report(
        [
            fault
            for path in files(*EVERYWHERE)
            for fault in bare_suppressions(path.read_text(encoding="utf-8"), path)
        ]
    )


def test_names_say_a_role() -> None:
    """No module or package is a drawer for the rest."""
    report(
        [
            f"{place(path)}: {name!r} says no role: name it by what it does in the flow"
            for path in files(*EVERYWHERE)
            for name in (path.stem, *path.relative_to(ROOT).parts[:-1])
            if name.lstrip("_") in BANNED_NAMES
        ]
    )


def test_packages_are_typed_and_there() -> None:
    """Both packages ship `py.typed`, and the checks above really saw them."""
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file(), f"{package}/py.typed is missing"
        assert files(package), f"{package} holds no module"


def test_the_oldest_versions_are_those_admitted() -> None:
    """Every lower bound of a user's dependency but torch's stands in the constraints of the oldest versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        each
        for extra, lines in project["optional-dependencies"].items()
        if extra not in {"all", "dev"}
        for each in lines
    ]
    oldest = (ROOT / "tests/constraints-lowest.txt").read_text(encoding="utf-8")
    pinned = {(name, Version(version)) for name, version in re.findall(r"([a-z0-9-]+)==([0-9.]+)", oldest)}
    report(
        [
            f"tests/constraints-lowest.txt: {wanted.name}=={specifier.version} is missing: "
            "run the tests with it, see its head"
            for wanted in map(Requirement, [*project["dependencies"], *extras])
            for specifier in wanted.specifier
            if wanted.name != "torch" and (wanted.name, Version(specifier.version)) not in pinned
        ]
    )


@pytest.mark.parametrize(
    ("comment", "faults"),
    [
        ("x = 1  # noqa: S301", 1),
        ("x = 1  # noqa: S301 -- written by us, checked above", 0),
        ("x = 1  # -- noqa", 0),
        ("x = 1  # type: ignore[misc]", 1),
        ("x = 1  # type: ignore[misc]  # -- the stub lacks it", 0),
        ("x = '# noqa'", 0),
    ],
)
def test_a_reason_is_what_follows_two_dashes(comment: str, faults: int) -> None:
    """The check on suppressions finds the bare ones and leaves the explained ones."""
    found = list(bare_suppressions(comment, ROOT / "example.py"))
    assert len(found) == faults, found
    assert all(fault.startswith("example.py:1: ") for fault in found)


def test_the_finders_find(tmp_path: Path) -> None:
    """A function that is too long and each spelling of a mock are reported with their line."""
    path = tmp_path / "bad.py"
    body = "    pass\n" * FUNCTION_LINES_MAX
    path.write_text(f"import unittest.mock\nfrom unittest import mock\ndef f() -> None:\n{body}", "utf-8")
    assert [fault.split(": ")[0].rsplit(":", 1)[1] for fault in mock_imports(path)] == ["1", "2"]
    assert [fault.split(": ")[1] for fault in long_functions(path)] == [
        f"f has {FUNCTION_LINES_MAX + 1} lines, at most {FUNCTION_LINES_MAX}"
    ]
