"""The saver's calls one by one: what it stores, whose it is, what it lists, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from memos_adapters.langgraph.saver import MemosSaver
from memos_engine import BadInput, BadLimit, BadName, MemOS
from tests.adapters.langgraph.saver_cases import THREAD, checkpoint, config, found, id_of, ids, plain, put


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    """Lend an open folder."""
    with MemOS.open(tmp_path / "memories", background=False) as memos:
        yield memos


@pytest.fixture
def saver(memos: MemOS) -> MemosSaver:
    """Return the saver of the folder's owner."""
    return MemosSaver(memos)


class TestChannels:
    def test_unchanged_values_load_from_earlier(self, saver: MemosSaver) -> None:
        """Only new versions are stored; the others are found where they were; absent channels stay away."""
        first = put(saver, config(), {"a": [1], "b": {"x": 1}, "c": 3}, {"a": "1", "b": "1", "c": "1"})
        second = put(saver, first, {"a": [2]}, {"a": "2", "b": "1"}, new={"a": "2"})
        assert found(saver, second).checkpoint["channel_values"] == {"a": [2], "b": {"x": 1}}
        assert found(saver, first).checkpoint["channel_values"] == {"a": [1], "b": {"x": 1}, "c": 3}

    def test_a_version_may_have_no_value(self, saver: MemosSaver) -> None:
        """A channel that was emptied does not come back, and None is a value."""
        first = put(saver, config(), {"a": 1, "none": None}, {"a": "1", "none": "1"})
        second = put(saver, first, {"none": None}, {"a": "2", "none": "1"}, new={"a": "2"})
        assert found(saver, second).checkpoint["channel_values"] == {"none": None}

    @pytest.mark.parametrize("versions", [(1, 2), (1.0, 1.5), ("1", "01"), ("0", "00"), ("10", "1")])
    def test_versions_of_any_kind_are_apart(self, saver: MemosSaver, versions: tuple[Any, Any]) -> None:
        """Numbers and text serve as versions; two that differ never share a value."""
        one, other = versions
        first = put(saver, config(), {"a": "first"}, {"a": one})
        second = put(saver, first, {"a": "second"}, {"a": other})
        assert found(saver, first).checkpoint["channel_values"] == {"a": "first"}
        assert found(saver, second).checkpoint["channel_values"] == {"a": "second"}
        assert found(saver, second).checkpoint["channel_versions"] == {"a": other}

    def test_namespaces_and_channels_are_not_confused(self, saver: MemosSaver) -> None:
        """Names that read alike when joined are still different ones."""
        pairs = [("", "ab"), ("a", "b"), ("ab", ""), ("1:", "a"), ("", "1:a"), ("é|雪", "🙂")]
        stored = [put(saver, config(ns=ns), {channel: ns}, {channel: "1"}) for ns, channel in pairs]
        for where, (ns, channel) in zip(stored, pairs, strict=True):
            assert found(saver, where).checkpoint["channel_values"] == {channel: ns}

    def test_a_checkpoint_and_its_values_come_at_once(self, memos: MemOS, saver: MemosSaver) -> None:
        """One that cannot be stored whole is not stored at all, and the thread is as it was."""
        first = put(saver, config(), {"a": 1}, {"a": "1"})
        before = memos.threads.blobs("langgraph:t")
        with pytest.raises(BadName):
            put(saver, first, {"a": 2, "b\x00": 3}, {"a": "2", "b\x00": "2"})
        with pytest.raises(TypeError):
            put(saver, first, {"a": 2, "b": object()}, {"a": "2", "b": "2"})
        assert memos.threads.blobs("langgraph:t") == before

    def test_what_was_stored_is_not_shared(self, saver: MemosSaver) -> None:
        """Changing a value after `put`, or one that was read, changes nothing that is stored."""
        value = {"list": [1]}
        where = put(saver, config(), {"a": value}, {"a": "1"})
        value["list"].append(2)
        found(saver, where).checkpoint["channel_values"]["a"]["list"].append(3)
        assert found(saver, where).checkpoint["channel_values"] == {"a": {"list": [1]}}

    def test_large_and_small_values_come_back(self, saver: MemosSaver) -> None:
        """Also those that are stored deflated, bytes, and text of many scripts."""
        values = {
            "small": "x", "middle": "abc" * 500, "large": ["word " * 50] * 400, "bytes": b"\x00" * 3_000,
            "array": bytearray(b"\xff" * 300), "text": "雪🙂\x00é" * 200,
        }  # fmt: skip
        where = put(saver, config(), values, dict.fromkeys(values, "1"))
        assert found(saver, where).checkpoint["channel_values"] == values


class TestMetadata:
    def test_what_a_config_says_is_kept(self, saver: MemosSaver) -> None:
        """Scalars of `metadata` and `configurable` join the metadata, as with LangGraph's own savers."""
        where = config() | {"metadata": {"run_id": "r1", "skipped": ["no scalar"], "thread_id": "no"}}
        where["configurable"] |= {"user": "ann", "__hidden": "no"}
        said = cast(
            "Any", {"source": "loop", "step": 3, "parents": {"a": "b"}, "nul": "a\x00b", "é": [1, None]}
        )
        reference = InMemorySaver()
        mine, theirs = saver.put(where, checkpoint(), said, {}), reference.put(where, checkpoint(), said, {})
        assert dict(found(saver, mine).metadata) == dict(found(reference, theirs).metadata)
        assert found(saver, mine).metadata["run_id"] == "r1"

    def test_what_is_not_json_is_refused(self, saver: MemosSaver) -> None:
        """The error names what it is; nothing is stored."""
        with pytest.raises(BadInput, match="not JSON"):
            put(saver, config(), thing=object())
        assert saver.get_tuple(config()) is None

    def test_lone_surrogates_come_back(self, saver: MemosSaver) -> None:
        """Metadata is text of others: what no encoding takes is kept as it is."""
        where = put(saver, config(), odd="\ud800")
        assert cast("Any", found(saver, where).metadata)["odd"] == "\ud800"


class TestList:
    @pytest.fixture(autouse=True)
    def many(self, saver: MemosSaver) -> None:
        """Two threads, two namespaces."""
        for n in range(4):
            put(
                saver, config(), id=f"0{n}", step=n, source="loop" if n % 2 else "input", deep={"x": {"y": n}}
            )
        put(saver, config(ns="sub"), id="09", step=9)
        put(saver, config("u"), id="05", step=5)

    def test_the_newest_comes_first(self, saver: MemosSaver) -> None:
        """Of a namespace, of all of a thread's, and of all threads."""
        assert ids(saver, config()) == ["03", "02", "01", "00"]
        assert ids(saver, config(ns=None)) == ["09", "03", "02", "01", "00"]
        assert ids(saver, config(ns="sub")) == ["09"]
        assert ids(saver, None) == ["09", "05", "03", "02", "01", "00"]
        assert ids(saver, config("nobody")) == ids(saver, config(ns="none")) == []
        assert ids(saver, config(id="02")) == ["02"]

    def test_it_is_cut(self, saver: MemosSaver) -> None:
        """By a limit, of which 0 is nothing, and before a checkpoint."""
        assert ids(saver, config(), limit=2) == ["03", "02"]
        assert ids(saver, None, limit=2) == ["09", "05"]
        assert ids(saver, config(), limit=0) == ids(saver, None, limit=0) == []
        assert ids(saver, config(), before=config(id="02")) == ["01", "00"]
        assert ids(saver, config(), before=config(id="03"), limit=1) == ["02"]
        assert ids(saver, config(), before=config(), limit=1) == ["03"]
        assert ids(saver, config(), filter={"source": "input"}, limit=1) == ["02"]
        with pytest.raises(BadLimit, match="-1"):
            saver.list(config(), limit=-1)

    def test_metadata_chooses(self, saver: MemosSaver) -> None:
        """Every value that is asked for must be there, also inside of objects."""
        assert ids(saver, None, filter={"step": 5}) == ["05"]
        assert ids(saver, config(), filter={"source": "loop", "step": 3}) == ["03"]
        assert ids(saver, config(), filter={"source": "loop", "step": 2}) == []
        assert ids(saver, config(), filter={"deep": {"x": {"y": 1}}}) == ["01"]
        assert ids(saver, config(), filter={"deep.x.y": 1}) == ["01"]
        assert ids(saver, config(), filter={"deep.x.z": 1}) == ids(saver, config(), filter={"none": 1}) == []
        assert ids(saver, config(ns=None), filter={"source": None}) == ["09"]

    def test_each_is_read_when_its_turn_comes(self, saver: MemosSaver) -> None:
        """What went meanwhile is passed over; what came meanwhile is not in it."""
        listing = saver.list(config())
        assert id_of(next(listing).config) == "03"
        put(saver, config(), id="08")
        saver.delete_thread(THREAD)
        assert list(listing) == []

    async def test_the_async_listing_is_the_same(self, saver: MemosSaver) -> None:
        """Same checkpoints in the same order, and it may be left before its end."""
        mine = [plain(each) async for each in saver.alist(None, filter={"source": "loop"}, limit=2)]
        assert mine == [plain(each) for each in saver.list(None, filter={"source": "loop"}, limit=2)]
        async for each in saver.alist(config()):
            assert id_of(each.config) == "03"
            break


class TestVersions:
    def test_each_version_sorts_after_the_one_before(self, saver: MemosSaver) -> None:
        """Also over the digits' carry, after whole numbers, and after versions of LangGraph's own savers."""
        versions = [saver.get_next_version(None, None)]
        while len(versions) < 120:
            versions.append(saver.get_next_version(versions[-1], None))
        assert versions == sorted(versions)
        theirs = InMemorySaver().get_next_version(versions[-1], None)
        assert versions[-1] < theirs < saver.get_next_version(theirs, None)
        assert saver.get_next_version(cast("Any", 41), None).split(".")[0].lstrip("0") == "42"

    def test_forks_never_make_the_same_version(self, saver: MemosSaver) -> None:
        """Two branches from one version get different ones."""
        one = saver.get_next_version(None, None)
        assert len({saver.get_next_version(one, None) for _ in range(100)}) == 100
