"""P-54 … P-56: photos (§8)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

from xiaozhi_hub.conformance.bench import Bench, Reply
from xiaozhi_hub.conformance.check import check, expect
from xiaozhi_hub.conformance.mcp import vision_address
from xiaozhi_hub.conformance.ota import MOST_BYTES
from xiaozhi_hub.conformance.verdict import Broken

BOUNDARY = "----ESP32_CAMERA_BOUNDARY"
CHUNK = 512
FIRST_BYTE_SECONDS = 25.0
PHOTO = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI////////////////////////////////"
    "////////////////////wAALCAAQABABAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUF"
    "BAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVW"
    "V1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi"
    "4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/AIY1q3GtRRrUkz+VDx95uBX/2Q=="
)
"""A small JPEG, 16 × 16."""


async def _upload(bench: Bench, url: str, token: str | None, photo: bytes = PHOTO) -> Reply:
    """Post as the firmware does: chunked, the question first, then the photo in small pieces."""

    async def body() -> AsyncIterator[bytes]:
        yield (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="question"\r\n\r\nWhat is this?\r\n').encode()
        yield (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="camera.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        for at in range(0, len(photo), CHUNK):
            yield photo[at : at + CHUNK]
            await asyncio.sleep(0)
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    headers = {
        "Device-Id": bench.device_id,
        "Client-Id": bench.client_id,
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Connection": "close",
    }
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return await bench.post(url, headers, body())


@check("P-54", "A chunked multipart POST without Content-Length is taken: first question, then file.")
async def chunked_upload(bench: Bench) -> str:
    url, token = await vision_address(bench)
    reply = await _upload(bench, url, token)
    expect(reply.status == 200, f"status {reply.status}; the device takes only 200")
    answer = reply.json()
    expect(isinstance(answer.get("success"), bool), f"the answer has no success: {str(answer)[:80]}")
    return "analysed" if answer["success"] else "not analysed, and said so"


@check("P-55", "A wrong or missing bearer gets 401; an analysis that fails gets 200 with success false.")
async def refusals(bench: Bench) -> None:
    url, token = await vision_address(bench)
    for name, wrong in (("a wrong token", f"{token}x"), ("no token", None)):
        status = (await _upload(bench, url, wrong)).status
        expect(status == 401, f"{name} gets status {status}, not 401")
    reply = await _upload(bench, url, token, b"this is no photo")
    expect(reply.status == 200, f"what is no photo gets status {reply.status}; the device takes only 200")
    if reply.json().get("success") is not False:
        raise Broken("what is no photo is not told to have failed")


@check("P-56", "The reply is shorter than 6144 bytes, has a Content-Length, and begins within 25 s.")
async def reply_form(bench: Bench) -> str:
    url, token = await vision_address(bench)
    reply = await _upload(bench, url, token)
    expect(reply.seconds <= FIRST_BYTE_SECONDS, f"the reply begins after {reply.seconds:.0f} s")
    expect(len(reply.body) < MOST_BYTES, f"{len(reply.body)} bytes: the device's reader hangs")
    length = reply.headers.get("content-length")
    expect(length == str(len(reply.body)), f"Content-Length is {length}, the body has {len(reply.body)} bytes")
    return f"{len(reply.body)} bytes after {reply.seconds:.1f} s"
