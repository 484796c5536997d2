"""Signals that end a command, and the time limit of a run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, MethodType

# Slurm warns with SIGUSR1 or SIGUSR2 before it kills; SIGHUP comes when a terminal is closed.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}")
        self.number = number
        self.code = 130 if number == signal.SIGINT else 143


class TimeLimitReached(BaseException):  # noqa: N818
    """A run has taken as long as it may. Like an interruption, no `except Exception` holds it back."""


class Signals:
    """Turns signals into exceptions: at once, or where training asks for them, so that it can save its state first.

    A second Ctrl-C ends the process at once, unless it is patient. Other signals count once: Slurm sends each to all
    processes of a job, and a process also passes it on to those that it has started.
    """

    def __init__(self) -> None:
        self.is_patient = False  # for the jobs of a launcher: submitit, too, sends them the Ctrl-C that they have got
        self.before_interruption: Callable[[int], None] | None = None  # gets the signal that raises Interrupted
        self._pending: int | None = None
        self._is_deferred = False
        self._is_ending = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_ending and (number != signal.SIGINT or self.is_patient):
            return
        is_second, self._is_ending = self._is_ending, number != signal.SIGALRM
        if self._is_deferred and not is_second:
            self._pending = number
            return
        if self.before_interruption and self._is_ending and not is_second:
            self.before_interruption(number)
        raise self._exception(number)

    @property
    def is_pending(self) -> bool:
        return self._pending is not None

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within it signals are only noted; at its end the first of them becomes an exception."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
            number, self._pending = self._pending, None
        if number is not None:
            raise self._exception(number)

    @staticmethod
    def _exception(number: int) -> BaseException:
        return TimeLimitReached() if number == signal.SIGALRM else Interrupted(number)


@contextmanager
def handled() -> Iterator[Signals]:
    """Handles signals until the end of the context, except those that are ignored, as under nohup.

    Nested contexts share the signals of the outer one. In another thread than the main one there are none to handle.
    """
    outer = [handler.__self__ for number in ENDING if isinstance(handler := signal.getsignal(number), MethodType)]
    signals = next((one for one in outer if isinstance(one, Signals)), None) or Signals()
    if signals in outer or threading.current_thread() is not threading.main_thread():
        yield signals
        return
    found = [number for number in (*ENDING, signal.SIGALRM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, signals.handle) for number in found}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pass_on(interruption: Interrupted) -> None:
    """Calls the handler that a launcher has set for a signal, such as submitit's, which puts the job back in the queue.

    It may end the process or raise.
    """
    handler = signal.getsignal(interruption.number)
    is_ours = isinstance(getattr(handler, "__self__", None), Signals)
    if callable(handler) and handler is not signal.default_int_handler and not is_ours:
        handler(interruption.number, None)


@contextmanager
def time_limit(minutes: float | None, used: float = 0.0) -> Iterator[None]:
    """Raises TimeLimitReached in the main thread after so many minutes. used: seconds that are over already."""
    if minutes is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, max(60 * minutes - used, 1e-3))
    try:
        yield
    except TimeLimitReached:
        raise TimeLimitReached(f"it takes longer than limit.minutes={minutes:g}") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
