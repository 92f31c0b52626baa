"""Chat with a cube as one principal: what it remembers stands in the prompt, what is said becomes memory.

Every verb checks the right it needs and validates what it was handed; the turn itself is `chat`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol, get_args

from memos_engine.acting import CubeHost
from memos_engine.activation.plan import Method, Policy
from memos_engine.capture.validate import (
    check_choice,
    check_finite,
    check_limit,
    check_messages,
    check_name,
    check_several,
    check_share,
)
from memos_engine.chat.conversation import answered_part, conversation_of
from memos_engine.chat.prompt import Prompt, Saying
from memos_engine.chat.speakers import check_model, is_local, is_served, speaker_of
from memos_engine.chat.stream import ChatStream
from memos_engine.chat.turn import Place, Request, Turn
from memos_engine.errors import AccessDenied, BadInput, BadLimit
from memos_engine.fields import checked_filter
from memos_engine.items import ChatAnswer, CubeRow, Message, Scope
from memos_engine.recall.abstain import SILENT_BELOW
from memos_engine.tending import TendedCube

if TYPE_CHECKING:
    from typing import Unpack

    from memos_engine.blocks.handle import ActivationMemory
    from memos_engine.blocks.shelf import ActivationShelf
    from memos_engine.fields import Sought
    from memos_engine.models.local import LocalModel
    from memos_engine.models.served import ServedModel, ServedUsage
    from memos_engine.ports import ChatModel

BUDGET_TOKENS = 2_000
BUDGET_MAX = 10_000_000
NEW_TOKENS = 256
NEW_TOKENS_MAX = 10_000_000
_SEED_MAX = 2**63 - 1
POLICIES: tuple[Policy, ...] = ("auto", *get_args(Method))


class TalkingHost(CubeHost, Protocol):
    """What a cube that talks needs of the engine that opened it."""

    def activation(self, cube: str) -> ActivationShelf:
        """The blocks of a cube, and what was read of its conversations."""
        ...

    def met(self, cube: str, model: LocalModel) -> None:
        """Tell that a model of this machine is used with a cube."""
        ...


class TalkingCube(TendedCube):
    """The verbs of a conversation with a cube."""

    _host: TalkingHost

    def __init__(self, host: TalkingHost, info: CubeRow, scope: Scope | None) -> None:
        """`scope` None is the root's handle, which may do everything."""
        super().__init__(host, info, scope)

    def chat(
        self,
        model: LocalModel | ServedModel | ChatModel,
        messages: Sequence[Message],
        *,
        thread: str = "",
        budget_tokens: int = BUDGET_TOKENS,
        min_score: float = SILENT_BELOW,
        capture: bool = True,
        policy: Policy = "auto",
        budget_s: float | None = None,
        max_new_tokens: int = NEW_TOKENS,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        **wanted: Unpack[Sought],
    ) -> ChatAnswer:
        """Answer the last message with what the cube remembers; then capture what was said on both sides.

        Memories that recall chooses stand at the head of the last message, as data. A local model reads
        those that have blocks as keys and values, and a conversation that it has read before no second time.

        Args:
            model: Who answers: a LocalModel, a ServedModel, or any ChatModel.
            messages: The conversation, oldest first; the last one is to be answered. What a role other than
                `system`, `user` and `assistant` says is read as the user's, with its name in front.
            thread: The caller's name of the conversation: turns are captured under it, and what stands in
                the conversation anyway is not recalled from it.
            budget_tokens: Memories never cost more, by the model's tokenizer; with the neighbours that
                blocks bring, at most twice as much; and never more than the model's context has room for.
            min_score: As in `recall`.
            capture: Capture the messages after the last answer, and the new answer, once it is whole.
            policy: How blocks are put together: `auto`, or a method by name; `full` reads everything as text.
            budget_s: What composing blocks and reading the prompt may take. None: what is worth it.
            max_new_tokens: Where the answer is cut, at the latest.
            stop: Strings before the first of which the answer ends.
            temperature: 0 means always the likeliest token.
            top_p: The likeliest tokens with together this probability stay in the draw.
            top_k: At most so many tokens stay in the draw. 0 means all.
            seed: Makes the draw repeatable. None means another one every time.
            **wanted: What to recall among, as in `search`; of every thread.

        Raises:
            AccessDenied: this scope may not write here, or, without `capture`, not read.
            BadInput: something cannot be taken, or the conversation is longer than the model reads.
            ModelUnavailable, ModelRefused, ModelFailed: the model, the reranker or the rewriter does not answer.
            StoreError: nothing was captured, as after any other error.
        """
        stream = self.chat_stream(
            model,
            messages,
            thread=thread,
            budget_tokens=budget_tokens,
            min_score=min_score,
            capture=capture,
            policy=policy,
            budget_s=budget_s,
            max_new_tokens=max_new_tokens,
            stop=stop,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            **wanted,
        )
        for _ in stream:
            pass
        return stream.answer

    def chat_stream(
        self,
        model: LocalModel | ServedModel | ChatModel,
        messages: Sequence[Message],
        *,
        thread: str = "",
        budget_tokens: int = BUDGET_TOKENS,
        min_score: float = SILENT_BELOW,
        capture: bool = True,
        policy: Policy = "auto",
        budget_s: float | None = None,
        max_new_tokens: int = NEW_TOKENS,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        **wanted: Unpack[Sought],
    ) -> ChatStream:
        """As `chat`, piece by piece: what is returned is iterated, and holds the whole `answer` in the end.

        Arguments and rights are checked now, recall and the model begin with the first piece. The turn is
        captured with the last piece, or by `close()`, as far as it was said.

        Raises:
            AccessDenied, BadInput: as `chat`; its other errors come while iterating.
        """
        self._actor("write" if capture else "read")
        check_model(model)
        request = Request(
            conversation=conversation_of(check_messages(messages)),
            thread=check_name(thread, "thread") if thread else "",
            budget_tokens=check_limit(budget_tokens, "budget_tokens", least=0, most=BUDGET_MAX),
            min_score=check_share(min_score, "min_score"),
            wanted=checked_filter(wanted),
            captures=bool(capture),
            how=_saying(
                policy=policy,
                budget_s=budget_s,
                max_new_tokens=max_new_tokens,
                stop=stop,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                seed=seed,
                salt=self._salt,
            ),
        )
        return ChatStream(self._turn(model, request))

    def warm(self, model: ServedModel, messages: Sequence[Message]) -> ServedUsage:
        """Let a server read a conversation before it is gone on with; changes nothing here.

        The server keeps it under the same salt as `chat` does, so the next turn finds it.

        Args:
            model: Behind a server that keeps what it read.
            messages: The conversation so far, or a system prompt; what is still to be answered is left out.

        Raises:
            AccessDenied: this scope may not read here.
            BadInput: the model is no ServedModel, or a message cannot be taken.
            ModelUnavailable, ModelRefused, ModelFailed: the server does not answer.
        """
        self._actor("read")
        if not is_served(check_model(model)):
            raise BadInput(
                f"model is a {type(model).__name__}: only a ServedModel is warmed, others read in `chat`"
            )
        from memos_engine.chat.served import ServedSpeaker  # noqa: PLC0415 -- few talk to a server

        prompt = Prompt(answered_part(check_messages(messages)), (), "")
        return ServedSpeaker(model).warm(prompt, Saying(salt=self._salt))

    @property
    def _salt(self) -> str:
        """Names this cube and principal to a server without telling who they are."""
        return sha256(f"{self.id}\0{self._principal}".encode()).hexdigest()

    @property
    def activation(self) -> ActivationMemory:
        """The passages of this cube whose keys and values local models keep."""
        from memos_engine.blocks.handle import ActivationMemory  # noqa: PLC0415 -- few cubes keep any

        return ActivationMemory(self.id, lambda: self._host.activation(self.id), self._actor)

    def _turn(self, model: object, request: Request) -> Turn:
        """A turn with a checked model."""
        place = Place(lambda: self._shelf, self._actor, self._host.clock)

        def uses(blocks: Sequence[str], items: Sequence[str]) -> None:
            if not is_local(model):
                return
            try:
                self._actor("write")
            except AccessDenied:  # who may only read leaves no trace, and calls for no blocks
                return
            self._host.activation(self.id).used(blocks, items)
            self._host.met(self.id, model)

        return Turn(
            place,
            request,
            lambda: speaker_of(model, lambda: self._host.activation(self.id), self._principal),
            uses,
        )


def _saying(
    *,
    policy: object,
    budget_s: object,
    max_new_tokens: object,
    stop: object,
    temperature: object,
    top_p: object,
    top_k: object,
    seed: object,
    salt: str,
) -> Saying:
    """How to answer, as it was asked for.

    Raises:
        BadInput: one of these cannot be taken.
    """
    ends = check_several(stop, "stop")
    if not all(isinstance(end, str) and end for end in ends):
        raise BadInput(f"stop is {stop!r:.80}: it must be a list of strings, none of them empty")
    cut = check_share(top_p, "top_p")
    if cut == 0:
        raise BadLimit("top_p is 0: it must be above 0, up to 1, which means all")
    return Saying(
        max_new_tokens=check_limit(max_new_tokens, "max_new_tokens", most=NEW_TOKENS_MAX),
        stop=tuple(map(str, ends)),
        temperature=_from_zero(temperature, "temperature"),
        top_p=cut,
        top_k=check_limit(top_k, "top_k", least=0, most=NEW_TOKENS_MAX),
        seed=None if seed is None else check_limit(seed, "seed", least=0, most=_SEED_MAX),
        policy=check_choice(policy, POLICIES, "policy"),
        budget_s=None if budget_s is None else _above_zero(budget_s, "budget_s"),
        salt=salt,
    )


def _from_zero(value: object, what: str) -> float:
    number = check_finite(value, what)
    if number < 0:
        raise BadLimit(f"{what} is {number!r}: it must be 0 or more")
    return number


def _above_zero(value: object, what: str) -> float:
    number = _from_zero(value, what)
    if number == 0:
        raise BadLimit(f"{what} is 0: it must be above 0, or None")
    return number
