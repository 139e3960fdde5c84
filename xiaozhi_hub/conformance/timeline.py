"""Everything that passed over one connection, with the moment of each frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from xiaozhi_hub.audio.opus import packet_ms
from xiaozhi_hub.conformance.verdict import Broken
from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.protocol.binary import unpack

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """One text or binary frame. Times are loop times in seconds."""

    at: float
    sent: bool
    """By the device; else by the server."""
    frame: str | bytes

    @property
    def message(self) -> Mapping[str, Any]:
        """The JSON object of a text frame; empty where it is none."""
        if isinstance(self.frame, bytes):
            return {}
        try:
            message = json.loads(self.frame)
        except ValueError:
            return {}
        return message if isinstance(message, dict) else {}

    @property
    def is_audio(self) -> bool:
        return isinstance(self.frame, bytes)

    def says(self, kind: str, state: str | None = None) -> bool:
        """Is it a message of this type (and state)?"""
        message = self.message
        return message.get("type") == kind and (state is None or message.get("state") == state)


@dataclass(slots=True)
class Answer:
    """What lies between ``tts start`` and ``tts stop``."""

    start_at: float
    stop_at: float | None = None
    packets: list[tuple[float, bytes]] = field(default_factory=list)
    """Each with the moment it came; frames as they were, before the framing is taken off."""
    messages: list[Seen] = field(default_factory=list)

    def sound(self, framing: int) -> list[tuple[float, bytes, float]]:
        """When it came, the Opus packet, and how many ms it sounds. Raises `Broken` for a wrong frame."""
        found = []
        for at, frame in self.packets:
            try:
                opus, _ = unpack(framing, frame)
            except ProtocolError as error:
                raise Broken(f"framing {framing}: {error}") from error
            found.append((at, opus, packet_ms(opus)))
        return found


class Timeline:
    """Grows while a conversation goes on; whoever waits for something is woken by each frame."""

    def __init__(self) -> None:
        self.frames: list[Seen] = []
        self.closed_at: float | None = None
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def __call__(self, at: float, sent: bool, frame: str | bytes) -> None:
        """Note a frame. Fits the ``watch`` of a `FakeDevice`."""
        self.frames.append(Seen(at, sent, frame))
        self.tell()

    def close(self) -> None:
        """Note that the server has ended the connection."""
        if self.closed_at is None:
            self.closed_at = self._loop.time()
        self.tell()

    def tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    @property
    def now(self) -> float:
        return self._loop.time()

    def received(self, since: float = 0.0) -> Iterator[Seen]:
        """What the server has sent."""
        return (seen for seen in self.frames if not seen.sent and seen.at >= since)

    def heard(self, kind: str, state: str | None = None, since: float = 0.0) -> list[Seen]:
        """Messages of the server."""
        return [seen for seen in self.received(since) if seen.says(kind, state)]

    def told(self, kind: str, state: str | None = None, since: float = 0.0) -> list[Seen]:
        """Messages of the device."""
        return [seen for seen in self.frames if seen.sent and seen.at >= since and seen.says(kind, state)]

    def audio(self, since: float = 0.0) -> list[Seen]:
        """Binary frames of the server."""
        return [seen for seen in self.received(since) if seen.is_audio]

    async def until(self, what: str, found: Callable[[], T | None], within: float) -> T:
        """Wait until *found* returns something; `Broken` when it does not *within* seconds."""
        ends_at = self._loop.time() + within
        while not (result := found()):
            if self.closed_at is not None:
                raise Broken(f"the server closed the connection before {what}")
            left = ends_at - self._loop.time()
            if left <= 0:
                raise Broken(f"no {what} within {within:g} s")
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                continue  # looked at once more
        return result

    async def until_message(self, kind: str, state: str | None = None, *, since: float = 0.0, within: float) -> Seen:
        """Wait for a message of the server."""
        found = await self.until(" ".join(filter(None, (kind, state))), lambda: self.heard(kind, state, since), within)
        return found[0]

    async def quiet(self, seconds: float) -> None:
        """Let time pass; returns early only when the connection ends."""
        ends_at = self._loop.time() + seconds
        while self.closed_at is None and (left := ends_at - self._loop.time()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                return

    def answers(self) -> tuple[list[Answer], list[Seen]]:
        """The answers so far, and the sound outside of any. Raises `Broken` where start and stop do not alternate."""
        answers: list[Answer] = []
        stray: list[Seen] = []
        open_ = False
        for seen in self.received():
            if seen.says("tts", "start"):
                if open_:
                    raise Broken("a second tts start without a tts stop between")
                open_ = True
                answers.append(Answer(seen.at))
            elif seen.says("tts", "stop"):
                if not open_:
                    continue  # harmless to every firmware (§5.1), and the way to answer an abort
                open_ = False
                answers[-1].stop_at = seen.at
            elif isinstance(seen.frame, bytes):
                if open_:
                    answers[-1].packets.append((seen.at, seen.frame))
                else:
                    stray.append(seen)
            elif open_:
                answers[-1].messages.append(seen)
        return answers, stray


__all__ = ["Answer", "Seen", "Timeline"]
