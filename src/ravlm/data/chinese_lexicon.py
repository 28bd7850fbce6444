"""What common Chinese characters mean when they stand alone, and which of them hold a sentence
together.

The dictionary package gives one reading a character, the last in its order, and that is often a
rare one (车 "war chariot", 花 "variant of 花", 喝 "to shout"). These are the usual ones, written for
pictures and what is said about them. Data only; knows no text."""

from __future__ import annotations

PARTICLES = frozenset("把将的了着得之们者吗呢吧啊啦嘛呀哦么嗯哇而")
"""Characters without a meaning of their own."""

MEASURES = frozenset(
    "个只条张件辆位名群头匹棵朵座艘架台把本支枝杯瓶碗盘块片双对副套幅间栋根滴颗粒串层排堆队盏扇顶份顿尾具"
    "种面道阵"
)
"""Measure words, where a number or 这, 那, 哪, 每, 几 stands before."""

AMOUNTS = frozenset("杯瓶碗盘块片双对群串堆队排层滴")
"""Measure words that say how much or what in: a cup of, a pair of. The others have nothing to
translate."""

COUNTS = frozenset("一二三四五六七八九十百千万两几半这那哪每某整")
"""What a measure word follows."""

FUNCTION = frozenset(
    "是在有和与或及被给对从到向往于为以由跟让叫使请不没也都就还很更最再又才只会能要可想这那哪其此我你您他"
    "她它谁里中上下内外前后旁边时地正太该人"
)
"""Characters that are words by themselves so often that they need little proof."""

LEXICAL = frozenset({
    "目的", "有的", "别的", "似的", "总的", "为了", "除了", "算了", "罢了", "沿着", "随着", "朝着", "向着", "接着",
    "本着", "有着", "意味着", "跟着", "觉得", "记得", "值得", "获得", "取得", "难得", "懂得", "显得", "使得", "赢得",
    "舍得", "心得", "所得", "你们", "我们", "他们", "她们", "它们", "咱们", "人们", "什么", "怎么", "那么", "这么",
    "多么", "要么", "反而", "然而", "从而", "进而", "因而", "总之", "随之", "反之", "作者", "记者", "学者", "读者",
    "或者", "患者", "王者", "志愿者", "消费者", "爱好者", "参观者", "旁观者", "表演者", "滑雪者", "老者", "行者",
    "长者",
})  # fmt: skip
"""Words that end in a particle and are words all the same."""

RARE = frozenset({"马上", "请调", "个人", "中将", "上将", "种花", "下台阶"})
"""Words that are more often two words where pictures are spoken of (骑在马上, 请调亮)."""

_READINGS = """
一 yi1 one; 个 ge4 piece; 是 shi4 to be; 有 you3 to have/there is; 中 zhong1 in/middle; 里 li3 inside;
内 nei4 inside; 上 shang4 on/above; 下 xia4 under/below; 外 wai4 outside; 前 qian2 in front of/front;
后 hou4 behind/back; 旁 pang2 beside; 边 bian1 side/edge; 间 jian1 between/room; 面 mian4 face/side/noodles;
头 tou2 head; 底 di3 bottom; 在 zai4 at/in; 大 da4 big/large; 小 xiao3 small/little; 多 duo1 many; 少 shao3 few;
长 chang2 long; 远 yuan3 far; 好 hao3 good; 老 lao3 old; 干 gan1 dry; 热 re4 hot; 暗 an4 dark; 丑 chou3 ugly;
难 nan2 difficult; 重 zhong4 heavy; 紧 jin3 tight; 松 song1 loose/pine; 浅 qian3 light/shallow; 深 shen1 dark/deep;
亮 liang4 bright; 高 gao1 tall/high; 矮 ai3 short; 为 wei4 for; 和 he2 and; 与 yu3 and; 对 dui4 towards/pair;
或 huo4 or; 被 bei4 by; 给 gei3 to give; 比 bi3 than; 跟 gen1 with; 从 cong2 from; 到 dao4 to; 向 xiang4 towards;
往 wang3 towards; 都 dou1 all; 还 hai2 still/also; 只 zhi3 only; 也 ye3 also; 就 jiu4 then; 会 hui4 can/will;
可 ke3 can; 要 yao4 to want; 同 tong2 same; 并 bing4 and; 没 mei2 not have/no; 不 bu4 not; 别 bie2 other/do not;
那 na4 that; 这 zhe4 this; 哪 na3 which; 谁 shei2 who; 几 ji3 how many/several; 何 he2 what; 以 yi3 with;
等 deng3 to wait; 请 qing3 please; 来 lai2 to come; 去 qu4 to go; 出 chu1 out; 回 hui2 to return; 过 guo4 to pass;
说 shuo1 to say; 见 jian4 to see; 看 kan4 to look at/to see; 发 fa1 to send; 喝 he1 to drink; 吃 chi1 to eat;
打 da3 to hit/to play; 弹 tan2 to play/to pluck; 拉 la1 to pull; 玩 wan2 to play; 坐 zuo4 to sit; 站 zhan4 to stand;
走 zou3 to walk; 跑 pao3 to run; 跳 tiao4 to jump; 躺 tang3 to lie; 趴 pa1 to lie prone; 穿 chuan1 to wear;
戴 dai4 to wear; 拿 na2 to hold; 抱 bao4 to hold/to hug; 骑 qi2 to ride; 开 kai1 to open/to drive;
关 guan1 to close; 放 fang4 to put; 挂 gua4 to hang; 吊 diao4 to hang; 借 jie4 to borrow; 推 tui1 to push;
落 luo4 to fall; 升 sheng1 to rise; 游 you2 to swim; 冲 chong1 to rush; 带 dai4 to carry/belt; 背 bei4 back;
教 jiao1 to teach; 换 huan4 to replace/to change; 变 bian4 to change/to become; 成 cheng2 into/to become;
除 chu2 to remove; 删 shan1 to delete; 加 jia1 to add; 改 gai3 to change; 添 tian1 to add; 移 yi2 to move;
染 ran3 to dye; 涂 tu2 to paint; 采 cai3 to pick; 卷 juan3 to roll; 让 rang4 to let; 使 shi3 to make;
车 che1 car/vehicle; 花 hua1 flower; 草 cao3 grass; 树 shu4 tree; 木 mu4 wood; 竹 zhu2 bamboo; 叶 ye4 leaf;
果 guo3 fruit; 瓜 gua1 melon; 豆 dou4 bean; 菜 cai4 vegetable/dish; 饭 fan4 rice/meal; 米 mi3 rice; 肉 rou4 meat;
蛋 dan4 egg; 奶 nai3 milk; 糖 tang2 sugar/candy; 茶 cha2 tea; 酒 jiu3 wine; 油 you2 oil; 姜 jiang1 ginger;
谷 gu3 valley; 猫 mao1 cat; 狗 gou3 dog; 鸟 niao3 bird; 鱼 yu2 fish; 马 ma3 horse; 牛 niu2 cow; 羊 yang2 sheep;
猪 zhu1 pig; 鸡 ji1 chicken; 鸭 ya1 duck; 象 xiang4 elephant; 虎 hu3 tiger; 熊 xiong2 bear; 兔 tu4 rabbit;
虫 chong2 insect; 蛇 she2 snake; 龙 long2 dragon; 猴 hou2 monkey; 人 ren2 person/people; 男 nan2 male;
女 nü3 female/woman; 弟 di4 younger brother; 手 shou3 hand; 脸 lian3 face; 眼 yan3 eye; 脚 jiao3 foot;
嘴 zui3 mouth; 身 shen1 body; 腿 tui3 leg; 毛 mao2 fur/hair; 衣 yi1 clothes; 鞋 xie2 shoe; 表 biao3 watch/table;
伞 san3 umbrella; 包 bao1 bag; 床 chuang2 bed; 桌 zhuo1 table; 窗 chuang1 window; 门 men2 door; 灯 deng1 lamp/light;
墙 qiang2 wall; 板 ban3 board; 杯 bei1 cup; 瓶 ping2 bottle; 叉 cha1 fork; 盘 pan2 plate; 台 tai2 platform/stage;
斗 dou4 to fight; 球 qiu2 ball; 画 hua4 painting/to paint; 图 tu2 picture; 书 shu1 book;
字 zi4 written character/word; 话 hua4 words; 天 tian1 sky/day; 云 yun2 cloud; 雨 yu3 rain; 雪 xue3 snow;
风 feng1 wind; 火 huo3 fire; 水 shui3 water; 石 shi2 stone; 沙 sha1 sand; 山 shan1 mountain; 海 hai3 sea;
地 di4 ground; 土 tu3 earth; 路 lu4 road; 桥 qiao2 bridge; 城 cheng2 city; 国 guo2 country; 家 jia1 home/family;
年 nian2 year; 色 se4 colour; 红 hong2 red; 黄 huang2 yellow; 蓝 lan2 blue; 绿 lü4 green; 黑 hei1 black;
白 bai2 white; 灰 hui1 grey; 粉 fen3 pink/powder; 紫 zi3 purple; 橙 cheng2 orange; 棕 zong1 brown; 橘 ju2 orange;
银 yin2 silver; 法 fa3 law/method; 数 shu4 number; 种 zhong3 kind; 行 xing2 to walk; 系 xi4 to tie; 所 suo3 place;
度 du4 degree; 当 dang1 when; 像 xiang4 to be like/statue; 世 shi4 world; 曲 qu3 song; 传 chuan2 to pass on;
观 guan1 to watch; 号 hao4 number; 太 tai4 too; 正 zheng4 just now/straight; 该 gai1 this/should; 泥 ni2 mud;
漂 piao1 to float; 女人 nü3_ren2 woman; 旁边 pang2_bian1 beside/side; 前面 qian2_mian4 in front;
睡觉 shui4_jiao4 to sleep; T恤 T_xu4 T-shirt; 什么 shen2_me5 what; 多少 duo1_shao5 how many/how much;
地上 di4_shang5 on the ground; 宽 kuan1 wide; 窄 zhai3 narrow; 厚 hou4 thick; 薄 bao2 thin; 软 ruan3 soft;
粗 cu1 thick/rough; 细 xi4 thin/fine; 圆 yuan2 round; 淡 dan4 light/pale; 鲜 xian1 fresh; 艳 yan4 bright/gorgeous;
素 su4 plain; 璃 li2 glass; 塔 ta3 tower/pagoda; 堡 bao3 castle; 村 cun1 village; 镇 zhen4 town; 宫 gong1 palace;
溪 xi1 stream; 冰 bing1 ice; 秋 qiu1 autumn; 冬 dong1 winter; 夏 xia4 summer; 春 chun1 spring; 影 ying3 shadow/film;
阳 yang2 sun; 满 man3 full/filled; 接 jie1 to catch/to receive; 投 tou2 to throw; 握 wo4 to hold;
托 tuo1 to hold up; 切 qie1 to cut; 剪 jian3 to cut/scissors; 扫 sao3 to sweep; 缝 feng2 to sew;
炸 zha2 to fry/to explode; 端 duan1 to carry/end; 倒 dao4 to pour/upside down; 喷 pen1 to spray;
泡 pao4 bubble/to soak; 咬 yao3 to bite; 叼 diao1 to hold in the mouth; 听 ting1 to listen;
叫 jiao4 to call/to shout; 滑 hua2 to slide; 荡 dang4 to swing; 摇 yao2 to shake; 滚 gun3 to roll;
翻 fan1 to turn over; 藏 cang2 to hide; 钓 diao4 to fish; 摘 zhai1 to pick; 钻 zuan1 to drill; 潜 qian2 to dive;
驶 shi3 to drive; 乘 cheng2 to ride/to take; 扛 kang2 to carry on the shoulder; 挑 tiao1 to carry/to pick;
搁 ge1 to put; 拍 pai1 to take a photo/to pat; 录 lu4 to record; 摄 she4 to photograph; 吻 wen3 to kiss;
抚 fu3 to stroke; 摸 mo1 to touch; 碰 peng4 to touch/to bump; 演 yan3 to perform; 戏 xi4 play; 袜 wa4 sock;
裙 qun2 skirt; 臀 tun2 hip; 爪 zhua3 paw/claw; 尾 wei3 tail; 角 jiao3 horn/corner; 鬃 zong1 mane; 鹅 e2 goose;
雁 yan4 wild goose; 燕 yan4 swallow; 鸦 ya1 crow; 鸥 ou1 gull; 猿 yuan2 ape; 驼 tuo2 camel; 骡 luo2 mule;
蛙 wa1 frog; 蟹 xie4 crab; 贝 bei4 shell; 蜂 feng1 bee; 柏 bai3 cypress; 柳 liu3 willow; 萄 tao2 grape;
葡 pu2 grape; 蕉 jiao1 banana; 芒 mang2 mango; 梅 mei2 plum; 荷 he2 lotus; 玫 mei2 rose; 瑰 gui1 rose; 丹 dan1 red;
薯 shu3 potato; 凳 deng4 stool; 罐 guan4 jar/can; 桶 tong3 bucket; 炉 lu2 stove; 锁 suo3 lock; 笼 long2 cage;
锤 chui2 hammer; 帆 fan1 sail; 卡 ka3 card; 渠 qu2 canal; 堤 di1 dike; 塘 tang2 pond; 架 jia4 rack/shelf;
场 chang3 field; 空 kong1 empty/sky; 强 qiang2 strong; 便 bian4 convenient; 张 zhang1 sheet; 弱 ruo4 weak;
解 jie3 to untie; 量 liang4 quantity; 雪地 xue3_di4 snowy ground; 雪山 xue3_shan1 snowy mountain;
发射台 fa1_she4_tai2 launch pad; 起来 qi3_lai5 up;
季节 ji4_jie2 season; 换成 huan4_cheng2 to replace with; 变成 bian4_cheng2 to turn into; 外面 wai4_mian4 outside;
后面 hou4_mian4 behind; 上面 shang4_mian4 on top; 下面 xia4_mian4 below; 里面 li3_mian4 inside; 男人 nan2_ren2 man;
"""


def usual_readings() -> dict[str, tuple[str, str]]:
    """Character or word -> (pinyin, meanings in English, split by "/")."""
    table = {}
    for item in _READINGS.split(";")[:-1]:
        word, pinyin, meanings = item.split(maxsplit=2)
        table[word] = (pinyin.replace("_", " "), meanings)
    return table
