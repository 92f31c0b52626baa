"""Chat with a model of this machine: conversations that go on, what fits, models of all kinds, pieces and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from memos_engine import (
    BadInput,
    ChatMessage,
    LocalModel,
    MemCube,
    MemOS,
    Message,
)
from memos_engine.blocks.head import CLOSING, OPENING
from memos_engine.chat.prompt import Part, Prompt
from memos_engine.testing.fakes import FrozenClock
from tests.activation import tiny
from tests.chat.talks import (
    ALICE,
    ASKED,
    BOB,
    NEW_TOKENS,
    TALK,
    chat,
    local,
    shelf,
    speaker,
    turns,
)


class TestConversation:
    """What was read before is not read again."""

    def test_the_next_turn_reads_what_is_new(self, told: MemCube) -> None:
        """The conversation so far is read once; the answers are those of a model that reads everything."""
        talk, fresh = list(TALK), LocalModel(tiny.network("llama"), tokenizer=tiny.tokenizer())
        read_before = 0
        for number in range(3):
            answer = chat(told, talk, budget_tokens=0)
            ids = fresh.chat_ids([ChatMessage(each.role, each.text) for each in talk])  # type: ignore[arg-type] # -- roles of a model
            plain = fresh.complete(ids, max_new_tokens=NEW_TOKENS)
            assert (answer.text, answer.prompt_tokens) == (plain.text, len(ids))
            assert answer.cached_tokens is not None
            assert answer.cached_tokens >= read_before
            read_before = len(ids) - 1
            talk += [Message("assistant", f"Answer {number}."), Message("user", f"And question {number}?")]

    def test_memories_do_not_spoil_it(self, told: MemCube) -> None:
        """Behind what is kept stand other memories each time; only what is before them is found again."""
        told.activation.build(local(), turns(told))
        first = chat(told, TALK, policy="rerotated")
        more = [*TALK, Message("assistant", "On the coast."), Message("user", "And the boat to Lisbon?")]
        second = chat(told, more, policy="full")
        before = (ChatMessage("user", TALK[0].text), ChatMessage("assistant", "Gladly."))
        head = len(local().chat_parts(before, "")[0])
        assert first.cached_tokens is not None
        assert second.cached_tokens is not None
        assert head <= second.cached_tokens < head + 4, (
            "OPENING and the old question begin with the same letters"
        )
        fresh = LocalModel(tiny.network("llama"), tokenizer=tiny.tokenizer())
        assert chat(told, more, policy="full", model=fresh).text == second.text

    def test_two_principals_share_no_prefix(self, memos: MemOS) -> None:
        """The same conversation in the same cube: nobody finds, nor can tell, what another one has read."""
        own = memos.acting_as(ALICE).cube("diary")
        own.grant(BOB, "read")
        theirs = memos.acting_as(BOB).cube("diary", owner="user:alice")
        assert [chat(own, TALK).cached_tokens, chat(theirs, TALK).cached_tokens] == [0, 0]
        assert chat(own, TALK).cached_tokens == chat(theirs, TALK).cached_tokens != 0
        other = memos.acting_as(ALICE).cube("other")
        assert chat(other, TALK).cached_tokens == 0

    def test_an_exact_question_again(self, told: MemCube) -> None:
        """The same prompt again reads its last tokens only, and says the same."""
        first, second = chat(told, TALK, budget_tokens=0), chat(told, TALK, budget_tokens=0)
        assert (first.text, first.prompt_tokens) == (second.text, second.prompt_tokens)
        assert second.cached_tokens == (second.prompt_tokens or 0) - 1


class TestLimits:
    """What fits."""

    def test_memories_give_way_first(self, told: MemCube) -> None:
        """A conversation that leaves little room is kept whole; memories fill what it leaves beside the answer."""
        sizes = [30, 250, 300, 380, 440]
        known = []
        for size in sizes:
            answer = chat(told, [Message("user", "Lisbon? " + "x" * size)], max_new_tokens=30)
            assert (answer.prompt_tokens or 0) + 30 <= tiny.CONTEXT_TOKENS
            known.append(len(answer.memories))
        assert known == sorted(known, reverse=True)
        assert (known[0], known[-1]) == (3, 0)

    def test_an_answer_ends_with_the_context(self, told: MemCube) -> None:
        """More tokens are asked for than there is room: the answer is cut, and says so."""
        answer = chat(told, [Message("user", "Lisbon? " + "x" * 440)], max_new_tokens=10_000)
        assert answer.finish == "length"
        assert (answer.prompt_tokens or 0) + (answer.completion_tokens or 0) <= tiny.CONTEXT_TOKENS + 1
        assert answer.memories == ()

    def test_a_conversation_that_is_too_long(self, told: MemCube) -> None:
        """It is never cut behind the caller's back."""
        with pytest.raises(BadInput, match=r"conversation is 5\d\d tokens and the model reads 512"):
            chat(told, [Message("user", "x" * 520)])

    def test_the_budget_is_in_the_models_tokens(self, told: MemCube) -> None:
        """Memories and their frame cost at most what they may."""
        plain = chat(told, budget_tokens=0).prompt_tokens or 0
        for budget in (110, 160, 200, 400):
            assert (chat(told, budget_tokens=budget).prompt_tokens or 0) - plain <= budget

    def test_stop_strings_and_seeds(self, told: MemCube) -> None:
        """An answer ends before a stop string; a seed makes a draw repeatable, another one another."""
        whole = chat(told).text
        cut_at = whole[len(whole) // 2]
        answer = chat(told, stop=[cut_at])
        assert (answer.text, answer.finish) == (whole[: whole.index(cut_at)], "stop")
        drawn = [chat(told, temperature=1.0, seed=seed).text for seed in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]
        assert chat(told).text == whole


class TestModels:
    """Models of all kinds can be talked to."""

    @pytest.mark.parametrize(
        "name", ["gemma3", "mistral", "gpt2", "qwen3_next", "dynamic", "longrope", "deepseek"]
    )
    def test_every_kind(self, cube: MemCube, name: str) -> None:
        """With windows, without RoPE, without keys to keep: the second answer is the first, and as without us."""
        cube.add("Lisbon has hills.")
        model = local(name)
        first, second = (chat(cube, TALK, model=model, budget_tokens=150) for _ in range(2))
        assert (first.text, first.prompt_tokens) == (second.text, second.prompt_tokens)
        assert first.cached_tokens == 0
        prompt = Prompt(
            (ChatMessage("user", TALK[0].text), ChatMessage("assistant", "Gladly.")),
            (Part("undated\nLisbon has hills.\n", first.memories),),
            ASKED[0].text,
        )
        ids = speaker(cube, model)._ids(prompt).all
        if first.memories:  # 64 tokens are what the dynamic one reads: there is no room
            assert len(ids) == first.prompt_tokens
            assert model.complete(ids, max_new_tokens=NEW_TOKENS).text == first.text

    def test_a_base_model(self, told: MemCube) -> None:
        """A model without a chat template reads lines, and its answer begins with its first letter."""
        tokenizer = tiny.tokenizer()
        tokenizer.chat_template = None
        model = LocalModel(tiny.network("llama", seed=3), tokenizer=tokenizer)
        told.activation.build(model, turns(told))
        with told.chat_stream(model, TALK, capture=False, max_new_tokens=NEW_TOKENS) as stream:
            pieces = list(stream)
        assert "".join(pieces) == stream.answer.text
        assert not stream.answer.text[:1].isspace()
        assert all(pieces)
        first = chat(told, model=model)
        assert first.method == "exact"
        ids = model.chat_parts((), "")[0] + model.encode(OPENING)
        assert model.decode(ids) == f"user: {OPENING}"
        assert first.memories == tuple(turns(told))

    def test_the_ids_are_those_of_the_template(self, told: MemCube) -> None:
        """Without memories the prompt is the template's own; with some, it is the template's around them."""
        one, model = speaker(told), local()
        before = (ChatMessage("system", "Be brief."),)
        plain = one._ids(Prompt(before, (), "Where?")).all
        assert plain == model.encode_chat((*before, ChatMessage("user", "Where?")))
        framed = one._ids(Prompt(before, (Part("undated\nLisbon.\n", ("i",)),), "Where?")).all
        content = f"{OPENING}undated\nLisbon.\n{CLOSING}Where?"
        assert framed == model.encode_chat((*before, ChatMessage("user", content)))


class TestCaptureAndStream:
    """A turn with a local model is kept as any other."""

    def test_a_turn_is_captured(self, told: MemCube, clock: FrozenClock) -> None:
        """Question and answer are memory afterwards, whatever bytes the model said."""
        answer = told.chat(local(), ASKED, thread="new", max_new_tokens=NEW_TOKENS)
        assert answer.captured is not None
        texts = [told.get(item).text for item in answer.captured.episodes]
        assert texts[0] == ASKED[0].text
        assert texts[1] == answer.text.replace("\0", "\ufffd").strip() or texts[1] == answer.text.replace(
            "\0", "\ufffd"
        )
        assert (answer.completion_tokens, answer.finish) == (NEW_TOKENS, "length")

    def test_pieces_make_the_answer(self, told: MemCube) -> None:
        """The stream is the answer of the call, in several pieces."""
        pieces = list(told.chat_stream(local(), ASKED, capture=False, max_new_tokens=NEW_TOKENS))
        assert len(pieces) > 1
        assert "".join(pieces) == chat(told).text

    def test_closed_after_a_few_pieces(self, told: MemCube) -> None:
        """What was said until then is captured."""
        with told.chat_stream(local(), ASKED, thread="new", max_new_tokens=200) as stream:
            heard = next(stream) + next(stream) + next(stream)
        assert (stream.answer.text, stream.answer.finish) == (heard, "closed")
        captured = stream.answer.captured
        assert captured is not None
        assert len(captured.episodes) == (2 if heard.strip() else 1)

    def test_the_model_is_free_between_pieces(self, told: MemCube) -> None:
        """While one stream waits, another thread's chat with the same model goes through."""
        stream = told.chat_stream(local(), ASKED, capture=False, max_new_tokens=NEW_TOKENS)
        first = next(stream)
        with ThreadPoolExecutor(1) as pool:
            between = pool.submit(chat, told).result(timeout=60).text
        assert first + "".join(stream) == between

    def test_many_threads(self, told: MemCube) -> None:
        """Chats of many threads at once say what they say one by one, and nothing is torn."""
        told.activation.build(local(), turns(told)[:2])
        talks = [[Message("user", f"Lisbon number {n}?")] for n in range(6)]
        alone = [chat(told, talk, policy="full").text for talk in talks]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda talk: chat(told, talk, policy="full").text, talks * 3))
        assert together == alone * 3
        shelf(told).tiers.check_integrity()

    def test_seconds_count_recall(self, told: MemCube) -> None:
        """The time to the first token is told, and is that of the whole turn until then."""
        answer = chat(told)
        assert answer.seconds_to_first_token is not None
        assert answer.seconds_to_first_token > 0
