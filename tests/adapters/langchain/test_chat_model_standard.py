"""LangChain's own tests of chat models: with a tiny model what needs no words, with a real one the rest."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from memos_adapters.langchain import MemosChatModel
from memos_engine import MemOS
from tests.adapters.chat_models import smollm2, tiny_model

LONG = "The cat sat on the mat, and the dog beside it. " * 8


class TestUnit(ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _memos(self, memos: MemOS) -> None:
        self.memos = memos

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return MemosChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"memos": self.memos, "model": tiny_model(), "user_id": "alice"}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_tool_choice(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_model_override(self) -> bool:
        return False


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(beta|in preview):langchain_core._api.LangChainBetaWarning")
class TestIntegration(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _memos(self, memos: MemOS) -> None:
        self.memos = memos

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return MemosChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"memos": self.memos, "model": smollm2(), "user_id": "alice", "max_tokens": 12}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_tool_choice(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_json_mode(self) -> bool:
        return False

    @property
    def supports_image_inputs(self) -> bool:
        return False

    @property
    def supports_image_urls(self) -> bool:
        return False

    @property
    def supports_pdf_inputs(self) -> bool:
        return False

    @property
    def supports_audio_inputs(self) -> bool:
        return False

    @property
    def supports_video_inputs(self) -> bool:
        return False

    @property
    def supports_anthropic_inputs(self) -> bool:
        return False

    @property
    def supports_image_tool_message(self) -> bool:
        return False

    @property
    def supports_pdf_tool_message(self) -> bool:
        return False

    @property
    def supports_model_override(self) -> bool:
        return False

    @property
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> Any:
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        """A second turn, whose conversation the model has read in the first."""
        model = MemosChatModel(**self.chat_model_params, budget_tokens=0)
        first = [("user", LONG)]
        said = model.invoke(first)
        turn = [*first, ("assistant", said.text), ("user", "And then?")]
        if not stream:
            return model.invoke(turn)
        full = AIMessageChunk(content="")
        for chunk in model.stream(turn):
            full += chunk
        return full
