"""What the hardware does by itself: the firmware's states, microphone, queue and speaker."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from enum import StrEnum
from typing import Any

import numpy as np

from xiaozhi_hub.audio.opus import OpusDecoder, packet_ms
from xiaozhi_hub.core.flow import EMOTIONS, Packet, Samples
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.errors import HubError, ProtocolError
from xiaozhi_hub.protocol.binary import pack, unpack
from xiaozhi_hub.protocol.messages import ListenMode
from xiaozhi_hub.testing.activation import Activation, ask_activation, read_activation, wait_for_activation
from xiaozhi_hub.testing.camera import Camera
from xiaozhi_hub.testing.check_in import Address, NoLink, check_in
from xiaozhi_hub.testing.glyphs import PushedGlyph, take_glyphs
from xiaozhi_hub.testing.line import Line
from xiaozhi_hub.testing.loopback import Loopback
from xiaozhi_hub.testing.mqtt import Station
from xiaozhi_hub.testing.playback import Playback
from xiaozhi_hub.testing.profile import FirmwareProfile
from xiaozhi_hub.testing.settings import Settings
from xiaozhi_hub.testing.speech import FRAME_MS, Utterance, quiet
from xiaozhi_hub.testing.things import Things
from xiaozhi_hub.testing.tools import DeviceTools
from xiaozhi_hub.testing.turn import AlertShown, TurnLog, TurnResult
from xiaozhi_hub.testing.udp_line import UdpLine

_CONVERSATION_LINES = 500
_UNASKED_ANSWERS = 32
_VOICE = 0.003 * 32768
"""RMS of 10 ms from which a person hears something: -50 dB below full scale."""


Watch = Callable[[float, bool, str | bytes], None]
"""``watch(at, sent, frame)``: told of each frame, sent by the device or not, at the moment (loop time) it passes."""


class DeviceState(StrEnum):
    """States of the firmware that matter to a hub."""

    IDLE = "idle"
    CONNECTING = "connecting"
    LISTENING = "listening"
    SPEAKING = "speaking"


class NoAnswer(HubError):
    """The hub did not answer, or not to the end. ``result`` holds what there was of it."""

    code = "device-no-answer"

    def __init__(self, message: str, result: TurnResult) -> None:
        super().__init__(message)
        self.result = result


class Firmware:
    """The device without its person. `FakeDevice` adds what people do with it."""

    def __init__(
        self,
        *,
        ota_url: str | None = None,
        url: str | None = None,
        token: str = "",
        device_id: str = "02:00:00:00:00:01",
        client_id: str | None = None,
        language: str = "en-US",
        mode: ListenMode = "auto",
        profile: FirmwareProfile | None = None,
        listens: bool = True,
        watch: Watch | None = None,
        loopback: Loopback | None = None,
    ) -> None:
        if (ota_url is None) == (url is None):
            raise ValueError("a device needs ota_url or url")
        self.profile = profile or FirmwareProfile()
        self.device_id = device_id
        self.client_id = client_id or str(uuid.uuid5(uuid.NAMESPACE_OID, device_id))
        self.mode: ListenMode = mode
        self.state = DeviceState.IDLE
        self.session_id = ""
        self.rate = 24000
        """Of the sound that the hub announced."""
        self.ota_answer: dict[str, Any] = {}
        self.activation: Activation | None = None
        """What it shows while the hub makes it wait for approval: until then it cannot be used."""
        self.glyphs: dict[int, PushedGlyph] = {}
        """The pictures of characters that the hub has sent, by code point."""
        self.alerts: list[AlertShown] = []
        """All that were shown."""
        self.complaints: list[str] = []
        """Where the hub broke the rules: each would make some firmware crash, hang, or ignore what was meant."""
        self.stray_packets = 0
        """Sound that came outside of any answer."""
        self.close_code: int | None = None
        """Of the last link, None while it lives or when it ended without a close frame."""
        self.settings = Settings()
        self.camera = Camera(self.device_id, self.client_id)
        self.tools = DeviceTools(self.profile, self.settings, self.camera)
        self.things = Things(self.profile, self.settings)
        self._ota_url = ota_url
        self._address = Address(url, token) if url is not None else None
        self._language = language
        self._listens = listens
        self._loop = asyncio.get_running_loop()
        self._born_at = self._loop.time()
        self._lines: deque[str] = deque(maxlen=_CONVERSATION_LINES)
        self._news = asyncio.Event()
        self._scope = TaskScope(f"device-{device_id}")
        self._line: Line | UdpLine | None = None
        self._station: Station | None = None
        self._framing = 1
        self._frame_ms = FRAME_MS
        self._greeted: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._mic: asyncio.Task[None] | None = None
        self._speech: Utterance | None = None
        self._speech_at = 0
        self._decoder: OpusDecoder | None = None
        self._settled_at = 0.0
        self._relistening = False
        self._start_waits = False
        self._interrupting: TurnLog | None = None
        """What the person says into the answer."""
        self._turn: TurnLog | None = None
        """What happens now, or the last thing that did."""
        self._unasked: deque[TurnResult] = deque(maxlen=_UNASKED_ANSWERS)
        self._audio_at = 0.0
        self._watch = watch
        self._loopback = loopback

    @property
    def connected(self) -> bool:
        return self._line is not None and not self._line.ended

    # -- the link -------------------------------------------------------------------------------------------------

    async def check_in(self) -> None:
        """Ask the hub at the OTA address where to connect, as at a start of the device."""
        assert self._ota_url is not None
        self._note("→", f"check-in at {self._ota_url}")
        before = self._address
        self._address, self.ota_answer = await check_in(
            self._ota_url, self.device_id, self.client_id, self._language, self.profile
        )
        if before is not None and "token" not in self.ota_answer["websocket"]:  # what is left out stays in its memory
            self._address = replace(self._address, token=before.token)
        self.activation = read_activation(self.ota_answer)
        if self.activation is not None:
            self._note("←", f"wait for approval, code {self.activation.code}: {self.activation.message}")
        elif self._address.mqtt is not None:
            self._note("←", f"connect to MQTT at {self._address.mqtt.host}:{self._address.mqtt.port}")
            await self._reach_mqtt()
        else:
            self._note("←", f"connect to {self._address.url}")

    async def activate(self) -> int:
        """Ask once whether the hub lets it in; return the status of the answer."""
        assert self._ota_url is not None
        challenge = self.activation.challenge if self.activation is not None else ""
        return await self._ask_activation(challenge)

    async def activated(self, within: float = 120.0) -> None:
        """Do what the firmware does until it is let in: ask, wait, check in again. `NoLink` when nobody lets it in."""
        try:
            async with asyncio.timeout(within):
                while self.activation is not None:
                    await wait_for_activation(self.activation, self._ask_activation, self.profile)
                    await self.check_in()
        except TimeoutError:
            raise NoLink(f"Nobody has approved the device within {within:g} s.") from None

    async def _ask_activation(self, challenge: str) -> int:
        assert self._ota_url is not None
        status = await ask_activation(
            self._ota_url, self.device_id, self.client_id, self._language, self.profile, challenge
        )
        self._note("←", f"activation: {status}")
        return status

    async def _reach_mqtt(self) -> Station:
        """The MQTT connection is made at the start of the device, and again when it is gone."""
        assert self._address is not None and self._address.mqtt is not None
        if self._station is None or self._station.ended:
            self._station = await Station.connect(self._address.mqtt, self._scope, self._on_published)
        return self._station

    async def _on_published(self, text: str) -> None:
        await self._on_text(text, self._loop.time())
        self._tell()

    async def switch_off(self) -> None:
        """End everything, as pulling the plug does, but in good order."""
        await self.hang_up()
        if self._station is not None:
            await self._station.close()

    async def connect(self) -> None:
        """Open the WebSocket, or a conversation over MQTT, and exchange hellos; nothing happens when it is open already."""
        if self.connected:
            return
        if self._address is None:
            await self.check_in()
        assert self._address is not None
        if self.activation is not None:
            raise NoLink(f"The hub wants the device approved first; it shows {self.activation.code}.")
        await self._drop_line()
        self._become(DeviceState.CONNECTING)
        self._framing = self.profile.protocol_version or self._address.version
        headers = {
            "Client-Id": self.client_id,
            "Device-Id": self.device_id,
            "Protocol-Version": str(self._framing),
        }
        try:
            line: Line | UdpLine
            if self._address.mqtt is not None:
                line = UdpLine(await self._reach_mqtt(), self._complain)
                self._framing, self.session_id = 1, ""
            else:
                line = await Line.open(self._address, headers, answers_pings=self.profile.answers_pings)
            self._line, self.close_code = line, None
            self._greeted = self._loop.create_future()
            self._reader = self._scope.start(self._read(line), name="reader")
            await self._send_json(self._hello(), session=False)
            async with asyncio.timeout(self.profile.hello_seconds):
                await self._greeted
            await line.open_sound()
            if not self.profile.speaks_mcp:
                for descriptor in self.things.descriptors():
                    await self._send_json({"type": "iot", "update": True, "descriptors": [descriptor]})
        except TimeoutError as error:
            raise NoLink(f"The hub did not say hello within {self.profile.hello_seconds:g} s.") from error
        finally:
            if self.state is DeviceState.CONNECTING:
                self._become(DeviceState.IDLE)

    def _hello(self) -> dict[str, Any]:
        line = self._line
        version = line.version if isinstance(line, UdpLine) else self._framing
        hello: dict[str, Any] = {"type": "hello", "version": version}
        if self.profile.features is not None:
            hello["features"] = dict.fromkeys(self.profile.features, True)
            if self.profile.text_font is not None:
                hello["features"]["glyph_push"] = True
                hello["text_font"] = dict(self.profile.text_font)
        hello["transport"] = line.transport if line is not None else "websocket"
        hello["audio_params"] = {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": FRAME_MS}
        return hello

    async def hang_up(self) -> None:
        """End the conversation as devices do: the TCP connection closes without a close frame, MQTT stays after a goodbye."""
        if self.connected:
            self._note("→", "hangs up")
            if isinstance(self._line, UdpLine):
                await self._send_json({"type": "goodbye"})
        self._ended()
        await self._drop_line()

    async def _drop_line(self) -> None:
        line, self._line = self._line, None
        reader, self._reader = self._reader, None
        if line is not None:
            await line.drop()
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])

    def _ended(self) -> None:
        """The link is gone, whoever ended it: the device rests."""
        self._relistening = self._start_waits = False
        self._close_mic()
        self._become(DeviceState.IDLE)
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_exception(NoLink("The hub ended the connection instead of saying hello."))
        if self._turn is not None and not self._turn.stopped:
            self._fail(self._turn, "The connection ended before the answer did.")
        self._tell()

    async def _read(self, line: Line | UdpLine) -> None:
        async with aclosing(line.frames()) as frames:
            async for frame in frames:
                now = self._loop.time()
                if self._watch is not None:
                    self._watch(now, False, frame)
                if isinstance(frame, str):
                    await self._on_text(frame, now)
                else:
                    self._on_audio(frame, now)
                self._tell()
        self.close_code = line.close_code
        self._note("←", "hangs up" + (f" ({line.close_code})" if line.close_code else " without a close frame"))
        self._ended()

    async def _send_json(self, message: Mapping[str, Any], *, session: bool = True) -> None:
        self._note("→", _brief(message))
        if session:
            message = {"session_id": self.session_id if self.profile.stores_session_id else "", **message}
        await self._write(json.dumps(message, ensure_ascii=False))

    async def _send_audio(self, opus: bytes, timestamp: int = 0) -> None:
        await self._write(pack(self._framing, opus, timestamp))

    async def _send_heard(self, opus: bytes, frame_at: float) -> None:
        """Send what the microphone heard from *frame_at* on: *opus*, and the speaker where it can be heard."""
        if self._loopback is None:
            await self._send_audio(opus)
        else:
            await self._send_audio(*self._loopback.hear(opus, frame_at))

    async def _write(self, data: str | bytes) -> None:
        if self._watch is not None:
            self._watch(self._loop.time(), True, data)
        if self._line is not None and not self._line.ended and not await self._line.write(data):
            self._note("·", "the connection is gone")
            self._ended()
        elif not self.connected and self._station is not None and isinstance(data, str):
            await self._station.publish(data)

    # -- the microphone -------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """``listen start``, and the microphone streams."""
        self._stop_mic()
        self._become(DeviceState.LISTENING)
        if not self.profile.speaks_mcp and (states := self.things.changes()):
            await self._send_json({"type": "iot", "update": True, "states": states})
        await self._send_json({"type": "listen", "state": "start", "mode": self.mode})
        if self.connected and self.state is DeviceState.LISTENING:
            self._mic = self._scope.start(self._stream(), name="microphone")

    def _stop_mic(self) -> None:
        mic, self._mic = self._mic, None
        if mic is not None:
            mic.cancel()

    def _close_mic(self) -> None:
        """Nobody hears the person any more, even in mid-sentence."""
        self._stop_mic()
        self._speech = None
        if self._turn is not None:
            self._turn.spoken.set()

    async def _stream(self) -> None:
        """Send a packet every 60 ms, by absolute time: each when its last sample has been recorded."""
        began = self._loop.time()
        silence = quiet()
        index = 0
        while self.connected:
            frame_at = began + index * FRAME_MS / 1000
            await asyncio.sleep(max(0.0, frame_at + FRAME_MS / 1000 - self._loop.time()))
            turn = self._interrupting or self._turn
            if self._speech is None or turn is None:
                await self._send_heard(silence[index % len(silence)], frame_at)
            elif await self._send_speech(self._speech, turn, frame_at):
                return
            index += 1

    async def _send_speech(self, speech: Utterance, turn: TurnLog, frame_at: float) -> bool:
        """Send the next packet of what the person says; True when the button was released after it."""
        at = self._speech_at
        self._speech_at += 1
        if at == 0:
            turn.stamp("speech_start", frame_at)
            turn.zero_at = frame_at + speech.end_ms / 1000
        if self._speech_at >= len(speech.packets):
            self._speech = None
        await self._send_heard(speech.packets[at], frame_at)
        if at != speech.last_packet:
            return False
        turn.stamp("speech_sent", self._loop.time())
        turn.spoken.set()
        if self.mode != "manual":
            return False
        self._mic = self._speech = None
        self._become(DeviceState.IDLE)
        await self._send_json({"type": "listen", "state": "stop"})
        return True

    # -- what the hub says ----------------------------------------------------------------------------------------

    async def _on_text(self, text: str, now: float) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            self._complain(f"not a message: {text[:80]}")
            return
        self._note("←", _brief(message))
        match message["type"]:
            case "hello":
                self._on_hello(message)
            case "stt":
                self._take_glyphs(message)
                self._on_stt(self._text_of(message, "text"), now)
            case "tts":
                self._on_tts(message, now)
            case "llm":
                self._on_llm(self._text_of(message, "emotion"))
            case "alert":
                self._on_alert(message)
            case "mcp":
                await self._on_mcp(message.get("payload"))
            case "iot" if not self.profile.speaks_mcp:
                if why := self.things.obey(message):
                    self._complain(why)
            case "system":
                pass
            case "goodbye" if self._station is not None:
                if isinstance(self._line, UdpLine) and message.get("session_id") in (None, self.session_id):
                    self._line.end()
            case kind:
                self._complain(f"unknown message {kind}")

    async def _on_mcp(self, request: object) -> None:
        """Tools run on the main task: nothing else the hub says is heeded before the reply (firmware mcp_server.cc)."""
        if not (self.profile.speaks_mcp and self.profile.answers_mcp):
            return
        if (payload := await self.tools.answer(request)) is not None:
            self._note("→", f"mcp payload={payload[:120]}")
            session = json.dumps(self.session_id if self.profile.stores_session_id else "")
            await self._write(f'{{"session_id":{session},"type":"mcp","payload":{payload}}}')

    def _on_hello(self, message: Mapping[str, Any]) -> None:
        if not isinstance(message.get("transport"), str):
            self._complain("hello without transport: the device crashes")
        if self._greeted is None or self._greeted.done():
            self._complain("a second hello: the next connection would not wait for its own")
            return
        line = self._line
        if line is None or message.get("transport") != line.transport or not line.accepts(message):
            return  # ignored; the device runs into its timeout
        self.session_id = str(message.get("session_id") or self.session_id)
        audio = message.get("audio_params")
        audio = audio if isinstance(audio, dict) else {}
        self.rate = audio.get("sample_rate", self.rate)
        self._frame_ms = audio.get("frame_duration", self._frame_ms)
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = OpusDecoder(self.rate) if self._listens else None
        self._become(DeviceState.IDLE)
        self._greeted.set_result(None)

    def _take_glyphs(self, message: Mapping[str, Any]) -> None:
        if (push := message.get("glyph_push")) is None:
            return
        try:
            self.glyphs.update(take_glyphs(push, self.profile.text_font))
        except ValueError as error:
            self._complain(f"all glyphs of a text are thrown away: {error}")

    def _on_stt(self, text: str, now: float) -> None:
        if self._turn is not None and text:
            self._turn.heard = text
            self._turn.answered("stt", now)

    def _on_tts(self, message: Mapping[str, Any], now: float) -> None:
        match self._text_of(message, "state"):
            case "start":
                if self._station is not None and not self.connected:
                    self._complain("tts start without a way for sound: the device is mute and deaf")
                if self.state is DeviceState.SPEAKING:
                    self._complain("tts start while speaking")
                elif self.state is DeviceState.CONNECTING or self._relistening:
                    self._start_waits = True  # the device's main task is busy; it comes to this next
                else:
                    self._speak(now)
            case "stop":
                if self.state is DeviceState.SPEAKING:
                    self._stop(now)
            case "sentence_start":
                self._take_glyphs(message)
                text = self._text_of(message, "text")
                if self._turn is not None and text:
                    self._turn.sentences.append(text)

    def _on_llm(self, emotion: str) -> None:
        if emotion not in EMOTIONS:
            self._complain(f"unknown face {emotion!r}")
        if self.state is not DeviceState.SPEAKING:
            self._complain("a face outside of speaking: it is reset at once")
        if self._turn is not None:
            self._turn.emotion = emotion

    def _on_alert(self, message: Mapping[str, Any]) -> None:
        alert = AlertShown(*(self._text_of(message, name) for name in ("status", "message", "emotion")))
        self.alerts.append(alert)
        if self._turn is not None:
            self._turn.alerts.append(alert)

    def _text_of(self, message: Mapping[str, Any], name: str) -> str:
        value = message.get(name)
        if isinstance(value, str):
            return value
        self._complain(f"{message['type']}.{name} is no text: old firmware crashes")
        return ""

    # -- the speaker ----------------------------------------------------------------------------------------------

    def _speak(self, now: float) -> None:
        """Act on ``tts start``: decoder and queue are emptied, the microphone closes unless it works full duplex."""
        turn = self._turn if self._turn is not None and not self._turn.stopped else self._begin_turn(asked=False)
        turn.answered("tts_start", now)
        self._become(DeviceState.SPEAKING)
        if self.mode != "realtime":
            self._close_mic()
        if self._decoder is not None:
            self._decoder.reset()
        self._settled_at = now + self.profile.settle_ms / 1000

    def _on_audio(self, frame: bytes, now: float) -> None:
        self._audio_at = now
        turn = self._turn
        if turn is None or turn.done.done():
            self.stray_packets += 1
            return
        hearable = self.state is DeviceState.SPEAKING or self.profile.plays_while_listening
        if not hearable or now < self._settled_at:
            turn.dropped_early += 1
            return
        try:
            opus, timestamp = unpack(self._framing, frame)
        except ProtocolError as error:
            self._complain(f"{error}: the device reads beyond the frame")
            turn.unplayable += 1
            return
        ms = packet_ms(opus)
        if not 0 < ms <= self._frame_ms:
            self._complain(f"a packet of {ms:g} ms, announced were {self._frame_ms}")
            turn.unplayable += 1
            return
        begins = turn.playback.add(now, ms)
        if begins is None:
            return
        turn.packets.append(Packet(opus, ms, timestamp))
        if self._loopback is not None:
            self._loopback.play(opus, begins, timestamp)
        turn.stamp("first_frame", now)
        if self._decoder is not None and "first_voice" not in turn.stamps:
            self._look_for_voice(self._decoder, turn, opus, begins)

    def _look_for_voice(self, decoder: OpusDecoder, turn: TurnLog, opus: bytes, begins: float) -> None:
        try:
            offset = voice_offset_ms(decoder.decode(opus), self.rate)
        except ProtocolError as error:
            self._complain(str(error))
            turn.unplayable += 1
            return
        if offset is not None:
            turn.stamp("first_voice", begins + offset / 1000)

    def _stop(self, now: float) -> None:
        """Act on ``tts stop``."""
        turn = self._turn
        assert turn is not None
        turn.stopped = True
        turn.stamp("tts_stop", now)
        if self._interrupting is not None:
            self._turn, self._interrupting = self._interrupting, None
        if not self.profile.drains and self.mode == "auto":
            turn.cut_ms = turn.playback.cut(now)
        self._become(DeviceState.IDLE if self.mode == "manual" else DeviceState.LISTENING)
        self._relistening = self.mode == "auto"
        self._scope.start(self._after_stop(turn), name="drain")

    async def _after_stop(self, turn: TurnLog) -> None:
        await asyncio.sleep(turn.playback.left_ms(self._loop.time()) / 1000)
        turn.stamp("played", turn.playback.ends_at or self._loop.time())
        if self._relistening:
            await self._listen()
            self._relistening = False
        self._finish(turn)
        if self._start_waits and self.connected:
            self._start_waits = False
            self._speak(self._loop.time())

    # -- turns ----------------------------------------------------------------------------------------------------

    def _begin_turn(self, asked: bool) -> TurnLog:
        turn = TurnLog(asked, self._loop.create_future(), Playback(self.profile.queue_packets))
        turn.done.add_done_callback(lambda done: done.exception())  # there may be nobody who waits for it
        self._turn = turn
        return turn

    def _finish(self, turn: TurnLog) -> None:
        if turn.done.done():
            return
        self._note("·", f"{len(turn.packets)} packets, {sum(packet.ms for packet in turn.packets):g} ms of sound")
        result = turn.result(self.rate)
        turn.done.set_result(result)
        if not turn.asked:
            self._unasked.append(result)
        self._tell()

    def _fail(self, turn: TurnLog, why: str) -> None:
        turn.spoken.set()
        turn.stopped = True
        if not turn.done.done():
            turn.done.set_exception(NoAnswer(why, turn.result(self.rate)))
        self._tell()

    # -- the log --------------------------------------------------------------------------------------------------

    def _become(self, state: DeviceState) -> None:
        if state is not self.state:
            self.state = state
            self._note("·", state.value)
            self._tell()

    def _complain(self, why: str) -> None:
        self.complaints.append(why)
        self._note("!", why)

    def _note(self, who: str, what: str) -> None:
        self._lines.append(f"{self._loop.time() - self._born_at:8.3f} {who} {what}")

    def _tell(self) -> None:
        """Wake everybody who waits for something to change."""
        news, self._news = self._news, asyncio.Event()
        news.set()


def voice_offset_ms(samples: Samples, rate: int) -> float | None:
    """Return where in *samples* the first 10 ms begin that can be heard; None when none can."""
    window = rate // 100
    count = len(samples) // window
    power = np.square(samples[: count * window].astype(np.float64)).reshape(count, window).mean(axis=1)
    loud = np.flatnonzero(power >= _VOICE**2)
    return float(loud[0]) * 10 if len(loud) else None


def _brief(message: Mapping[str, Any]) -> str:
    """A message on one line, without what is the same in all of them."""
    parts = [str(message.get("type", "?"))]
    for name, value in message.items():
        if name not in ("type", "session_id"):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            parts.append(text if name in ("state", "mode") else f"{name}={text[:120]}")
    return " ".join(parts)
