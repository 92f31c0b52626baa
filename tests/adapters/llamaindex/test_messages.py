"""Chat messages of LlamaIndex as JSON and back, and as the engine captures them."""

from __future__ import annotations

import base64
import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from pydantic import BaseModel

from memos_adapters._text import rendered
from memos_adapters.llamaindex.messages import (
    from_json,
    last_from_user,
    own_part,
    to_engine,
    to_json,
    words_of,
)
from memos_engine import BadInput

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DIGEST = hashlib.sha256(PNG).hexdigest()
SPOKEN = frozenset({"user", "assistant"})
MESSAGES = {
    "text": ChatMessage("Hello, 世界 👋\0"),
    "blank": ChatMessage("", role=MessageRole.ASSISTANT),
    "no blocks": ChatMessage(role=MessageRole.ASSISTANT),
    "two texts": ChatMessage(blocks=[TextBlock(text="one"), TextBlock(text="two")]),
    "image": ChatMessage(blocks=[ImageBlock(image=PNG, detail="high"), TextBlock(text="What is it?")]),
    "image by url": ChatMessage(blocks=[ImageBlock(url="https://example.org/cat.png")]),
    "audio": ChatMessage(blocks=[AudioBlock(audio=b"\0RIFF", format="wav")]),
    "video": ChatMessage(blocks=[VideoBlock(video=b"\0\0ftyp", video_mimetype="video/mp4", fps=2)]),
    "document": ChatMessage(blocks=[DocumentBlock(data=b"%PDF-1.4 ...", title="Rent")]),
    "document by path": ChatMessage(blocks=[DocumentBlock(path="rent.pdf")]),
    "cache point": ChatMessage(blocks=[CachePoint(cache_control=CacheControl(type="ephemeral"))]),
    "citable": ChatMessage(
        blocks=[
            CitableBlock(
                title="Guide", source="g.md", content=[TextBlock(text="Turn"), ImageBlock(image=PNG)]
            )
        ]
    ),
    "citation": ChatMessage(
        blocks=[
            CitationBlock(
                cited_content=TextBlock(text="Turn"),
                source="g.md",
                title="Guide",
                additional_location_info={"p": 3},
            )
        ]
    ),
    "thinking": ChatMessage(
        role=MessageRole.ASSISTANT,
        blocks=[
            ThinkingBlock(content="Hm.", num_tokens=2, additional_information={"signature": b"\xff\0"}),
            TextBlock(text="Yes."),
        ],
    ),
    "tool call": ChatMessage(
        role=MessageRole.ASSISTANT,
        blocks=[ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={"block_type": "text", "n": 1})],
    ),
    "tool call as text": ChatMessage(
        role=MessageRole.ASSISTANT, blocks=[ToolCallBlock(tool_name="f", tool_kwargs='{"n": 1}')]
    ),
    "tool result": ChatMessage(
        "42", role=MessageRole.TOOL, additional_kwargs={"tool_call_id": "c1", "raw": b"\0\xff"}
    ),
    "arguments that look like marks": ChatMessage(
        "x",
        additional_kwargs={"a": {"$bytes": "no"}, "b": {"$as_is": {"$bytes": "no"}}, "c": [1.5, None, True]},
    ),
    "every role": ChatMessage("x", role=MessageRole.DEVELOPER),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_comes_back_from_json_as_it_was(name: str) -> None:
    """Every kind of block, with its bytes, survives being written as JSON text and read again."""
    written = json.loads(json.dumps(to_json(MESSAGES[name])))
    assert from_json(written) == MESSAGES[name]


def test_a_stream_is_kept_as_its_bytes() -> None:
    """An image that was handed over as an open file has the same bytes afterwards, from its very start."""
    stream = BytesIO(PNG)
    stream.read(5)
    back = from_json(to_json(ChatMessage(blocks=[ImageBlock(image=stream, image_mimetype="image/png")])))
    (block,) = back.blocks
    assert isinstance(block, ImageBlock)
    assert block.resolve_image().read() == PNG


def test_a_path_survives_its_file(tmp_path: Path) -> None:
    """A message that names an image file can be read when the file is gone."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    message = ChatMessage(blocks=[ImageBlock(path=path)])
    written = to_json(message)
    path.unlink()
    assert from_json(written) == message


def test_images_among_the_arguments_are_not_doubled() -> None:
    """What LlamaIndex turned from an argument into a block comes back as that one block."""

    class Picture:
        def resolve_image(self, as_base64: bool) -> BytesIO:
            return BytesIO(base64.b64encode(PNG))

    message = ChatMessage("Look", additional_kwargs={"images": [Picture()], "n": 1})
    back = from_json(to_json(message))
    assert back.blocks == message.blocks
    assert back.additional_kwargs == {"n": 1}


def test_what_json_does_not_know_becomes_what_is_nearest() -> None:
    """Arguments of any type are written: a model as its fields, a tuple as a list, an object as its text."""

    class Usage(BaseModel):
        tokens: int

    arguments: dict[Any, Any] = {
        "usage": Usage(tokens=3),
        "pair": (1, "a"),
        "path": Path("/a"),
        "odd": object,
        "broken": "a\ud800b",
        "nan": float("nan"),
        3: "three",
    }
    written = to_json(ChatMessage("x").model_copy(update={"additional_kwargs": arguments}))[
        "additional_kwargs"
    ]
    assert json.loads(json.dumps(written, allow_nan=False)) == {
        "usage": {"tokens": 3},
        "pair": [1, "a"],
        "path": "/a",
        "odd": str(object),
        "broken": "a\ufffdb",
        "nan": "nan",
        "3": "three",
    }


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"type": "human", "data": {"content": "hi"}},
        {"role": "user", "additional_kwargs": {}, "blocks": [{"block_type": "smell"}]},
        {"role": "wizard", "additional_kwargs": {}, "blocks": []},
        {"role": "user", "additional_kwargs": {}, "blocks": [{"block_type": "text"}]},
    ],
)
def test_what_is_no_message_is_told(stored: dict[str, Any]) -> None:
    """JSON of another framework or of a newer version is refused with what to do."""
    with pytest.raises(BadInput, match="session_id"):
        from_json(stored)


def test_only_words_are_captured() -> None:
    """Thinking and tool calls are left out, and media become a line with type and hash."""
    message = ChatMessage(
        role=MessageRole.ASSISTANT,
        blocks=[
            ThinkingBlock(content="secret thoughts"),
            TextBlock(text="A cat."),
            ImageBlock(image=PNG),
            ToolCallBlock(tool_name="f", tool_kwargs={"a": 1}),
            DocumentBlock(data=b"%PDF-1.4 ...", title="Rent"),
        ],
    )
    (said,) = to_engine(message, SPOKEN, id="m1")
    rent = hashlib.sha256(b"%PDF-1.4 ...").hexdigest()
    lines = f"A cat.\n[image image/png sha256:{DIGEST}]\n[document application/pdf Rent sha256:{rent}]"
    assert (said.role, said.text, said.id) == ("assistant", lines, "m1")


def test_a_data_url_is_captured_as_its_hash() -> None:
    """An image in a URL is not written out in what is remembered."""
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    words = words_of(ChatMessage(blocks=[ImageBlock(url=url)]))
    assert words == f"[image image/png sha256:{DIGEST}]"


@pytest.mark.parametrize(
    "message",
    [
        ChatMessage("Be brief.", role=MessageRole.SYSTEM),
        ChatMessage("42", role=MessageRole.TOOL),
        ChatMessage("  ", role=MessageRole.USER),
        MESSAGES["tool call"],
    ],
)
def test_what_nobody_said_is_not_captured(message: ChatMessage) -> None:
    """System prompts, tool results, blanks and bare tool calls are no turns."""
    assert to_engine(message, SPOKEN) == []


def test_a_react_agent_is_captured_by_its_answer() -> None:
    """Of the reasoning that a ReAct agent puts into memory only the answer was said."""
    steps = "Thought: I need it.\nAction: f\nAction Input: {}\nObservation: 42\n"
    reasoning = f"{steps}Thought: Done.\nAnswer: It is 42.\nReally."
    (said,) = to_engine(ChatMessage(reasoning, role=MessageRole.ASSISTANT), SPOKEN)
    assert said.text == "It is 42.\nReally."
    (said,) = to_engine(ChatMessage("Thought: is what I do.", role=MessageRole.ASSISTANT), SPOKEN)
    assert said.text == "Thought: is what I do."


def test_memories_are_taken_out_of_what_comes_back() -> None:
    """A message that was read with memories in it is logged without them, and not at all if it is only these."""
    memories = TextBlock(text=rendered("<memories>\n1 user: old\n</memories>"))
    asked = ChatMessage(blocks=[memories, TextBlock(text="new")])
    assert own_part(asked) == ChatMessage("new")
    assert own_part(ChatMessage(role=MessageRole.SYSTEM, blocks=[memories])) is None
    found = ChatMessage(role=MessageRole.TOOL, blocks=[memories])
    assert own_part(found) is found


def test_the_last_user_message_has_words() -> None:
    """An empty user message asks nothing."""
    messages = [ChatMessage("one"), ChatMessage("two", role=MessageRole.ASSISTANT), ChatMessage("")]
    assert last_from_user(messages) == 0
    assert last_from_user(messages[1:]) is None
