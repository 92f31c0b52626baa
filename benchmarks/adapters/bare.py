"""The engine's own calls for one user: what an adapter stands for, without it."""

from __future__ import annotations

from benchmarks.adapters.ground import Ground
from benchmarks.adapters.legs import Call
from memos_engine import Message
from memos_engine.items import Json

BUDGET_TOKENS = 2_000
"""Of a recall: the adapters' default."""
THREAD = "chat"


class Bare:
    """One user's memories and threads; every method does the n-th call."""

    def __init__(self, ground: Ground, user: str, *, turns: int | None = None) -> None:
        """Speak for a user whose conversations have so many turns each; None: one goes on for ever."""
        self._ground = ground
        self._turns = turns
        self.cube = ground.cube(user)
        self.threads = ground.acting(user).threads

    def recall(self, n: int) -> None:
        """Recall what the n-th question asks."""
        self.cube.recall(self._ground.question(n), budget_tokens=BUDGET_TOKENS)

    def capture_turn(self, n: int) -> None:
        """Capture the n-th question and its answer."""
        self._capture(n, self.question(n), self.answer(n))

    def capture_question(self, n: int) -> None:
        """Capture the n-th question alone."""
        self._capture(n, self.question(n))

    def capture_answer(self, n: int) -> None:
        """Capture the n-th answer alone."""
        self._capture(n, self.answer(n))

    def log_turn(self, n: int) -> None:
        """Append the n-th question and its answer to a thread."""
        self._log(n, self.question(n), self.answer(n))

    def log_question(self, n: int) -> None:
        """Append the n-th question."""
        self._log(n, self.question(n))

    def log_answer(self, n: int) -> None:
        """Append the n-th answer."""
        self._log(n, self.answer(n))

    def history(self, n: int) -> None:
        """Read all that was appended to the n-th call's conversation."""
        self.threads.list(self.thread(n))

    def question(self, n: int) -> Message:
        """The n-th question, under an id."""
        return Message("user", self._ground.question(n), f"question-{n}")

    def answer(self, n: int) -> Message:
        """Its answer."""
        return Message("assistant", self._ground.text(n), f"answer-{n}")

    def last_messages(self, limit: int) -> Call:
        """Reading the last messages that were appended to a conversation."""
        return lambda n: self.threads.list(self.thread(n), limit=limit, newest=True)

    def thread(self, n: int) -> str:
        """The conversation of the n-th call."""
        return THREAD if self._turns is None else f"{THREAD}-{n // self._turns}"

    def _capture(self, n: int, *messages: Message) -> None:
        self.cube.capture(messages, thread=self.thread(n), whole_thread=True)

    def _log(self, n: int, *messages: Message) -> None:
        entries: list[dict[str, Json]] = [{"role": each.role, "content": each.text} for each in messages]
        self.threads.append(self.thread(n), entries, ids=[each.id for each in messages])
