"""Who a call is for: one table of who says what, closed where nobody or two are named, and no way round it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_adapters._identity import Isolation, Memories
from memos_engine import AccessDenied, BadInput, BadName, IdentityMissing, MemCube, MemOS, Message, Scope
from memos_engine.testing.fakes import HashEmbedder

SOME_ID = UUID("12345678-1234-5678-1234-567812345678")


class Kind(str, enum.Enum):  # noqa: UP042 -- a StrEnum formats itself as its value
    """A name as an enum's member, which formats itself as something else."""

    ALICE = "alice"


@dataclass
class Told:
    """A context as an application declares it."""

    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None


RESOLVED: list[tuple[str, dict[str, Any], list[object], str | None, Scope]] = [
    ("bound", {"user_id": "alice"}, [], None, Scope("alice")),
    ("bound, and the call agrees", {"user_id": "alice"}, [{"user_id": "alice"}], "alice", Scope("alice")),
    ("a mapping", {}, [{"user_id": "alice"}], None, Scope("alice")),
    ("an object", {}, [Told("alice", "a", "s")], None, Scope("alice", "a", "s")),
    ("nothing, then something", {}, [None, Told(), {"user_id": "alice"}], None, Scope("alice")),
    ("as langmem names it", {}, [{"langgraph_user_id": "alice"}], None, Scope("alice")),
    ("a thread is a session", {}, [{"user_id": "alice", "thread_id": "t"}], None, Scope("alice", None, "t")),
    ("the session before the thread", {}, [{"user_id": "a", "thread_id": "t", "session_id": "s"}], None,
     Scope("a", None, "s")),
    ("the more explicit session", {}, [{"session_id": "s"}, {"user_id": "a", "thread_id": "t"}], None,
     Scope("a", None, "s")),
    ("the more explicit agent", {"user_id": "u"}, [{"agent_id": "a"}, {"agent_id": "b"}], None, Scope("u", "a")),
    ("a login", {}, [{}], "alice", Scope("alice")),
    ("a login before the default", {"default_user": "bob"}, [{}], "alice", Scope("alice")),
    ("the default", {"default_user": "bob"}, [None, {"thread_id": "t"}], None, Scope("bob", None, "t")),
    ("the default, beside an agent", {"default_user": "bob", "agent_id": "a"}, [], None, Scope("bob", "a")),
    ("an agent alone", {}, [{"agent_id": "a"}], None, Scope(None, "a")),
    ("a number", {}, [{"user_id": 7, "thread_id": 8}], None, Scope("7", None, "8")),
    ("a UUID", {}, [{"user_id": SOME_ID}], None, Scope(str(SOME_ID))),
    ("an e-mail address", {}, [{"user_id": "alice@example.org"}], None, Scope("alice@example.org")),
    ("an enum's member", {}, [{"user_id": Kind.ALICE}], None, Scope("alice")),
    ("a login that a config tells", {}, [{"langgraph_auth_user_id": "alice"}], None, Scope("alice")),
    ("a server that lets everybody in", {}, [{"user_id": "alice", "langgraph_auth_user_id": ""}], None,
     Scope("alice")),
    ("a decorated session", {"session_prefix": "web:", "session_suffix": "#1"},
     [{"user_id": "u", "session_id": "s"}], None, Scope("u", None, "web:s#1")),
    ("no session to decorate", {"session_prefix": "web:"}, [{"user_id": "u"}], None, Scope("u")),
    ("a bound session, decorated once", {"user_id": "u", "session_id": "s", "session_prefix": "web:"},
     [{"session_id": "s"}], None, Scope("u", None, "web:s")),
]  # fmt: skip

REFUSED: list[tuple[str, dict[str, Any], list[object], str | None, type[Exception]]] = [
    ("nobody", {}, [], None, IdentityMissing),
    ("nobody in many places", {}, [None, {}, Told(), {"user_id": None}], None, IdentityMissing),
    ("a session alone", {}, [{"thread_id": "t"}], None, IdentityMissing),
    ("text instead of a mapping", {}, ["alice"], None, IdentityMissing),
    ("another than bound", {"user_id": "alice"}, [{"user_id": "bob"}], None, AccessDenied),
    ("another, less explicit", {"user_id": "alice"}, [None, {"langgraph_user_id": "bob"}], None, AccessDenied),
    ("another agent than bound", {"user_id": "u", "agent_id": "a"}, [{"agent_id": "b"}], None, AccessDenied),
    ("another session than bound", {"user_id": "u", "session_id": "s"}, [{"thread_id": "t"}], None, AccessDenied),
    ("context and configurable", {}, [Told("alice"), {"user_id": "bob"}], None, AccessDenied),
    ("two names in one place", {}, [{"user_id": "alice", "langgraph_user_id": "bob"}], None, AccessDenied),
    ("another than the login", {}, [{"user_id": "bob"}], "alice", AccessDenied),
    ("a login other than bound", {"user_id": "alice"}, [], "bob", AccessDenied),
    ("another than the login in its config", {}, [{"user_id": "bob", "langgraph_auth_user_id": "alice"}], None,
     AccessDenied),
    ("no login in its config", {}, [{"langgraph_auth_user_id": ""}], None, IdentityMissing),
    ("two agents and no user", {}, [{"agent_id": "a"}, {"agent_id": "b"}], None, AccessDenied),
    ("a blank user", {"default_user": "bob"}, [{"user_id": " "}], None, BadName),
    ("an empty user", {"default_user": "bob"}, [{"user_id": ""}], None, BadName),
    ("a user that is a yes", {}, [{"user_id": True}], None, BadName),
    ("a user that is a list", {}, [{"user_id": ["alice"]}], None, BadName),
    ("bytes", {}, [{"user_id": b"alice"}], None, BadName),
    ("a blank login", {}, [{"user_id": "alice"}], " ", BadName),
    ("a blank session", {"session_prefix": "web:"}, [{"user_id": "u", "session_id": ""}], None, BadName),
    ("a control character", {}, [{"user_id": "al\nice"}], None, BadName),
    ("a lone surrogate", {"isolation": "session"}, [{"user_id": "u", "session_id": "\ud800"}], None, BadName),
    ("no agent to keep apart by", {"isolation": "agent"}, [{"user_id": "u"}], None, IdentityMissing),
    ("no session to keep apart by", {"isolation": "session"}, [{"user_id": "u", "agent_id": "a"}], None,
     IdentityMissing),
    ("no session, but a prefix", {"isolation": "session", "session_prefix": "web:"}, [{"user_id": "u"}], None,
     IdentityMissing),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "bound", "said", "login", "scope"), RESOLVED, ids=[row[0] for row in RESOLVED]
)
def test_who_is_meant(
    memos: MemOS, case: str, bound: dict[str, Any], said: list[object], login: str | None, scope: Scope
) -> None:
    """The table of who says what, and whom that means."""
    memories = Memories(memos, **bound)
    assert memories.scope(*said, authenticated=login) == scope
    assert memories.cube(*said, authenticated=login).scope == scope
    assert memories.thread(*said) == (scope.session or "")


@pytest.mark.parametrize(
    ("case", "bound", "said", "login", "error"), REFUSED, ids=[row[0] for row in REFUSED]
)
def test_nobody_and_two_are_refused(
    memos: MemOS,
    case: str,
    bound: dict[str, Any],
    said: list[object],
    login: str | None,
    error: type[Exception],
) -> None:
    """Where nobody, two, or something unspeakable is named, there is no memory, and none is made."""
    memories = Memories(memos, **bound)
    with pytest.raises(error):
        memories.cube(*said, authenticated=login)
    assert memos.cubes() == []


def test_a_scoped_handle_serves_its_own_alone(memos: MemOS) -> None:
    """A handle of one user serves that user, whatever the adapter or a call says."""
    alice = memos.acting_as(Scope(user="alice"))
    assert Memories(alice).scope() == Scope("alice")
    assert Memories(alice).cube({"user_id": "alice"}).info.owner == "user:alice"
    for memories, said in (
        (Memories(alice), {"user_id": "bob"}),
        (Memories(alice, user_id="bob"), {}),
        (Memories(alice).bound_to(user_id="bob"), {}),
        (Memories(memos.acting_as(Scope(agent="a")), default_user="alice"), {}),
        (Memories(memos.acting_as(Scope(user="alice", session="s"))), {"session_id": "t"}),
    ):
        with pytest.raises(AccessDenied):
            memories.cube(said)
        with pytest.raises(AccessDenied):
            memories.threads(said)
    assert Memories(memos.acting_as(Scope(user="alice", session="s"))).thread() == "s"


def test_a_cube_is_one_memory(memos: MemOS, cube: MemCube) -> None:
    """A cube of the root's serves every call; a cube of a user's serves that user, and neither takes names."""
    assert Memories(cube).cube({"user_id": "anybody"}) is cube
    own = memos.acting_as(Scope(user="alice")).cube("c")
    assert Memories(own).cube({"user_id": "alice", "thread_id": "t"}) is own
    with pytest.raises(AccessDenied):
        Memories(own).cube({"user_id": "bob"})
    with pytest.raises(AccessDenied):
        Memories(own).cube(authenticated="bob")
    with pytest.raises(BadInput, match="hand over the MemOS"):
        Memories(cube).bound_to(user_id="alice")
    assert Memories(cube).bound_to(session_id="s").thread() == "s"
    names: list[dict[str, Any]] = [
        {"user_id": "a"}, {"agent_id": "a"}, {"session_id": "s"}, {"default_user": "a"}, {"isolation": "agent"},
    ]  # fmt: skip
    for named in names:
        with pytest.raises(BadInput, match="hand over the MemOS"):
            Memories(cube, **named)
    with pytest.raises(BadInput, match="no threads"):
        Memories(cube).threads({"user_id": "alice"})


def test_what_serves_memories_is_told(memos: MemOS) -> None:
    """Anything but a MemOS or a cube is refused, and so is an isolation that is none."""
    for wrong in (None, "memories", SimpleNamespace(scope=None)):
        with pytest.raises(BadInput, match=r"MemOS\.open"):
            Memories(wrong)  # type: ignore[arg-type] # -- the mistake in question
    with pytest.raises(BadInput, match="isolation"):
        Memories(memos, isolation="tenant")  # type: ignore[arg-type] # -- the mistake in question


def test_binding_narrows_only(memos: MemOS) -> None:
    """What is bound stays bound in every twin, and the first is left as it was."""
    memories = Memories(memos, user_id="alice")
    twin = memories.bound_to(agent_id="a", session_id="s")
    assert twin.scope() == Scope("alice", "a", "s")
    assert memories.scope() == Scope("alice")
    assert twin.bound_to().scope() == twin.scope()
    with pytest.raises(AccessDenied):
        memories.bound_to(user_id="bob")
    with pytest.raises(AccessDenied):
        twin.bound_to(session_id="t")
    with pytest.raises(TypeError):
        memories.bound_to(user="bob")  # type: ignore[call-arg] # -- a name that binds nothing


ATTEMPTS: list[Callable[[Memories], MemCube]] = [
    lambda bobs: bobs.cube({"user_id": "alice"}),
    lambda bobs: bobs.cube({"langgraph_user_id": "alice"}),
    lambda bobs: bobs.cube(None, {"user_id": "alice"}),
    lambda bobs: bobs.cube(authenticated="alice"),
    lambda bobs: bobs.bound_to(user_id="alice").cube(),
]


@pytest.mark.parametrize("attempt", range(len(ATTEMPTS)))
def test_a_call_cannot_choose_anothers_memory(memos: MemOS, attempt: int) -> None:
    """However a call names another user, it is refused before a cube is opened."""
    alices = Memories(memos, user_id="alice").cube()
    alices.add("the code is 4711")
    with pytest.raises(AccessDenied):
        ATTEMPTS[attempt](Memories(memos, user_id="bob"))
    with pytest.raises(AccessDenied):
        ATTEMPTS[attempt](Memories(memos.acting_as(Scope(user="bob"))))


@pytest.mark.parametrize(
    "name", ["alice/agent:a", "../alice", "alice%2Fx", "user:alice", "ALICE", "alice ", "a\u0301lice"]
)
def test_no_name_slips_into_anothers_memory(memos: MemOS, name: str) -> None:
    """A name that looks like a path, a principal or another spelling is somebody else's."""
    alices = Memories(memos, user_id="alice", isolation="agent")
    alices.cube({"agent_id": "a"}).add("the code is 4711")
    for said in (
        {"user_id": name, "agent_id": "a"},
        {"user_id": "bob", "agent_id": name},
        {"agent_id": name},
    ):
        cube = Memories(memos, isolation="agent").cube(said)
        assert cube.list() == []
        assert not cube.recall("the code", min_score=0)


def test_threads_are_a_users_own(memos: MemOS) -> None:
    """Two users' threads of one name are two threads."""
    memories = Memories(memos)
    memories.threads({"user_id": "alice"}).append("chat/s", [{"text": "hello"}])
    assert memories.threads({"user_id": "bob"}).list("chat/s") == []
    assert memories.threads({"agent_id": "alice"}).list("chat/s") == []
    with pytest.raises(IdentityMissing):
        memories.threads({"thread_id": "s"})


def test_sessions_apart_share_nothing(memos: MemOS) -> None:
    """Kept apart by session, what is said in one is not recalled in the other, nor for another agent."""
    memories = Memories(memos, user_id="alice", isolation="session")
    memories.cube({"agent_id": "a", "session_id": "s"}).capture([Message("user", "I keep quokkas")])
    for said in (
        {"session_id": "s"},
        {"agent_id": "b", "session_id": "s"},
        {"agent_id": "a", "session_id": "t"},
    ):
        assert memories.cube(said).list() == []


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from("/:#%.-~ as"),
    min_size=1,
    max_size=40,
).filter(lambda name: bool(name.strip()))
LONG = st.tuples(NAMES, st.integers(150, 500)).map(lambda pair: (pair[0] * pair[1])[: pair[1]].strip() or "x")
ANY = NAMES | LONG
WHO = st.tuples(st.none() | ANY, st.none() | ANY, st.none() | ANY)


def held_by(memories: Memories, who: tuple[str | None, str | None, str | None]) -> tuple[str, str, Scope]:
    """Owner and name of the cube, as `Memories` asks the engine for it, and its scope."""
    scope = memories.scope(dict(zip(("user_id", "agent_id", "session_id"), who, strict=True)))
    return f"user:{scope.user}" if scope.user else f"agent:{scope.agent}", memories._name(scope), scope


@given(one=WHO, other=WHO, isolation=st.sampled_from(["user", "agent", "session"]), opened=st.data())
@settings(max_examples=300, deadline=None)
def test_names_of_cubes_never_meet(
    root: MemOS,
    one: tuple[str | None, str | None, str | None],
    other: tuple[str | None, str | None, str | None],
    isolation: Isolation,
    opened: st.DataObject,
) -> None:
    """Two callers have the same cube if and only if they agree in all that memory is kept apart by."""
    memories = Memories(root, isolation=isolation)
    try:
        owner, name, scope = held_by(memories, one)
        others_owner, others_name, others_scope = held_by(memories, other)
    except IdentityMissing:
        return
    depth = ("user", "agent", "session").index(isolation) + 1

    def parts(scope: Scope) -> tuple[str | None, ...]:
        found = (scope.user, scope.agent, scope.session)[:depth]
        return found if scope.user else (None, scope.agent, *found[2:])  # an agent is its own principal

    assert ((owner, name) == (others_owner, others_name)) == (parts(scope) == parts(others_scope))
    assert len(name) <= 512


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemOS]:
    """A root that the examples of a property share; nothing is written to it."""
    path: Path = tmp_path_factory.mktemp("identity")
    with MemOS.open(path / "root", embedder=HashEmbedder(), background=False) as opened:
        yield opened


def test_the_longest_names_open_a_cube(memos: MemOS) -> None:
    """Names of the greatest length that a scope takes, in any script, have a cube of their own."""
    memories = Memories(memos, isolation="session")
    said = {"user_id": "用" * 512, "agent_id": "代" * 512, "session_id": "会" * 512}
    assert memories.cube(said).id == memories.cube(said).id
    assert memories.cube({**said, "session_id": "会" * 511}).id != memories.cube(said).id
