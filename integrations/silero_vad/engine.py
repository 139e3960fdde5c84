"""The engine: collects what the microphones heard while the network was busy, and computes it all at once.

One computation runs at a time, in a thread. What comes in meanwhile waits for the next one and is taken together: the
more microphones there are, the larger the matrices and the smaller the share of each. Results come back to the event loop
in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from xiaozhi_hub.plugins.api import (
    EngineInfo,
    PcmChunk,
    Role,
    StageError,
    TaskScope,
    Vad,
    VadStream,
    Worker,
    cancel_and_wait,
)

from .gate import RATE, Gate
from .network import CONTEXT, STATE, WIDTH, WINDOW, Network
from .weights import Floats

LOOK_BACK = 3 * WINDOW
"""Samples kept while the gate is closed: with them the network hears what opened it from its onset."""
GATHER_SECONDS = 0.010
"""How long a computation waits for company when much is coming in; a device sends every 60 ms."""
GATHER_FROM = 200.0
"""Pieces per second from which waiting brings at least one more."""
WAITING = 4096
"""Pieces that may wait: two for each of twice as many microphones as the hub serves."""

Sound = NDArray[np.int16]


@dataclass(slots=True)
class _Ear:
    """What the network remembers of one microphone; replaced by a new one when it is to forget."""

    sound: Sound = field(default_factory=lambda: np.zeros(CONTEXT, np.int16))
    """The context of the next window and what has come of the window since."""
    state: Floats = field(default_factory=lambda: np.zeros((2, STATE), np.float32))
    probability: float = 0.0


@dataclass(slots=True)
class _Piece:
    """Windows of one ear that wait for the network, and who waits for its word."""

    ear: _Ear
    windows: Sound
    answer: asyncio.Future[float]


class SileroVad(Vad):
    """Silero VAD for all devices."""

    def __init__(self, network: Network, worker: Worker, *, gate: bool = True) -> None:
        self.info = EngineInfo(
            id="silero",
            role=Role.VAD,
            name="Silero VAD 6",
            streams_input=True,
            licence="MIT",
            detail="silero_vad_v6, all microphones together",
        )
        self.computations = 0
        """How often the network was computed, whatever the number of microphones."""
        self.windows = 0
        """How many windows it was computed for."""
        self._network = network
        self._gated = gate
        self._worker = worker
        self._waiting: list[_Piece] = []
        self._news = asyncio.Event()
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def running(
        cls, load: Callable[[], Network], scope: TaskScope, *, gate: bool = True
    ) -> AsyncIterator[SileroVad]:
        """Load the network in the thread that will compute it; compute in a task of *scope* as long as the block lasts."""
        worker = Worker("silero-vad")
        try:
            engine = cls(await worker.run(load), worker, gate=gate)
            task = scope.start(engine._run(), name="network")
            try:
                yield engine
            finally:
                engine._closed = True
                await cancel_and_wait(task)
                engine._fail(engine._waiting, "voice activity detection has stopped")
        finally:
            await worker.close()

    def open(self) -> VadStream:
        return SileroStream(self, Gate() if self._gated else None)

    def ask(self, ear: _Ear, windows: Sound) -> asyncio.Future[float]:
        """Put windows before the network; the answer is its word on the last of them."""
        if self._closed:
            raise StageError("vad", "voice activity detection has stopped", code="engine-stopped")
        if len(self._waiting) >= WAITING:
            raise StageError("vad", f"{WAITING} pieces of sound wait for voice activity detection", code="worker-busy")
        piece = _Piece(ear, windows, asyncio.get_running_loop().create_future())
        self._waiting.append(piece)
        self._news.set()
        return piece.answer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        rate, since = 0.0, loop.time()
        while True:
            await self._news.wait()
            if rate >= GATHER_FROM:
                await asyncio.sleep(GATHER_SECONDS)
            pieces, self._waiting = self._waiting, []
            self._news.clear()
            now = loop.time()
            rate += 0.2 * (len(pieces) / max(now - since, 0.001) - rate)
            since = now
            try:
                await self._worker.run(self._compute, pieces)
            except asyncio.CancelledError:
                self._fail(pieces, "voice activity detection has stopped")
                raise
            except Exception as error:  # told to each turn that waits; the next computation may succeed
                self._fail(pieces, f"voice activity detection failed: {error}", error)
                continue
            for piece in pieces:
                if not piece.answer.done():
                    piece.answer.set_result(piece.ear.probability)

    @staticmethod
    def _fail(pieces: Sequence[_Piece], message: str, cause: Exception | None = None) -> None:
        for piece in pieces:
            if not piece.answer.done():
                error = StageError("vad", message)
                error.__cause__ = cause
                piece.answer.set_exception(error)

    def _compute(self, pieces: Sequence[_Piece]) -> None:
        """Run the network over all pieces, in the thread; leave states and probabilities in their ears."""
        self.computations += 1
        ears: dict[int, tuple[_Ear, list[Sound]]] = {}
        for piece in pieces:  # an ear comes twice when the first asker was cancelled before the answer
            ears.setdefault(id(piece.ear), (piece.ear, []))[1].append(piece.windows)
        work = [(ear, parts[0] if len(parts) == 1 else np.concatenate(parts)) for ear, parts in ears.values()]
        work.sort(key=lambda item: -len(item[1]))  # then those with a window left are always the first ones
        counts = [len(windows) for _, windows in work]
        encoded = self._network.encode(np.concatenate([windows for _, windows in work]))
        self.windows += len(encoded)
        begins = np.concatenate(([0], np.cumsum(counts[:-1], dtype=np.intp)))
        states = np.stack([ear.state for ear, _ in work], axis=1)
        probabilities = np.zeros(len(work), np.float32)
        active = len(work)
        for turn in range(counts[0]):
            while counts[active - 1] <= turn:
                active -= 1
            state = states[:, :active]
            probabilities[:active] = self._network.step(encoded[begins[:active] + turn], state)
        for (ear, _), state, probability in zip(work, states.swapaxes(0, 1), probabilities.tolist(), strict=True):
            ear.state = state.copy()  # not a view: that would keep the whole batch alive
            ear.probability = probability


class SileroStream(VadStream):
    """One microphone."""

    def __init__(self, engine: SileroVad, gate: Gate | None) -> None:
        self._engine = engine
        self._gate = gate
        self._ear = _Ear()

    async def feed(self, chunk: PcmChunk) -> float:
        if chunk.rate != RATE:
            raise StageError("vad", f"voice activity detection hears {RATE} Hz, not {chunk.rate} Hz", permanent=True)
        if not len(chunk.samples):
            return self._ear.probability
        ear, gate = self._ear, self._gate
        sound = np.concatenate((ear.sound, chunk.samples))
        if gate is not None and gate.closed(chunk.samples):
            ear.sound = sound[_whole(len(sound) - CONTEXT - LOOK_BACK) :]
            return ear.probability
        used = _whole(len(sound) - CONTEXT)
        ear.sound = sound[used:]
        if not used:
            return ear.probability
        probability = await self._engine.ask(ear, _windows(sound, used // WINDOW))
        if gate is not None and ear is self._ear:
            gate.heard(probability, used)
        return probability

    def reset(self) -> None:
        self._ear = _Ear()
        if self._gate is not None:
            self._gate.forget()


def _whole(samples: int) -> int:
    """How many samples of so many make whole windows; the grid of windows stays the same whatever is left out."""
    return max(0, samples // WINDOW * WINDOW)


def _windows(sound: Sound, count: int) -> Sound:
    """Cut *sound* into windows, each with its context before it, without copying."""
    item = sound.strides[0]
    return as_strided(sound, (count, WIDTH), (WINDOW * item, item))
