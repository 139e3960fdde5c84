"""What a peer does wrong is no failure of the hub: it must neither fill the log nor get what it sent into it."""

from __future__ import annotations

import logging
import warnings

from aiohttp import BadContentDispositionHeader, BadContentDispositionParam
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError


class PeerFaults(logging.Filter):
    """Makes one debug line of aiohttp's tracebacks about requests, or bodies of them, that are no HTTP.

    They quote the line they stumbled over, which may be the one that holds a device's token.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | RequestPayloadError):
            return True
        if not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            return False
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        record.exc_info = record.exc_text = None
        record.msg = f"{record.getMessage()}: {type(error).__name__}"
        record.args = None
        return True


def ignore_odd_forms() -> None:
    """Keep aiohttp from warning of parts of forms that it cannot name: Python would remember each text that it has warned with."""
    for kind in (BadContentDispositionHeader, BadContentDispositionParam):
        warnings.filterwarnings("ignore", category=kind)


__all__ = ["PeerFaults", "ignore_odd_forms"]
