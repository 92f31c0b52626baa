"""What becomes of a failed job: the delays, and what is told of the error."""

from __future__ import annotations

from datetime import timedelta

from memos_engine.errors import BadText, MessageConflict, StoreFull
from memos_engine.schedule.job import ATTEMPTS_MAX, ERROR_CHARACTERS_MAX, RETRY_LONGEST, retry, told

SECRET = "I keep the key under the mat"


def raised(error: Exception) -> Exception:
    """Return `error` after it was raised here."""
    try:
        raise error
    except type(error) as exc:
        return exc


def test_delays_grow_and_end() -> None:
    """Each wait is longer than the one before, none is too long, and the last attempt has none."""
    delays = [retry(attempts) for attempts in range(1, ATTEMPTS_MAX)]
    assert delays == [timedelta(seconds=seconds) for seconds in (0.5, 2, 8, 32)]
    assert all(delay is not None and delay <= RETRY_LONGEST for delay in delays)
    assert retry(ATTEMPTS_MAX) is None
    assert retry(ATTEMPTS_MAX + 1) is None


def test_our_own_message_is_told() -> None:
    """Errors of the disk and the like say what to do, and name the place."""
    text = told(raised(StoreFull("no space left: free some")))
    assert text.startswith("StoreFull at test_job.py:")
    assert text.endswith(": no space left: free some")


def test_what_may_quote_memory_is_not_told() -> None:
    """Foreign messages, and ours about an input, stay out: the catalog holds no memory text."""
    for error in (ValueError(SECRET), KeyError(SECRET), BadText(SECRET), MessageConflict(SECRET)):
        text = told(raised(error))
        assert text.startswith(f"{type(error).__name__} at test_job.py:")
        assert SECRET not in text


def test_what_is_told_has_an_end() -> None:
    """An endless message is cut, and an error that was never raised has no place."""
    assert len(told(StoreFull("x" * 10_000))) == ERROR_CHARACTERS_MAX
    assert told(KeyError(SECRET)) == "KeyError"
