"""What a user of the engine needs to test with it: fakes here, conformance suites in the modules below."""

from memos_engine.testing.fakes import FrozenClock, HashEmbedder, ScriptedChatModel

__all__ = ["FrozenClock", "HashEmbedder", "ScriptedChatModel"]
