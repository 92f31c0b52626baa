"""Who may do what: the one decision about rights. Deny by default. Pure.

A right is held on a cube by a principal (`user:<name>` or `agent:<name>`). `owner` includes
`write`, `write` includes `read`. The model never supplies an identity: it comes from a Scope.
"""

from __future__ import annotations

from memos_engine.errors import IdentityMissing
from memos_engine.items import Right, Scope

ROOT = "root"
"""Principal of the handle that `MemOS.open` returns: whoever can open the folder owns all of it."""
_RANK: dict[Right, int] = {"read": 1, "write": 2, "owner": 3}


def principal_of(scope: Scope | None) -> str:
    """The principal that acts under `scope`: the user, else the agent; `root` for no scope.

    Raises:
        IdentityMissing: the scope names neither; who is nobody may do nothing.
    """
    if scope is None:
        return ROOT
    if scope.user is not None:
        return f"user:{scope.user}"
    if scope.agent is not None:
        return f"agent:{scope.agent}"
    raise IdentityMissing("this Scope names nobody: give it a user or an agent, as in Scope(user='alice')")


def permits(held: Right | None, needed: Right) -> bool:
    """Whether holding `held` allows what needs `needed`."""
    return held is not None and _RANK[held] >= _RANK[needed]
