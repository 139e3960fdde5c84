"""The wake words that stock firmware announces with ``listen detect``: they mean that somebody is there, not a question."""

from __future__ import annotations

STOCK = frozenset(
    {
        "你好小智", "小智小智", "你好小鑫", "小爱同学", "你好喵伴", "小美同学", "嗨小星", "小龙小龙", "喵喵同学", "嗨telly",
        "hiesp", "hilexin", "alexa", "jarvis", "computer", "heywillow", "sophia", "heywanda", "mycroft", "himiaomiao",
        "hijason", "hijolly", "hifairy", "hijoy", "hilily", "hiwalle", "hitelly", "hixiaoxing", "bluechip", "astrolabe",
        "heyily", "heyprinter", "hiadam", "helloxiaozhi", "nihaoxiaozhi", "xiaozhi", "heyxiaozhi", "okxiaozhi",
    }
)  # fmt: skip
"""The display texts of the models that esp-sr offers, without spaces, commas and case."""


def is_wake_word(text: str) -> bool:
    """Is *text* the name of a stock wake word?"""
    return "".join(char for char in text.lower() if char.isalnum()) in STOCK
