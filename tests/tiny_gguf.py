"""Write a language model of a few megabytes that llama.cpp loads like any other, and that answers by key word.

It has one layer. Every token has a direction of its own in the residual stream, and the output matrix says which token follows which: an
answer is a chain. Where an answer begins, one attention head looks back for the latest key word (its query and key meet in one
direction that only key words have; a slow rotation makes what stands further back count less) and adds the direction of the answer
that belongs to it. All of the library runs as it does for a large model: tokeniser, keys and values, grammar, states, template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

CHATML = (
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Knows nothing of tools."""

HERMES = (
    "{%- if tools %}{{ '<|im_start|>system\\n' + messages[0].content + '\\n# Tools\\n' }}"
    "{%- for tool in tools %}{{ tool.function.name + '\\n' }}{% endfor %}"
    '{{ \'Call one within <tool_call></tool_call>: {"name": ..., "arguments": ...}<|im_end|>\\n\' }}'
    "{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{% endif %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' %}{{ '<|im_start|>assistant\\n' + message.content }}"
    "{%- for call in message.tool_calls or [] %}"
    '{{ \'\\n<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}"
    "{%- endfor %}{{ '<|im_end|>\\n' }}"
    "{%- elif message.role == 'tool' %}"
    "{{ '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}{% endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
"""Tells of tools (their names only: every letter is a token here), and like some families leaves the empty thoughts out of the
history."""

_SPREAD = 2048.0
"""Tokens over which the head's rotation makes a radian."""
_HEADS = 4


def write_tiny_gguf(
    path: Path,
    answers: Mapping[str, str],
    otherwise: str = "I do not know.",
    *,
    template: str | None = HERMES,
    context: int = 16384,
) -> Path:
    """Write a model to *path* that gives one of *answers* by the latest of its key words in the conversation.

    An answer is said piece by piece, each piece as many words as it takes to be unlike all other pieces.
    """
    vocabulary = _Vocabulary()
    begin = vocabulary.add("<s>", TokenType.CONTROL)
    end = vocabulary.add("<|im_end|>", TokenType.CONTROL)
    vocabulary.add("<|im_start|>", TokenType.CONTROL)
    header = vocabulary.add("assistant\n", TokenType.USER_DEFINED)
    no_thoughts = vocabulary.add("<think>\n\n</think>\n\n", TokenType.USER_DEFINED)
    call = vocabulary.add("<tool_call>", TokenType.USER_DEFINED)
    for byte in range(256):
        vocabulary.add(f"<0x{byte:02X}>", TokenType.BYTE)
    for number, char in enumerate(map(chr, range(33, 127))):
        vocabulary.add(char, TokenType.NORMAL, -100.0 - number)
    vocabulary.add("▁", TokenType.NORMAL, -99.0)
    cues = {cue: vocabulary.add(cue, TokenType.USER_DEFINED) for cue in answers}
    follows: dict[int, int] = {}
    first = {}
    calling: dict[str, int] = {}
    for cue, answer in (*answers.items(), ("", otherwise)):
        chain = vocabulary.chain(answer)
        first[cue] = chain[0]
        if chain[0] == call:
            calling[cue] = chain[1]
        follows.update({one: other for one, other in zip(chain, [*chain[1:], end], strict=True) if one != call})
    size = len(vocabulary.tokens)
    choices = {cue: size + number for number, cue in enumerate(answers)}
    width = -(-(size + len(answers)) // 128) * 128
    head = width // _HEADS

    noise = np.random.default_rng(7)
    embedding = np.eye(size, width, dtype=np.float32) * 8
    out = np.zeros((size, width), np.float32)
    out[:, :size] = noise.standard_normal((size, size)) * 0.02
    for one, other in follows.items():
        out[other, one] = 2.0
    for start in (header, no_thoughts):
        out[first[""], start] = 1.0
    query, key, value, back = (np.zeros((width, width), np.float32) for _ in range(4))
    for start in (header, no_thoughts, call):
        query[2, start] = 30.0
        query[1, start] = 25.0
    for cue, token in cues.items():
        key[2, token] = 1.0
        key[0, token] = 1.0
        value[3 + list(cues).index(cue), token] = 1.0
        back[choices[cue], 3 + list(cues).index(cue)] = 0.5
        out[first[cue], choices[cue]] = 4.0
        if cue in calling:  # behind the opening of a call the same choice leads to its name
            out[calling[cue], choices[cue]] = 3.0
    for token in calling.values():
        out[token, call] = 2.5
    out[call, call] = -8.0

    writer = GGUFWriter(str(path), "llama")
    writer.add_name("Tiny answers")
    writer.add_license("Apache-2.0")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(128)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(size)
    writer.add_file_type(0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_bos_token_id(begin)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    if template is not None:
        writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", embedding)
    # Only the first pair of a head's dimensions turns with the position.
    writer.add_tensor("rope_freqs.weight", np.array([_SPREAD] + [1e30] * (head // 2 - 1), np.float32))
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    writer.add_tensor("output.weight", out)
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(width, np.float32))
    writer.add_tensor("blk.0.ffn_norm.weight", np.ones(width, np.float32))
    for name, weights in (("q", query), ("k", key), ("v", value), ("output", back)):
        writer.add_tensor(f"blk.0.attn_{name}.weight", weights.astype(np.float16))
    for name, shape in (("gate", (128, width)), ("up", (128, width)), ("down", (width, 128))):
        writer.add_tensor(f"blk.0.ffn_{name}.weight", np.zeros(shape, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert head > 3 + len(answers), "too many answers for one head"
    return path


class _Vocabulary:
    def __init__(self) -> None:
        self.tokens: list[bytes] = []
        self.scores: list[float] = []
        self.types: list[int] = []
        self._number: dict[str, int] = {}
        self.add("<unk>", TokenType.UNKNOWN)

    def add(self, text: str, kind: TokenType, score: float = 0.0) -> int:
        assert text not in self._number, f"{text!r} is there already"
        self.tokens.append(text.encode())
        self.scores.append(score)
        self.types.append(kind)
        self._number[text] = len(self.tokens) - 1
        return self._number[text]

    def chain(self, answer: str) -> list[int]:
        """The tokens of *answer*, new ones but for the opening of a call."""
        chain = []
        pieces = re.findall(r"<tool_call>|(?:(?!<tool_call>)\S)+\s*|\s+", answer)
        piece = ""
        for part in pieces:
            if part == "<tool_call>":
                chain.append(self._number[part])
                continue
            piece += part
            if piece not in self._number:
                chain.append(self.add(piece, TokenType.USER_DEFINED))
                piece = ""
        if piece:  # it ends like another answer: with the piece before it, it does not
            chain[-1] = self.add(self.tokens[chain[-1]].decode() + piece, TokenType.USER_DEFINED)
        return chain
