"""`from_conn_string`: one object for `with` and `async with`, which opens a folder and closes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memos_adapters.langgraph import MemosSaver, MemosStore
from memos_engine import BadInput, BadRoot, Closed, Scope
from tests.adapters.langgraph.saver_cases import checkpoint, config, found, put

ROOT = Path(__file__).parent.parent.parent.parent


def test_one_object_serves_both_kinds_of_blocks(tmp_path: Path) -> None:
    """`with` and `async with` open the same folder, which is closed at the end of each."""
    opening = MemosSaver.from_conn_string(str(tmp_path / "new" / "folder"))
    with opening as saver:
        where = put(saver, config(), {"a": 1}, {"a": "1"})
    with pytest.raises(Closed):
        saver.get_tuple(where)
    with opening as again:
        assert found(again, where).checkpoint["channel_values"] == {"a": 1}


async def test_it_opens_asynchronously(tmp_path: Path) -> None:
    """The async block gives a saver of the same class and closes it."""
    async with MemosSaver.from_conn_string(tmp_path, scope=Scope(user="ann")) as saver:
        assert type(saver) is MemosSaver
        await saver.asetup()
        await saver.asetup()
        where = await saver.aput(config(), checkpoint({"a": 1}, {"a": "1"}), {}, {"a": "1"})
    with pytest.raises(Closed):
        await saver.aget_tuple(where)
    with MemosSaver.from_conn_string(tmp_path) as root:
        assert root.get_tuple(where) is None
    with MemosSaver.from_conn_string(tmp_path, scope=Scope(user="ann")) as ann:
        assert ann.get(where) is not None


async def test_memory_leaves_nothing() -> None:
    """What is opened as ":memory:" is a folder of its own each time, and is gone at the end."""
    with MemosSaver.from_conn_string(":memory:") as one, MemosSaver.from_conn_string(":memory:") as other:
        put(one, config())
        assert other.get_tuple(config()) is None
        folders = [Path(saver._threads._database.path).parent for saver in (one, other)]
        assert all(folder.is_dir() for folder in folders)
    assert not any(folder.exists() for folder in folders)
    async with MemosSaver.from_conn_string(":memory:") as third:
        folder = Path(third._threads._database.path).parent
    assert not folder.exists()


async def test_a_block_that_cannot_open_is_told(tmp_path: Path) -> None:
    """By the engine's error; a key that is none leaves no open folder behind."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRoot), MemosSaver.from_conn_string(tmp_path / "file"):
        pass
    with pytest.raises(BadRoot):
        async with MemosSaver.from_conn_string(tmp_path / "file"):
            pass
    with (
        pytest.raises(BadInput, match="3 bytes"),
        MemosSaver.from_conn_string(":memory:", encryption=b"key"),
    ):
        pass


def test_errors_of_the_block_pass_through(tmp_path: Path) -> None:
    """They are not swallowed, and the folder is closed."""
    opened = []

    def fails() -> None:
        with MemosSaver.from_conn_string(tmp_path) as saver:
            opened.append(saver)
            saver.put_writes(config(), [], "task")

    with pytest.raises(BadInput, match="checkpoint_id"):
        fails()
    with pytest.raises(Closed):
        opened[0].setup()


def test_no_model_is_loaded(tmp_path: Path) -> None:
    """Checkpoints need no embedder: neither torch nor onnxruntime nor chromadb is imported."""
    code = (
        "import sys\n"
        "from memos_adapters.langgraph.saver import MemosSaver\n"
        "from tests.adapters.langgraph.saver_cases import config, put\n"
        "with MemosSaver.from_conn_string(sys.argv[1]) as saver:\n"
        "    put(saver, config(), {'a': 1}, {'a': '1'})\n"
        "    assert saver.get(config())['channel_values'] == {'a': 1}\n"
        "print(sorted({'torch', 'onnxruntime', 'chromadb', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize(
    "opened", [MemosSaver.from_conn_string, MemosStore.from_conn_string], ids=["saver", "store"]
)
def test_a_url_is_no_folder(opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database's URL makes no folder of its name, and its password is not shown."""
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(BadRoot, match="'postgresql' URL is no folder") as refused,
        opened("postgresql://u:pw@h/db"),
    ):
        pass
    assert "pw" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
