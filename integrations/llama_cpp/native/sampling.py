"""Choosing the next token, freely or within a grammar."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import llama_cpp.llama_cpp as lib

from .failure import Failure
from .library import Library

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """Chooses tokens for one answer."""

    def __init__(self, library: Library, options: Mapping[str, Any]) -> None:
        self._library = library
        self._grammar: Any = None
        self._banned: set[int] = set()
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        if options["temperature"] <= 0:
            steps = [lib.llama_sampler_init_greedy()]
        else:
            steps = [
                lib.llama_sampler_init_top_k(options["top_k"]),
                lib.llama_sampler_init_top_p(options["top_p"], 1),
                lib.llama_sampler_init_min_p(options["min_p"], 1),
                lib.llama_sampler_init_temp(options["temperature"]),
                lib.llama_sampler_init_dist(options["seed"]),
            ]
        for step in steps:
            lib.llama_sampler_chain_add(self._chain, step)

    def constrain(self, grammar: str) -> None:
        """From now on only what *grammar* (GBNF, rule ``root``) allows; `Failure` when it cannot be read."""
        self.release()
        self._grammar = lib.llama_sampler_init_grammar(self._library.vocab, grammar.encode(), b"root")
        if not self._grammar:
            raise Failure(
                "llm-failed", f"llama.cpp cannot use the grammar of the tools: {self._library.log.take_errors()}"
            )

    def release(self) -> None:
        """Choose freely again."""
        if self._grammar is not None:
            lib.llama_sampler_free(self._grammar)
            self._grammar = None

    def ban(self, token: int) -> None:
        """Never choose *token* for this answer."""
        self._banned.add(token)

    def choose(self) -> int:
        """The token that follows those evaluated."""
        token = int(lib.llama_sampler_sample(self._chain, self._library.context, -1))
        # Holding the whole vocabulary against a grammar takes milliseconds; mostly the free choice is fine with it.
        if token not in self._banned and self.accepts(token):
            return token
        token = self._choose_within()
        self.accepts(token)
        return token

    def accepts(self, token: int) -> bool:
        """Go on with *token*, chosen elsewhere, if the grammar allows it."""
        if not self._allows(token):
            return False
        if self._grammar is not None:
            lib.llama_sampler_accept(self._grammar, token)
        return True

    def _allows(self, token: int) -> bool:
        if self._grammar is None:
            return True
        one = (lib.llama_token_data * 1)(lib.llama_token_data(token, 1.0, 0.0))
        candidates = lib.llama_token_data_array(one, 1, -1, False)
        lib.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        return math.isfinite(one[0].logit)

    def _choose_within(self) -> int:
        size = self._library.size
        logits = lib.llama_get_logits_ith(self._library.context, -1)
        table = np.zeros(size, _CANDIDATE)
        table["id"] = np.arange(size)
        table["logit"] = np.ctypeslib.as_array(logits, (size,))
        table["logit"][list(self._banned)] = -np.inf
        if self._grammar is not None:
            candidates = lib.llama_token_data_array(
                table.ctypes.data_as(ctypes.POINTER(lib.llama_token_data)), size, -1, False
            )
            lib.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        allowed = table[np.isfinite(table["logit"])]
        if not len(allowed):
            raise Failure("llm-failed", "the grammar of the tools leaves the model nothing to say")
        fit = np.ascontiguousarray(allowed)
        candidates = lib.llama_token_data_array(
            fit.ctypes.data_as(ctypes.POINTER(lib.llama_token_data)), len(fit), -1, False
        )
        lib.llama_sampler_apply(self._chain, ctypes.byref(candidates))
        return int(candidates.data[max(0, candidates.selected)].id)

    def close(self) -> None:
        self.release()
        lib.llama_sampler_free(self._chain)
