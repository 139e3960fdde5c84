"""A device's camera: takes a photo to the address it was given, and brings back what is said about it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp

from xiaozhi_hub.testing.check_in import open_http

_BOUNDARY = "----ESP32_CAMERA_BOUNDARY"
_CHUNK = 512
_SECONDS = 30.0
PHOTO = bytes.fromhex("ffd8ffe000104a46494600010100000100010000") + bytes(2000) + bytes.fromhex("ffd9")
"""Begins and ends as a JPEG does."""


class Camera:
    """Uploads as the firmware does: chunked, the question first (firmware esp32_camera.cc)."""

    def __init__(self, device_id: str, client_id: str) -> None:
        self._device_id = device_id
        self._client_id = client_id
        self._url = ""
        self._token = ""
        self.photo = PHOTO

    def offer(self, capabilities: object) -> None:
        """Take the capabilities of ``initialize``; what they do not hold stays as it was."""
        vision = capabilities.get("vision") if isinstance(capabilities, dict) else None
        if isinstance(vision, dict) and isinstance(vision.get("url"), str):
            self._url = vision["url"]
            token = vision.get("token")
            self._token = token if isinstance(token, str) else ""

    async def explain(self, question: str) -> str:
        """Return what the other side says about the photo. Raises ValueError with the firmware's words."""
        if not self._url:
            raise ValueError("Image explain URL or token is not set")
        headers = {
            "Device-Id": self._device_id,
            "Client-Id": self._client_id,
            "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
            "Connection": "close",
        }
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with (
                open_http() as http,
                http.post(self._url, data=self._body(question), headers=headers, timeout=timeout) as reply,
            ):
                if reply.status != 200:
                    raise ValueError("Failed to upload photo")
                return await reply.text()
        except (aiohttp.ClientError, OSError) as error:
            raise ValueError("Failed to connect to explain URL") from error

    async def _body(self, question: str) -> AsyncIterator[bytes]:
        # A body of unknown length is what makes the client send it in chunks.
        yield f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="question"\r\n\r\n{question}\r\n'.encode()
        yield (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="camera.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        for at in range(0, len(self.photo), _CHUNK):
            yield self.photo[at : at + _CHUNK]
        yield f"\r\n--{_BOUNDARY}--\r\n".encode()
