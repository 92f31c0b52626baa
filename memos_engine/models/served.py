"""Chat models of servers that keep their keys and values themselves: vLLM, SGLang, LMCache, OpenAI's API.

Such a server reuses what stands before the first difference of two prompts, in a cache of its own that
nobody else can fill, read or empty. What is here asks it well: a salt keeps the prompts of each asker
apart, an answer comes as a stream, and what the server tells of its cache is handed on. It knows no
memories and no order of them: that is `chat.served`.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from memos_engine.errors import BadLimit, BadName
from memos_engine.models.http import chat_request, chat_url
from memos_engine.models.http_door import HttpModel
from memos_engine.ports import ChatMessage, CountTokens

__all__ = ["ServedAnswer", "ServedEngine", "ServedModel", "ServedUsage"]

ServedEngine: TypeAlias = Literal["vllm", "sglang", "lmcache", "openai"]
"""What stands behind the address; `lmcache` is vLLM with LMCache as its KV connector."""


@dataclass(frozen=True, slots=True)
class ServedUsage:
    """What a server tells of one request. None: it does not tell."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the prompt, those that were in the server's cache. Some servers leave it out where it is 0."""
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """A whole answer, its pieces joined."""

    text: str
    finish: str
    """Why it ended, in the server's word: `stop`, `length`, `content_filter`, ..."""
    usage: ServedUsage


class ServedModel(HttpModel):
    """A chat model behind an OpenAI-compatible server with a prefix cache; a `ChatModel` that also streams.

    Connections are kept between calls. Thread-safe; after a fork, make a new one.

    Args:
        base_url: As of `HttpChatModel`.
        model: The model's name at that server.
        engine: Decides how the server is told whose cache a request may use: by `cache_salt` (`vllm`,
            `sglang`), by that and a tag of LMCache's (`lmcache`), or not at all (`openai`: the form
            has no such field, so whoever shares the server's cache shares it, and it alone decides with whom).
        api_key: As of `HttpChatModel`.
        salt: A secret of this deployment. Keys what is sent as the salt, so that nobody who knows a
            cube's and a user's name, and may talk to the server, can find out what was asked. Processes
            that shall share what the server has read need the same one.
        separator: LMCache's `blend_special_str`, where LMCache blends within vLLM's process: memories
            stand apart by it. That way of blending knows no salt: whoever uses the server shares its
            chunks. See docs/serving.md.
        count_tokens: Tokens of a text for this model. None: an upper bound, about four times what
            English takes, so that a budget is filled to a quarter.
        timeout_s: Seconds for one try of `complete` and `warm`; in a stream, the longest wait for a piece.
        retries: As of `HttpChatModel`; a stream is tried again only as long as nothing came.

    Raises:
        BadName: The URL, the model, the engine, the key or the separator cannot be one.
        BadLimit: `timeout_s` or `retries` is absurd.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        engine: ServedEngine = "vllm",
        api_key: str | None = None,
        salt: str = "",
        separator: str | None = None,
        count_tokens: CountTokens | None = None,
        timeout_s: float = 60,
        retries: int = 2,
    ) -> None:
        if engine not in get_args(ServedEngine):
            raise BadName(f"engine={engine!r} is none of {', '.join(get_args(ServedEngine))}.")
        if separator is not None and (engine != "lmcache" or not separator):
            raise BadName(f"{separator=} is for engine='lmcache' alone, and not empty: leave it out.")
        super().__init__(chat_url(base_url), model, api_key, timeout_s, retries)
        self._engine = engine
        self._secret = salt.encode("utf-8", "surrogatepass")
        self.separator = separator
        self.count_tokens = count_tokens

    @property
    def isolates(self) -> bool:
        """Whether the server is told whose cache a request may use, and by its makers' word keeps to it."""
        return self._engine != "openai" and self.separator is None

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 512, temperature: float = 0.0
    ) -> str:
        """Return the text of the first answer, as it came; it may be empty.

        All calls share one salt, since nobody is named here: use `say` where askers are to be kept apart.

        Raises:
            BadText: There is no message.
            BadLimit: `max_tokens` is less than 1, or `temperature` not from 0 to 2.
            ModelRefused: The server refused: a wrong key, an unknown model, too long a prompt.
            ModelUnavailable: No httpx; or the server is away, too slow, busy or failing to the last try.
            ModelFailed: What came is no such answer.
        """
        request = chat_request(self._model, messages, max_tokens, temperature) | self._salted("")
        match self._server.asked(request):
            case {"choices": [{"message": {"content": str(content)}}, *_]}:
                return content
            case _:
                raise self._server.malformed("choices[0].message.content")

    def say(
        self,
        messages: Sequence[ChatMessage],
        *,
        salt: str = "",
        max_tokens: int = 512,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
    ) -> Generator[str, None, ServedAnswer]:
        """Yield the answer's text in pieces, as they come; return the whole with what the server tells of it.

        Closing the generator closes the connection, which is how a server learns to stop.

        Args:
            messages: The prompt, oldest first.
            salt: Names the asker: only requests with the same one share what the server has read. It is
                not sent; a hash of it is, keyed by the model's own `salt`.
            max_tokens: Where the answer is cut, in tokens of the model.
            stop: Strings before the first of which the answer ends; some servers take four at most.
            temperature: 0 asks for the likeliest answer.
            top_p: Share of the probability that is drawn from, above 0 and at most 1.
            top_k: How many of the likeliest tokens are drawn from. 0: all. OpenAI's own form has no such field.
            seed: For the drawing. None: the server's.

        Raises:
            BadText: There is no message.
            BadLimit: A number is out of its range.
            ModelRefused: The server refused: a wrong key, an unknown model, too long a prompt.
            ModelUnavailable: No httpx; or the server is away, too slow, busy or failing to the last try.
            ModelFailed: What came is no such stream, or it was cut; the pieces before were yielded.
        """
        if not 0 < top_p <= 1 or top_k < 0:
            raise BadLimit(f"{top_p=} must be above 0 and at most 1, and {top_k=} not below 0.")
        if top_k and self._engine == "openai":
            raise BadLimit(f"{top_k=} cannot be asked of engine='openai': leave it at 0, or use top_p.")
        request = chat_request(self._model, messages, max_tokens, temperature) | self._salted(salt)
        request |= {"top_p": top_p, "stream": True, "stream_options": {"include_usage": True}}
        request |= {"stop": list(stop)} if stop else {}
        request |= {"top_k": top_k} if top_k else {}
        request |= {} if seed is None else {"seed": seed}
        texts, finish, usage = [], None, ServedUsage()
        with closing(self._server.events(request)) as events:
            for event in events:
                piece, ended = self._piece(event)
                finish = ended or finish
                usage = _usage(event) or usage
                if piece:
                    texts.append(piece)
                    yield piece
        if finish is None:
            raise self._server.broken("it ended without a finish_reason")
        return ServedAnswer("".join(texts), finish, usage)

    def warm(self, messages: Sequence[ChatMessage], *, salt: str = "") -> ServedUsage:
        """Ask for one token, so that the server reads `messages` into its cache; return what it tells.

        Args:
            messages: The beginning of prompts to come: what they share with it is not read again.
            salt: As of `say`: only prompts said with the same one profit.

        Raises:
            BadText, ModelRefused, ModelUnavailable, ModelFailed: as of `complete`.
        """
        answer = self._server.asked(chat_request(self._model, messages, 1, 0.0) | self._salted(salt))
        match answer:
            case {"choices": [_, *_]}:
                return _usage(answer) or ServedUsage()
            case _:
                raise self._server.malformed("choices")

    def _salted(self, salt: str) -> dict[str, Any]:
        """What tells the server whose cache to use: a keyed hash, from which no name can be guessed."""
        if self._engine == "openai":
            return {}
        key = hmac.new(self._secret, salt.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
        if self._engine == "lmcache" and self.separator is None:
            # LMCache in vLLM's process passes cache_salt over, and keeps entries of another tag apart
            return {"cache_salt": key, "kv_transfer_params": {"lmcache.tag.salt": key}}
        return {"cache_salt": key}

    def _piece(self, event: object) -> tuple[str, str | None]:
        """The text of an event, and why the answer ends with it."""
        match event:
            case {"error": error} if error:
                raise self._server.broken("it failed", json.dumps(error).encode())
            case {"choices": []}:  # usage comes alone
                return "", None
            case {"choices": [{"delta": dict(delta)} as choice, *_]}:
                piece, finish = delta.get("content"), choice.get("finish_reason")
            case _:
                raise self._server.malformed("choices[0].delta in an event")
        if not isinstance(piece, str | None) or not isinstance(finish, str | None):
            raise self._server.malformed("text in choices[0].delta.content of an event")
        return piece or "", finish


def _usage(answer: object) -> ServedUsage | None:
    """What an answer or an event tells of its tokens; None if nothing."""
    match answer:
        case {"usage": dict(usage)}:
            details = usage.get("prompt_tokens_details")
            cached = details.get("cached_tokens") if isinstance(details, dict) else None
            told = (usage.get("prompt_tokens"), cached, usage.get("completion_tokens"))
            return ServedUsage(*(tokens if type(tokens) is int else None for tokens in told))
        case _:
            return None
