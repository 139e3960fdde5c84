"""How Chinese is read aloud. The rules are applied in this order; each one leaves words that no later rule takes up."""

from __future__ import annotations

import re
from collections.abc import Callable

from xiaozhi_hub.dialog.speaking.normalisation.numbers import cardinal, number, spelled, year

Match = re.Match[str]
Rule = tuple[re.Pattern[str], str | Callable[[Match], str]]

N = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
MINUS = r"(?<![\w)\]-])[-\u2212](?=\d)"
WORD = r"(?<![A-Za-z0-9.])"
"""Chinese characters may stand right before a number, Latin letters not: ``ESP32`` is a name."""
_MEASURES = (
    "个只盏次天周张杯台位件人块层米本把间部条辆句首遍名种份户家岁秒度元块口群双对套支根颗瓶碗盒袋瓣厘毫公千平立分小万亿"
)
"""What follows a two that is said 两: two of something."""


def say(text: str) -> str:
    return number("zh", text)


def _counted(text: str) -> str:
    """A number before what is counted."""
    return "两" if text == "2" else say(text)


def _money(amount: str, scale: str, mark: str) -> str:
    if "." in amount:
        amount = amount.rstrip("0").rstrip(".")
    return f"{_counted(amount)}{scale}{_MONEY[mark]}"


def _date(found: Match) -> str:
    if not 1 <= int(found[2]) <= 12 or not 1 <= int(found[3]) <= 31:
        return found[0]
    return f"{year('zh', found[1])}年{_plain(found[2])}月{_plain(found[3])}日"


def _plain(text: str) -> str:
    return cardinal("zh", str(int(text)))


def _clock(found: Match) -> str:
    half = (found[3] or "").replace(".", "").lower()
    hour, minute = int(found[1]), found[2]
    before = {"am": "上午", "pm": "下午" if hour < 6 or hour == 12 else "晚上"}.get(half, "")
    said = f"{before}{_counted(str(hour))}点"
    if minute == "00":
        return said
    return f"{said}零{_plain(minute)}分" if minute[0] == "0" else f"{said}{_plain(minute)}分"


def _lasting(found: Match) -> str:
    return f"{_counted(str(int(found[1])))}小时{_plain(found[2])}分{_plain(found[3])}秒"


def _spoken_clock(found: Match) -> str:
    minute = found[2]
    if not minute:
        return f"{_counted(str(int(found[1])))}点"
    return f"{_counted(str(int(found[1])))}点{'零' if minute[0] == '0' and len(minute) > 1 else ''}{_plain(minute)}分"


def _percent(found: Match) -> str:
    of = "千分之" if found[2] == "‰" else "百分之"
    return f"{of}{say(found[1])}"


_MONEY = {
    "$": "美元",
    "€": "欧元",
    "£": "英镑",
    "¥": "元",
    "￥": "元",
    "USD": "美元",
    "EUR": "欧元",
    "CNY": "元",
    "RMB": "元",
}
_UNITS = {
    "km/h": "公里每小时", "m/s": "米每秒", "kWh": "千瓦时", "Wh": "瓦时", "kW": "千瓦", "MW": "兆瓦", "W": "瓦", "mV": "毫伏",
    "V": "伏", "mAh": "毫安时", "mA": "毫安", "A": "安", "GHz": "吉赫", "MHz": "兆赫", "kHz": "千赫", "Hz": "赫兹", "TB": "太字节",
    "GB": "吉字节", "MB": "兆字节", "KB": "千字节", "kB": "千字节", "km²": "平方公里", "m²": "平方米", "㎡": "平方米", "m³": "立方米",
    "km": "公里", "cm": "厘米", "mm": "毫米", "m": "米", "kg": "公斤", "mg": "毫克", "g": "克", "ml": "毫升", "mL": "毫升", "L": "升",
    "l": "升", "hPa": "百帕", "Pa": "帕", "lx": "勒克斯", "lm": "流明", "dB": "分贝", "ms": "毫秒", "min": "分钟", "h": "小时",
    "s": "秒", "℃": "摄氏度", "°C": "摄氏度", "℉": "华氏度", "°F": "华氏度", "°": "度", "µg/m³": "微克每立方米",
}  # fmt: skip
_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True)).replace("°C", "° ?C").replace("°F", "° ?F")


def _measured(found: Match) -> str:
    unit = _UNITS[found[3].replace(" ", "")]
    below = ("零下" if unit.endswith("度") else "负") if found[1] else ""
    return f"{below}{_counted(found[2])}{unit}"


_GLYPHS = {"½": "二分之一", "¼": "四分之一", "¾": "四分之三", "⅓": "三分之一", "⅔": "三分之二"}


def _glyph(found: Match) -> str:
    return f"{_plain(found[1])}又{_GLYPHS[found[2]]}" if found[1] else _GLYPHS[found[2]]


def _fraction(found: Match) -> str:
    over, under = found[1] or found[3], found[2] or found[4]
    return f"{_plain(under)}分之{_plain(over)}" if 0 < int(over) < int(under) <= 100 else found[0]


def _range(found: Match) -> str:
    low, high = (float(text.replace(",", "")) for text in (found[1], found[2]))
    return f"{found[1]}到{found[2]}" if low < high else found[0]


def _phone(digits: str) -> str:
    """On the telephone a one is 幺, so that nobody takes it for seven."""
    return "，".join(spelled("zh", group).replace("一", "幺") for group in re.findall(r"\d+", digits))


def _call(found: Match) -> str:
    return found[1] + _phone(found[2])


def _address(found: Match) -> str:
    text = re.sub(r"^(?:https?://)?(?:www\.)?", "", found[0], flags=re.IGNORECASE).rstrip("/")
    text = re.sub(r"[?=&#%~].*$", "", text)
    for mark, name in ((".", "点"), ("@", "艾特"), ("/", "斜杠"), ("-", "杠"), ("_", "下划线"), (":", "冒号")):
        text = text.replace(mark, f" {name} ")
    return text


_TLD = r"(?:com|org|net|io|dev|info|local|cn|de|uk|eu|edu|gov|lan|home)"

RULES: tuple[Rule, ...] = (
    (re.compile(r"[A-Za-z0-9_.+-]+@[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+"), _address),
    (
        re.compile(
            rf"https?://[!-~]+|\bwww\.[!-~]+|(?<![A-Za-z0-9_.@])(?:[A-Za-z][A-Za-z0-9_-]*\.)+{_TLD}(?![A-Za-z])(?::\d+)?(?:/[A-Za-z0-9_./-]*)?"
        ),
        _address,
    ),
    (
        re.compile(rf"{WORD}\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?![.\d])"),
        lambda found: "点".join(spelled("zh", part) for part in found[0].split(".")),
    ),
    (re.compile(r"(?<![\d-])((?:1[1-9]|20)\d\d)[-/.](\d\d?)[-/.](\d\d?)(?![\d-])"), _date),
    (re.compile(r"(?<!\d)(\d{4})(?=\s*年)"), lambda found: year("zh", found[1])),
    (re.compile(r"(?<![\d:.])(\d\d?):([0-5]\d):([0-5]\d)(?![\d:])"), _lasting),
    (re.compile(r"(?<=\d)\s*[-~～\u2013\u2014]\s*(?=[0-2]?\d:[0-5]\d)"), "到"),
    (re.compile(r"(?<![\d:.])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])(?:\s*([AaPp]\.?[Mm]\.?))?"), _clock),
    (re.compile(r"(?<![\d.])(\d\d?)点(?:(\d\d?)分?)?(?!\d)"), _spoken_clock),
    (re.compile(r"(?<![\d:.])(\d{1,3}):(\d{1,3})(?![\d:])"), lambda found: f"{_plain(found[1])}比{_plain(found[2])}"),
    (
        re.compile(r"(拨打|拨|致电|电话|热线|手机|号码)((?:是|为|：|:|\s)*\d[\d\s-]{1,18}\d)"),
        lambda found: found[1] + re.sub(r"\d[\d\s-]*\d", lambda digits: _phone(digits[0]), found[2]),
    ),
    (
        re.compile(
            r"(?<![\w.,-])(?:\+?86[- ]?)?1[3-9]\d(?:[- ]?\d{4}){2}(?!\d)"
            r"|(?<![\d.,-])0\d{2,3}-\d{7,8}(?!\d)"
            r"|(?<=[\u4e00-\u9fff])1[3-9]\d{9}(?!\d)"
        ),
        lambda found: _phone(found[0]),
    ),
    (re.compile(rf"{WORD}({N})\s*[-~～\u2013\u2014]\s*({N})(?![\d-])(?!\.\d)"), _range),
    (
        re.compile(rf"{WORD}({N})[%％]\s*[-~～\u2013\u2014到至]\s*({N})[%％]"),
        lambda found: f"百分之{say(found[1])}到百分之{say(found[2])}",
    ),
    (re.compile(rf"({N})到({N})\s*[%％]"), lambda found: f"百分之{say(found[1])}到百分之{say(found[2])}"),
    (
        re.compile(rf"([$€£¥￥])\s?({N})\s*([万亿]?)元?"),
        lambda found: _money(found[2], found[3], found[1]),
    ),
    (
        re.compile(rf"{WORD}({N})\s*([万亿]?)\s?(€|£|USD|EUR|CNY|RMB)(?![A-Za-z])"),
        lambda found: _money(found[1], found[2], found[3]),
    ),
    (re.compile(rf"{MINUS}({N})\s*[%％]"), lambda found: f"负百分之{say(found[1])}"),
    (re.compile(rf"({N})\s*([%％‰])"), _percent),
    (re.compile(rf"(?<![A-Za-z0-9.)\]])([-\u2212])?({N})\s*({_UNIT})(?![A-Za-z²³/])"), _measured),
    (re.compile(rf"{MINUS}(?=[\d.]+\s*度)"), "零下"),
    (re.compile(r"(?:(\d+)\s*)?([½¼¾⅓⅔])"), _glyph),
    (
        re.compile(
            r"(?<![\w./])(?<![A-Za-z])(\d{1,2})/(\d{1,3})(?![\d/])|(?<=[\u4e00-\u9fff])(\d{1,2})/(\d{1,3})(?![\d/])"
        ),
        _fraction,
    ),
    (re.compile(r"\bNo\.\s*(\d+)|(?<!\w)#(\d+)"), lambda found: f"{_plain(found[1] or found[2])}号"),
    (
        re.compile(rf"{WORD}\d+(?:\.\d+){{2,}}(?![.\d])"),
        lambda found: "点".join(cardinal("zh", part) for part in found[0].split(".")),
    ),
    (re.compile(MINUS), "负"),
    (re.compile(r"(?<=\d)\s*[x×]\s*(?=\d)"), "乘"),
    (re.compile(r"(?<=\d)\s*\+\s*(?=\d)"), "加"),
    (re.compile(r"(?<=[\d])\s*=\s*(?=\d)"), "等于"),
    (re.compile(r"[~≈]\s*(?=\d)"), "大约"),
    (re.compile(r"(?<=[\u4e00-\u9fff])\s*&\s*(?=[\u4e00-\u9fff])"), "和"),
    (re.compile(rf"(?<![第\d.,A-Za-z])2(?=\s*[{_MEASURES}])(?!\s*(?:月|号|日|楼|年级|度角|分之))"), "两"),
    (re.compile(rf"(?<![A-Za-z.\d])(?<!\d,)({N})(?![A-Za-z\d])"), lambda found: say(found[1])),
    (re.compile(r"(?<=[\u4e00-\u9fff])\s+(?=[\u4e00-\u9fff])"), ""),
)

__all__ = ["RULES", "say"]
