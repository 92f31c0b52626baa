"""Who a call is for, and whose memory it may touch: resolved here and nowhere else.

It knows no framework: an adapter hands over what its framework says of a call, as mappings or objects,
and gets a cube or threads back that act under that identity. No identity, no memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import quote
from uuid import UUID

from memos_engine import AccessDenied, BadInput, BadName, IdentityMissing, MemCube, MemOS, Scope, Threads

Isolation = Literal["user", "agent", "session"]
"""What has a memory of its own: a user, each agent of a user, or each session of these."""

_USER = ("user_id", "langgraph_user_id")
_AGENT = ("agent_id",)
_SESSION = ("session_id", "thread_id")
_LOGIN = ("langgraph_auth_user_id",)
"""As whom LangGraph's server let the caller in, who cannot set it; empty where it lets everybody in."""
_ONE_MEMORY = (
    "a MemCube is one memory, opened under its own scope: hand over the MemOS instead, to choose by user, "
    "agent or session"
)
_PART_CHARS = 180
"""Longer parts of a cube's name are hashed: the engine takes names of 512 characters."""


class Memories:
    """The memories that an adapter serves: one cube for good, or the cube of whoever each call is for."""

    def __init__(
        self,
        memos: MemOS | MemCube,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        default_user: str | None = None,
        cube: str = "memories",
        isolation: Isolation = "user",
        session_prefix: str = "",
        session_suffix: str = "",
    ) -> None:
        """Serve `memos` to the callers named here, or by each call.

        Args:
            memos: A `MemCube` is that memory for every call. Of a `MemOS` each user has a cube of their own.
            user_id: Whose memory, for good: a call for another user is refused.
            agent_id: The agent, for good.
            session_id: The session, for good.
            default_user: Who is meant when a call names nobody. None: such a call is refused.
            cube: Name of the cube of each user.
            isolation: What has a cube of its own.
            session_prefix: Put before the name of every session, as one channel of several would.
            session_suffix: Put behind it.

        Raises:
            BadInput: `memos` is neither, or names are given beside a cube, which has its own.
        """
        if not isinstance(memos, (MemOS, MemCube)):
            raise BadInput(
                f"memos is a {type(memos).__name__}: hand over what MemOS.open(path) returns, or a cube of it"
            )
        if isolation not in ("user", "agent", "session"):
            raise BadInput(f"isolation is {isolation!r}: choose 'user', 'agent' or 'session'")
        named = [name for name in (user_id, agent_id, session_id, default_user) if name is not None]
        if isinstance(memos, MemCube) and (named or isolation != "user"):
            raise BadInput(_ONE_MEMORY)
        self._memos = memos
        self._session_prefix = session_prefix
        self._session_suffix = session_suffix
        self._bound = self._wanted(user_id, agent_id, session_id)
        self._default_user = _text(default_user, "default_user")
        self._cube = cube
        self._isolation = isolation

    @property
    def of_one_user(self) -> bool:
        """Whether every call is for the same user, whatever it says."""
        held = self._memos.scope or Scope()
        return isinstance(self._memos, MemCube) or (held.user or self._bound.user) is not None

    def scope(self, *said: object, authenticated: str | None = None) -> Scope:
        """Who a call is for.

        Whoever names a user must name the same one: which of a call's parts its caller can choose differs
        from one server to the next, so none of them overrules another.

        Args:
            *said: What the call says of itself, most explicit first: mappings or objects with `user_id`
                (or `langgraph_user_id`), `agent_id`, `session_id` (or `thread_id`), and with the
                `langgraph_auth_user_id` of a server. None says nothing.
            authenticated: The user as whom a server let the caller in.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            AccessDenied: it names another than the adapter is bound to, than the server let in, or two.
            BadName: a name is no text.
        """
        held = self._memos.scope or Scope()
        login = _text(authenticated, "the authenticated user")
        known = [held.user, self._bound.user, *_said(said, _USER), *_said(said, _LOGIN, blank=True), login]
        user = _agreed("user", known)
        if user is None:
            user = self._default_user
        agents = _said(said, _AGENT)
        whose = agents if user is None else agents[:1]  # without a user the agent is whose memory it is
        agent = _agreed("agent", [held.agent, self._bound.agent, *whose])
        session = _agreed("session", [held.session, self._bound.session, self._session(said)])
        if user is None and agent is None:
            raise IdentityMissing(
                "nothing says whose memory this call is about: name the user with user_id=, in the call's "
                "configurable or context, or choose a default_user="
            )
        return Scope(user, agent, session)

    def cube(self, *said: object, authenticated: str | None = None) -> MemCube:
        """The memory of who a call is for; arguments as of `scope`.

        Raises:
            IdentityMissing: nothing names a user or an agent, or the agent or session that has the memory.
            AccessDenied: it names another than the adapter is bound to, or than the server let in.
        """
        if isinstance(self._memos, MemCube):
            if self._memos.scope is not None:
                self.scope(*said, authenticated=authenticated)
            return self._memos
        scope = self.scope(*said, authenticated=authenticated)
        return self._memos.acting_as(scope).cube(self._name(scope))

    def threads(self, *said: object, authenticated: str | None = None) -> Threads:
        """The threads of who a call is for; arguments as of `scope`.

        Raises:
            BadInput: the adapter was handed a cube, which has no threads.
            IdentityMissing: nothing names a user or an agent.
            AccessDenied: it names another than the adapter is bound to, or than the server let in.
        """
        if isinstance(self._memos, MemCube):
            raise BadInput("a MemCube has no threads: hand over the MemOS, and name the user with user_id=")
        return self._memos.acting_as(self.scope(*said, authenticated=authenticated)).threads

    def thread(self, *said: object) -> str:
        """The name of the conversation a call belongs to: the bound session's, or the call's; else empty.

        Raises:
            BadName: it is no text.
        """
        held = self._memos.scope or Scope()
        return self._bound.session or held.session or self._session(said) or ""

    def bound_to(
        self, *, user_id: str | None = None, agent_id: str | None = None, session_id: str | None = None
    ) -> Memories:
        """The same memories, bound to a user, an agent or a session too.

        Raises:
            AccessDenied: they are bound to another already.
            BadInput: a user or an agent is named beside a cube of the root's, which knows neither.
        """
        if isinstance(self._memos, MemCube) and self._memos.scope is None and (user_id or agent_id):
            raise BadInput(_ONE_MEMORY)
        wanted = self._wanted(user_id, agent_id, session_id)
        twin = object.__new__(Memories)
        twin.__dict__.update(self.__dict__)
        twin._bound = Scope(
            *(
                _agreed(kind, [getattr(self._bound, kind), getattr(wanted, kind)])
                for kind in ("user", "agent", "session")
            )
        )
        return twin

    def _wanted(self, user: object, agent: object, session: object) -> Scope:
        named = self._session([{"session_id": session}])
        return Scope(_text(user, "user_id"), _text(agent, "agent_id"), named)

    def _session(self, said: Iterable[object]) -> str | None:
        """The most explicit name of the session, as it is called here."""
        named = _said(said, _SESSION)
        return f"{self._session_prefix}{named[0]}{self._session_suffix}" if named else None

    def _name(self, scope: Scope) -> str:
        parts = [self._cube]
        if self._isolation != "user" and scope.agent is not None:
            parts.append(_part("agent", scope.agent))
        if self._isolation == "session" and scope.session is not None:
            parts.append(_part("session", scope.session))
        missing = getattr(scope, self._isolation) is None and (self._isolation, scope.user) != ("user", None)
        if missing:
            raise IdentityMissing(
                f"memory is kept apart by {self._isolation}, and the call names no {self._isolation}_id: name it"
            )
        return "/".join(parts)


def _part(kind: str, name: str) -> str:
    """A part of a cube's name: quoted, so that no two names give the same one."""
    quoted = quote(name, safe="")
    if len(quoted) > _PART_CHARS:
        return f"{kind}#{hashlib.sha256(name.encode()).hexdigest()}"
    return f"{kind}:{quoted}"


def _said(said: Iterable[object], names: tuple[str, ...], *, blank: bool = False) -> list[str]:
    """What `names` are said to be, most explicit first; a mapping's values or an object's attributes.

    An empty text is no name and refused, unless `blank`: it says nothing then.
    """
    found = []
    for source in said:
        for name in names:
            value = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
            if blank and value == "":
                continue
            if (text := _text(value, name)) is not None:
                found.append(text)
    return found


def _agreed(kind: str, named: list[str | None]) -> str | None:
    """The one name that all who name somebody agree on.

    Raises:
        AccessDenied: they do not agree.
    """
    names = list(dict.fromkeys(name for name in named if name is not None))
    if len(names) > 1:
        raise AccessDenied(
            f"one call is for {kind} {names[0]!r} and for {names[1]!r}: nobody acts as another, name one of them"
        )
    return names[0] if names else None


def _text(value: object, name: str) -> str | None:
    """A name as text: ids of databases are often numbers or UUIDs.

    Raises:
        BadName: it is something else, or blank.
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise BadName(f"{name} is {value!r:.80}: hand over a text that is not blank")
    return str.__str__(value)  # of an enum's member, too, what it is worth
