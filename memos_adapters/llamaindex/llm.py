"""An LLM of LlamaIndex that reads a user's memory: of this machine, or behind a server.

    llm = MemosLLM(memos, model="HuggingFaceTB/SmolLM2-135M-Instruct", user_id="alice")
    llm.chat([ChatMessage("Which snack should I buy?")])

It decides nothing of its own: what is recalled, read and said is the engine's business. What is recalled
stands in the prompt alone; what was said is captured once it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, closing
from functools import partial
from typing import Any, TypeVar, cast
from uuid import uuid4

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import LLM
from pydantic import Field, PrivateAttr

from memos_adapters._capture import REMEMBERED_ROLES
from memos_adapters._chat import (
    Answering,
    Asked,
    NamedModel,
    check_fields,
    checked_model,
    name_of,
    said_in_prompt,
    settings_of,
    told_of,
)
from memos_adapters._identity import Isolation, Memories
from memos_adapters._text import TEMPLATE, check_template
from memos_adapters.llamaindex.bound import Handle, Name
from memos_adapters.llamaindex.messages import (
    ROLES,
    answer_of,
    is_observation,
    is_step,
    own_part,
    to_engine,
    words_of,
)
from memos_engine import BadInput, ChatAnswer, MemCube, MemOS, Message

_ASKED = frozenset({"capture"})
_READ = frozenset({"text", "thinking", "cache"})
"""Blocks that a text model can be handed; of these, thoughts and marks of caches are left out."""
_Method = TypeVar("_Method", bound=Callable[..., Any])


def _told_as_chat(method: _Method) -> _Method:
    """LlamaIndex's instrumentation around a method that takes messages."""
    return cast("_Method", llm_chat_callback()(method))


def _told_as_completion(method: _Method) -> _Method:
    """LlamaIndex's instrumentation around a method that takes a prompt."""
    return cast("_Method", llm_completion_callback()(method))


class MemosLLM(Handle, LLM):
    """Answers with what is remembered of the user who asks, and remembers what was said.

    Whose memory it reads is said by the constructor, or by a call's `user_id=`; nobody named is an
    `IdentityMissing`. It calls no functions.

    Args:
        memos: What `MemOS.open` or `acting_as` returned, or a cube of it.
        model: A `LocalModel`, its folder or name, or any other chat model of `memos_engine`.
        **fields: The fields below, and those of LlamaIndex's `LLM`.

    Raises:
        BadInput: a field cannot be taken.
    """

    memos: Any = Field(exclude=True, repr=False)
    model: Any = Field(exclude=True, repr=False)
    """A folder or a name is loaded by the first call, or by `metadata`, once for all that name it."""
    user_id: Name | None = None
    """Whose memory, for good. None: each call says it."""
    agent_id: Name | None = None
    session_id: Name | None = None
    """Names the conversation, too."""
    default_user: Name | None = None
    """Who is meant when a call names nobody."""
    cube: str = "memories"
    """Name of the cube of each user."""
    isolation: Isolation = "user"
    """What has a cube of its own."""
    capture: bool = True
    """Whether what was said since the last answer, and the answer, become memories. A query engine's prompts are
    no words of a user: choose False there."""
    template: str = TEMPLATE
    """What a memory of the same engine puts around memories: they are not captured, nor read twice."""
    context_window: int | None = None
    """Tokens that the model reads. None: a local model tells."""
    budget_tokens: int | None = None
    """Of the memories in the prompt; 0 recalls none. None, here and below: as `MemCube.chat` does."""
    min_score: float | None = None
    max_tokens: int | None = None
    """Of the answer."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] | None = None
    seed: int | None = None
    policy: str | None = None
    """How memories that are kept as keys and values are read."""
    budget_s: float | None = None

    _named: NamedModel | None = PrivateAttr(default=None)

    def __init__(self, memos: MemOS | MemCube, **fields: Any) -> None:
        check_fields(fields, type(self).model_fields, type(self).__name__)
        super().__init__(**{**fields, "memos": memos})
        self._memories()
        self._model()
        check_template(self.template)

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex knows it by."""
        return "MemosLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks of a model; a local one that was named is loaded for its window."""
        window = self.context_window
        if window is None:
            capabilities = getattr(_loaded(self._model()), "capabilities", None)
            window = DEFAULT_CONTEXT_WINDOW if capabilities is None else capabilities.context_tokens
        return LLMMetadata(
            context_window=window,
            num_output=self.max_tokens or DEFAULT_NUM_OUTPUTS,
            is_chat_model=True,
            is_function_calling_model=False,
            model_name=name_of(self._model()),
        )

    def to_payload(self) -> dict[str, Any]:
        """What instrumentation is told of it; it loads nothing."""
        return {"class_name": self.class_name(), "model_name": name_of(self._model()), "is_chat_model": True}

    @_told_as_chat
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The answer to a conversation; it is captured, with what was said since the last one.

        Args:
            messages: Of users, the model and the system, oldest first.
            **kwargs: For this call: `user_id`, `agent_id`, `session_id`, `capture`, and the settings that are
                fields here, from `budget_tokens` on.

        Raises:
            IdentityMissing: nothing names a user or an agent; the model is not called.
            AccessDenied: who is named may not read or write, or is not whom this is bound to.
            BadInput: a message or a setting cannot be taken.
            ModelUnavailable, ModelFailed: the model does not answer; nothing is captured.
            StoreError: what was said could not be captured.
        """
        return self._response(self._answering(messages, kwargs).whole())

    @_told_as_chat
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """As `chat`, in threads. Cancelled, it stops at the next token, and captures nothing."""
        return self._response(await self._answering(messages, kwargs).awhole())

    @_told_as_chat
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """As `chat`, piece by piece; captured before the last one comes. Left early, what came is captured."""
        return self._streamed(self._answering(messages, kwargs))

    @_told_as_chat
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """As `stream_chat`, each piece made in a thread."""
        return self._astreamed(self._answering(messages, kwargs))

    @_told_as_completion
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: FBT001, FBT002 -- LlamaIndex's own
        """As `chat`, of one message by the user."""
        return _completion(self._response(self._completing(prompt, kwargs, formatted=formatted).whole()))

    @_told_as_completion
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: FBT001, FBT002 -- as above
        """As `complete`, in threads."""
        answering = self._completing(prompt, kwargs, formatted=formatted)
        return _completion(self._response(await answering.awhole()))

    @_told_as_completion
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:  # noqa: FBT001, FBT002 -- as above
        """As `stream_chat`, of one message by the user."""
        answering = self._completing(prompt, kwargs, formatted=formatted)

        def completed() -> CompletionResponseGen:
            with closing(self._streamed(answering)) as responses:
                for response in responses:
                    yield _completion(response)

        return completed()

    @_told_as_completion
    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: FBT001, FBT002 -- as above
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """As `astream_chat`, of one message by the user."""
        answering = self._completing(prompt, kwargs, formatted=formatted)

        async def completed() -> CompletionResponseAsyncGen:
            async with aclosing(self._astreamed(answering)) as responses:
                async for response in responses:
                    yield _completion(response)

        return completed()

    def _completing(self, prompt: str, asked: Mapping[str, Any], *, formatted: bool) -> Answering:
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return self._answering([ChatMessage(prompt, role=MessageRole.USER)], asked)

    def _answering(self, messages: Sequence[ChatMessage], asked: Mapping[str, Any]) -> Answering:
        return Answering(partial(self._asked, list(messages), settings_of(self, asked, _ASKED), asked))

    def _asked(
        self, messages: Sequence[ChatMessage], settings: Mapping[str, Any], asked: Mapping[str, Any]
    ) -> Asked:
        """The call, for who it is for; it may open a cube and load a model."""
        memories = self._memories()
        cube = memories.cube(asked)
        reads = settings.get("budget_tokens") != 0
        capture = self.capture if asked.get("capture") is None else asked["capture"]
        prompt = _prompt(messages, self.template if reads else None)
        return Asked(
            cube,
            _loaded(self._model()),
            prompt,
            _heard(messages, self.template) if capture else None,
            uuid4().hex,
            memories.thread(asked),
            settings,
            self.template,
            _spoken,
        )

    def _streamed(self, answering: Answering) -> ChatResponseGen:
        text = ""
        with closing(answering.pieces()) as pieces:
            for piece in pieces:
                text += piece
                yield _response(text, delta=piece)
        yield _response(text, delta="", raw=self._raw(answering.answer))

    async def _astreamed(self, answering: Answering) -> ChatResponseAsyncGen:
        text = ""
        async with aclosing(answering.steps()) as pieces:
            async for piece in pieces:
                text += piece
                yield _response(text, delta=piece)
        yield _response(text, delta="", raw=self._raw(answering.answer))

    def _response(self, answer: ChatAnswer) -> ChatResponse:
        return _response(answer.text, raw=self._raw(answer))

    def _raw(self, answer: ChatAnswer) -> dict[str, Any]:
        """What a response tells of its making, as JSON; tokens where LlamaIndex's counters look for them."""
        raw: dict[str, Any] = {"model": name_of(self._model()), "finish_reason": answer.finish}
        if answer.prompt_tokens is not None and answer.completion_tokens is not None:
            raw["usage"] = {
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
                "total_tokens": answer.prompt_tokens + answer.completion_tokens,
                "cached_tokens": answer.cached_tokens,
            }
        return {**raw, "memos": told_of(answer)}

    def _model(self) -> Any:
        """The model, or the name of one."""
        model = checked_model(self.model)
        if isinstance(model, NamedModel):
            self._named = model  # held: the next call finds it loaded
        return model

    def _memories(self) -> Memories:
        """Made anew for each call, so that a copy or a changed field never acts as the one before."""
        return Memories(
            self.memos,
            user_id=self.user_id,
            agent_id=self.agent_id,
            session_id=self.session_id,
            default_user=self.default_user,
            cube=self.cube,
            isolation=self.isolation,
        )


def _loaded(model: Any) -> Any:
    return model.load() if isinstance(model, NamedModel) else model


def _response(text: str, *, delta: str | None = None, raw: dict[str, Any] | None = None) -> ChatResponse:
    return ChatResponse(message=ChatMessage(text, role=MessageRole.ASSISTANT), delta=delta, raw=raw)


def _completion(response: ChatResponse) -> CompletionResponse:
    return CompletionResponse(text=response.message.content or "", delta=response.delta, raw=response.raw)


def _prompt(messages: Sequence[ChatMessage], template: str | None) -> list[Message]:
    """The messages as they are handed to the model; blank ones are left out.

    Args:
        messages: Oldest first.
        template: What stands around memories that were put into a message; they are taken out, since the
            model gets its own. None: they stay.

    Raises:
        BadInput: a message is none that a text model reads.
    """
    turns = []
    for place, message in enumerate(messages):
        _check_read(message, place)
        own = message if template is None else own_part(message, template)
        if own is not None:
            turns += said_in_prompt(ROLES[message.role], words_of(own))
    return turns


def _heard(messages: Sequence[ChatMessage], template: str) -> list[Message]:
    """What was said since the model's last answer, without memories that were put into it. New each time."""
    answers = [place for place, message in enumerate(messages) if ROLES[message.role] == "assistant"]
    since = messages[answers[-1] + 1 :] if answers else messages
    if answers and is_step(words_of(messages[answers[-1]])):
        since = [message for message in since if not is_observation(message)]
    return [
        turn
        for message in since
        for turn in to_engine(message, REMEMBERED_ROLES, id=uuid4().hex, template=template)
    ]


def _spoken(text: str) -> str:
    """What an answer says to the user: of what a ReAct agent is told, the answer alone."""
    return "" if is_step(text) else answer_of(text)


def _check_read(message: ChatMessage, place: int) -> None:
    if ROLES[message.role] == "tool" or message.additional_kwargs.get("tool_calls"):
        raise BadInput(
            f"messages[{place}] is of calls of functions, which this LLM neither makes nor reads: hand over the "
            "conversation without them, or use a ReActAgent, which calls tools in words"
        )
    for block in message.blocks:
        if block.block_type not in _READ:
            raise BadInput(
                f"messages[{place}] holds a block of type {block.block_type!r}, and this LLM reads text alone: leave "
                "it out, or put a description in its place"
            )
