// What the page says, in English and Chinese. Knows no element but those that carry data-t.

const WORDS = {
  en: {
    skip: "Skip to the content", tabs: "What to do", theme: "Light or dark", retrieval: "Retrieval",
    search: "Search", ask: "Ask", caption: "Caption", tell: "Tell", edit: "Edit", entries: "Entries",
    searchTitle: "Find by words, by a picture, or by both", askTitle: "Ask, and see what the answer rests on",
    captionTitle: "Describe a picture", tellTitle: "Tell a story, sentence by sentence with its evidence",
    editTitle: "Change a picture by saying how", entriesTitle: "What the base knows",
    api: "For programs: the API", about: (n, encoder, generator) => `${n} entries · ${encoder} · ${generator}`,
    searchWords: "Words", searchHint: "a red motorcycle in a garage", find: "Find",
    picture: "Picture", drop: "Drop a picture here, paste one, or choose a file", takeAway: "Take the picture away",
    pictures: "Drop pictures here, or choose files",
    filters: "Filters", modality: "Look in", any: "pictures and texts", image: "pictures", text: "texts",
    where: "Only where", whereHint: "year >= 1990 and kind in [\"animal\"]", count: "How many",
    question: "Question", questionHint: "What is the animal in the picture?", send: "Ask", again: "New talk",
    you: "You", prompt: "What to tell about", promptHint: "the harbour at night", describe: "Describe", tellIt: "Tell",
    instruction: "What to change", instructionHint: "make the sky blue", change: "Change",
    slider: "Before and after: how much of the changed picture is shown", before: "before", after: "after",
    region: "Show where it was changed", save: "Save the picture", unchanged: "Nothing was changed.",
    evidence: "Evidence", noEvidence: "What an answer rests on is shown here, beside it.",
    closedBook: "Answered without the base", restsOn: "Rests on", alsoRead: "Also read, not cited",
    absent: "Nothing in the base fits.", noExamples: "No picture of the base was needed for this.", confidence: (c) => `confidence ${c}`,
    found: (n) => (n === 1 ? "1 entry found" : `${n} entries found`), nothing: "Nothing found.", score: "score",
    matchedPicture: "matched by its picture", matchedText: "matched by its text",
    working: "Working …", answered: "The answer is there.", closedHint: "Retrieval is off: nothing is looked up.",
    close: "Close", like: "Find what is like it", askIt: "Ask about it", remove: "Remove",
    sureRemove: (id) => `Remove the entry “${id}” from the base?`, removed: "Removed.",
    texts: "Text (each line “key: value” is a fact to be asked for)", textsHint: "Name: tabby cat\nEyes: green",
    id: "Id (optional)", add: "Add", added: (n) => (n === 1 ? "1 entry is in the base." : `${n} entries are in the base.`),
    more: "Show more", giveSomething: "Give words or a picture first.", givePicture: "Give a picture first.",
    giveWords: "Write something first.", tokenTitle: "This server asks for a token", token: "Token", goOn: "Go on",
    tokenWhy: "Whoever runs the server has it. It is kept until this tab is closed.",
    unreachable: "The server does not answer; is it still running?", notPicture: "This file is no picture.",
    entryOf: (n) => `Citation ${n}: show its entry`, stopped: "Stopped.", noPicture: "no picture",
  },
  zh: {
    skip: "跳到内容", tabs: "功能", theme: "浅色或深色", retrieval: "检索",
    search: "检索", ask: "提问", caption: "描述", tell: "讲述", edit: "编辑", entries: "条目",
    searchTitle: "用文字、图片或两者一起查找", askTitle: "提问，并看到回答的依据",
    captionTitle: "描述一张图片", tellTitle: "讲一个故事，每句话都有依据",
    editTitle: "用一句话修改图片", entriesTitle: "知识库里有什么",
    api: "供程序使用的接口", about: (n, encoder, generator) => `${n} 个条目 · ${encoder} · ${generator}`,
    searchWords: "文字", searchHint: "车库里的红色摩托车", find: "查找",
    picture: "图片", drop: "把图片拖到这里、粘贴，或选择文件", takeAway: "移除图片",
    pictures: "把图片拖到这里，或选择多个文件",
    filters: "过滤", modality: "查找范围", any: "图片和文字", image: "图片", text: "文字",
    where: "条件", whereHint: "year >= 1990 and kind in [\"animal\"]", count: "数量",
    question: "问题", questionHint: "图片中的动物是什么？", send: "提问", again: "新的对话",
    you: "您", prompt: "讲什么", promptHint: "夜晚的港口", describe: "描述", tellIt: "讲述",
    instruction: "怎样修改", instructionHint: "将图片中的天空变成蓝色", change: "修改",
    slider: "修改前后：显示多少修改后的图片", before: "修改前", after: "修改后",
    region: "显示修改的区域", save: "保存图片", unchanged: "没有任何修改。",
    evidence: "依据", noEvidence: "回答所依据的条目会显示在这里。",
    closedBook: "未使用知识库的回答", restsOn: "回答依据", alsoRead: "也读过，但未引用",
    absent: "知识库中没有合适的内容。", noExamples: "这次修改不需要知识库中的图片。", confidence: (c) => `置信度 ${c}`,
    found: (n) => `找到 ${n} 个条目`, nothing: "没有找到。", score: "分数",
    matchedPicture: "图片相符", matchedText: "文字相符",
    working: "处理中……", answered: "回答完毕。", closedHint: "检索已关闭：不查知识库。",
    close: "关闭", like: "查找相似的", askIt: "就此提问", remove: "删除",
    sureRemove: (id) => `从知识库中删除条目“${id}”吗？`, removed: "已删除。",
    texts: "文字（形如“键: 值”的一行是一条可以提问的事实）", textsHint: "名称: 虎斑猫\n眼睛: 绿色",
    id: "编号（可省略）", add: "添加", added: (n) => `${n} 个条目已在知识库中。`,
    more: "显示更多", giveSomething: "请先输入文字或给出图片。", givePicture: "请先给出一张图片。",
    giveWords: "请先输入文字。", tokenTitle: "此服务器需要令牌", token: "令牌", goOn: "继续",
    tokenWhy: "由服务器的管理者提供，保存到此标签页关闭为止。",
    unreachable: "服务器没有响应，它还在运行吗？", notPicture: "这个文件不是图片。",
    entryOf: (n) => `引用 ${n}：显示条目`, stopped: "已停止。", noPicture: "没有图片",
  },
};

let language = localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

/** The words for a key in the language chosen. */
export function t(key, ...values) {
  const found = WORDS[language][key];
  return typeof found === "function" ? found(...values) : found;
}

export const currentLanguage = () => language;

export function chooseLanguage(chosen) {
  language = chosen;
  localStorage.setItem("language", chosen);
}

/** Put the words into every element below `root` that carries a key. */
export function translate(root) {
  for (const each of root.querySelectorAll("[data-t]")) each.textContent = t(each.dataset.t);
  for (const each of root.querySelectorAll("[data-t-label]")) each.setAttribute("aria-label", t(each.dataset.tLabel));
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}
