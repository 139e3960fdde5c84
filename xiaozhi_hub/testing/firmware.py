"""What the hardware does by itself: the states of the firmware, and what makes it change them.

Its parts have rooms of their own: `registration` (where the hub is), `device_link` (conversations with it), `microphone`,
`speaker`, `display`, `tools` and `things` (what the hub may ask it to do), `device_log`.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.protocol.device_messages import ListenMode
from xiaozhi_hub.testing.activation import Activation
from xiaozhi_hub.testing.camera import Camera
from xiaozhi_hub.testing.check_in import Address, NoLink
from xiaozhi_hub.testing.device_link import DeviceLink, Watch
from xiaozhi_hub.testing.device_log import DeviceLog, brief
from xiaozhi_hub.testing.display import Display
from xiaozhi_hub.testing.glyphs import PushedGlyph
from xiaozhi_hub.testing.loopback import Loopback
from xiaozhi_hub.testing.microphone import Microphone
from xiaozhi_hub.testing.playback import Playback
from xiaozhi_hub.testing.profile import FirmwareProfile
from xiaozhi_hub.testing.registration import Registration
from xiaozhi_hub.testing.settings import Settings
from xiaozhi_hub.testing.speaker import Speaker
from xiaozhi_hub.testing.things import Things
from xiaozhi_hub.testing.tools import DeviceTools
from xiaozhi_hub.testing.turn import AlertShown, NoAnswer, TurnLog, TurnResult

_UNASKED_ANSWERS = 32


class DeviceState(StrEnum):
    """States of the firmware that matter to a hub."""

    IDLE = "idle"
    CONNECTING = "connecting"
    LISTENING = "listening"
    SPEAKING = "speaking"


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
        self._loop = asyncio.get_running_loop()
        self._scope = TaskScope(f"device-{device_id}")
        self.log = DeviceLog()
        address = Address(url, token) if url is not None else None
        self.registration = Registration(ota_url, address, device_id, self.client_id, language, self.profile, self.log)
        self.link = DeviceLink(device_id, self.client_id, self.profile, self.log, self._scope, self, watch)
        self.speaker = Speaker(self.profile, self.log.complain, decodes=listens, loopback=loopback)
        self.microphone = Microphone(
            self.link, self._scope, loopback, lambda: self._interrupting or self._turn, self._last_word
        )
        self.display = Display(self.profile, self.log)
        self.settings = Settings()
        self.camera = Camera(self.device_id, self.client_id)
        self.tools = DeviceTools(self.profile, self.settings, self.camera)
        self.things = Things(self.profile, self.settings)
        self._loopback = loopback
        self._news = asyncio.Event()
        self._relistening = False
        self._start_waits = False
        self._interrupting: TurnLog | None = None
        """What the person says into the answer."""
        self._turn: TurnLog | None = None
        """What happens now, or the last thing that did."""
        self._unasked: deque[TurnResult] = deque(maxlen=_UNASKED_ANSWERS)

    # -- what its parts know --------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self.link.connected

    @property
    def session_id(self) -> str:
        return self.link.session_id

    @property
    def close_code(self) -> int | None:
        """Of the last link, None while it lives or when it ended without a close frame."""
        return self.link.close_code

    @property
    def ota_answer(self) -> dict[str, Any]:
        """The hub's whole answer to the last check-in."""
        return self.registration.answer

    @property
    def activation(self) -> Activation | None:
        """What it shows while the hub makes it wait for approval: until then it cannot be used."""
        return self.registration.activation

    @property
    def rate(self) -> int:
        """Of the sound that the hub announced."""
        return self.speaker.rate

    @property
    def stray_packets(self) -> int:
        """Sound that came outside of any answer."""
        return self.speaker.stray_packets

    @property
    def glyphs(self) -> dict[int, PushedGlyph]:
        """The pictures of characters that the hub has sent, by code point."""
        return self.display.glyphs

    @property
    def alerts(self) -> list[AlertShown]:
        """All that were shown."""
        return self.display.alerts

    @property
    def complaints(self) -> list[str]:
        """Where the hub broke the rules: each would make some firmware crash, hang, or ignore what was meant."""
        return self.log.complaints

    # -- the link -------------------------------------------------------------------------------------------------

    async def check_in(self) -> None:
        """Ask the hub at the OTA address where to connect, as at a start of the device."""
        address = await self.registration.check_in()
        if self.activation is None and address.mqtt is not None:
            await self.link.reach(address.mqtt)

    async def activate(self) -> int:
        """Ask once whether the hub lets it in; return the status of the answer."""
        return await self.registration.activate()

    async def activated(self, within: float = 120.0) -> None:
        """Do what the firmware does until it is let in: ask, wait, check in again. `NoLink` when nobody lets it in."""
        try:
            async with asyncio.timeout(within):
                while self.activation is not None:
                    await self.registration.wait_for_yes()
                    await self.check_in()
        except TimeoutError:
            raise NoLink(f"Nobody has approved the device within {within:g} s.") from None

    async def connect(self) -> None:
        """Open the WebSocket, or a conversation over MQTT, and exchange hellos; nothing happens when it is open already."""
        if self.connected:
            return
        if self.registration.address is None:
            await self.check_in()
        assert self.registration.address is not None
        if self.activation is not None:
            raise NoLink(f"The hub wants the device approved first; it shows {self.activation.code}.")
        await self.link.drop()
        self._become(DeviceState.CONNECTING)
        try:
            await self.link.open(self.registration.address)
            if not self.profile.speaks_mcp:
                for descriptor in self.things.descriptors():
                    await self.link.send_json({"type": "iot", "update": True, "descriptors": [descriptor]})
        finally:
            if self.state is DeviceState.CONNECTING:
                self._become(DeviceState.IDLE)

    async def hang_up(self) -> None:
        """End the conversation as devices do: the TCP connection closes without a close frame, MQTT stays after a goodbye."""
        if self.connected:
            await self.link.say_goodbye()
        self.link_ended()
        await self.link.drop()

    async def switch_off(self) -> None:
        """End everything, as pulling the plug does, but in good order."""
        await self.hang_up()
        await self.link.close()

    def link_ended(self) -> None:
        """The link is gone, whoever ended it: the device rests."""
        self._relistening = self._start_waits = False
        self._close_mic()
        self._become(DeviceState.IDLE)
        self.link.not_greeted()
        if self._turn is not None and not self._turn.stopped:
            self._fail(self._turn, "The connection ended before the answer did.")
        self._tell()

    # -- the microphone -------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """``listen start``, and the microphone streams."""
        self.microphone.stop()
        self._become(DeviceState.LISTENING)
        if not self.profile.speaks_mcp and (states := self.things.changes()):
            await self.link.send_json({"type": "iot", "update": True, "states": states})
        await self.link.send_json({"type": "listen", "state": "start", "mode": self.mode})
        if self.connected and self.state is DeviceState.LISTENING:
            self.microphone.start()

    async def _last_word(self) -> bool:
        """The last word was sent: who holds a button lets it go."""
        if self.mode != "manual":
            return False
        self.microphone.let_go()
        self._become(DeviceState.IDLE)
        await self.link.send_json({"type": "listen", "state": "stop"})
        return True

    def _close_mic(self) -> None:
        """Nobody hears the person any more, even in mid-sentence."""
        self.microphone.close()
        if self._turn is not None:
            self._turn.spoken.set()

    # -- what the hub says ----------------------------------------------------------------------------------------

    async def text_came(self, text: str, now: float) -> None:
        """Do what a message of the hub says."""
        await self._obey(text, now)
        self._tell()

    def audio_came(self, frame: bytes, now: float) -> None:
        """Play a frame of sound."""
        hearable = self.state is DeviceState.SPEAKING or self.profile.plays_while_listening
        self.speaker.play(frame, self.link.framing, now, self._turn, hearable=hearable)
        self._tell()

    async def _obey(self, text: str, now: float) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            self.log.complain(f"not a message: {text[:80]}")
            return
        self.log.note("←", brief(message))
        match message["type"]:
            case "hello":
                self._on_hello(message)
            case "stt":
                self.display.show_heard(message, self._turn, now)
            case "tts":
                self._on_tts(message, now)
            case "llm":
                self.display.show_face(
                    message, self._turn, speaking=self.state is DeviceState.SPEAKING or self._start_waits
                )
            case "alert":
                self.display.show_alert(message, self._turn)
            case "mcp":
                await self._on_mcp(message.get("payload"))
            case "iot" if not self.profile.speaks_mcp:
                if why := self.things.obey(message):
                    self.log.complain(why)
            case "system":
                pass
            case "goodbye" if self.link.station is not None:
                self.link.hear_goodbye(message)
            case kind:
                self.log.complain(f"unknown message {kind}")

    async def _on_mcp(self, request: object) -> None:
        """Tools run on the main task: nothing else the hub says is heeded before the reply (firmware mcp_server.cc)."""
        if not (self.profile.speaks_mcp and self.profile.answers_mcp):
            return
        if (payload := await self.tools.answer(request)) is not None:
            self.log.note("→", f"mcp payload={payload[:120]}")
            session = json.dumps(self.session_id if self.profile.stores_session_id else "")
            await self.link.write(f'{{"session_id":{session},"type":"mcp","payload":{payload}}}')

    def _on_hello(self, message: Mapping[str, Any]) -> None:
        if self.link.takes(message):
            self.speaker.announced(message.get("audio_params"))
            self._become(DeviceState.IDLE)
            self.link.greeted()

    def _on_tts(self, message: Mapping[str, Any], now: float) -> None:
        match self.display.text_of(message, "state"):
            case "start":
                if self.link.station is not None and not self.connected:
                    self.log.complain("tts start without a way for sound: the device is mute and deaf")
                if self.state is DeviceState.SPEAKING:
                    self.log.complain("tts start while speaking")
                elif self.state is DeviceState.CONNECTING or self._relistening:
                    self._start_waits = True  # the device's main task is busy; it comes to this next
                else:
                    self._speak(now)
            case "stop":
                if self.state is DeviceState.SPEAKING:
                    self._stop(now)
            case "sentence_start":
                self.display.show_sentence(message, self._turn)

    # -- answers --------------------------------------------------------------------------------------------------

    def _speak(self, now: float) -> None:
        """Act on ``tts start``: decoder and queue are emptied, the microphone closes unless it works full duplex."""
        turn = self._turn if self._turn is not None and not self._turn.stopped else self._begin_turn(asked=False)
        turn.answered("tts_start", now)
        self._become(DeviceState.SPEAKING)
        if self.mode != "realtime":
            self._close_mic()
        self.speaker.empty(now)

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
        self.log.note("·", f"{len(turn.packets)} packets, {sum(packet.ms for packet in turn.packets):g} ms of sound")
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

    # -- news -----------------------------------------------------------------------------------------------------

    def _become(self, state: DeviceState) -> None:
        if state is not self.state:
            self.state = state
            self.log.note("·", state.value)
            self._tell()

    def _tell(self) -> None:
        """Wake everybody who waits for something to change."""
        news, self._news = self._news, asyncio.Event()
        news.set()
