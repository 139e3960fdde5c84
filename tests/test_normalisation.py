"""What is written becomes what is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi_hub.dialog.speaking.normalisation.normalise import spoken
from xiaozhi_hub.dialog.speaking.normalisation.scripts import foreign_languages, runs

ENGLISH = """
It is 9:41 PM.                   | It is nine forty-one PM.
It is 1:00 PM.                   | It is one PM.
It is 9:05 a.m.                  | It is nine oh five AM.
It is 12:00.                     | It is twelve o'clock.
It is 21:00.                     | It is twenty-one hundred.
It is 20:15 now.                 | It is twenty fifteen now.
At 7.30 p.m.                     | At seven thirty PM.
Meet at 5pm.                     | Meet at five PM.
1:23:45 left                     | one hour twenty-three minutes forty-five seconds left
Open 9:00-17:00 daily.           | Open nine o'clock to seventeen hundred daily.
It is November 21, 2026.         | It is November twenty-first, twenty twenty-six.
2026-11-21                       | November twenty-first, twenty twenty-six
11/21/2026                       | November twenty-first, twenty twenty-six
21/11/2026                       | November twenty-first, twenty twenty-six
on the 21st of November 2026     | on the twenty-first of November twenty twenty-six
Nov. 3rd                         | November third
Sat, Nov 21                      | Saturday, November twenty-first
since 1998                       | since nineteen ninety-eight
Born in 1905.                    | Born in nineteen oh-five.
the 1990s                        | the nineteen nineties
from 1990-1998                   | from nineteen ninety to nineteen ninety-eight
2026 items                       | two thousand twenty-six items
It costs $5.                     | It costs five dollars.
$3.50                            | three dollars and fifty cents
$1.01                            | one dollar and one cent
£0.99                            | ninety-nine pence
$2 million                       | two million dollars
20 EUR                           | twenty euros
$1,234.56                        | one thousand two hundred thirty-four dollars and fifty-six cents
60%                              | sixty percent
10–20%                           | ten to twenty percent
It is -3.5 °C.                   | It is minus three point five degrees Celsius.
1 °C                             | one degree Celsius
70 °F                            | seventy degrees Fahrenheit
a 90° turn                       | a ninety degrees turn
20-25 °C                         | twenty to twenty-five degrees Celsius
20 km/h                          | twenty kilometres per hour
1 km                             | one kilometre
5-10 km                          | five to ten kilometres
3.2 kWh                          | three point two kilowatt hours
2.4 GHz                          | two point four gigahertz
45 m²                            | forty-five square metres
6 ft                             | six feet
12 µg/m³                         | twelve micrograms per cubic metre
1/2                              | one half
3/4                              | three quarters
2 1/2 hours                      | two and a half hours
½ an hour                        | half an hour
1½                               | one and a half
24/7 and/or                      | twenty-four seven and/or
21st                             | twenty-first
101st                            | one hundred first
3-4 days                         | three to four days
5 - 3                            | five minus three
2 + 3 = 5                        | two plus three equals five
1.5x                             | one point five times
+49 170 1234567                  | plus four nine, one seven zero, one two three four five six seven
555-0123                         | five five five, zero one two three
007                              | zero zero seven
info@example.com                 | info at example dot com
See https://www.example.com/a-b?x=1. | See example dot com slash a dash b.
xiaozhi-hub.local                | xiaozhi dash hub dot local
192.168.1.10                     | one nine two dot one six eight dot one dot one zero
e.g. tea                         | for example, tea
Dr. Who vs. Mr. Smith            | Doctor Who versus Mister Smith
No. 5, #7                        | number five, number seven
~5 minutes                       | about five minutes
1,234,567                        | one million two hundred thirty-four thousand five hundred sixty-seven
3.14159                          | three point one four one five nine
version 2.4.1                    | version two point four point one
ESP32-S3                         | ESP32-S3
a 5-minute timer                 | a five-minute timer
half-life                        | half-life
I have 2 dogs, 3 cats.           | I have two dogs, three cats.
"""

CHINESE = """
现在是21:41。                    | 现在是二十一点四十一分。
现在是9:05。                     | 现在是九点零五分。
2:00                             | 两点
9:41 PM                          | 晚上九点四十一分
下午3点                          | 下午三点
3点05分                          | 三点零五分
1:23:45                          | 一小时二十三分四十五秒
9:00-17:00营业                   | 九点到十七点营业
2026-11-21                       | 二零二六年十一月二十一日
2026年11月21日                   | 二零二六年十一月二十一日
2026/1/5                         | 二零二六年一月五日
10年                             | 十年
亮度50%，21.5°C                  | 亮度百分之五十，二十一点五摄氏度
-5℃                              | 零下五摄氏度
-5度                             | 零下五度
20~25℃                           | 二十到二十五摄氏度
10%-20%                          | 百分之十到百分之二十
3.5‰                             | 千分之三点五
￥3.50                           | 三点五元
2元                              | 两元
100万元                          | 一百万元
$3.5亿                           | 三点五亿美元
2 km/h                           | 两公里每小时
3.2kWh                           | 三点二千瓦时
45m²                             | 四十五平方米
2kg                              | 两公斤
60dB                             | 六十分贝
3/4                              | 四分之三
2½                               | 二又二分之一
第2天                            | 第二天
2个灯                            | 两个灯
12个                             | 十二个
2分钟                            | 两分钟
2楼                              | 二楼
20个                             | 二十个
3-5天                            | 三到五天
比分3:2                          | 比分三比二
拨打110                          | 拨打幺幺零
电话：010-12345678               | 电话：零幺零，幺二三四五六七八
13812345678                      | 幺三八幺二三四五六七八
info@example.com                 | info 艾特 example 点 com
访问xiaozhi-hub.local            | 访问xiaozhi 杠 hub 点 local
1,234,567                        | 一百二十三万四千五百六十七
0.5                              | 零点五
105                              | 一百零五
版本2.4.1                        | 版本二点四点一
ESP32-S3                         | ESP32-S3
iPhone 15 Pro                    | iPhone 十五 Pro
2+3=5                            | 二加三等于五
-5                               | 负五
2万                              | 两万
"""


def table(text: str, language: str) -> list[tuple[str, str, str]]:
    rows = (line.split("|") for line in text.strip().splitlines())
    return [(language, written.strip(), said.strip()) for written, said in rows]


@pytest.mark.parametrize(("language", "written", "said"), table(ENGLISH, "en") + table(CHINESE, "zh-Hans"))
def test_it_is_read_as_a_person_would(language: str, written: str, said: str) -> None:
    assert spoken(written, language) == said


@pytest.mark.parametrize("text", ["Turned on the Bed Light.", "厨房的灯开了。", "What do you see?", ""])
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert spoken(text, "en") == spoken(text, "zh-Hans") == text


def test_what_cannot_be_printed_is_not_read() -> None:
    assert spoken("two\nlines\t\0and  gaps", "en") == "two lines and gaps"


@given(st.text(alphabet="0123456789.,:/-%°C$€ ampk五点月年@#x+½", max_size=40), st.sampled_from(["en", "zh-Hans"]))
def test_whatever_is_written_can_be_read(text: str, language: str) -> None:
    assert spoken(spoken(text, language), language) is not None


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("打开Wi-Fi，好吗", "zh-Hans", [("zh-Hans", "打开"), ("en", "Wi-Fi，"), ("zh-Hans", "好吗")]),
        ("播放 Let It Be。", "zh-Hans", [("zh-Hans", "播放"), ("en", "Let It Be。")]),
        ("Playing 七里香 now.", "en", [("en", "Playing"), ("zh-Hans", "七里香"), ("en", "now.")]),
        ("他说（OK）了", "zh-Hans", [("zh-Hans", "他说"), ("en", "（OK）"), ("zh-Hans", "了")]),
        ("Nothing foreign.", "en", [("en", "Nothing foreign.")]),
        ("All of it", "zh-Hans", [("en", "All of it")]),
        ("123", "en", [("en", "123")]),
    ],
)
def test_words_in_another_script_are_found(text: str, language: str, expected: list[tuple[str, str]]) -> None:
    assert list(runs(text, language, ("en", "zh-Hans"))) == expected


def test_only_the_languages_that_are_asked_for_are_cut_out() -> None:
    assert list(runs("打开Wi-Fi，好吗", "zh-Hans", ())) == [("zh-Hans", "打开Wi-Fi，好吗")]
    assert foreign_languages("打开Wi-Fi", "zh-Hans") == ("en",)
    assert foreign_languages("打开窗户", "zh-Hans") == foreign_languages("Open it.", "en") == ()
    assert foreign_languages("打开窗户", "en") == ("zh-Hans",)
