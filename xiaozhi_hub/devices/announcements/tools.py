"""The ``announce.*`` tools: what people want others in the house to hear."""

from __future__ import annotations

from typing import Annotated

from xiaozhi_hub.core.flow import SOUND, Packet, TurnInfo
from xiaozhi_hub.core.i18n import Texts, written_in
from xiaozhi_hub.devices.announcements.audience import Listener
from xiaozhi_hub.devices.announcements.messenger import LONGEST_TEXT, Messenger, Said, Sent, TooMuch
from xiaozhi_hub.entities.phrasing import Phrasing
from xiaozhi_hub.errors import MissingSlot, ToolError
from xiaozhi_hub.store.announcements import Kind
from xiaozhi_hub.tools.base import Tool, ToolResult, make_tool

Text = Annotated[str, "the words to say, as they are to be heard"]
Name = Annotated[str, "one voice device, by its name"]
Area = Annotated[str, "all voice devices of this room"]


class AnnounceTools:
    """The handlers. Without a name or a room everybody is meant, but not the one who speaks."""

    def __init__(self, messenger: Messenger, texts: Texts, phrasing: Phrasing) -> None:
        self._messenger = messenger
        self._texts = texts
        self._phrasing = phrasing

    async def say(self, turn: TurnInfo, text: Text, name: Name | None = None, area: Area | None = None) -> ToolResult:
        """Say something on other voice devices, now: on one device, in one room, or everywhere else in the house."""
        sent = await self._send(turn, Kind.ANNOUNCEMENT, text, (), await self._find(turn, name, area))
        return self._told(turn, sent)

    async def intercom(
        self, turn: TurnInfo, name: Name | None = None, area: Area | None = None, text: Text | None = None
    ) -> ToolResult:
        """Let the person's own voice be heard on other voice devices: asks them to speak, then plays what they said."""
        listeners = await self._find(turn, name, area)
        if text is None:
            raise MissingSlot(SOUND, self._text("speak_now", turn))
        return self._told(turn, await self._send(turn, Kind.ANNOUNCEMENT, text, turn.sound, listeners))

    async def leave_message(
        self, turn: TurnInfo, name: Name | None = None, area: Area | None = None, text: Text | None = None
    ) -> ToolResult:
        """Leave a message at another voice device, in the person's own voice: it is played when somebody talks to that device."""
        if not name and not area:
            raise MissingSlot("area", self._text("for_whom", turn))
        listeners = await self._find(turn, name, area)
        if text is None:
            raise MissingSlot(SOUND, self._text("what_message", turn))
        sent = await self._send(turn, Kind.MESSAGE, text, turn.sound, listeners)
        return ToolResult(self._text("kept", turn, names=self._names(listeners, turn)), {"announcement": sent.id})

    async def check_messages(self, turn: TurnInfo) -> ToolResult:
        """Say whether messages wait on the voice device the person is talking to, and from where."""
        waiting = self._messenger.waiting(turn.device_id)
        names = [self._messenger.name_of(item.from_device, turn.language) for item in waiting]
        known = list(dict.fromkeys(name for name in names if name))
        text = self._count(len(waiting), turn)
        if known:
            said = self._phrasing.several(known, turn.language)
            text = f"{text} {self._text('they_are_from', turn, names=said)}"
        return ToolResult(text, {"count": len(waiting)})

    async def play_messages(self, turn: TurnInfo) -> ToolResult:
        """Play the messages that wait on the voice device the person is talking to."""
        count = self._messenger.play(turn.device_id)
        return ToolResult(self._count(count, turn), {"count": count})

    # -- how ------------------------------------------------------------------------------------------------------

    async def _find(self, turn: TurnInfo, name: str | None, area: str | None) -> tuple[Listener, ...]:
        return await self._messenger.audience.find(
            turn.language, device=name, area=area, everywhere=not (name or area), but=turn.device_id
        )

    async def _send(
        self, turn: TurnInfo, kind: Kind, text: str, sound: tuple[Packet, ...], listeners: tuple[Listener, ...]
    ) -> Sent:
        text = text.strip()
        if not text and not sound:
            raise ToolError(self._text("nothing", turn), code="tool-arguments")
        if sound:
            text = text[:LONGEST_TEXT]  # of a recording it is only a note
        said = Said(
            text=text[:1].upper() + text[1:],
            sound=sound,
            kind=kind,
            language=written_in(text, turn.language),
            from_device=turn.device_id,
            from_session=turn.session_id,
        )
        try:
            return await self._messenger.say(listeners, said)
        except TooMuch as error:
            raise ToolError(self._text("too_much", turn), code=error.code) from error

    def _told(self, turn: TurnInfo, sent: Sent) -> ToolResult:
        parts = []
        if sent.now or sent.shown:
            parts.append(self._text("told", turn))
        if sent.later:
            parts.append(self._text("later", turn, names=self._names(sent.later, turn)))
        data = {
            "announcement": sent.id,
            **{
                way: [each.device_id for each in listeners]
                for way, listeners in (("now", sent.now), ("shown", sent.shown), ("later", sent.later))
            },
        }
        return ToolResult(" ".join(parts), data)

    def _names(self, listeners: tuple[Listener, ...], turn: TurnInfo) -> str:
        if len(listeners) > 3:
            return self._text("devices", turn, count=len(listeners))
        names = [self._messenger.name_of(each.device_id, turn.language) or each.area for each in listeners]
        return self._phrasing.several([name or self._text("a_device", turn) for name in names], turn.language)

    def _count(self, count: int, turn: TurnInfo) -> str:
        return self._text(
            "no_messages" if not count else "one_message" if count == 1 else "messages", turn, count=count
        )

    def _text(self, key: str, turn: TurnInfo, **values: object) -> str:
        return self._texts.text(f"announce.{key}", turn.language, **values)


def announce_tools(messenger: Messenger, texts: Texts, phrasing: Phrasing) -> tuple[Tool, ...]:
    """All of them."""
    tools = AnnounceTools(messenger, texts, phrasing)
    return (
        make_tool("announce.say", tools.say),
        make_tool("announce.intercom", tools.intercom),
        make_tool("announce.leave_message", tools.leave_message),
        make_tool("announce.check_messages", tools.check_messages, effect=False),
        make_tool("announce.play_messages", tools.play_messages),
    )


__all__ = ["announce_tools"]
