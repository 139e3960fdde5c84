"""A turn: one question and its answer, one task, one record, one language.

Interruption is cancellation of the task that runs it. Whatever happens, a turn that said ``tts start`` says ``tts stop``, a
failure is spoken or sounds, and the record is handed over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from xiaozhi_hub.audio.endpoint import Patience
from xiaozhi_hub.audio.mic import Mic
from xiaozhi_hub.audio.opus import silence
from xiaozhi_hub.core.flow import (
    SOUND,
    Channel,
    Emotion,
    Outcome,
    Packet,
    Sentence,
    ToolCall,
    Transcript,
    TurnInfo,
    TurnRecord,
    Wait,
)
from xiaozhi_hub.core.turn_context import turn_id
from xiaozhi_hub.dialog.ahead import Ahead
from xiaozhi_hub.dialog.hearing.hearing import Ears, Heard, HeardSoFar, Hearing
from xiaozhi_hub.dialog.respond import Conversation, NotUnderstood
from xiaozhi_hub.dialog.speaking.mouth import Mouth
from xiaozhi_hub.dialog.speaking.speaker import Rendering
from xiaozhi_hub.dialog.turn_parts import TurnParts
from xiaozhi_hub.engines.asr import AsrRequest
from xiaozhi_hub.engines.base import Role
from xiaozhi_hub.engines.llm import ChatRequest, Llm, Message
from xiaozhi_hub.engines.registry import no_engine
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.errors import HubError, StageError
from xiaozhi_hub.protocol.hub_messages import Alert, Stt, SttSoFar
from xiaozhi_hub.protocol.link import Link

log = logging.getLogger(__name__)

RING_GAP_MS = 1500
DICTATION = Patience(1500, 1500, 1500, 1500)
"""While somebody's own words are recorded for others: people think in between, and no command is waited for."""


class Turn:
    """Make one, run exactly one of its coroutines in a task, and throw it away."""

    def __init__(
        self,
        parts: TurnParts,
        link: Link,
        info: TurnInfo,
        conversation: Conversation,
        *,
        mode: str = "",
        speech_began: Callable[[], Awaitable[None]] | None = None,
        speech_ended: Callable[[], None] | None = None,
        outgoing: Callable[[Packet], Packet] | None = None,
    ) -> None:
        """*speech_began* is awaited when the person begins to speak, *speech_ended* is called when what was said is known;
        *outgoing* sees each packet at the moment it is sent, and returns what to send."""
        self._parts = parts = parts.as_of_now()
        self._link = link
        self._conversation = conversation
        self._mode = mode
        self._speech_began = speech_began
        self._speech_ended = speech_ended
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._started_at = time.time()
        self._mouth = Mouth(link, self._render, self._stamp, lead_ms=parts.voice.lead_ms, outgoing=outgoing)
        self._stamps: dict[str, float] = {}
        self._calls: list[ToolCall] = []
        self._heard: Transcript | None = None
        self._hearing: Hearing | None = None
        self._error = ""
        self.info = info
        self._assistant = parts.assistants.of(info.device_id, info.area)
        self._ahead = Ahead(self._prepare, parts.responder.scope)
        self.standby = False
        """The line is only kept open because something is due: what is not understood is not answered."""

    # -- what a turn can be ---------------------------------------------------------------------------------------

    async def voice(self, mic: Mic, ears: Ears) -> Outcome:
        """Hear the person out and answer."""
        return await self._whole(self._voice(mic, ears))

    async def text(self, text: str) -> Outcome:
        """Answer what was written, or what the device says was said."""
        self._heard = Transcript(text, self.info.language)
        return await self._whole(self._answer())

    async def announce(self, text: str, rounds: int, sound: Sequence[Packet] = ()) -> Outcome:
        """Ring, say *text* and play *sound*, *rounds* times."""
        return await self._whole(self._ring(text, rounds, sound))

    async def say(self, text: str) -> Outcome:
        """Say *text*, without having been asked."""

        async def body() -> Outcome:
            await self._mouth.say(_one(Sentence(text, self.info.language)))
            return Outcome.ANSWERED

        return await self._whole(body())

    async def fail(self, error: HubError) -> Outcome:
        """Say that it cannot be done."""

        async def body() -> Outcome:
            raise error

        return await self._whole(body())

    @property
    def person_speaks(self) -> bool:
        """The person is in the middle of a sentence."""
        return self._hearing is not None and self._hearing.speaking and not self._mouth.opened

    @property
    def awaits_speech(self) -> bool:
        """It listens, and nobody has said anything yet."""
        return self.info.channel is Channel.VOICE and not (self._hearing is not None and self._hearing.speaking)

    @property
    def hub_speaks(self) -> bool:
        return self._mouth.speaking

    # -- the frame around it --------------------------------------------------------------------------------------

    async def _whole(self, body: Awaitable[Outcome]) -> Outcome:
        outcome = Outcome.FAILED
        turn_id.set(self.info.id)  # for the log; the task is this turn's own
        try:
            try:
                outcome = await body
            except HubError as error:
                await self._fail(error)
            except Exception as error:  # one of the few places that may: the person must not be left in silence
                log.exception("turn %s failed", self.info.id)
                await self._fail(StageError("turn", f"{type(error).__name__}: {error}"))
            return outcome
        except asyncio.CancelledError:
            outcome = Outcome.INTERRUPTED if self._error == "" else Outcome.FAILED
            raise
        finally:
            self._ahead.guessed(None)
            await self._mouth.close()
            self._parts.remember(self._record(outcome))

    def _record(self, outcome: Outcome) -> TurnRecord:
        return TurnRecord(
            id=self.info.id,
            session_id=self.info.session_id,
            device_id=self.info.device_id,
            started_at=self._started_at,
            channel=self.info.channel,
            mode=self._mode,
            language=self.info.language,
            heard=self._heard.text if self._heard is not None else "",
            said=self._mouth.said(),
            outcome=outcome,
            emotion=self._mouth.emotion,
            confidence=self._heard.confidence if self._heard is not None else None,
            error=self._error,
            stamps=dict(self._stamps),
            tool_calls=tuple(self._calls),
            audio_in=tuple(self._hearing.packets) if self._hearing is not None and self._hearing.speaking else (),
            audio_out=tuple(self._mouth.packets),
            assistant=self._assistant.id,
            wait=self._hearing.wait if self._hearing is not None else None,
            pauses=tuple(self._hearing.pauses) if self._hearing is not None and not self.info.sound else (),
        )

    def _stamp(self, name: str, at: float | None = None) -> None:
        moment = self._loop.time() if at is None else at
        self._stamps[name] = round((moment - self._began) * 1000, 2)

    def tool_called(self, call: ToolCall) -> None:
        self._calls.append(call)
        now = self._loop.time()
        if "tool" not in self._stamps:
            self._stamp("tool", now - call.ms / 1000)
        self._stamp("tool_result", now)

    def model_wrote(self) -> None:
        if "first_token" not in self._stamps:
            self._stamp("first_token")

    def model_answered(self, model: Llm, request: ChatRequest, answer: Message) -> None:
        """Nobody asks a device what an answer has cost."""

    # -- hearing --------------------------------------------------------------------------------------------------

    async def _voice(self, mic: Mic, ears: Ears) -> Outcome:
        self._stamp("listen")
        await self._parts.ready()
        recognisers, fitting = self._parts.recognisers(self.info.language, self._assistant)
        brain = self._parts.brains.of(self.info.device_id)
        if brain is not None and not self._takes_dictation:
            recognisers, fitting = (brain.asr, *recognisers), True
        if not recognisers:
            raise no_engine(Role.ASR)
        self._hearing = Hearing(
            mic,
            ears,
            recognisers,
            AsrRequest((self.info.language,), self.info.device_id),
            patience=DICTATION if self._takes_dictation else self._parts.patience,
            judge=self._parts.judge,
            stamp=self._stamp,
            manual=self._mode == "manual",
            answering=lambda: self._conversation.pending is not None,  # it may be asked while this turn listens already
            guessed=self._ahead.guessed,
            habit=self._habit,
        )
        heard: Transcript | None = None
        async with aclosing(self._hearing.run()) as events:
            async for event in events:
                if isinstance(event, Heard):
                    heard = event.transcript
                elif isinstance(event, HeardSoFar):
                    if self._link.shows_captions:
                        await self._link.send(SttSoFar(event.text))
                elif self._speech_began is not None:
                    await self._speech_began()
        await self._ahead.settle(heard)
        if heard is None:
            return Outcome.NO_SPEECH
        self._heard = heard
        if self._speech_ended is not None:
            self._speech_ended()
        if self._takes_dictation:  # with an open microphone that is known only now
            self.info = replace(self.info, sound=self._hearing.utterance())
            return await self._answer()
        if not heard.text:
            if self.standby:
                return Outcome.NO_SPEECH
            return await self._not_understood("spoken.not_understood" if fitting else self._wrong_language())
        self.info = replace(self.info, language=heard.language)
        await self._link.send(Stt(heard.text))
        return await self._answer()

    async def _prepare(self, guess: Transcript) -> Callable[[], Awaitable[None]] | None:
        turn = replace(self.info, language=guess.language)
        return await self._parts.responder.prepare(turn, guess.text, self._conversation)

    def _habit(self, guess: Transcript) -> Wait | None:
        if self._takes_dictation:
            return None
        return self._parts.habit(self.info.device_id, guess, self._parts.patience)

    @property
    def _takes_dictation(self) -> bool:
        """A tool has asked for the person's own words."""
        pending = self._conversation.pending
        return pending is not None and pending.slot == SOUND

    def _wrong_language(self) -> str:
        """No recogniser speaks the person's language: say so, once."""
        if self._conversation.told_language:
            return "spoken.not_understood"
        self._conversation.told_language = True
        return "spoken.only_english"

    async def _not_understood(self, key: str) -> Outcome:
        await self._mouth.say(_one(Sentence(self._parts.texts.text(key, self.info.language), self.info.language)))
        return Outcome.NOT_UNDERSTOOD

    # -- answering ------------------------------------------------------------------------------------------------

    async def _answer(self) -> Outcome:
        assert self._heard is not None
        if self.info.channel is Channel.TEXT:
            await self._link.send(Stt(self._heard.text))
            await self._parts.ready()
        await self._mouth.open()
        reply = self._parts.responder.respond(self.info, self._heard.text, self._conversation, self)
        try:
            await self._mouth.say(self._stamped(reply))
        except NotUnderstood:
            return await self._not_understood("spoken.not_known")
        return Outcome.ANSWERED

    async def _stamped(
        self, pieces: AsyncGenerator[Sentence | Emotion, None]
    ) -> AsyncGenerator[Sentence | Emotion, None]:
        async with aclosing(pieces):
            async for piece in pieces:
                if "reply" not in self._stamps:
                    self._stamp("reply")
                yield piece

    async def _ring(self, text: str, rounds: int, sound: Sequence[Packet]) -> Outcome:
        await self._parts.ready()
        await self._mouth.open()
        sentence = Sentence(text, self.info.language)
        for number in range(rounds):
            if number:
                await self._mouth.send(silence(RING_GAP_MS))
            await self._mouth.play(self._parts.speaker.sound("chime"))
            await self._mouth.speak(_one(sentence))
            await self._mouth.send(sound)
        await self._mouth.until_played()
        return Outcome.ANSWERED

    # -- speaking -------------------------------------------------------------------------------------------------

    def _render(self, sentence: Sentence) -> Rendering:
        """Begin to render *sentence* in the voice that this device is answered with at this moment."""
        who = self._parts.assistants.of(self.info.device_id, self.info.area)  # it may just have been changed
        request = SpeechRequest(sentence.text, sentence.language, who.voice, who.speed, who.volume)
        others = partial(self._parts.voices, assistant=who)
        voices = others(sentence.language)
        brain = self._parts.brains.of(self.info.device_id)
        if brain is not None and (theirs := brain.voice(sentence.text)) is not None:
            voices = (theirs, *voices)
        return self._parts.speaker.render(voices, request, others)

    # -- failing --------------------------------------------------------------------------------------------------

    async def _fail(self, error: HubError) -> None:
        """Tell the person: a sentence where a voice is left, a tone where none is, and the reason on the display."""
        self._error = error.code
        stage = error.stage if isinstance(error, StageError) else "turn"
        log.error("turn %s failed (%s): %s", self.info.id, stage, error)
        texts, language = self._parts.texts, self.info.language
        keys = (f"spoken.{error.code}", f"spoken.{stage}-failed", "spoken.failed")
        text = texts.text(next((key for key in keys if texts.has(key, language)), keys[-1]), language)
        if not self._mouth.opened:  # its sound would mix with the speech later on
            await self._link.send(Alert(texts.text("spoken.alert", language), text, "sad"))
        try:
            await self._mouth.say(_one(Sentence(text, language)))
        except HubError as worse:
            log.error("turn %s cannot even say so: %s", self.info.id, worse)
            await self._mouth.open()
            rendering = self._parts.speaker.sound("sorrow")
            await self._mouth.play(rendering)
            await self._mouth.until_played()


async def _one(sentence: Sentence) -> AsyncGenerator[Sentence | Emotion, None]:
    yield sentence
