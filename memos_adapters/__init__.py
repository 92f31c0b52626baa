"""Memory for agent frameworks over `memos_engine`: thin, each adapter alone, entered by its own module."""
