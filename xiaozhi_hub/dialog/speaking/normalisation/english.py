"""How English is read aloud. The rules are applied in this order; each one leaves words that no later rule takes up."""

from __future__ import annotations

import re
from collections.abc import Callable

from xiaozhi_hub.dialog.speaking.normalisation.numbers import cardinal, number, ordinal, spelled, year

Match = re.Match[str]
Rule = tuple[re.Pattern[str], str | Callable[[Match], str]]

N = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
"""A number as people write it."""
FREE = r"(?<![\w.,:/-])"
"""Nothing before that the number could belong to."""
MINUS = r"(?<![\w)\]-])[-\u2212](?=\d)"

_MONTHS = ("January February March April May June July August September October November December").split()
_MONTH = "|".join(f"{name[:3]}(?:{name[3:]})?\\.?" if len(name) > 3 else name for name in _MONTHS) + r"|Sept\.?"
_DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thur": "Thursday",
    "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip


_YEAR = re.compile(r"(?:1[1-9]|20)\d\d")
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")


def say(text: str) -> str:
    return number("en", text)


def _month(text: str) -> str:
    return next(name for name in _MONTHS if name.lower().startswith(text[:3].lower()))


def _date(month: str, day: str, its_year: str = "") -> str:
    return f"{month} {ordinal(day)}" + (f", {year('en', its_year)}" if its_year else "")


def _iso_date(found: Match) -> str:
    if not 1 <= int(found[2]) <= 12 or not 1 <= int(found[3]) <= 31:
        return found[0]
    return _date(_MONTHS[int(found[2]) - 1], str(int(found[3])), found[1])


def _slash_date(found: Match) -> str:
    first, second = int(found[1]), int(found[2])
    month, day = (second, first) if first > 12 else (first, second)
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        return found[0]
    return _date(_MONTHS[month - 1], str(day), found[3])


def _month_day(found: Match) -> str:
    return _date(_month(found[1]), found[2], found[3] or "")


def _day_month(found: Match) -> str:
    its_year = f" {year('en', found[4])}" if found[4] else ""
    the = "" if found[1] else "the "
    return f"{found[1] or ''}{the}{ordinal(found[2])} of {_month(found[3])}{its_year}"


def _clock(hour: str, minute: str, half: str) -> str:
    at, past = int(hour), int(minute)
    if half:
        said = "" if past == 0 else f" {_past(past)}"
        return f"{cardinal('en', str(at))}{said} {half.replace('.', '').upper()}"
    if past == 0:
        return f"{cardinal('en', str(at))} o'clock" if 0 < at < 13 else f"{cardinal('en', str(at))} hundred"
    return f"{cardinal('en', str(at))} {_past(past)}"


def _past(minute: int) -> str:
    return f"oh {cardinal('en', str(minute))}" if minute < 10 else cardinal("en", str(minute))


def _time(found: Match) -> str:
    half = found[3] or ""
    said = _clock(found[1], found[2], half)
    return f"{said}." if half.endswith(".") and not found.string[found.end() :].strip() else said


def _hour(found: Match) -> str:
    said = f"{cardinal('en', found[1])} {found[2].replace('.', '').upper()}"
    return f"{said}." if found[2].endswith(".") and not found.string[found.end() :].strip() else said


def _lasting(found: Match) -> str:
    parts = zip((found[1], found[2], found[3]), ("hour", "minute", "second"), strict=True)
    return " ".join(_counted(str(int(count)), unit) for count, unit in parts)


def _counted(count: str, unit: str) -> str:
    return f"{say(count)} {unit}{'' if count == '1' else 's'}"


_MONEY = {
    "$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "pence"), "¥": ("yuan", ""), "￥": ("yuan", ""),
    "USD": ("dollar", "cent"), "EUR": ("euro", "cent"), "GBP": ("pound", "pence"), "CNY": ("yuan", ""), "RMB": ("yuan", ""),
}  # fmt: skip


def _money(mark: str, amount: str, scale: str) -> str:
    name, part = _MONEY[mark]
    plural = name if name == "yuan" else f"{name}s"
    if scale:
        return f"{say(amount)} {scale} {plural}"
    whole, _, rest = amount.replace(",", "").partition(".")
    said = f"{say(whole)} {name if whole == '1' else plural}"
    if not rest or not int(rest):
        return said
    if not part or len(rest) != 2:
        return f"{say(amount)} {plural}"
    cents = str(int(rest))
    small = f"{say(cents)} {part if part == 'pence' or cents == '1' else part + 's'}"
    return small if whole == "0" else f"{said} and {small}"


_UNITS = {
    "km/h": "kilometre per hour", "m/s": "metre per second", "mph": "mile per hour", "kWh": "kilowatt hour",
    "Wh": "watt hour", "kW": "kilowatt", "MW": "megawatt", "W": "watt", "mV": "millivolt", "V": "volt", "mAh": "milliamp hour",
    "mA": "milliamp", "A": "amp", "GHz": "gigahertz", "MHz": "megahertz", "kHz": "kilohertz", "Hz": "hertz",
    "TB": "terabyte", "GB": "gigabyte", "MB": "megabyte", "kB": "kilobyte", "KB": "kilobyte", "km²": "square kilometre",
    "m²": "square metre", "m³": "cubic metre", "km": "kilometre", "cm": "centimetre", "mm": "millimetre", "m": "metre",
    "kg": "kilogram", "mg": "milligram", "g": "gram", "lbs": "pound", "lb": "pound", "oz": "ounce", "ft": "foot",
    "ml": "millilitre", "mL": "millilitre", "cl": "centilitre", "l": "litre", "L": "litre", "hPa": "hectopascal",
    "Pa": "pascal", "bar": "bar", "lx": "lux", "lm": "lumen", "dB": "decibel", "ppm": "part per million", "ms": "millisecond",
    "min": "minute", "mins": "minute", "hrs": "hour", "hr": "hour", "h": "hour", "s": "second", "secs": "second",
    "sec": "second", "°C": "degree Celsius", "℃": "degree Celsius", "°F": "degree Fahrenheit", "℉": "degree Fahrenheit",
    "K": "kelvin", "µg/m³": "microgram per cubic metre", "°": "degree",
}  # fmt: skip
_SAME = ("hertz", "lux", "kelvin", "gigahertz", "megahertz", "kilohertz")
_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))


def unit_of(mark: str, count: str) -> str:
    """The name of a unit, in the plural unless it is one."""
    name = _UNITS[mark.replace(" ", "")]
    head, _, tail = name.partition(" ")
    if count in ("1", "one") or name in _SAME:
        return name
    if name == "foot":
        return "feet"
    if tail.startswith("hour"):
        return f"{name}s"  # kilowatt hours
    if head in ("square", "cubic"):
        return f"{name}s"
    return " ".join((f"{head}s", tail)).strip()


def _measured(found: Match) -> str:
    return f"{say(found[1])} {unit_of(found[2], found[1])}"


_PARTS = {2: "half", 3: "third", 4: "quarter"}


def _fraction(over: int, under: int) -> str:
    name = _PARTS.get(under) or ordinal(str(under))
    plural = "halves" if under == 2 else f"{name}s"
    return f"{cardinal('en', str(over))} {name if over == 1 else plural}"


def _slash(found: Match) -> str:
    over, under = int(found[2]), int(found[3])
    if not (0 < over < under <= 100):
        return (
            f"{found[1] or ''}{cardinal('en', found[2])} {cardinal('en', found[3])}" if found[0] == "24/7" else found[0]
        )
    if found[1]:
        return f"{cardinal('en', found[1].strip())} and {'a' if over == 1 else ''}{_fraction(over, under)[3 if over == 1 else 0 :]}"
    return _fraction(over, under)


_GLYPHS = {"½": (1, 2), "¼": (1, 4), "¾": (3, 4), "⅓": (1, 3), "⅔": (2, 3)}


def _glyph(found: Match) -> str:
    said = _fraction(*_GLYPHS[found[2]])
    if not found[1]:
        return said
    return f"{cardinal('en', found[1])} and {'a' + said[3:] if said.startswith('one') else said}"


def _address(found: Match) -> str:
    text = re.sub(r"^(?:https?://)?(?:www\.)?", "", found[0], flags=re.IGNORECASE)
    end = len(text) - len(text.rstrip(".,;:!?"))
    text, rest = (text[:-end], text[-end:]) if end else (text, "")
    text = text.rstrip("/")
    text = _IP.sub(_ip, text)
    for mark, name in (
        (".", "dot"),
        ("@", "at"),
        ("/", "slash"),
        ("-", "dash"),
        ("_", "underscore"),
        (":", "port"),
        ("+", "plus"),
    ):
        text = text.replace(mark, f" {name} ")
    return re.sub(r"[?=&#%~].*$", "", text) + rest


def _ip(found: Match) -> str:
    return " dot ".join(spelled("en", part) for part in found[0].split("."))


def _phone(found: Match) -> str:
    groups = [spelled("en", group) for group in re.findall(r"\d+", found[0])]
    return ("plus " if found[0].startswith("+") else "") + ", ".join(groups)


def _range(found: Match) -> str:
    low, high = (float(text.replace(",", "")) for text in (found[1], found[2]))
    if low >= high:
        return found[0]
    if _YEAR.fullmatch(found[1]) and _YEAR.fullmatch(found[2]):
        return f"{year('en', found[1])} to {year('en', found[2])}"
    return f"{found[1]} to {found[2]}"


def _decade(found: Match) -> str:
    said = year("en", found[1])
    return f"{said[:-1]}ies" if said.endswith("y") else f"{said}s"


WORDS = {
    r"\be\.g\.,?": "for example,", r"\bi\.e\.,?": "that is,", r"\betc\.": "et cetera", r"\bvs?\.(?=\s)": "versus",
    r"\bapprox\.": "approximately", r"\bDr\.(?=\s+[A-Z])": "Doctor", r"\bMr\.": "Mister", r"\bMrs\.": "Missus",
    r"\bMs\.": "Miss", r"\bProf\.": "Professor", r"\bSt\.(?=\s+[A-Z])": "Saint", r"\bNo\.\s*(?=\d)": "number ",
    r"(?<!\w)#(?=\d)": "number ", r"\bw/o\b": "without", r"\bw/(?=\s)": "with", r"\b24/7\b": "twenty-four seven",
}  # fmt: skip
_TLD = r"(?:com|org|net|io|dev|info|local|cn|de|uk|eu|edu|gov|lan|home)"
_CLOCK = r"(?<![\d:.])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])(?:\s*([AaPp]\.[Mm]\.?|[AaPp][Mm]\b))?"

RULES: tuple[Rule, ...] = (
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), _address),
    (re.compile(rf"https?://\S+|\bwww\.\S+|(?<![\w.@])(?:[A-Za-z][\w-]*\.)+{_TLD}\b(?::\d+)?(?:/[\w./-]*)?"), _address),
    (re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)"), _ip),
    *((re.compile(pattern), said) for pattern, said in WORDS.items()),
    (re.compile(rf"\b({'|'.join(_DAYS)})\b\.?(?=,?\s+(?:\d|{_MONTH}))"), lambda found: _DAYS[found[1]]),
    (re.compile(r"(?<![\w-])((?:1[1-9]|20)\d\d)-(\d\d?)-(\d\d?)(?![\w-])"), _iso_date),
    (re.compile(r"(?<![\w/])(\d\d?)/(\d\d?)/((?:1[1-9]|20)\d\d)(?![\w/])"), _slash_date),
    (re.compile(rf"\b({_MONTH})\s+(\d\d?)(?:st|nd|rd|th)?\b(?:,?\s+((?:1[1-9]|20)\d\d)\b)?(?!:)"), _month_day),
    (
        re.compile(
            rf"(\bthe\s+)?(?<![\w.,:/-])(\d\d?)(?:st|nd|rd|th)?(?:\s+of)?\s+({_MONTH})\b(?:,?\s+((?:1[1-9]|20)\d\d)\b)?"
        ),
        _day_month,
    ),
    (re.compile(r"\b((?:1[1-9]|20)\d0)s\b"), _decade),
    (re.compile(r"(?<![\d:.])(\d\d?):([0-5]\d):([0-5]\d)(?![\d:])"), _lasting),
    (re.compile(r"(?<![\w.:])(\d\d?)\.([0-5]\d)\s*([AaPp]\.[Mm]\.?|[AaPp][Mm]\b)"), _time),
    (re.compile(r"(?<=\d)\s*[\u2013\u2014-]\s*(?=[0-2]?\d:[0-5]\d)"), " to "),
    (re.compile(_CLOCK), _time),
    (re.compile(r"(?<![\w.,:])(\d\d?)\s*([AaPp]\.[Mm]\.?|[AaPp][Mm]\b)"), _hour),
    (
        re.compile(
            r"(?<!\w)\+\d[\d\s()/-]{6,}\d"
            r"|(?<![\w-])\d{3}[- ]\d{4}(?![\w-])"
            r"|(?<![\w.,-])\d{2,5}(?:-\d{2,5}){2,}(?![\w-])"
            r"|(?<![\w.,])0\d{2,}[-/ ]?\d{3,}(?![\w-])"
        ),
        _phone,
    ),
    (re.compile(rf"{FREE}({N})\s*[\u2013\u2014-]\s*({N})(?![\w-])(?!\.\d)"), _range),
    (re.compile(rf"{FREE}({N})\s*[\u2013\u2014-]\s*({N})(?=\s*(?:%|°|℃|(?:{_UNIT})\b))"), _range),
    (
        re.compile(rf"([$€£¥￥])\s?({N})(?:\s*(million|billion|trillion)\b)?"),
        lambda found: _money(found[1], found[2], found[3] or ""),
    ),
    (
        re.compile(rf"{FREE}({N})(?:\s*(million|billion|trillion))?\s?(€|£|USD\b|EUR\b|GBP\b|CNY\b|RMB\b)"),
        lambda found: _money(found[3], found[1], found[2] or ""),
    ),
    (re.compile(rf"{MINUS}"), "minus "),
    (re.compile(rf"({N})\s*[%％]"), lambda found: f"{say(found[1])} percent"),
    (
        re.compile(rf"(?<![\w.,])(?:({N})\s*)({_UNIT.replace('°C', '° ?C').replace('°F', '° ?F')})(?![\w²³/])"),
        _measured,
    ),
    (re.compile(r"(?<![\w./])(\d+\s)?(\d{1,2})/(\d{1,3})(?![\w/])"), _slash),
    (re.compile(r"(?:(\d+)\s*)?([½¼¾⅓⅔])"), _glyph),
    (re.compile(r"\b(\d+)(?:st|nd|rd|th)\b"), lambda found: ordinal(found[1])),
    (
        re.compile(
            r"\b((?i:in|since|until|till|by|from|of|year|before|after|during|around))\s+((?:1[1-9]|20)\d\d)(?![\w.,:%-]*\d)(?!\s*(?:[%°]|percent|to\b))"
        ),
        lambda found: f"{found[1]} {year('en', found[2])}",
    ),
    (
        re.compile(r"(?<![\w.])\d+(?:\.\d+){2,}(?![\w.]*\d)"),
        lambda found: " point ".join(cardinal("en", part) for part in found[0].split(".")),
    ),
    (re.compile(rf"(?<![\w.])({N})\s?[x×](?!\w)(?!\s*\d)"), lambda found: f"{say(found[1])} times"),
    (re.compile(r"(?<=\d)\s*[x×]\s*(?=\d)"), " by "),
    (re.compile(r"(?<=\d)\s+[-\u2212]\s+(?=\d)"), " minus "),
    (re.compile(r"(?<=\d)\s*\+\s*(?=\d)"), " plus "),
    (re.compile(r"(?<=[\w)])\s*=\s*(?=\w)"), " equals "),
    (re.compile(r"(?<!\w)[~≈]\s*(?=\d)"), "about "),
    (re.compile(r"\s&\s"), " and "),
    (re.compile(rf"(?<![\w.])(?<!\d,)({N})(?!\w|\.\d)"), lambda found: say(found[1])),
    (re.compile(r"\bone half(?= an? )"), "half"),
)

__all__ = ["RULES", "say"]
