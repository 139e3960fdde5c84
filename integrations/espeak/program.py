"""The ``espeak-ng`` program: a process for each sentence. For machines where only the program is installed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator

import numpy as np

from xiaozhi_hub.plugins.api import PcmChunk, StageError

from .voices import Speaking

NAME = "espeak-ng"
HEADER = 44
"""Bytes of the WAV header before the sound; its lengths are wrong, because the program cannot know them yet."""
RATE_AT = slice(24, 28)
BLOCK = 8192
START_SECONDS = 5.0


def find_program() -> str | None:
    """Return the path of the program, None when it is not installed."""
    return shutil.which(NAME)


async def speak(program: str, speaking: Speaking) -> AsyncGenerator[PcmChunk, None]:
    """Say a text; the process ends with the generator."""
    try:
        process = await asyncio.create_subprocess_exec(
            program, "--stdin", "--stdout", "-b", "1",
            "-v", speaking.voice, "-s", str(speaking.rate), "-p", str(speaking.pitch),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise StageError("tts", f"{program} cannot be started: {error.strerror}", permanent=True) from error
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        try:
            process.stdin.write(speaking.text.encode())
            process.stdin.close()
            header = await asyncio.wait_for(process.stdout.readexactly(HEADER), START_SECONDS)
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError) as error:
            process.stdin.close()
            late = isinstance(error, TimeoutError)
            said = "no answer" if late else (await process.stderr.read(500)).decode(errors="replace").strip()
            unknown = "voice" in said and "does not exist" in said
            raise StageError(
                "tts", f"{program} failed: {said or 'no sound'}", code="voice-unknown" if unknown else None
            ) from error
        rate = int.from_bytes(header[RATE_AT], "little")
        rest = b""
        while data := await process.stdout.read(BLOCK):
            data = rest + data
            whole = len(data) // 2 * 2
            rest = data[whole:]
            yield PcmChunk(np.frombuffer(data[:whole], "<i2").astype(np.int16), rate)
    finally:
        if process.returncode is None:
            try:
                process.kill()
            except ProcessLookupError:  # it has just ended by itself
                pass
        while await process.stdout.read(BLOCK):  # asyncio sees the end of a process only after that of its output
            pass
        await process.wait()
