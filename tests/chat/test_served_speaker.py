"""A served model in a turn: what its server reads, in which order, and how much of it was read before."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest

from memos_engine.blocks.head import CLOSING, OPENING
from memos_engine.chat.prompt import Part, Prompt, Said, Saying, Speaker
from memos_engine.chat.served import ServedSpeaker
from memos_engine.models.served import ServedModel
from memos_engine.ports import ChatMessage
from tests.models.llm_server import DONE, ChunkCache, LlmServer, PrefixCache, Raw, llm_server, piece, rendered

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it opens its files in an old way
    import bpe_openai  # type: ignore[import-untyped]  # -- it carries no mark of its types

    ENCODINGS = [bpe_openai.get_encoding(name) for name in ("cl100k_base", "o200k_base")]

SYSTEM = ChatMessage("system", "Be short.")
TALK = (SYSTEM, ChatMessage("user", "Hello."), ChatMessage("assistant", "Hello, Ann."))
PARTS = (
    Part("8 May 2023\nAnn: My cat is called Momo.\n", ("1",)),
    Part("9 May 2023\nAnn: I moved.\n", ("2",)),
)
PROMPT = Prompt(TALK, PARTS, "Where is Momo?")


def speaker_of(llm: LlmServer, separator: str | None = None) -> ServedSpeaker:
    """One who speaks for the server's model."""
    return ServedSpeaker(
        ServedModel(
            llm.url, "tiny", engine="lmcache" if separator else "vllm", separator=separator, timeout_s=5
        )
    )


def said(pieces: Generator[str, None, Said]) -> tuple[list[str], Said]:
    """Every piece, and the value at the end."""
    texts = []
    while True:
        try:
            texts.append(next(pieces))
        except StopIteration as end:
            return texts, end.value


def test_a_turn() -> None:
    """Memories stand at the head of the last message; the answer comes in pieces and tells what it took."""
    with llm_server() as llm:
        speaker: Speaker = speaker_of(llm)
        texts, end = said(speaker.say(PROMPT, Saying(max_new_tokens=9, stop=("!",), seed=3, salt="a" * 64)))
    assert texts == ["On", " ", "the", " ", "sofa", "."]
    assert (end.text, end.finish, end.cached_tokens) == ("On the sofa.", "stop", 0)
    assert end.prompt_tokens is not None
    assert end.seconds_to_first_token is not None
    fields = llm.requests[0].fields
    assert (fields["max_tokens"], fields["stop"], fields["seed"]) == (9, ["!"], 3)
    memories = "".join(part.text for part in PARTS)
    assert fields["messages"] == [
        *({"role": each.role, "content": each.content} for each in TALK),
        {"role": "user", "content": f"{OPENING}{memories}{CLOSING}Where is Momo?"},
    ]


@pytest.mark.parametrize(
    ("told", "finish"), [("length", "length"), ("stop", "stop"), ("content_filter", "stop")]
)
def test_why_it_ended(told: str, finish: str) -> None:
    """The server's word becomes ours; one that is not ours is told in the reason."""
    with llm_server(Raw([piece("a", told), DONE])) as llm:
        end = said(speaker_of(llm).say(PROMPT, Saying()))[1]
    assert end.finish == finish
    assert ("content_filter" in end.reason) == (told == "content_filter")


def test_tokens_are_counted_as_the_model_does() -> None:
    """With a counter that is it; without one, bytes are an upper bound."""
    counted = ServedSpeaker(
        ServedModel("http://localhost:1", "m", count_tokens=lambda text: len(text.split()))
    )
    assert counted.count_tokens("a few words") == 3
    assert ServedSpeaker(ServedModel("http://localhost:1", "m")).count_tokens("é") == 2
    assert counted.room((), "a", 9) is None
    assert (counted.blocks(["1"]), counted.fetch([]), counted.apart) == ((), (), True)


def test_leaving_early() -> None:
    """Who stops listening closes the connection."""
    flood: list[bytes | float] = [piece("b" * 4000), 0.01] * 2000
    with llm_server(Raw([piece("a"), *flood])) as llm:
        pieces = speaker_of(llm).say(PROMPT, Saying())
        assert next(pieces) == "a"
        pieces.close()
        assert llm.left.wait(10)


def test_two_askers_never_share() -> None:
    """The salt of a turn reaches the server: equal prompts of two principals are read twice."""
    long = Prompt((ChatMessage("system", "You know the house well. " * 20),), PARTS, "Where is Momo?")
    with llm_server() as llm:
        speaker = speaker_of(llm)
        cached = [
            said(speaker.say(long, Saying(salt=salt)))[1].cached_tokens for salt in ("a", "b", "a", "b")
        ]
    assert cached[:2] == [0, 0]
    assert all(cached[2:])


# warming --------------------------------------------------------------------------------------------


def test_warming_reads_a_conversation() -> None:
    """What was said so far is read before the next question is asked, and then it is there."""
    talk = (
        SYSTEM,
        ChatMessage("user", "Tell me a story. " * 9),
        ChatMessage("assistant", "Once upon a time. " * 9),
    )
    with llm_server() as llm:
        speaker = speaker_of(llm)
        warmed = speaker.warm(Prompt(talk, (), ""), Saying(salt="a"))
        asked = said(speaker.say(Prompt(talk, PARTS, "Go on."), Saying(salt="a")))[1]
    assert [each["role"] for each in llm.messages[0]] == [each.role for each in talk]
    assert llm.requests[0].fields["max_tokens"] == 1
    assert warmed.cached_tokens == 0
    assert warmed.prompt_tokens is not None
    assert asked.cached_tokens is not None
    assert asked.cached_tokens > warmed.prompt_tokens - 32


def test_warming_reads_a_prompt() -> None:
    """A whole prompt is warmed as it would be said."""
    with llm_server() as llm:
        speaker = speaker_of(llm)
        speaker.warm(PROMPT, Saying(salt="a"))
        asked = said(speaker.say(PROMPT, Saying(salt="a")))[1]
    assert llm.messages[0] == llm.messages[1]
    assert asked.prompt_tokens is not None
    assert asked.cached_tokens is not None
    assert asked.cached_tokens >= asked.prompt_tokens - 17


# order ----------------------------------------------------------------------------------------------

Layout = Callable[[Sequence[ChatMessage], Sequence[Part], str], Sequence[ChatMessage]]


def dialogue(layout: Layout, *, follows: bool = True) -> int:
    """Cached tokens over 12 questions, each recalling 3 memories that always matter and 5 of a growing number.

    Args:
        layout: Makes the prompt.
        follows: Each question stands behind those before; else each is asked by itself.
    """
    chance, cache, cached = random.Random(5), PrefixCache(), 0
    memories = [
        Part(f"{day} May 2023\nAnn: On day {day} I saw a {day * 37 % 101}.\n", (f"{day:04}",))
        for day in range(40)
    ]
    talk = [ChatMessage("system", "You are a friend of many years, and short. " * 5)]
    for turn in range(12):
        recalled = [*memories[:3], *chance.sample(memories[3 : 12 + turn], 5)]
        chance.shuffle(recalled)  # by score, which is another for each question
        question = f"What did I see the {turn}th time we went out?"
        messages = layout(talk, recalled, question)
        prompt = rendered([{"role": each.role, "content": each.content} for each in messages])
        cached += cache.read(prompt, "salt")[1]
        if follows:
            answer = f"You saw something, {turn} times, I think."
            talk += [ChatMessage("user", question), ChatMessage("assistant", answer)]
    return cached


def as_prompt(talk: Sequence[ChatMessage], recalled: Sequence[Part], question: str) -> Sequence[ChatMessage]:
    """As a turn has it: canonical order, behind the conversation."""
    return Prompt(tuple(talk), tuple(sorted(recalled, key=lambda part: part.items)), question).messages()


def in_recall_order(
    talk: Sequence[ChatMessage], recalled: Sequence[Part], question: str
) -> Sequence[ChatMessage]:
    """Best first."""
    return Prompt(tuple(talk), tuple(recalled), question).messages()


def in_front(talk: Sequence[ChatMessage], recalled: Sequence[Part], question: str) -> Sequence[ChatMessage]:
    """Canonical order, in the system message."""
    system = talk[0].content + Prompt((), tuple(sorted(recalled, key=lambda part: part.items)), "").remembered
    return (ChatMessage("system", system), *talk[1:], ChatMessage("user", question))


def in_front_in_recall_order(
    talk: Sequence[ChatMessage], recalled: Sequence[Part], question: str
) -> Sequence[ChatMessage]:
    """Best first, in the system message."""
    system = talk[0].content + Prompt((), tuple(recalled), "").remembered
    return (ChatMessage("system", system), *talk[1:], ChatMessage("user", question))


@pytest.mark.parametrize("follows", [True, False])
def test_canonical_order_is_found_again(*, follows: bool) -> None:
    """Ordered by id, at least as much of a prompt was read before as ordered by score, wherever memories stand."""
    assert dialogue(as_prompt, follows=follows) >= dialogue(in_recall_order, follows=follows)
    assert dialogue(in_front, follows=follows) > dialogue(in_front_in_recall_order, follows=follows)


def test_lone_questions_share_memories() -> None:
    """Where no conversation stands between, memories in the order of their ids are found again too."""
    assert dialogue(as_prompt, follows=False) > 1.5 * dialogue(in_recall_order, follows=False)


def test_the_conversation_goes_first() -> None:
    """What changes with each question stands behind what does not: more is found than the other way round."""
    assert dialogue(as_prompt) > 1.4 * dialogue(in_front)


# blending -------------------------------------------------------------------------------------------


def test_blended_memories_stand_apart() -> None:
    """For LMCache's blending each memory is a chunk, in front of what changes from turn to turn."""
    with llm_server() as llm:
        said(speaker_of(llm, " # # ").say(PROMPT, Saying()))
        said(speaker_of(llm, " # # ").say(Prompt((), PARTS, "Where?"), Saying()))
        said(speaker_of(llm, " # # ").say(Prompt(TALK, (), "Where?"), Saying()))
    first, alone, bare = llm.messages
    texts = [part.text.rstrip() for part in PARTS]
    chunks = " # #  ".join([f"Be short.\n\n{OPENING.rstrip()}", *texts, CLOSING.rstrip()])
    assert first == [
        {"role": "system", "content": chunks},
        *({"role": each.role, "content": each.content} for each in TALK[1:]),
        {"role": "user", "content": "Where is Momo?"},
    ]
    assert [each["role"] for each in alone] == ["system", "user"]
    assert "#" not in str(bare)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["cl100k", "o200k"])
def test_separators_stay_whole(encoding: Any) -> None:
    """The tokens by which LMCache looks for a separator (all but the first) stand before each memory."""
    encode = encoding.encode
    parts = (*PARTS, Part("Undated\nAnn: I like tea.\n", ("3",)), Part("\u732b\n", ("4",)))
    with llm_server() as llm:
        said(speaker_of(llm, " # # ").say(Prompt((SYSTEM,), parts, "What?"), Saying()))
    tokens, searched = encode(llm.messages[0][0]["content"]), encode(" # # ")[1:]
    found = [at for at in range(len(tokens)) if tokens[at : at + len(searched)] == searched]
    assert len(found) == len(parts) + 1


def test_a_chunk_is_found_wherever_it_stands() -> None:
    """A memory less in the middle costs a prefix cache what follows, and blending nothing."""
    parts = [Part(f"{day} May 2023\nAnn: I saw {day} dogs.\n", (str(day),)) for day in range(10, 30)]
    cache = ChunkCache(" # # ")
    with llm_server() as llm:
        for some in (parts, [*parts[:3], *parts[4:]]):
            said(speaker_of(llm, " # # ").say(Prompt((SYSTEM,), tuple(some), "What?"), Saying()))
    (_, none), (chunks, loaded) = (cache.read(prompt) for prompt in llm.prompts)
    assert (none, loaded) == (0, chunks)
    prefixes = PrefixCache()
    (_, _), (tokens, cached) = (prefixes.read(prompt, None) for prompt in llm.prompts)
    assert cached < tokens / 2
