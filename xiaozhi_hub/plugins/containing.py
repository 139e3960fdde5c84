"""Keeps what integrations do within bounds: anybody's code may raise anything, and exit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from xiaozhi_hub.errors import ConfigError, ConfigErrors, HubError

T = TypeVar("T")
THREAD_SECONDS = 1.0
"""How long a thread that hangs in an integration is waited for; then it is left behind."""


def is_ours(error: BaseException) -> bool:
    """Is it the hub that ends, not the integration that failed?"""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, (KeyboardInterrupt, GeneratorExit))


def contained(function: Callable[..., T], *args: Any) -> T:
    """Call into an integration, in a thread. What a future cannot carry, or what would end the loop, becomes an error."""
    try:
        return function(*args)
    except BaseException as error:  # `sys.exit()`, too
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise
        raise RuntimeError(f"{type(error).__name__}: {error}".removesuffix(": ")) from error


def call_plainly(name: str, hook: Callable[..., Any], register: Callable[[Any], None]) -> None:
    answer = hook(register=register)
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError(f"{name} is called in a thread: make it a plain function, not an async one")


def told(error: BaseException) -> tuple[str, str]:
    """What went wrong and what to do about it, for people."""
    if isinstance(error, ConfigErrors) and len(error.errors) > 1:
        return str(error), ""  # each with its own hint
    if isinstance(error, ConfigError):
        return f"{error.place}: {error.message}", error.hint
    if isinstance(error, HubError):
        return error.message, error.hint
    return f"{type(error).__name__}: {error}", "The log has the details."


__all__ = ["THREAD_SECONDS", "call_plainly", "contained", "is_ours", "told"]
