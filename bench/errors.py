"""The exceptions with a message for the user. This module imports nothing, so that every room can raise them."""

from __future__ import annotations


class InputError(ValueError):
    """An error that the user can fix. The message says what was wrong, what was expected and what to do."""


class SkipError(InputError):
    """A combination that makes no sense: an error in a single run, a skipped row with its reason in a sweep."""


class FailedRunsError(RuntimeError):
    """No run of `bench.run` or `bench.sweep` ended well. results: what is recorded of them, or None."""

    def __init__(self, message: str, results: object = None):
        super().__init__(message)
        self.results = results


class FailedRunsWarning(UserWarning):
    """Some runs of `bench.run` or `bench.sweep` failed. Their status and reason are in its results."""


class UnavailableError(Exception):
    """The model cannot compute this. The message is the reason that the table shows for "n/a"."""
