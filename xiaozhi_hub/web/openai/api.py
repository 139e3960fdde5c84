"""The hub as other programs know language models: chat, transcription and speech in the form of the OpenAI API, under ``/v1``.

Every request shows a token that the owner has given out (``xiaozhi-hub devices invite``): what is asked here is done in the house.
Web pages from elsewhere cannot use it: nothing allows them to (no CORS).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import BodyPartReader, web
from aiohttp.typedefs import Handler

from xiaozhi_hub.core.flow import Outcome, TurnRecord
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.core.i18n import language_of
from xiaozhi_hub.core.ids import new_id
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.read_aloud import ogg_of, pcm_of, wav_of
from xiaozhi_hub.dialog.transcribe import find_speech, transcribe, utterances_in
from xiaozhi_hub.dialog.turn_parts import TurnParts
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.errors import HubError, ProtocolError
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.web.devices.pairing import shown_token
from xiaozhi_hub.web.openai.answers import chunks, completion, failure_answer, failure_of_turn, joined, model_json
from xiaozhi_hub.web.openai.talks import Said, Talk, Talks, read_messages
from xiaozhi_hub.web.openai.transcripts import events, read_form, verbose
from xiaozhi_hub.web.programs.local import HEADERS, answer
from xiaozhi_hub.web.programs.voice_names import choose_voice
from xiaozhi_hub.web.requests.body import read_json, text_field
from xiaozhi_hub.web.requests.failures import Rejected, failure_of
from xiaozhi_hub.web.requests.sound_body import BYTES, SECONDS, decode
from xiaozhi_hub.web.requests.streaming import send_pieces

JSON_BYTES = 2 * 2**20
"""A request brings the whole conversation."""
JSON_SECONDS = 15.0
LONGEST_TEXT = 4096
LONGEST_NAME = 64
AT_ONCE = 4
"""Requests of one client that are worked on at the same time."""
IN_ALL = 16
WATCH_S = 0.25
"""How often it is looked whether the client is still there."""
_FORM_FIELDS = 16
_FIELD_BYTES = 16 * 1024

_SPEECH = {
    "wav": (wav_of, "audio/wav"),
    "opus": (ogg_of, "audio/ogg"),
    "ogg": (ogg_of, "audio/ogg"),
    "pcm": (pcm_of, "audio/pcm"),
}
_SAMPLES = (".pcm", ".raw")


@dataclass(frozen=True, slots=True)
class OpenAiParts:
    """What the API needs from the rest of the hub."""

    turn_parts: Callable[[], Awaitable[TurnParts]]
    """Returns once the engines have started."""
    ask: Callable[[str, str, str, str, Talk], AsyncGenerator[str | TurnRecord, None]]
    """Answers a text in a language (empty: the client's) for a client by an assistant, in a conversation."""
    admit: Callable[[DeviceIdentity, str], Awaitable[DeviceIdentity]]
    """Says who shows a token; raises `Rejected`."""
    language_of: Callable[[str], str]
    """The language of a client."""


class OpenAiApi:
    """The endpoints."""

    def __init__(self, parts: OpenAiParts) -> None:
        self._parts = parts
        self.talks = Talks()
        self._busy: dict[str, set[asyncio.Task[Any]]] = {}
        """What is worked on, by clients."""

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/v1/models", self._guarded(self._models)),
            web.get("/v1/models/{model}", self._guarded(self._model)),
            web.post("/v1/chat/completions", self._guarded(self._chat)),
            web.post("/v1/audio/transcriptions", self._guarded(self._transcribe)),
            web.post("/v1/audio/speech", self._guarded(self._speak)),
            web.route("*", "/v1/{rest:.*}", self._guarded(self._nothing)),
        ]

    def _guarded(self, handler: Callable[[web.Request, str], Awaitable[web.StreamResponse]]) -> Handler:
        """Let only those in who show a good token, a few requests of each at a time; failures in the form of this API."""

        async def answered(request: web.Request) -> web.StreamResponse:
            try:
                client_id = await self._client(request)
                async with self._place_for(client_id):
                    return await handler(request, client_id)
            except Exception as error:  # the border of the HTTP request
                return failure_answer(*failure_of(request, error))

        async def guarded(request: web.Request) -> web.StreamResponse:
            async with TaskScope("openai-api") as scope:
                work = scope.start(answered(request), name=request.path)
                while not (await asyncio.wait([work], timeout=WATCH_S))[0]:
                    if request.transport is None or request.transport.is_closing():
                        raise ConnectionResetError("the client has gone")  # what it asked for is not worth finishing
                return work.result()  # where `forget` has cancelled it, the connection ends

        return guarded

    async def forget(self, what: Forget) -> None:
        """Forget the conversations of clients, and what they ask just now: an answer that went on would be remembered."""
        if what.before is None:
            busy = [task for id, tasks in self._busy.items() if what.concerns(id) for task in tasks]
            for task in busy:
                task.cancel()
            if busy:
                await asyncio.wait(busy)
        await self.talks.forget(what)

    async def _client(self, request: web.Request) -> str:
        nobody = DeviceIdentity("", address=request.remote or "")
        try:
            client = await self._parts.admit(nobody, shown_token(request.headers.get("Authorization", "")))
        except Rejected as error:
            if error.status != 401:
                raise
            hint = "On the hub's machine, xiaozhi-hub devices invite NAME prints one."
            raise Rejected(401, "This needs a token of the hub.", code="invalid-api-key", hint=hint) from error
        return client.id

    @asynccontextmanager
    async def _place_for(self, client_id: str) -> AsyncIterator[None]:
        if len(self._busy.get(client_id, ())) >= AT_ONCE or sum(map(len, self._busy.values())) >= IN_ALL:
            raise Rejected(429, "Too many requests at the same time.", code="too-many-requests", hint="Try again soon.")
        task = asyncio.current_task()
        assert task is not None
        self._busy.setdefault(client_id, set()).add(task)
        try:
            yield
        finally:
            self._busy[client_id].remove(task)
            if not self._busy[client_id]:
                del self._busy[client_id]

    # -- models ---------------------------------------------------------------------------------------------------

    async def _models(self, request: web.Request, client_id: str) -> web.Response:
        names = await self._names()
        return answer({"object": "list", "data": [model_json(name) for name in names]})

    async def _model(self, request: web.Request, client_id: str) -> web.Response:
        return answer(model_json(await self._known(request.match_info["model"])))

    async def _names(self) -> tuple[str, ...]:
        return tuple(each.id for each in (await self._parts.turn_parts()).assistants.all())

    async def _known(self, model: str) -> str:
        names = await self._names()
        if model not in names:
            raise Rejected(
                404, "There is no such model.", code="model-not-found", hint=f"There are: {', '.join(names)}."
            )
        return model

    async def _nothing(self, request: web.Request, client_id: str) -> web.Response:
        raise Rejected(404, "The hub does not offer this.", code="not-found")

    # -- chat -----------------------------------------------------------------------------------------------------

    async def _chat(self, request: web.Request, client_id: str) -> web.StreamResponse:
        values = await read_json(request, JSON_BYTES, JSON_SECONDS)
        model = await self._known(text_field(values, "model", most=LONGEST_NAME, required=True))
        stream = values.get("stream") or False
        if not isinstance(stream, bool):
            raise ProtocolError("'stream' must be true or false.", code="field-invalid")
        with_usage = _wants_usage(values.get("stream_options"), stream=stream)
        if values.get("n") not in (None, 1):
            raise ProtocolError("'n' can only be 1.", code="field-invalid")
        if values.get("tool_choice") not in (None, "auto", "none"):
            raise ProtocolError("The hub calls its own tools and no others.", code="tools-unsupported")
        question, before = read_messages(values.get("messages"))
        pieces = self._asked(client_id, model, question, before)
        if stream:
            headers = {**HEADERS, "Content-Type": "text/event-stream"}
            return await send_pieces(request, chunks(pieces, new_id(), model, with_usage=with_usage), headers)
        said: list[str] = []
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, str):
                    said.append(piece)
                elif piece.outcome is Outcome.FAILED:
                    return failure_answer(502, failure_of_turn(piece))
                else:
                    return answer(completion(piece, model, joined(said)))
        raise HubError("the turn ended without a record")

    async def _asked(
        self, client_id: str, model: str, question: str, before: tuple[Said, ...]
    ) -> AsyncGenerator[str | TurnRecord, None]:
        talk = self.talks.find(client_id, before)
        said: list[str] = []
        async with aclosing(self._parts.ask(question, "", client_id, model, talk)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    said.append(piece)
                else:
                    self.talks.keep(client_id, (*before, ("user", question), ("assistant", joined(said))), talk)
                yield piece

    # -- sound ----------------------------------------------------------------------------------------------------

    async def _transcribe(self, request: web.Request, client_id: str) -> web.StreamResponse:
        fields, file, name = await _read_form(request)
        form, stream = read_form(fields)
        kind = "audio/pcm" if name.lower().endswith(_SAMPLES) else "audio/unknown"
        sound = await asyncio.to_thread(decode, file, kind)
        parts = await self._parts.turn_parts()
        language = language_of(fields.get("language", ""), self._parts.language_of(client_id))
        if stream:
            utterances = utterances_in(parts, sound, await find_speech(parts, sound), language, client_id)
            return await send_pieces(request, events(utterances), {**HEADERS, "Content-Type": "text/event-stream"})
        heard = await transcribe(parts, sound, language, client_id)
        if form == "text":
            return web.Response(text=heard.text + "\n", headers=HEADERS)
        return answer(verbose(heard, sound.ms) if form == "verbose_json" else {"text": heard.text})

    async def _speak(self, request: web.Request, client_id: str) -> web.StreamResponse:
        values = await read_json(request, JSON_BYTES, JSON_SECONDS)
        text = text_field(values, "input", most=LONGEST_TEXT, required=True)
        form = text_field(values, "response_format", most=LONGEST_NAME).lower() or "wav"
        if form not in _SPEECH:
            raise ProtocolError(f"'response_format' must be one of {', '.join(_SPEECH)}.", code="field-invalid")
        if values.get("stream_format") not in (None, "audio"):
            raise ProtocolError("'stream_format' can only be audio.", code="field-invalid")
        speed = values.get("speed", 1.0)
        if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not 0.25 <= speed <= 4:
            raise ProtocolError("'speed' must be a number from 0.25 to 4.", code="field-invalid")
        chosen = choose_voice(text_field(values, "voice", most=LONGEST_NAME), "", text)
        parts = await self._parts.turn_parts()
        write, content_type = _SPEECH[form]
        speech = write(parts, SpeechRequest(text, chosen.language, chosen.voice, parts.voice.speed * speed))
        return await send_pieces(request, speech, {**HEADERS, "Content-Type": content_type})


def _wants_usage(options: Any, *, stream: bool) -> bool:
    if options is None:
        return False
    wanted = options.get("include_usage") or False if isinstance(options, dict) else None
    if not stream or not isinstance(wanted, bool):
        raise ProtocolError("'stream_options' goes with 'stream' and may hold 'include_usage'.", code="field-invalid")
    return wanted


async def _read_form(request: web.Request) -> tuple[dict[str, str], bytes, str]:
    """The texts of a form, the file in it, and the file's name. Raises `ProtocolError`, `Rejected`."""
    if request.content_type != "multipart/form-data":
        raise ProtocolError("The request must be a form with a file in it.", code="form-invalid")
    fields: dict[str, str] = {}
    file, name = b"", ""
    try:
        async with asyncio.timeout(SECONDS):
            form = await request.multipart()
            for _ in range(_FORM_FIELDS):
                part = await form.next()
                if part is None:
                    break
                if not isinstance(part, BodyPartReader):
                    raise ProtocolError("A form within a form is not understood.", code="form-invalid")
                if part.name == "file":
                    file, name = await _read_part(part, BYTES), part.filename or ""
                else:
                    fields[part.name or ""] = (await _read_part(part, _FIELD_BYTES)).decode()
    except TimeoutError as error:
        raise ProtocolError("The request did not come in time.", code="body-timeout") from error
    except (HubError, ConnectionError):
        raise
    except Exception as error:  # a body is anybody's; the parser tells of a broken one in many ways
        raise ProtocolError("The form cannot be read.", code="form-invalid") from error
    return fields, file, name


async def _read_part(part: BodyPartReader, most: int) -> bytes:
    data = bytearray()
    while piece := await part.read_chunk():
        data += piece
        if len(data) > most:
            raise Rejected(413, "This is too long.", code="too-long", hint=f"A file may have {BYTES // 2**20} MB.")
    return bytes(data)


__all__ = ["OpenAiApi", "OpenAiParts"]
