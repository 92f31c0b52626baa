"""A chat model of LangChain that reads a user's memory: of this machine, or behind a server.

    model = MemosChatModel(memos, model="HuggingFaceTB/SmolLM2-135M-Instruct")
    model.invoke("Which snack should I buy?", {"configurable": {"user_id": "alice"}})

It decides nothing of its own: who is asking is resolved by `_identity`, what is recalled, read and said by the
engine. What is recalled stands in the prompt alone; what was said is captured once it is.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from functools import partial
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.messages import LC_ID_PREFIX, AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import Field, PrivateAttr

from memos_adapters._chat import (
    SETTINGS,
    Answering,
    Asked,
    NamedModel,
    check_fields,
    checked_model,
    name_of,
    settings_of,
)
from memos_adapters._identity import Isolation, Memories
from memos_adapters._text import TEMPLATE, check_template
from memos_adapters.langchain._chat_messages import chunk_of, heard_in, last_chunk, prompt_of, result_of
from memos_adapters.langchain._config import configurable
from memos_engine import BadInput, MemCube, MemOS

_SAID = "memos_said"
_STANDARD = ("api_key", "max_retries", "streaming", "timeout")
"""What LangChain may hand to any chat model: with a model of one's own there is nothing to do with them."""
_NAMES = ("user_id", "langgraph_user_id", "agent_id", "session_id", "thread_id", "langgraph_auth_user_id")
"""What of a config says who is asking; nothing else of it is handed on."""
_ASKED = frozenset({_SAID, "capture", "stream", "stream_usage"})
_NO_TOOLS = "MemosChatModel calls no tools: hand the agent none, or use a model of another provider for it"


class MemosChatModel(BaseChatModel):
    """Answers with what is remembered of the user who asks, and remembers what was said.

    Whose memory it reads is said by the constructor, by the call (`user_id=`), or by the call's config, as in
    `config={"configurable": {"user_id": "alice"}}`, or by the context of the graph that runs; nobody named is an
    `IdentityMissing`. The config's `thread_id` names the conversation. Answers are never cached by LangChain.

    Args:
        memos: What `MemOS.open` returned, or a `MemCube` of it.
        model: A `LocalModel`, its folder or name, or any other chat model of `memos_engine`.
        **fields: The fields below.

    Raises:
        BadInput: a field cannot be taken.
    """

    memos: Any = Field(exclude=True, repr=False)
    model: Any = Field(exclude=True, repr=False)
    """A folder or a name is loaded by the first call, once for all models that name it."""
    user_id: str | None = None
    """Whose memory, for good. None: each call says it."""
    agent_id: str | None = None
    session_id: str | None = None
    default_user: str | None = None
    """Who is meant when a call names nobody."""
    cube: str = "memories"
    """Name of the cube of each user."""
    isolation: Isolation = "user"
    """What has a cube of its own."""
    capture: bool = True
    """Whether what was said since the last answer, and the answer, become memories."""
    template: str = TEMPLATE
    """What a middleware of the same agent puts around memories: they are not captured, nor read twice."""
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
        check_fields(fields, {*type(self).model_fields, *_STANDARD}, type(self).__name__)
        super().__init__(memos=memos, **fields)  # type: ignore[call-arg] # -- it takes our fields
        self._memories()
        self._model()
        check_template(self.template)
        if self.cache:
            raise BadInput(
                "cache is set: an answer depends on whose memory it is of, so that none is kept for others"
            )
        self.cache = False  # a cache of LangChain's, set for all models, would not know the user

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """The answer to a conversation; it is captured, with what was said since the last one.

        Args:
            input: A text, or messages of humans, the model and the system.
            config: Its configurable may name `user_id`, `agent_id`, `session_id` and `thread_id`.
            stop: Strings before the first of which the answer ends.
            **kwargs: For this call: `user_id`, `agent_id`, `session_id`, `capture`, and the settings that are
                fields here, from `budget_tokens` on.

        Raises:
            IdentityMissing: nothing names a user or an agent; the model is not called.
            AccessDenied: who is named may not read or write, or is not whom this model is bound to.
            BadInput: a message or a setting cannot be taken.
            ModelUnavailable, ModelFailed: the model does not answer; nothing is captured.
            StoreError: what was said could not be captured.
        """
        return super().invoke(input, config, stop=stop, **{**kwargs, **_said_by(config)})

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """As `invoke`, in threads. Cancelled, it stops at the next token, and captures nothing."""
        return await super().ainvoke(input, config, stop=stop, **{**kwargs, **_said_by(config)})

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """As `invoke`, piece by piece; captured before the last one comes. Left early, what came is captured."""
        return super().stream(input, config, stop=stop, **{**kwargs, **_said_by(config)})

    def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """As `stream`, each piece made in a thread."""
        return super().astream(input, config, stop=stop, **{**kwargs, **_said_by(config)})

    def stream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As `BaseChatModel.stream_events`, for whom the config names."""
        told = _said_by(config) if kwargs.get("version") == "v3" else {}  # the others go by `astream`
        return super().stream_events(input, config, **kwargs, **told)

    def astream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As `BaseChatModel.astream_events`, for whom the config names."""
        told = _said_by(config) if kwargs.get("version") == "v3" else {}
        return super().astream_events(input, config, **kwargs, **told)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model as it is, where there are no tools.

        Raises:
            BadInput: there are; it calls none.
        """
        if tools:
            raise BadInput(_NO_TOOLS)
        return self.bind(**kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        """The text as tokens of a local model, which is loaded for it; of others as LangChain counts."""
        model = self._model()
        model = model.load() if isinstance(model, NamedModel) else model
        encode = getattr(model, "encode", None)
        if self.custom_get_token_ids is not None or encode is None:
            return super().get_token_ids(text)
        return list(encode(text))

    @property
    def _llm_type(self) -> str:
        return "memos"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        settings = {name: getattr(self, name) for name in SETTINGS}
        return {"model_name": self._name(), **{k: v for k, v in settings.items() if v is not None}}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "memos"
        if "ls_model_name" not in params:
            params["ls_model_name"] = self._name()
        return params

    def _resolve_model_profile(self) -> ModelProfile:
        profile = ModelProfile(tool_calling=False, structured_output=False, image_inputs=False)
        capabilities = getattr(self.model, "capabilities", None)
        if capabilities is not None:
            profile["max_input_tokens"] = capabilities.context_tokens
        return profile

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer_id = _answer_id(run_manager)
        answer = self._answering(messages, stop, answer_id, kwargs).whole()
        return result_of(answer, answer_id, self._name())

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer_id = _answer_id(run_manager)
        answer = await self._answering(messages, stop, answer_id, kwargs).awhole()
        return result_of(answer, answer_id, self._name())

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer_id = _answer_id(run_manager)
        answering = self._answering(messages, stop, answer_id, kwargs)
        with closing(answering.pieces()) as pieces:
            for piece in pieces:
                chunk = chunk_of(piece, answer_id)
                if run_manager is not None:
                    run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk
        yield last_chunk(answering.answer, answer_id, self._name())

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        answer_id = _answer_id(run_manager)
        answering = self._answering(messages, stop, answer_id, kwargs)
        async with aclosing(answering.steps()) as pieces:
            async for piece in pieces:
                chunk = chunk_of(piece, answer_id)
                if run_manager is not None:
                    await run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk
        yield last_chunk(answering.answer, answer_id, self._name())

    def _answering(
        self, messages: list[BaseMessage], stop: list[str] | None, answer_id: str, asked: dict[str, Any]
    ) -> Answering:
        if any(asked.get(name) for name in ("tools", "functions", "response_format")):
            raise BadInput(_NO_TOOLS)
        said = asked if stop is None else {**asked, "stop": stop}
        return Answering(partial(self._asked, messages, answer_id, settings_of(self, said, _ASKED), asked))

    def _asked(
        self,
        messages: list[BaseMessage],
        answer_id: str,
        settings: Mapping[str, Any],
        asked: Mapping[str, Any],
    ) -> Asked:
        """The call, for who it is for; it may open a cube and load a model."""
        run, login = _graph_that_runs()
        known = (asked, asked.get(_SAID), run, configurable())
        memories = self._memories()
        cube = memories.cube(*known, authenticated=login)
        reads = settings.get("budget_tokens") != 0
        capture = self.capture if asked.get("capture") is None else asked["capture"]
        prompt = prompt_of(messages, self.template if reads else None)
        model = self._model()
        return Asked(
            cube,
            model.load() if isinstance(model, NamedModel) else model,
            prompt,
            heard_in(messages, self.template) if capture else None,
            answer_id,
            memories.thread(*known),
            settings,
            self.template,
        )

    def _name(self) -> str:
        return name_of(self._model())

    def _model(self) -> Any:
        """The model, or the name of one; a copy of this with another model has its own."""
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


def _said_by(config: RunnableConfig | None) -> dict[str, Any]:
    """What a call's config says of who is asking, as an argument that reaches the model; nothing else of it."""
    named = configurable(config)
    said = {name: named[name] for name in _NAMES if named.get(name) is not None}
    return {_SAID: said} if said else {}


def _graph_that_runs() -> tuple[object, str | None]:
    """The context of LangGraph's run that this is a part of, and as whom its server let the caller in."""
    if "langgraph.runtime" not in sys.modules:
        return None, None
    from memos_adapters._langgraph_runtime import running  # noqa: PLC0415 -- where no graph runs it may be missing

    return running()


def _answer_id(run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> str:
    """The id of an answer, in the message and in the memory: what hands it over again finds it captured."""
    return f"{LC_ID_PREFIX}-{uuid4() if run_manager is None else run_manager.run_id}"
