"""A thread that sweeps a store from time to time. It knows nothing of what is swept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from memos_engine import Closed, MemosError

_log = logging.getLogger(__name__)


class Sweeper:
    """At most one thread at a time. Thread-safe."""

    def __init__(self, sweep: Callable[[], int]) -> None:
        """Sweep by `sweep`, once somebody calls `start`."""
        self._sweep = sweep
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, interval_s: float) -> Future[None]:
        """Sweep every `interval_s` from now on, unless that goes on already.

        Returns:
            Done when the thread ends; to cancel it stops the thread.
        """
        future: Future[None] = Future()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._stop = threading.Event()
                self._thread = threading.Thread(
                    target=self._run,
                    args=(interval_s, self._stop, future),
                    name="memos-ttl-sweeper",
                    daemon=True,
                )
                self._thread.start()
            stop = self._stop
        future.add_done_callback(lambda ended: stop.set() if ended.cancelled() else None)
        return future

    def stop(self, timeout_s: float | None) -> bool:
        """Stop the thread, if there is one; False when it still runs after `timeout_s`."""
        with self._lock:
            thread = self._thread
            self._stop.set()
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def _run(self, interval_s: float, stop: threading.Event, future: Future[None]) -> None:
        while not stop.wait(interval_s):
            try:
                swept = self._sweep()
            except Closed:
                break
            except MemosError as exc:  # the next round tries again; whoever reads never sees what is over
                _log.warning("a store was not swept", extra={"action": "sweep", "error": str(exc)})
            else:
                _log.debug("a store was swept", extra={"action": "sweep", "keys": swept})
        if future.set_running_or_notify_cancel():
            future.set_result(None)
