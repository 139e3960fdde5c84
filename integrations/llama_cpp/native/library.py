"""llama.cpp through the C interface of llama-cpp-python: one model, one context, one sequence that is evaluated.

The package's own `Llama` class keeps logits of every token, cannot be interrupted while it reads a prompt, and re-evaluates more than
it must when conversations alternate; the C interface below it does all three.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib

from .failure import Failure, Stopped

_LEVELS = {1: "debug", 2: "debug", 3: "info", 4: "warning"}
"""ggml.h: debug, info, warning, error. What the library warns of is rarely of use to people."""
_CONTROL, _UNKNOWN, _UNUSED = 1 << 3, 1 << 0, 1 << 1
_MEMORY_LEFT = 192 * 2**20
"""Bytes that the rest of the machine keeps when a context is set up."""
_SEQ = 0


class Log:
    """Takes the library's words: to standard error, line by line with a level, where the hub reads them."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._level = "debug"
        self._text = ""
        self.callback = lib.llama_log_callback(self._take)
        lib.llama_log_set(self.callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _: object) -> None:
        if level != 5:  # 5 continues the line before
            self._level = _LEVELS.get(level, "debug")
        self._text += text.decode("utf-8", "replace")
        *lines, self._text = self._text.split("\n")
        for line in filter(str.strip, lines):
            if self._level == "warning":
                self.errors = [*self.errors[-7:], line.strip()]
            print(f"{self._level}: {line.rstrip()}", file=sys.stderr, flush=True)

    def take_errors(self) -> str:
        """What the library complained about since the last call."""
        told, self.errors = " ".join(self.errors), []
        return told[-400:]


class Stop:
    """Set from another thread to end the work on the present answer."""

    def __init__(self) -> None:
        # The library asks between the nodes of its graph, a thousand times for each token. A Python function would take the
        # interpreter's lock each time; `strlen` of a buffer that holds an empty string or a longer one does without.
        self._flag = ctypes.create_string_buffer(b"\0\0", 2)
        libc = ctypes.CDLL(None)
        self.callback = ctypes.cast(libc.strlen, lib.ggml_abort_callback)
        self.data = ctypes.cast(self._flag, ctypes.c_void_p)

    def set(self) -> None:
        self._flag[0] = b"\x01"

    def clear(self) -> None:
        self._flag[0] = b"\0"

    def is_set(self) -> bool:
        return bool(self._flag.value)


class Library:
    """A loaded model with its context. `tokens` are those whose keys and values the context holds."""

    def __init__(self, path: Path, options: Mapping[str, Any], stop: Stop) -> None:
        self.path = path
        self.stop = stop
        self.log = Log()
        self.tokens: list[int] = []
        self._shifted = False
        self.threads = int(options["threads"]) or _cores()
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = options["gpu_layers"]
        self.model = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise Failure(
                "model-broken",
                f"llama.cpp cannot load {path.name}: {self.log.take_errors() or 'it gives no reason'}",
                "Is the file whole, and of a kind that this version of llama-cpp-python knows? "
                f"Run: xiaozhi-hub models verify {path.parent.name}",
                permanent=True,
            )
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.trained_for = int(lib.llama_model_n_ctx_train(self.model))
        self.context_size = min(options["context"], self.trained_for) if self.trained_for else options["context"]
        self._check_memory()
        self.context = self._open(options)
        self.memory = lib.llama_get_memory(self.context)
        if not self.memory:
            raise Failure(
                "model-unfit", f"{path.name} is no model that writes texts.", "Choose another one.", permanent=True
            )
        self.can_shift = bool(lib.llama_memory_can_shift(self.memory))
        self.can_cut = not (lib.llama_model_is_recurrent(self.model) or lib.llama_model_is_hybrid(self.model))
        """Can the newest tokens be forgotten without the older ones?"""
        self.size = int(lib.llama_vocab_n_tokens(self.vocab))
        self._buffer = ctypes.create_string_buffer(512)
        self.control = self._control_tokens()

    @property
    def traits(self) -> tuple[object, ...]:
        """What a state depends on beside the model's file."""
        default = lib.llama_context_default_params()
        return default.type_k, default.type_v, default.flash_attn_type, lib.llama_print_system_info()

    def _open(self, options: Mapping[str, Any]) -> Any:
        params = lib.llama_context_default_params()
        params.n_ctx = self.context_size
        params.n_batch = params.n_ubatch = min(options["batch"], self.context_size)
        # The second sequence is only a name for a part of the first, while that part is saved.
        params.n_seq_max = 2
        params.kv_unified = True
        params.swa_full = True  # or the past of models with a sliding window could not be cut
        params.n_threads = params.n_threads_batch = self.threads
        params.abort_callback = self.stop.callback
        params.abort_callback_data = self.stop.data
        context = lib.llama_init_from_model(self.model, params)
        if not context:
            raise Failure(
                "context-too-large",
                f"A context of {self.context_size} tokens cannot be set up: {self.log.take_errors() or 'out of memory'}",
                "Set a smaller context: for llama_cpp.",
                permanent=True,
            )
        return context

    def _check_memory(self) -> None:
        """The system may promise memory that it does not have, and end this process later. So ask before."""
        needed = self._context_bytes()
        free = _free_memory()
        if free is not None and needed > max(0, free - _MEMORY_LEFT):
            raise Failure(
                "context-too-large",
                f"A context of {self.context_size} tokens takes {_megabytes(needed)}; {_megabytes(free)} are free.",
                "Set a smaller context: for llama_cpp, or choose a smaller model.",
                permanent=True,
            )

    def _context_bytes(self) -> int:
        """Bytes of the keys and values of a full context, in 16 bits each."""
        kind = self.meta("general.architecture") or ""
        heads = int(lib.llama_model_n_head(self.model)) or 1
        both = int(lib.llama_model_n_head_kv(self.model)) or heads
        usual = int(lib.llama_model_n_embd(self.model)) // heads
        keys = int(self.meta(f"{kind}.attention.key_length") or usual)
        values = int(self.meta(f"{kind}.attention.value_length") or usual)
        layers = int(lib.llama_model_n_layer(self.model))
        size: int = self.context_size * layers * both * (keys + values) * 2
        return size

    # -- texts ----------------------------------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """One of the strings in the file's head; None when it is not there."""
        size = 256
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = int(lib.llama_model_meta_val_str(self.model, key.encode(), buffer, size))
            if length < 0:
                return None
            if length < size:
                return buffer.value.decode("utf-8", "replace")
            size = length + 1

    def template(self) -> str | None:
        """The chat template in the file."""
        found = lib.llama_model_chat_template(self.model, None)
        return found.decode("utf-8", "replace") if found else None

    def tokenise(self, text: str, *, special: bool = True) -> list[int]:
        """The tokens of *text*, without the one for the beginning. *special*: texts of control tokens are read as such."""
        raw = text.encode("utf-8", "replace")
        if not raw:
            return []
        room = len(raw) + 16
        tokens = (lib.llama_token * room)()
        count = int(lib.llama_tokenize(self.vocab, raw, len(raw), tokens, room, False, special))
        if count < 0:
            raise Failure("llm-failed", "llama.cpp could not read a text as tokens")
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of one token, those of control tokens too; it may be a part of a character."""
        length = int(lib.llama_token_to_piece(self.vocab, token, self._buffer, len(self._buffer), 0, True))
        return ctypes.string_at(self._buffer, max(0, length))

    def ends(self, token: int) -> bool:
        """Does this token end an answer?"""
        return bool(lib.llama_vocab_is_eog(self.vocab, token))

    def beginning(self) -> tuple[int, str] | None:
        """The token that begins every text and how it is written, for models that want one."""
        token = int(lib.llama_vocab_bos(self.vocab))
        if token < 0:
            return None
        return token, self.piece(token).decode("utf-8", "replace")

    @property
    def wants_beginning(self) -> bool:
        return bool(lib.llama_vocab_get_add_bos(self.vocab))

    def ending(self) -> str:
        token = int(lib.llama_vocab_eos(self.vocab))
        return self.piece(token).decode("utf-8", "replace") if token >= 0 else ""

    def _control_tokens(self) -> dict[int, str]:
        found = {}
        for token in range(self.size):
            if lib.llama_vocab_get_attr(self.vocab, token) & (_CONTROL | _UNKNOWN | _UNUSED):
                text = self.piece(token).decode("utf-8", "replace")
                if text:
                    found[token] = text
        return found

    # -- evaluating -----------------------------------------------------------------------------------------------

    def evaluate(self, tokens: Sequence[int]) -> None:
        """Read *tokens* after those that are there. `Stopped` when the hub wants no more: what was read by then stays."""
        batch = int(lib.llama_n_batch(self.context))
        for start in range(0, len(tokens), batch):
            part = list(tokens[start : start + batch])
            if self.stop.is_set():
                self._stopped()
            array = (lib.llama_token * len(part))(*part)
            code = int(lib.llama_decode(self.context, lib.llama_batch_get_one(array, len(part))))
            if code == 0:
                self.tokens += part
                self._shifted = False
                continue
            self.trim(len(self.tokens))
            if code == 2:
                self._stopped()
            if code == 1:
                raise Failure("llm-too-long", "the conversation does not fit into the model's context")
            self.clear()
            raise Failure("llm-failed", f"llama.cpp could not evaluate: {self.log.take_errors() or f'code {code}'}")

    def _stopped(self) -> None:
        if self._shifted:
            self.clear()  # keys that were to be moved may not have been
        raise Stopped

    def clear(self) -> None:
        """Forget everything that was read."""
        lib.llama_memory_clear(self.memory, True)
        self.tokens = []
        self._shifted = False

    def trim(self, keep: int) -> int:
        """Forget all but the first *keep* tokens; returns how many are left: models with a running state can only forget all."""
        if lib.llama_memory_seq_rm(self.memory, _SEQ, keep, -1):
            del self.tokens[keep:]
        else:
            self.clear()
        return len(self.tokens)

    def cut_out(self, start: int, end: int) -> bool:
        """Forget the tokens from *start* to *end*; those behind them move up without being read again."""
        if not self.can_shift or not lib.llama_memory_seq_rm(self.memory, _SEQ, start, end):
            return False
        lib.llama_memory_seq_add(self.memory, _SEQ, end, -1, start - end)
        del self.tokens[start:end]
        self._shifted = True
        return True

    # -- states ---------------------------------------------------------------------------------------------------

    def save(self, count: int | None = None) -> bytearray:
        """The state of the first *count* tokens, or of all; empty when the library cannot tell it."""
        sequence = _SEQ
        if count is not None and count < len(self.tokens):
            sequence = 1
            lib.llama_memory_seq_cp(self.memory, _SEQ, sequence, 0, count)
        try:
            size = int(lib.llama_state_seq_get_size(self.context, sequence))
            state = bytearray(size)  # hundreds of megabytes: not to be copied once more
            view = (ctypes.c_uint8 * size).from_buffer(state)
            written = int(lib.llama_state_seq_get_data(self.context, view, size, sequence))
        finally:
            if sequence != _SEQ:
                lib.llama_memory_seq_rm(self.memory, sequence, -1, -1)
        del view
        del state[written:]
        return state

    def size_of_state(self) -> int:
        """The bytes that `save` would give."""
        return int(lib.llama_state_seq_get_size(self.context, _SEQ))

    def restore(self, state: bytearray, tokens: Sequence[int]) -> bool:
        """Take the place of what is there: *state* was saved when *tokens* had been read."""
        self.clear()
        view = (ctypes.c_uint8 * len(state)).from_buffer(state)
        if not lib.llama_state_seq_set_data(self.context, view, len(state), _SEQ):
            self.clear()
            return False
        self.tokens = list(tokens)
        return True

    def close(self) -> None:
        lib.llama_free(self.context)
        lib.llama_model_free(self.model)


def _cores() -> int:
    """All cores but one, eight at most: its threads wait by turning round, so a core less is faster than a core shared."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, there - 1 if there > 2 else there)


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MB"


def _free_memory() -> int | None:
    """Bytes that can still be had, by the kernel's word and the container's limit."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except OSError:
        pass
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        found.append(limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return min(found) if found else None
