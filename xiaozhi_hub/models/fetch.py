"""Fetching one file over HTTP, on lines and from servers that do not keep their word.

What has come is kept: a broken connection, or a command that was stopped, goes on where it ended (``Range`` with ``If-Range``, RFC
9110 §13.1.5 and §14). Nobody is believed: size and checksum decide, where they are known.
"""

from __future__ import annotations

import asyncio
import errno
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from xiaozhi_hub import __version__
from xiaozhi_hub.core.config import ModelsConfig
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.models.catalogue import SMALL_BYTES, ModelFile
from xiaozhi_hub.models.checks import PIECE_BYTES, Digests, digests_of
from xiaozhi_hub.models.progress import Progress
from xiaozhi_hub.models.sources import proxy_for
from xiaozhi_hub.models.stock import RESUME, disk_trouble

REDIRECTS = 6
WORTH_BYTES = 2**16
"""A try that came so much further than those before was worth it: the count of failures begins anew."""
LONGEST_PAUSE = 60.0
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class Stamina:
    """How long the other side is put up with, in seconds."""

    connect: float = 15.0
    silence: float = 30.0
    pauses: tuple[float, ...] = (1, 2, 5, 10, 20)
    """Before each new try; after the last one it is given up."""


class Broken(Exception):
    """It did not work this time; another try may. ``wait`` is what the server asked for."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class Fetcher:
    """Fetches files, one after the other. ``async with Fetcher(settings) as fetcher``."""

    def __init__(self, settings: ModelsConfig, stamina: Stamina | None = None) -> None:
        self._settings = settings
        self._stamina = stamina or Stamina()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._stamina.connect, sock_read=self._stamina.silence
            ),
            headers={"User-Agent": f"xiaozhi-hub/{__version__}", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def fetch(self, address: str, target: Path, file: ModelFile, progress: Progress) -> Digests:
        """Bring *file* from *address* to *target*, going on with what is there; return what its bytes add up to.

        `HubError` says what is wrong, with the server, the line or the disk, and what to do about it.
        """
        host = URL(address).host or address
        failures, spoiled, furthest = 0, False, _size(target)
        while True:
            had = _size(target)
            try:
                await self._complete(URL(address), target, file, progress)
            except Broken as trouble:
                there = _size(target)
                # What was thrown away and came once more is no gain: that could go on for ever.
                failures = 1 if there - furthest >= WORTH_BYTES else failures + 1
                furthest = max(furthest, there)
                if failures > len(self._stamina.pauses):
                    raise HubError(
                        f"{file.name} could not be fetched from {host}: {trouble}, {failures} times in a row.",
                        code="download-broken",
                        hint="What has come so far is kept. Is the network up? Give the same command again to go on.",
                    ) from trouble
                pause = max(self._stamina.pauses[failures - 1], trouble.wait)
                progress.note(f"{trouble}; trying again in {pause:.0f} s")
                await asyncio.sleep(pause)
                continue
            try:
                digests = await asyncio.to_thread(digests_of, target, progress)
            except OSError as error:
                raise disk_trouble(target, error) from error
            if not (wrong := digests.differs(file)):
                _forget(target)
                return digests
            await asyncio.to_thread(_discard, target)
            if spoiled or not had:
                raise HubError(
                    f"What {host} sent is not {file.name}: {wrong}.",
                    code="download-wrong",
                    hint="It was thrown away. The mirror has another version of the file, or something on the way changes "
                    "it: try another address (models: mirror:).",
                )
            # The beginning was from an earlier try: it may have been that which was spoiled.
            spoiled, furthest = True, 0
            progress.note(f"{file.name} is damaged ({wrong}); fetching it anew")

    async def _complete(self, address: URL, target: Path, file: ModelFile, progress: Progress) -> None:
        """Ask once for what is missing, and write it down as it comes."""
        had = _size(target)
        if file.size is not None and had == file.size:
            return
        validator = _validator_of(target)
        if had and (not (validator or file.checksum) or (file.size is not None and had > file.size)):
            await asyncio.to_thread(_discard, target)
            had = 0
        headers = {"Range": f"bytes={had}-"} if had else {}
        if had and validator:
            headers["If-Range"] = validator
        try:
            async with await self._open(address, headers) as response:
                begin = self._look_at(response, target, file, had)
                progress.begin(file.name, file.size or response.content_length, begin)
                try:
                    await self._write(response, target, file, begin, progress)
                finally:
                    progress.end()
        except aiohttp.ClientConnectorCertificateError as error:
            raise HubError(
                f"{error.host} does not prove who it is: {error.certificate_error}.",
                code="download-insecure",
                hint="Is the clock of this machine right? Does the mirror have a certificate of its own that this machine "
                "does not know?",
            ) from error
        except aiohttp.ClientHttpProxyError as error:  # for https; for http it answers like any other server
            if error.status in _REFUSED:
                raise _refused("the proxy", file, error.status) from error
            raise Broken(f"the proxy answered with status {error.status}") from error
        except TimeoutError as error:
            raise Broken(f"the server was silent for {self._stamina.silence:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(_told(error)) from error

    async def _open(self, address: URL, headers: dict[str, str]) -> aiohttp.ClientResponse:
        for _ in range(REDIRECTS):
            response = await self._http.get(
                address, headers=headers, allow_redirects=False, proxy=proxy_for(self._settings, str(address))
            )
            if response.status not in (301, 302, 303, 307, 308) or "Location" not in response.headers:
                return response
            response.release()
            try:
                onward = address.join(URL(response.headers["Location"]))
            except ValueError as error:
                raise Broken(f"{address.host} sends us on to what is no address") from error
            if onward.scheme not in ("http", "https") or (address.scheme == "https" and onward.scheme != "https"):
                raise HubError(
                    f"{address.host} sends us on from {address.scheme} to {onward.scheme}, where nobody proves who they are.",
                    code="download-insecure",
                    hint="Such a mirror cannot be trusted: set models: mirror: to another one.",
                )
            address = onward
        raise HubError(
            f"{address.host} sends us on and on.", code="download-lost", hint="Is the address in models: mirror: right?"
        )

    def _look_at(self, response: aiohttp.ClientResponse, target: Path, file: ModelFile, had: int) -> int:
        """Check the head of an answer; return from which byte on it goes."""
        status, host = response.status, response.url.host
        if status in (429, 500, 502, 503, 504):
            raise Broken(f"{host} answered with status {status}", _retry_after(response))
        if status == 416:
            _discard(target)
            raise Broken(f"{host} has less of the file than came before")
        if status in _REFUSED:
            raise _refused(host, file, status)
        if status in (404, 410):
            raise HubError(
                f"{host} has no {response.url.path}.",
                code="download-missing",
                hint="Is the address in models: mirror: right? A copy of a hub need not have all of it.",
            )
        if status not in (200, 206):
            raise HubError(f"{host} answered with status {status}.", code="download-failed")
        if response.content_type == "text/html":
            raise HubError(
                f"{host} sent a web page instead of {file.name}.",
                code="download-wrong",
                hint="Does this network ask for a login first? Is the address in models: mirror: right?",
            )
        begin, whole = 0, response.content_length
        if status == 206:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != had:
                _discard(target)
                raise Broken(f"{host} sent another part of the file than it was asked for")
            begin, whole = had, int(match[2]) if match[2] != "*" else None
        most = file.size if file.size is not None else SMALL_BYTES
        if whole is not None and (whole > most or (file.size is not None and whole != file.size)):
            raise _other_file(host, file, f"{whole} bytes")
        if not begin:
            _note_validator(target, response)
        return begin

    async def _write(
        self, response: aiohttp.ClientResponse, target: Path, file: ModelFile, begin: int, progress: Progress
    ) -> None:
        most = file.size if file.size is not None else SMALL_BYTES
        done, pending = begin, bytearray()
        try:
            with target.open("r+b" if begin else "wb") as out:
                out.seek(begin)
                try:
                    async for piece in response.content.iter_chunked(2**16):
                        if done + len(pending) + len(piece) > most:
                            raise _other_file(response.url.host, file, f"more than {most} bytes")
                        pending += piece
                        if len(pending) >= PIECE_BYTES:
                            # Who is stopped here must not write it a second time: the thread is at it, and is not stopped.
                            full, pending = bytes(pending), bytearray()
                            await asyncio.to_thread(out.write, full)
                            done += len(full)
                        progress.advance(done + len(pending))
                finally:
                    out.write(pending)  # at most a megabyte, and it has come
                    done += len(pending)
        except OSError as error:
            if isinstance(error, (aiohttp.ClientError, TimeoutError)) or error.errno in _LINE:
                raise
            raise disk_trouble(target, error) from error
        if file.size is not None and done < file.size:
            raise Broken(f"the connection ended after {done} of {file.size} bytes")


_LINE = {errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH,
         errno.EHOSTUNREACH, errno.ENETRESET, errno.ENOTCONN}  # fmt: skip
"""Failures of the line, not of the disk."""


_REFUSED = (401, 403, 407)


def _refused(host: str | None, file: ModelFile, status: int) -> HubError:
    return HubError(
        f"{host} does not give {file.name} to us (status {status}).",
        code="download-refused",
        hint="The mirror or proxy wants a login, or the publisher wants a licence accepted on their page first. Fetch "
        "the files there with a browser and run: xiaozhi-hub models import PATH",
    )


def _other_file(host: str | None, file: ModelFile, size: str) -> HubError:
    wanted = f"{file.size} bytes" if file.size is not None else f"at most {SMALL_BYTES}"
    return HubError(
        f"{host} has another {file.name}: {size}, not {wanted}.",
        code="download-wrong",
        hint="The mirror has another version of the file: try another address (models: mirror:).",
    )


def _size(target: Path) -> int:
    try:
        return target.stat().st_size
    except OSError:
        return 0


def _beside(target: Path) -> Path:
    return target.with_name(target.name + RESUME)


def _validator_of(target: Path) -> str:
    try:
        return _beside(target).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _note_validator(target: Path, response: aiohttp.ClientResponse) -> None:
    """Remember which version of the file this is, as far as the server says so in a way that may be relied on."""
    tag = response.headers.get("ETag", "")
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    if validator and validator.isascii() and len(validator) < 1000:
        try:
            _beside(target).write_text(validator, encoding="ascii")
        except OSError as error:
            raise disk_trouble(target, error) from error
    else:
        _forget(target)


def _forget(target: Path) -> None:
    _beside(target).unlink(missing_ok=True)


def _discard(target: Path) -> None:
    target.unlink(missing_ok=True)
    _forget(target)


def _retry_after(response: aiohttp.ClientResponse) -> float:
    written = response.headers.get("Retry-After", "")
    return min(float(written), LONGEST_PAUSE) if written.isascii() and written.isdigit() else 0.0


def _told(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name {error.host} is not known here"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return "the proxy cannot be reached"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host} cannot be reached"
    return "the connection broke"


__all__ = ["Broken", "Fetcher", "Stamina"]
