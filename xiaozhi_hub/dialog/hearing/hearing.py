"""From a microphone to words: decode, detect voice, decide when the person has finished, recognise.

Recognition runs while the person speaks, and speculatively in the silence after: when the words so far are a whole command that
nothing can be added to, the turn ends without waiting any longer.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

from xiaozhi_hub.audio.endpoint import Endpoint, Moment, Patience
from xiaozhi_hub.audio.mic import Mic
from xiaozhi_hub.audio.opus import OpusDecoder
from xiaozhi_hub.core.flow import Completeness, Packet, Pause, PcmChunk, Transcript, Wait
from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait
from xiaozhi_hub.core.turn_context import Stamp
from xiaozhi_hub.dialog.hearing.recognition import Recognition
from xiaozhi_hub.engines.asr import Asr, AsrRequest
from xiaozhi_hub.engines.vad import VadStream
from xiaozhi_hub.errors import HubError, ProtocolError

log = logging.getLogger(__name__)

RATE = 16000
MARGIN_MS = 200
"""Silence kept before and after the speech: without it recognisers lose the first and last sounds."""
BEFORE_MS = 1000
"""Sound that is remembered from before the speech was certain."""
FAINT = 0.08
"""Probability from which a piece right before the certain speech belongs to it: words that begin softly, or that the codec
has blurred."""
GUESS_MS = 60
"""Time without clear speech after which the words so far are recognised speculatively: one frame, so that the result is there
when a whole command has been followed by `Patience.complete_ms` of silence."""
MOST_MISSED_MS = 60
"""Fading speech that a guess may lack: detectors lag by about as much. With more it is made anew."""
MOST_QUIET_MS = 10_000
"""Sound that is remembered while nobody has spoken yet: a line that is kept open may be quiet for hours."""
MOST_HELD_MS = 120_000
"""No more is kept of what is said while a button is held: it is stuck, or somebody sits on it."""
MOST_PAUSES = 50
"""Of one utterance that are noted."""
STALL_SECONDS = 1.0
"""A device that sends nothing for so long in the middle of an utterance is taken to be silent."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The person has begun to speak."""


@dataclass(frozen=True, slots=True)
class HeardSoFar:
    """What a recogniser has understood of it up to now; may be wrong, and replaces what was before."""

    text: str


@dataclass(frozen=True, slots=True)
class Heard:
    """The person has finished. ``transcript`` is None when nobody spoke."""

    transcript: Transcript | None


@dataclass(slots=True)
class Ears:
    """What hears for one connection: the decoder runs on from turn to turn, as the device's encoder does."""

    decoder: OpusDecoder
    vad: VadStream
    clean: Callable[[PcmChunk, int], PcmChunk] | None = None
    """Takes the hub's own voice out of a sound with a timestamp, for devices that leave that to the hub."""

    def decode(self, packet: Packet) -> PcmChunk:
        """Decode one packet; a broken one sounds like silence of its length."""
        try:
            chunk = PcmChunk(self.decoder.decode(packet.data), RATE)
        except ProtocolError as error:
            log.debug("a packet could not be decoded: %s", error)
            chunk = PcmChunk(self.decoder.decode(b""), RATE)
        return chunk if self.clean is None else self.clean(chunk, packet.timestamp)


class Hearing:
    """One listening turn.

    *judge* says what a text may still become; *manual* leaves the end to the person's finger (`Mic.finish`).
    """

    def __init__(
        self,
        mic: Mic,
        ears: Ears,
        recognisers: Sequence[Asr],
        request: AsrRequest,
        *,
        patience: Patience,
        judge: Callable[[str, str], Completeness],
        stamp: Stamp,
        manual: bool = False,
        answering: Callable[[], bool] = lambda: False,
        guessed: Callable[[Transcript | None], None] = lambda _: None,
        habit: Callable[[Transcript], Wait | None] = lambda _: None,
    ) -> None:
        """*answering* says, when somebody begins to speak, whether the hub has asked something. *guessed* is told what has probably
        been said, and None when that was not all. *habit* says how long to wait after what may go on; None: as *patience* says."""
        self._mic = mic
        self._ears = ears
        self._recognisers = recognisers
        self._request = request
        self._endpoint = Endpoint(patience)
        self._judge = judge
        self._stamp = stamp
        self._manual = manual
        self._answering = answering
        self._tell_guess = guessed
        self._habit = habit
        self._judged: tuple[Transcript, Completeness] | None = None
        """What was guessed after the newest speech, and what it may still become."""
        self._wait_for: Wait | None = None
        """What habit says after it."""
        self._before: deque[tuple[PcmChunk, float]] = deque()
        self._held: deque[tuple[PcmChunk, float]] = deque()
        """Sound that no recogniser has yet, and the silence up to its end."""
        self._recognition: Recognition | None = None
        self._guess: asyncio.Task[Transcript] | None = None
        self._guessed: Transcript | None = None
        self._missed_ms = 0.0
        """Fading speech that came after the guess was begun."""
        self._complete = False
        """The guess is a whole command that cannot go on."""
        self._told = ""
        """What was last said to have been heard."""
        self.packets: deque[Packet] = deque()
        """Everything that was heard, as it came, from at most `MOST_QUIET_MS` before somebody spoke."""
        self._packets_from = -sum(packet.ms for packet in mic.before)
        """Where the first of them begins, in the time of the endpoint."""
        self.pauses: list[Pause] = []
        """The silences in what was said; the last one is the end, where the turn ended by silence."""
        self._stalled = False
        """The device has fallen silent, whatever the person does."""
        self.wait: Wait | None = None
        """How much silence has ended it."""

    @property
    def speaking(self) -> bool:
        """Somebody has begun to speak and is not known to have finished."""
        return self._endpoint.speech_start_ms is not None

    def utterance(self) -> tuple[Packet, ...]:
        """The packets of what was said, without the silence around it."""
        start, end = self._endpoint.speech_start_ms or 0.0, self._endpoint.speech_end_ms
        said, at = [], self._packets_from
        for packet in self.packets:
            if start - MARGIN_MS < at + packet.ms and at < end + MARGIN_MS:
                said.append(packet)
            at += packet.ms
        return tuple(said)

    async def run(self) -> AsyncGenerator[SpeechStarted | HeardSoFar | Heard, None]:
        """Listen until the person has finished. The last value is `Heard`."""
        async with TaskScope("hearing") as scope:
            try:
                async with aclosing(self._listen(scope)) as events:
                    async for event in events:
                        yield event
            finally:
                try:
                    if self._guess is not None:  # before it fails because its recogniser is closed
                        await cancel_and_wait(self._guess)
                finally:
                    if self._recognition is not None:
                        await self._recognition.aclose()

    async def _listen(self, scope: TaskScope) -> AsyncGenerator[SpeechStarted | HeardSoFar | Heard, None]:
        endpoint = self._endpoint
        for packet in self._mic.before:
            self.packets.append(packet)
            chunk = self._ears.decode(packet)
            self._remember(chunk, await self._ears.vad.feed(chunk))
        while not endpoint.ended:
            taken = self._mic.take()
            if taken is None:
                if self._mic.finished:
                    break
                await self._wait()
                await self._use_guess(scope)
                continue
            packet, arrived = taken
            chunk = self._ears.decode(packet)
            if self._manual and endpoint.speech_ms >= MOST_HELD_MS:
                continue
            self.packets.append(packet)
            probability = await self._ears.vad.feed(chunk)
            moment = endpoint.feed(chunk.ms, probability)
            if self._manual and moment is Moment.ENDED:  # only the finger says so
                endpoint.ended = False
                moment = Moment.PAUSING if endpoint.silence_ms else Moment.SPEAKING
            if moment is Moment.STARTED:
                self._stamp("speech_start", arrived)
                yield SpeechStarted()
                await self._begin(chunk, scope)
            elif moment is Moment.WAITING:
                self._remember(chunk, probability)
                while self.packets and endpoint.now_ms - self._packets_from > MOST_QUIET_MS:
                    self._packets_from += self.packets.popleft().ms
            else:
                await self._take(chunk, moment, scope)
            if moment in (Moment.STARTED, Moment.SPEAKING, Moment.FADING, Moment.RESUMED):
                self._stamp("speech_end", arrived)
            await self._use_guess(scope)
            if self._recognition is not None and (so_far := self._recognition.so_far) not in ("", self._told):
                self._told = so_far
                yield HeardSoFar(so_far)
        self._stamp("endpoint")
        if endpoint.ended and endpoint.is_silent and not self._stalled:
            self._note_pause(endpoint.fading_ms, went_on=False)
            self.wait = self._wait_for or Wait(endpoint.wait_ms, self._judged[1] if self._judged else None)
        transcript = await self._finish() if endpoint.speech_start_ms is not None else None
        self._stamp("transcript")
        yield Heard(transcript)

    async def _wait(self) -> None:
        """Wait for news; when the device falls silent in mid-sentence, count the time as silence."""
        if not self.speaking or self._manual:
            await self._mic.news()
            return
        for _ in range(2):
            # One half of it may have passed while this machine stood still, with the sound waiting to be read.
            with suppress(TimeoutError):
                async with asyncio.timeout(STALL_SECONDS / 2):
                    await self._mic.news()
                return
        self._stalled = True
        self._endpoint.feed(STALL_SECONDS * 1000, 0.0)

    def _remember(self, chunk: PcmChunk, probability: float) -> None:
        """Keep the newest sound from before the speech."""
        self._before.append((chunk, probability))
        kept = sum(old.ms for old, _ in self._before)
        while kept > BEFORE_MS:
            kept -= self._before.popleft()[0].ms

    async def _begin(self, chunk: PcmChunk, scope: TaskScope) -> None:
        """Begin to recognise: give it the beginning of the speech, its faint part and a margin before that."""
        beginning, margin, faint = [chunk], 0.0, True
        for old, probability in reversed(self._before):
            faint = faint and probability >= FAINT
            if not faint:
                if margin >= MARGIN_MS:
                    break
                margin += old.ms
            beginning.append(old)
        self._before.clear()
        request = replace(self._request, lead_ms=margin, answering=self._answering())
        self._recognition = Recognition(self._recognisers, request, scope)
        for piece in reversed(beginning):
            await self._recognition.feed(piece)

    async def _take(self, chunk: PcmChunk, moment: Moment, scope: TaskScope) -> None:
        """Hand a piece of the utterance on, or hold it back while it may be the silence after it."""
        recognition = self._recognition
        assert recognition is not None  # speech has begun
        if moment in (Moment.SPEAKING, Moment.RESUMED):
            if self._guess is not None:
                self._note_pause(self._endpoint.gap_ms, went_on=True)
                await cancel_and_wait(self._guess)
                self._tell_guess(None)
            self._guess = self._guessed = self._judged = self._wait_for = None
            await self._feed_held(recognition)
            await recognition.feed(chunk)
            return
        if self._guess is not None or self._endpoint.silence_ms > MARGIN_MS:
            self._held.append((chunk, self._endpoint.silence_ms))
            self._missed_ms += chunk.ms if moment is Moment.FADING else 0.0
        else:
            await recognition.feed(chunk)
        if self._guess is None and self._endpoint.fading_ms >= GUESS_MS and not self._manual:
            self._begin_guess(recognition, scope)

    def _note_pause(self, ms: float, *, went_on: bool) -> None:
        if len(self.pauses) < MOST_PAUSES or not went_on:
            so_far, completeness = self._judged or (Transcript("", self._request.languages[0]), None)
            self.pauses.append(Pause(so_far.text, so_far.language, completeness, ms, went_on))

    def _begin_guess(self, recognition: Recognition, scope: TaskScope) -> None:
        if not recognition.hears:
            return
        self._missed_ms, self._complete, self._guessed = 0.0, False, None
        early = self._endpoint.silence_ms < GUESS_MS
        self._guess = scope.start(recognition.guess(early=early), name="guess")
        self._guess.add_done_callback(lambda _: self._mic.poke())

    async def _use_guess(self, scope: TaskScope) -> None:
        """Let a finished guess shorten the wait, or guess again where it lacks too much of what was said."""
        task, recognition = self._guess, self._recognition
        if task is None or not task.done() or task.cancelled() or task.exception() or recognition is None:
            return
        if self._guessed is None and self._missed_ms <= MOST_MISSED_MS:
            self._guessed = task.result()
            self._stamp("guess")
            self._tell_guess(self._guessed)
            completeness = self._judge(self._guessed.text, self._guessed.language)
            self._judged = self._guessed, completeness
            self._complete = completeness is Completeness.COMPLETE
            self._wait_for = self._habit(self._guessed) if completeness is Completeness.EXTENDABLE else None
            self._endpoint.hypothesis(completeness, self._wait_for.ms if self._wait_for is not None else None)
        outdated = self._missed_ms > (0 if self._endpoint.silence_ms >= GUESS_MS else MOST_MISSED_MS)
        if outdated and not self._complete and not self._endpoint.ended:
            self._tell_guess(None)  # it works now, the others wait
            await self._feed_held(recognition, GUESS_MS)
            self._begin_guess(recognition, scope)

    async def _feed_held(self, recognition: Recognition, most_silence: float = math.inf) -> None:
        while self._held and self._held[0][1] <= most_silence:
            chunk, _ = self._held.popleft()
            await recognition.feed(chunk)

    async def _finish(self) -> Transcript:
        """Take the guess, or recognise the utterance in peace."""
        recognition = self._recognition
        assert recognition is not None  # speech has begun
        if self._guess is not None:
            try:
                if self._missed_ms > (MOST_MISSED_MS if self._complete else 0):
                    await cancel_and_wait(self._guess)
                    await self._feed_held(recognition, GUESS_MS)
                    transcript = await recognition.guess()
                else:
                    transcript = await self._guess
            except HubError as error:
                log.debug("the guess failed: %s", error)
            else:
                if transcript.text:
                    return transcript
                await self._feed_held(recognition)  # it may hear more in the faint end of the last word
        return await recognition.finish()
