// The texts of the page, in English and Chinese.

const MESSAGES = {
  en: {
    skip: "Skip to the content", tabs: "Tasks", theme: "Switch between light and dark", retrieval: "Retrieval",
    search: "Search", ask: "Ask", caption: "Caption", tell: "Story", edit: "Edit", entries: "Entries",
    searchTitle: "Search by text, by image, or by both", askTitle: "Ask, and see the evidence behind the answer",
    captionTitle: "Describe an image", tellTitle: "Write a story with evidence for every sentence",
    editTitle: "Edit an image by instruction", entriesTitle: "Entries of the knowledge base",
    api: "API documentation", about: (n, encoder, generator) => `${n} ${n === "1" ? "entry" : "entries"} · encoder: ${encoder} · generator: ${generator}`,
    searchText: "Text", searchHint: "a red motorcycle in a garage", find: "Search",
    image: "Image", drop: "Drop an image here, paste one, or choose a file", clearImage: "Remove the image",
    dropMany: "Drop images here, or choose files",
    filters: "Filters", modality: "Match", any: "images and texts", imageParts: "images", textParts: "texts",
    where: "Filter on metadata", whereHint: "year >= 1990 and kind in [\"animal\"]", count: "Number of hits",
    question: "Question", questionHint: "What is the animal in the picture?", send: "Ask", newChat: "New chat",
    prompt: "Topic", promptHint: "the harbor at night", describe: "Describe", write: "Write",
    instruction: "Instruction", instructionHint: "make the sky blue", apply: "Apply",
    slider: "Before and after: how much of the edited image is shown", before: "before", after: "after",
    region: "Show the edited region", save: "Save the image", unchanged: "Nothing was changed.",
    evidence: "Evidence", noEvidence: "Evidence appears here.",
    closedBook: "Answered without evidence", cited: "Cited", alsoRead: "Also read, not cited",
    noMatch: "Nothing in the knowledge base matches.", noExamples: "This edit needed no images from the knowledge base.",
    found: (n) => (n === 1 ? "1 entry found" : `${n} entries found`), nothing: "Nothing found.", relevance: "relevance",
    matchedImage: "image match", matchedText: "text match",
    working: "Working …", answered: "The answer is ready.", retrievalOff: "Retrieval is off: the knowledge base is not used.",
    close: "Close", findSimilar: "Find similar", askAbout: "Ask about it", remove: "Remove",
    confirmRemove: (id) => `Remove the entry “${id}” from the knowledge base?`, removed: "Removed.",
    texts: "Text (each line “key: value” becomes a fact you can ask for)", textsHint: "Name: tabby cat\nEyes: green",
    id: "ID (optional)", add: "Add", total: (n) => (n === 1 ? "1 entry in the knowledge base" : `${n} entries in the knowledge base`),
    more: "Show more", needTextOrImage: "Enter a text or choose an image first.", needImage: "Choose an image first.",
    needText: "Enter a text first.", tokenTitle: "This server requires a token", token: "Token", signIn: "Continue",
    tokenHint: "Ask the operator of the server for it. It is kept until you close this tab.",
    unreachable: "The server does not respond. Check that it is running.", notAnImage: "This file is not an image.",
    citation: (n) => `Citation ${n}: show the entry`, page: (n) => `page ${n}`, written: "Written on the image", highlight: "The cited place",
  },
  zh: {
    skip: "跳到正文", tabs: "功能", theme: "切换浅色和深色", retrieval: "检索",
    search: "检索", ask: "提问", caption: "描述", tell: "故事", edit: "编辑", entries: "条目",
    searchTitle: "用文字、图片或图文组合检索", askTitle: "提问，并查看回答依据",
    captionTitle: "描述一张图片", tellTitle: "写一个故事，每句话都有依据",
    editTitle: "用一句话编辑图片", entriesTitle: "知识库条目",
    api: "API 文档", about: (n, encoder, generator) => `${n} 个条目 · 编码器：${encoder} · 生成器：${generator}`,
    searchText: "文字", searchHint: "车库里的红色摩托车", find: "检索",
    image: "图片", drop: "将图片拖到此处、粘贴，或选择文件", clearImage: "移除图片",
    dropMany: "将图片拖到此处，或选择多个文件",
    filters: "筛选", modality: "匹配范围", any: "图片和文字", imageParts: "图片", textParts: "文字",
    where: "元数据条件", whereHint: "year >= 1990 and kind in [\"animal\"]", count: "结果数量",
    question: "问题", questionHint: "图片中的动物是什么？", send: "提问", newChat: "新对话",
    prompt: "主题", promptHint: "夜晚的港口", describe: "描述", write: "生成",
    instruction: "编辑指令", instructionHint: "将图片中的天空变成蓝色", apply: "应用",
    slider: "编辑前后对比：显示多少编辑后的图片", before: "编辑前", after: "编辑后",
    region: "显示编辑区域", save: "保存图片", unchanged: "图片没有改动。",
    evidence: "依据", noEvidence: "依据会显示在这里。",
    closedBook: "未使用知识库的回答", cited: "引用的条目", alsoRead: "已读取但未引用",
    noMatch: "知识库中没有匹配的内容。", noExamples: "本次编辑没有用到知识库中的图片。",
    found: (n) => `找到 ${n} 个条目`, nothing: "没有找到匹配的条目。", relevance: "相关度",
    matchedImage: "图片匹配", matchedText: "文字匹配",
    working: "处理中……", answered: "回答完毕。", retrievalOff: "检索已关闭，不使用知识库。",
    close: "关闭", findSimilar: "查找相似条目", askAbout: "就此提问", remove: "删除",
    confirmRemove: (id) => `确定要从知识库中删除条目“${id}”吗？`, removed: "已删除。",
    texts: "文字（每行“键: 值”都是一条可以提问的事实）", textsHint: "名称: 虎斑猫\n眼睛: 绿色",
    id: "ID（可选）", add: "添加", total: (n) => `知识库共 ${n} 个条目`,
    more: "显示更多", needTextOrImage: "请先输入文字或选择图片。", needImage: "请先选择一张图片。",
    needText: "请先输入文字。", tokenTitle: "访问此服务器需要令牌", token: "令牌", signIn: "继续",
    tokenHint: "请向服务器管理员索取。令牌会保留到此标签页关闭为止。",
    unreachable: "服务器没有响应，请检查它是否在运行。", notAnImage: "该文件不是图片。",
    citation: (n) => `引用 ${n}：查看条目`, page: (n) => `第 ${n} 页`, written: "图片上的文字", highlight: "引用的位置",
  },
};

let language = localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

/** Return the text of a key in the current language. */
export function t(key, ...values) {
  const message = MESSAGES[language][key];
  return typeof message === "function" ? message(...values) : message;
}

export const currentLanguage = () => language;

export function setLanguage(code) {
  language = code;
  localStorage.setItem("language", code);
}

/** Translate every element below `root` with a data-t or data-t-label attribute. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}
