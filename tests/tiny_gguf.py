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
    plan = _Plan(answers, otherwise)
    size, width, head = plan.size, plan.width, plan.width // _HEADS
    cues, calling, first = plan.cues, plan.calling, plan.first
    choices = {cue: size + number for number, cue in enumerate(answers)}

    noise = np.random.default_rng(7)
    embedding = np.eye(size, width, dtype=np.float32) * 8
    out = np.zeros((size, width), np.float32)
    out[:, :size] = noise.standard_normal((size, size)) * 0.02
    for one, other in plan.follows.items():
        out[other, one] = 2.0
    for start in plan.starts:
        out[first[""], start] = 1.0
    query, key, value, back = (np.zeros((width, width), np.float32) for _ in range(4))
    for start in (*plan.starts, plan.call):
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
        out[token, plan.call] = 2.5
    out[plan.call, plan.call] = -8.0

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
    writer.add_token_list(plan.vocabulary.tokens)
    writer.add_token_scores(plan.vocabulary.scores)
    writer.add_token_types(plan.vocabulary.types)
    writer.add_bos_token_id(plan.begin)
    writer.add_eos_token_id(plan.end)
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


def write_tiny_projector(
    path: Path, answers: Mapping[str, str], otherwise: str = "I do not know.", *, red: str, blue: str
) -> Path:
    """Write what lets the model of the same *answers* see: a red picture reads like the key word *red*, a blue one like *blue*.

    A vision transformer with one layer that changes nothing, and two layers that tell the colours apart, as LLaVA has them.
    """
    plan = _Plan(answers, otherwise)
    inner, patch, side = 64, 8, 32
    patches = np.zeros((inner, 3, patch, patch), np.float32)
    patches[0, 0], patches[1, 2] = 1.0, 1.0  # how red, how blue
    sort = np.zeros((inner, inner), np.float32)
    sort[0, :2], sort[1, :2] = (4.0, -4.0), (-4.0, 4.0)
    say = np.zeros((plan.width, inner), np.float32)
    say[plan.cues[red], 0] = say[plan.cues[blue], 1] = 8.0

    writer = GGUFWriter(str(path), "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    for key, value in {
        "image_size": side,
        "patch_size": patch,
        "embedding_length": inner,
        "feed_forward_length": inner,
        "projection_dim": plan.width,
        "block_count": 1,
        "attention.head_count": 2,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    zeros, ones = np.zeros(inner, np.float32), np.ones(inner, np.float32)
    writer.add_tensor("v.class_embd", zeros)
    writer.add_tensor("v.patch_embd.weight", patches)
    writer.add_tensor("v.position_embd.weight", np.zeros(((side // patch) ** 2 + 1, inner), np.float32))
    for name in ("pre_ln", "blk.0.ln1", "blk.0.ln2"):
        writer.add_tensor(f"v.{name}.weight", ones)
        writer.add_tensor(f"v.{name}.bias", zeros)
    for name in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_down", "ffn_up"):
        writer.add_tensor(f"v.blk.0.{name}.weight", np.zeros((inner, inner), np.float32))
        writer.add_tensor(f"v.blk.0.{name}.bias", zeros)
    writer.add_tensor("mm.0.weight", sort)
    writer.add_tensor("mm.0.bias", zeros)
    writer.add_tensor("mm.2.weight", say)
    writer.add_tensor("mm.2.bias", np.zeros(plan.width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class _Plan:
    """Which tokens there are and which follows which."""

    def __init__(self, answers: Mapping[str, str], otherwise: str) -> None:
        self.vocabulary = vocabulary = _Vocabulary()
        self.begin = vocabulary.add("<s>", TokenType.CONTROL)
        self.end = vocabulary.add("<|im_end|>", TokenType.CONTROL)
        vocabulary.add("<|im_start|>", TokenType.CONTROL)
        header = vocabulary.add("assistant\n", TokenType.USER_DEFINED)
        no_thoughts = vocabulary.add("<think>\n\n</think>\n\n", TokenType.USER_DEFINED)
        self.starts = (header, no_thoughts)
        """An answer begins behind these."""
        self.call = vocabulary.add("<tool_call>", TokenType.USER_DEFINED)
        for byte in range(256):
            vocabulary.add(f"<0x{byte:02X}>", TokenType.BYTE)
        for number, char in enumerate(map(chr, range(33, 127))):
            vocabulary.add(char, TokenType.NORMAL, -100.0 - number)
        vocabulary.add("▁", TokenType.NORMAL, -99.0)
        self.cues = {cue: vocabulary.add(cue, TokenType.USER_DEFINED) for cue in answers}
        self.follows: dict[int, int] = {}
        self.first: dict[str, int] = {}
        """How each answer begins."""
        self.calling: dict[str, int] = {}
        """How those that are calls go on behind the opening."""
        for cue, answer in (*answers.items(), ("", otherwise)):
            chain = vocabulary.chain(answer)
            self.first[cue] = chain[0]
            if chain[0] == self.call:
                self.calling[cue] = chain[1]
            pairs = zip(chain, [*chain[1:], self.end], strict=True)
            self.follows.update({one: other for one, other in pairs if one != self.call})
        self.size = len(vocabulary.tokens)
        self.width = -(-(self.size + len(answers)) // 128) * 128


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
        pieces = re.findall(r"<tool_call>|^\{|(?:(?!<tool_call>)\S)+\s*|\s+", answer)
        piece = ""
        for part in pieces:
            if part in ("<tool_call>", "{"):
                chain.append(self._number[part])
                continue
            piece += part
            if piece not in self._number:
                chain.append(self.add(piece, TokenType.USER_DEFINED))
                piece = ""
        if piece:  # it ends like another answer: with the piece before it, it does not
            chain[-1] = self.add(self.tokens[chain[-1]].decode() + piece, TokenType.USER_DEFINED)
        return chain
