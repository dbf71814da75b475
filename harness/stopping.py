"""What the first and the second signal to stop do."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopping:
    """Whether somebody asked to stop, and the workers' knowledge of it.

    Args:
        event: what the workers look at between rounds.
    """

    def __init__(self, event: Event) -> None:
        self.event = event
        self._signalled = False

    def asked(self) -> bool:
        """Return whether to stop; tells the workers."""
        # Not in the handler: it may interrupt this process while it holds the event's lock.
        if self._signalled and not self.event.is_set():
            self.event.set()
        return self._signalled

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Within, a first signal asks to stop, and a second one raises at once.

        A signal that was ignored when this process started (by ``nohup``, or by a shell that put
        it into the background) stays ignored.

        Outside the main thread, where Python delivers no signals, nothing is changed.

        Raises:
            KeyboardInterrupt: at the second signal.
        """

        def on_signal(number: int, frame: FrameType | None) -> None:
            del number, frame
            if self._signalled:
                raise KeyboardInterrupt
            self._signalled = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, on_signal) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
