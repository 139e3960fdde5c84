"""Pictures: the projector of a multimodal model, through the library's own mtmd."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib
import llama_cpp.mtmd_cpp as mtmd

from .failure import Failure, Stopped
from .library import Library

MOST_TOKENS = 512
"""Of a picture, where the model leaves a choice: at 20 to 120 tokens a second a full-sized one takes minutes."""


class Eyes:
    """Turns pictures into what the model reads."""

    def __init__(self, library: Library, projector: Path, options: Mapping[str, Any]) -> None:
        self._library = library
        mtmd.mtmd_log_set(library.log.callback, ctypes.c_void_p(0))
        mtmd.mtmd_helper_log_set(library.log.callback, ctypes.c_void_p(0))
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = bool(options["gpu_layers"])
        params.print_timings = False
        params.warmup = False
        params.n_threads = library.threads
        params.image_max_tokens = MOST_TOKENS
        self._context = mtmd.mtmd_init_from_file(str(projector).encode(), library.model, params)
        if not self._context or not mtmd.mtmd_support_vision(self._context):
            why = library.log.take_errors() or "it is not for pictures"
            raise Failure(
                "model-broken",
                f"llama.cpp cannot use {projector.name} with {library.path.name}: {why}",
                f"Run: xiaozhi-hub models verify {projector.parent.name}   or set vision: false for llama_cpp.",
                permanent=True,
            )
        marker = mtmd.mtmd_get_marker(self._context) or mtmd.mtmd_default_marker()
        self.marker = marker.decode()
        """Stands in a prompt where the picture is to be."""

    def read(self, prompt: str, picture: bytes) -> int:
        """Read *prompt* with *picture* in the place of its marker into the empty context; returns how many places that took."""
        bitmap, chunks = None, mtmd.mtmd_input_chunks_init()
        try:
            data = (ctypes.c_uint8 * len(picture)).from_buffer_copy(picture)
            bitmap = mtmd.mtmd_helper_bitmap_init_from_buf(self._context, data, len(picture), False)
            if not bitmap:
                raise Failure("vision-failed", "the photo cannot be read as a picture")
            raw = prompt.encode("utf-8", "replace")
            text = mtmd.mtmd_input_text(raw, len(raw), False, True)
            pictures = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if mtmd.mtmd_tokenize(self._context, chunks, ctypes.byref(text), pictures, 1) != 0:
                raise Failure("vision-failed", f"the photo cannot be prepared: {self._library.log.take_errors()}")
            places = int(mtmd.mtmd_helper_get_n_pos(chunks))
            if places + 16 > self._library.context_size:
                raise Failure(
                    "llm-too-long",
                    f"the photo takes {places} tokens, the model's context has {self._library.context_size}",
                    "Set a larger context: for llama_cpp.",
                )
            end = lib.llama_pos(0)
            batch = int(lib.llama_n_batch(self._library.context))
            code = mtmd.mtmd_helper_eval_chunks(
                self._context, self._library.context, chunks, 0, 0, batch, True, ctypes.byref(end)
            )
            if self._library.stop.is_set():
                raise Stopped
            if code != 0:
                raise Failure("vision-failed", f"the photo cannot be looked at: {self._library.log.take_errors()}")
            return int(end.value)
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            if bitmap:
                mtmd.mtmd_bitmap_free(bitmap)
