"""Words of edit instructions in English and Chinese, and their meanings. Tables only."""

from __future__ import annotations

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (205, 30, 38),
    "orange": (240, 130, 30),
    "yellow": (245, 210, 50),
    "green": (55, 150, 60),
    "turquoise": (50, 180, 185),
    "blue": (45, 105, 215),
    "purple": (125, 60, 170),
    "pink": (240, 130, 175),
    "brown": (125, 80, 45),
    "gold": (215, 165, 50),
    "white": (250, 250, 250),
    "gray": (128, 128, 128),
    "black": (18, 18, 18),
}
"""Colors that can be asked for, as sRGB."""

WHOLE_IMAGE = ""
BACKGROUND = "background"
"""Targets that are not things."""

NAMES: dict[str, tuple[str, str]] = {
    WHOLE_IMAGE: ("the image", "图片"),
    BACKGROUND: ("the background", "背景"),
    "sky": ("the sky", "天空"),
    "grass": ("the grass", "草地"),
    "sea": ("the water", "水面"),
    "sand": ("the sand", "沙滩"),
    "snow": ("the snow", "雪"),
    "road": ("the road", "道路"),
    "wall": ("the wall", "墙"),
    "floor": ("the floor", "地板"),
    "tree": ("the trees", "树"),
    "skin": ("the skin", "皮肤"),
    "shirt": ("the shirt", "衣服"),
    "person": ("the person", "人"),
    "dog": ("the dog", "狗"),
}
"""Target -> its name in English and Chinese sentences."""

ACTIONS: dict[str, tuple[str, str]] = {
    "brighter": ("brighter", "变亮"),
    "darker": ("darker", "变暗"),
    "warmer": ("warmer", "变暖"),
    "colder": ("colder", "变冷"),
    "more saturated": ("more saturated", "更鲜艳"),
    "less saturated": ("less saturated", "更淡"),
    "black and white": ("black and white", "变成黑白"),
    "blur": ("blurred", "变模糊"),
    "sharpen": ("sharper", "变清晰"),
    "crop": ("cropped to", "裁剪到"),
    "cut out": ("cut out", "抠出"),
}
"""Action (other than a color or an example) -> its name in English and Chinese sentences."""

OPPOSITES = (
    ("brighter", "darker"),
    ("warmer", "colder"),
    ("more saturated", "less saturated"),
    ("more saturated", "black and white"),
    ("blur", "sharpen"),
    ("crop", "cut out"),
)
"""Actions that contradict each other on the same target."""

_THINGS = {
    "sky": "sky skies heaven heavens / 天空 天上 天 蓝天",
    "grass": "grass lawn meadow field grassland / 草地 草坪 草原 青草 绿草 草 田野",
    "sea": (
        "sea ocean water lake river wave waves pond pool stream seawater / 海水 大海 海面 海洋 "
        "海 湖水 湖面 湖 河水 河流 河 水面 水 海浪"
    ),
    "sand": "sand beach desert dune dunes / 沙滩 沙子 海滩 沙漠 沙地 沙",
    "snow": "snow / 雪地 积雪 白雪 雪",
    "road": "road street path pavement sidewalk asphalt lane / 马路 道路 公路 街道 路面 小路 路",
    "wall": "wall walls / 墙壁 墙面 墙",
    "floor": "floor carpet / 地板 地毯 地面",
    "tree": "tree trees forest bush bushes foliage woods leaves / 树木 树林 森林 大树 树叶 灌木 树",
    "skin": "skin / 皮肤 肤色",
    "shirt": "shirt shirts t-shirt tshirt jacket coat sweater jersey clothes clothing hoodie / "
    "衬衫 衬衣 上衣 衣服 外套 毛衣 夹克",
    "person": (
        "person people man men woman women boy boys girl girls child children kid kids baby / "
        "人物 行人 男人 女人 男孩 女孩 小孩 孩子 人"
    ),
    "dog": "dog dogs puppy puppies / 小狗 狗狗 狗",
    BACKGROUND: "background backdrop surroundings / 背景",
    WHOLE_IMAGE: "picture photo image photograph pic everything / "
    "整张图片 整张照片 整个图片 整幅图 整张图 图片 照片 图像 相片 画面 全图 图",
}
_COLOR_WORDS = {
    "red": "red crimson scarlet redder / 红色 鲜红 红",
    "orange": "orange / 橙色 橘色 橙 橘红",
    "yellow": "yellow yellower / 黄色 黄",
    "green": "green greener / 绿色 绿",
    "turquoise": "turquoise teal cyan / 青色 青绿色 青",
    "blue": "blue bluer / 蓝色 蓝",
    "purple": "purple violet lilac / 紫色 紫",
    "pink": "pink pinker / 粉红色 粉色 粉红 粉",
    "brown": "brown / 棕色 褐色 咖啡色 棕",
    "gold": "gold golden / 金色 金黄色 金黄",
    "white": "white whiter / 白色 白",
    "gray": "gray grey silver / 灰色 灰 银色",
    "black": "black blacker / 黑色 黑",
}
_ACTION_WORDS = {
    "brighter": "brighter brighten lighter lighten bright / 调亮 变亮 提亮 亮度 明亮 亮",
    "darker": "darker darken dim dimmer / 调暗 变暗 压暗 昏暗 暗",
    "warmer": "warmer warm / 变暖 暖色 温暖 暖",
    "colder": "colder cooler cold cool / 变冷 冷色 冷",
    "more saturated": (
        "saturated saturate vivid vibrant colourful colorful saturation / 鲜艳 饱和度 饱和 艳丽"
    ),
    "less saturated": "desaturate desaturated muted paler dull duller faded / 褪色 素淡 暗淡 淡",
    "black and white": (
        "black-and-white monochrome greyscale grayscale colourless colorless / 黑白色 黑白 灰度 "
        "单色"
    ),
    "blur": "blur blurry blurred blurrier / 模糊 虚化",
    "sharpen": "sharpen sharper sharp / 锐化 清晰",
    "crop": "crop / 裁剪到 裁剪 裁切 裁到 剪裁",
    "cut out": "cutout extract isolate / 抠出来 抠出 抠图 剪出 抠",
}
_OTHER_WORDS = {
    "deep": "dark deep / 深",
    "light": "light pale / 浅",
    "slightly": "slightly little bit somewhat / 稍微 一点点 一点 一些 略微 略 有点 稍",
    "strongly": "much very lot strongly far extremely really / 非常 很多 得多 大大 很 特别",
    "more": "more increase raise boost / 更加 更 提高 增加 增强 提升",
    "less": "less decrease reduce lower / 降低 减少 减弱 减小",
    "like": "like as / 像 仿照 如同",
    "it": "it its them their / 它们 它 其",
    "fill": (
        "make makes made turn change set colour color colors colours paint dye tint edit adjust "
        "give let have please can could you would i want would to into the a an of so that this "
        "in on and be become becoming look looks looking appear s with my for me tone version "
        "out up down effect whole entire all only just shade / 请 帮我 帮忙 将 把 让 使 给我 给 "
        "中的 里的 上的 里面的 中 里 上 的 地 得 变成 变为 变得 改成 改为 换成 换为 调成 调得 "
        "调整 变 改 换 调 弄成 弄得 弄 染成 涂成 做成 成为 成 为 颜色 色 色调 整个 全部 所有 "
        "一样 那样 那般 似的 样子 风格 效果 处理 对 做 进行 看起来 显得 这张 这幅 那个 这个 只 "
        "出来 出 来 到 一下 吧 了 些 照片中 图中 是 我想 想要 要 度"
    ),
    "undoable": (
        "remove delete erase add insert put place replace swap move rotate flip mirror resize "
        "scale enlarge shrink draw write open close wear hide undo copy paste zoom merge / 删除 "
        "删掉 去掉 去除 移除 移动 添加 加上 加入 增添 旋转 翻转 放大 缩小 替换 消除 擦掉 画 写 "
        "放 复制"
    ),
}
"""Words that are not things, colors or actions. "fill" has no meaning of its own."""


def vocabulary() -> dict[str, tuple[str, str]]:
    """Return every known word -> (its kind, its meaning)."""
    words: dict[str, tuple[str, str]] = {}
    tables = (("thing", _THINGS), ("color", _COLOR_WORDS), ("action", _ACTION_WORDS))
    for kind, table in tables:
        for meaning, listing in table.items():
            words |= dict.fromkeys(_split(listing), (kind, meaning))
    for kind, listing in _OTHER_WORDS.items():
        words |= {word: (kind, kind) for word in _split(listing) if word not in words}
    return words


def _split(listing: str) -> list[str]:
    return [word for word in listing.split() if word != "/"]
