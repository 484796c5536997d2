"""Signals become exceptions, at once or where training asks for them."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from bench.runs.signals import Interrupted, TimeLimitReached, handled, pass_on, time_limit


@pytest.fixture(autouse=True)
def ctrl_c():
    """Tests in the background of a shell inherit that Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_a_signal_is_an_exception_with_an_exit_code(number, code):
    before = signal.getsignal(number)
    with handled(), pytest.raises(Interrupted) as raised:
        os.kill(os.getpid(), number)
        time.sleep(1)
    assert raised.value.code == code and isinstance(raised.value, KeyboardInterrupt)
    assert str(raised.value) == f"stopped by {'Ctrl-C' if number == signal.SIGINT else number.name}"
    assert signal.getsignal(number) is before


def test_a_deferred_signal_waits_for_the_end_of_the_block():
    reached = []
    with handled() as signals:
        with pytest.raises(Interrupted, match="SIGTERM"), signals.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append(signals.is_pending)
        assert reached == [True] and not signals.is_pending
        with signals.deferred():
            pass


def test_a_second_signal_does_not_wait():
    reached = []
    with handled() as signals, pytest.raises(Interrupted, match="SIGINT|Ctrl-C"), signals.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("the end")
    assert not reached


def test_an_ignored_signal_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_has_no_signals():
    found = []

    def work():
        with handled() as signals, signals.deferred(), time_limit(1e-9):
            found.append(signals.is_pending)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_time_limit_counts_what_was_used_before():
    with handled():
        with pytest.raises(TimeLimitReached, match="^it takes longer than limit.minutes=1$"), time_limit(1, used=59.9):
            time.sleep(5)
        with time_limit(1, used=59.8):
            pass
        time.sleep(0.3)
        with time_limit(None):
            pass


def test_other_signals_than_ctrl_c_count_once():
    """Slurm sends each to all processes of a job, and they pass it on to each other."""
    reached = []
    with handled() as signals:
        with pytest.raises(Interrupted, match="SIGTERM"), signals.deferred():
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR2):
                os.kill(os.getpid(), number)
            reached.append("the end")
        os.kill(os.getpid(), signal.SIGTERM)  # while the interruption is on its way up
        with handled() as inner:
            assert inner is signals
    assert reached == ["the end"]


def test_a_patient_process_does_not_mind_a_second_ctrl_c():
    with handled() as signals:
        signals.is_patient = True
        with pytest.raises(Interrupted, match="Ctrl-C"), signals.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            reached = True
    assert reached


def test_a_time_limit_gives_way_to_a_signal():
    with handled() as signals, pytest.raises(Interrupted, match="SIGUSR1"), signals.deferred():
        os.kill(os.getpid(), signal.SIGALRM)
        os.kill(os.getpid(), signal.SIGUSR1)


def test_a_signal_is_passed_on_to_the_handler_of_a_launcher():
    received = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: received.append(number))
    try:
        with pytest.raises(Interrupted, match="SIGUSR2") as raised, handled():
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(1)
        with handled():
            pass_on(raised.value)
        assert received == [], "that of this package is no launcher's"
        pass_on(raised.value)
    finally:
        signal.signal(signal.SIGUSR2, before)
    pass_on(raised.value)
    assert received == [signal.SIGUSR2]
