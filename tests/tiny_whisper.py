"""A Whisper model that says what a test wants, written in half a second and run by the real library.

Layers, tokenizer, features and kernels are those of any Whisper; only the weights are chosen. The decoder is an automaton: every token of
the script has an axis of the embedding for itself, the layers add next to nothing to it, and the output projection turns "this was the
last token" into "that is the next". One thing more is computed: whether the prompt names `Script.cue`, by a head of the
self-attention that looks at all tokens evenly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import WhisperSpec
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LANGUAGES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy sk te "
    "fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht ps "
    "tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su"
).split()
"""In the order of their tokens."""
CERTAIN = 24.0
"""Logit of a token that nothing rivals: the others are near 0."""
TEXT_TOKENS = 50257
TIMES = 1501


@dataclass(frozen=True)
class Script:
    """What the model does."""

    says: str = "what time is it"
    """No word twice."""
    hears: Mapping[str, float] = field(default_factory=lambda: {"en": CERTAIN, "zh": 12.0})
    """Logits of the languages that it detects. Ignored by a model for English only."""
    multilingual: bool = True
    sure: float = CERTAIN
    """Logit of the words: about 11 makes every second word a guess."""
    silent: float = 0.0
    """Logit of "nobody speaks" beside that of the languages."""
    loops: bool = False
    """It never comes to an end of saying the same."""
    cue: str = ""
    """A word that changes what is said when it is in the prompt …"""
    says_with_cue: str = ""
    """… to this."""


@dataclass(frozen=True)
class Shape:
    """The size of a Whisper model. Those of real ones cost what real ones cost."""

    dim: int = 64
    heads: int = 2
    layers: int = 1


TINY = Shape(384, 6, 4)
BASE = Shape(512, 8, 6)
SMALL = Shape(768, 12, 12)


def write_whisper(folder: Path, script: Script | None = None, shape: Shape | None = None) -> Path:
    """Write the model's files into *folder*, as `models download` would leave them."""
    script, shape = script or Script(), shape or Shape()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer((script.says, script.cue, script.says_with_cue), script.multilingual)
    spec = WhisperSpec(shape.layers, shape.heads, shape.layers, shape.heads)
    _Weights(spec, shape, tokenizer.get_vocab_size()).fill(_transitions(script, tokenizer), _cue(script, tokenizer))
    spec.register_vocabulary([tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())])
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [tokenizer.token_to_id("<|endoftext|>")]
    spec.config.lang_ids = [tokenizer.token_to_id(f"<|{code}|>") for code in LANGUAGES] if script.multilingual else []
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


# -- words --------------------------------------------------------------------------------------------------------


def _pieces(text: str) -> list[str]:
    """The tokens of *text*, each of which becomes one entry of the vocabulary: words with the space before them."""
    return [f" {word}" for word in text.split()]


def _tokenizer(texts: Iterable[str], multilingual: bool) -> Tokenizer:
    """Byte-pair encoding with whole words for the texts, and the special tokens of Whisper where Whisper has them."""
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary = {char: number for number, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for text in texts:
        for piece in _pieces(text):
            word = "".join(part for part, _ in bytewise.pre_tokenize_str(piece))
            for end in range(2, len(word) + 1):
                if word[:end] not in vocabulary:
                    vocabulary[word[:end]] = len(vocabulary)
                    merges.append((word[: end - 1], word[end - 1]))
    words = TEXT_TOKENS if multilingual else TEXT_TOKENS - 1
    for number in range(len(vocabulary), words):
        vocabulary[f"[{number}]"] = number
    if multilingual:  # by an empty token at the end of its words CTranslate2 knows a model for many languages
        del vocabulary[f"[{words - 1}]"]
        vocabulary[""] = words - 1
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = bytewise, decoders.ByteLevel()
    names = ["endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe", "startoflm", "startofprev"]
    names += ["nospeech", "notimestamps"]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    tokenizer.add_tokens([AddedToken(f"<|{step * 0.02:.2f}|>", special=False) for step in range(TIMES)])
    return tokenizer


Transitions = dict[int, list[tuple[int, float]]]
"""After which token comes which, with what logit."""


def _transitions(script: Script, tokenizer: Tokenizer) -> Transitions:
    special = {
        name: tokenizer.token_to_id(f"<|{name}|>")
        for name in ("startoftranscript", "transcribe", "notimestamps", "nospeech", "endoftext", "0.00", *LANGUAGES)
    }
    after: Transitions = {}
    said = _ids(script.says, tokenizer)
    begin = [(said[0], script.sure)]
    other = _ids(script.says_with_cue, tokenizer)
    if other:
        begin.append((other[0], script.sure - 1))
    start = [(special[code], logit) for code, logit in script.hears.items()] if script.multilingual else begin
    if script.silent:
        start = [*start, (special["nospeech"], script.silent)]
    after[special["startoftranscript"]] = start
    for name in ("transcribe", "notimestamps", "0.00"):
        after[special[name]] = begin
    for words in (said, other):
        for word, following in zip(words, words[1:], strict=False):
            after[word] = [(following, script.sure)]
        if words:
            after[words[-1]] = [(words[0] if script.loops else special["endoftext"], script.sure)]
    return after


def _ids(text: str, tokenizer: Tokenizer) -> list[int]:
    ids = [tokenizer.encode(piece).ids for piece in _pieces(text)]
    assert all(len(found) == 1 for found in ids), f"{text!r} shares beginnings of words that confuse the tokenizer"
    flat = [found[0] for found in ids]
    assert len(set(flat)) == len(flat), f"a word comes twice in {text!r}"
    return flat


def _cue(script: Script, tokenizer: Tokenizer) -> tuple[int, int] | None:
    """The token to look out for in the prompt, and the one that begins what is then said."""
    if not script.cue:
        return None
    return _ids(script.cue, tokenizer)[0], _ids(script.says_with_cue, tokenizer)[0]


# -- weights ------------------------------------------------------------------------------------------------------

CUE_GAIN = 250.0
"""Weight of the cue in the mean over all tokens: enough for a prompt of a hundred."""


class _Weights:
    def __init__(self, spec: Any, shape: Shape, size: int) -> None:
        self._spec = spec
        self._dim = shape.dim
        self._size = size
        self._random = np.random.default_rng(7)

    def fill(self, after: Transitions, cue: tuple[int, int] | None) -> None:
        dim, encoder, decoder = self._dim, self._spec.encoder, self._spec.decoder
        for convolution, channels in ((encoder.conv1, 80), (encoder.conv2, dim)):
            convolution.weight, convolution.bias = self._noise(dim, channels, 3), np.zeros(dim, np.float32)
        encoder.position_encodings.encodings = self._noise(1500, dim)
        decoder.position_encodings.encodings = np.zeros((448, dim), np.float32)
        embeddings, projection = self._noise(self._size, dim), self._noise(self._size, dim)
        axes = {token: axis for axis, token in enumerate(after)}
        scale = float(np.sqrt(dim))  # what the last normalisation makes of a vector with a single component
        for token, axis in axes.items():
            embeddings[token, axis] = 4.0
            for following, logit in after[token]:
                projection[following, axis] += logit / scale
        if cue is not None:
            heard, axis = len(axes), len(axes) + 1
            embeddings[cue[0], heard] = 4.0
            projection[cue[1], axis] = 4.0 / scale
            assert axis < dim, "a larger dim is needed"
        assert len(axes) < dim, "a larger dim is needed"
        decoder.embeddings.weight = embeddings
        decoder.projection.weight, decoder.projection.bias = projection, np.zeros(self._size, np.float32)
        for stack in (encoder, decoder):
            self._norm(stack.layer_norm)
            for layer in stack.layer:
                self._attention(layer.self_attention, 3)
                if stack is decoder:
                    self._attention(layer.attention, 1, 2)
                self._norm(layer.ffn.layer_norm)
                self._linear(layer.ffn.linear_0, 4 * dim, dim)
                self._linear(layer.ffn.linear_1, dim, 4 * dim)
        if cue is not None:
            self._watch(decoder.layer[0].self_attention, heard, axis)

    def _watch(self, attention: Any, heard: int, axis: int) -> None:
        """Even attention whose values carry the component *heard* of all tokens to the component *axis* of the last."""
        mixed, out = attention.linear
        mixed.weight[: 2 * self._dim] = 0.0
        mixed.weight[2 * self._dim + axis, heard] = CUE_GAIN / np.sqrt(self._dim)
        out.weight[axis, axis] = 1.0

    def _attention(self, attention: Any, *parts: int) -> None:
        self._norm(attention.layer_norm)
        for linear, rows in zip(attention.linear, (*parts, 1), strict=True):
            self._linear(linear, rows * self._dim, self._dim)

    def _linear(self, linear: Any, rows: int, columns: int) -> None:
        linear.weight, linear.bias = self._noise(rows, columns), np.zeros(rows, np.float32)

    def _norm(self, norm: Any) -> None:
        norm.gamma, norm.beta = np.ones(self._dim, np.float32), np.zeros(self._dim, np.float32)

    def _noise(self, *shape: int) -> Any:
        return (self._random.standard_normal(shape) * 1e-3).astype(np.float32)
