// Components of the views: elements, the image input, answers with citation marks, evidence, the entry dialog.

import { fetchImage, get, imageSource, readCitation, send } from "./api.js";
import { t } from "./i18n.js";

const MAX_EDGE = 1280;
/** Below this confidence, recognized words are doubtful: answers are not taken from them. */
const DOUBTFUL = 0.8;

/** Create an element. `on...` attributes are listeners; null, undefined and false are skipped. Text is never parsed as HTML. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Announce a text to screen readers. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}

const isChinese = (text) => /[\u3400-\u9fff]/.test(text);
export const langOf = (text) => (isChinese(text) ? "zh" : "en");

/** Return the name in an entry's first line, else its id. */
export function nameOf(entry) {
  const firstLine = (entry.texts[0] ?? "").split("\n")[0];
  return firstLine.match(/^[^:：]{1,20}[:：]\s*(.+)$/)?.[1] ?? entry.id;
}

function entryImage(entry, edge, alt) {
  if (!entry.image_url) return h("div", { class: "blank", "aria-hidden": "true" }, "“ ”");
  // A page or a portrait is cropped at its bottom, where its title or its face is not.
  const image = h("img", { alt, loading: "lazy", onload: () => image.classList.toggle("tall", image.naturalHeight > image.naturalWidth) });
  imageSource(entry.image_url, edge).then((address) => { image.src = address; });
  return image;
}

/** Create a labelled field. */
export function field(label, input, kind = "") {
  return h("label", { class: `field ${kind}` }, h("span", {}, label), input);
}

/** An area to drop, paste or choose an image. `value` is its data URL, or null. */
export class ImageInput {
  constructor() {
    this.value = null;
    this.input = h("input", { type: "file", accept: "image/*", class: "visually-hidden", onchange: () => this.load(this.input.files[0]) });
    this.hint = h("span", { class: "hint" }, h("span", { class: "plus", "aria-hidden": "true" }, "+"), t("drop"));
    this.image = h("img", { alt: t("image"), hidden: true });
    this.clear = h("button", { type: "button", class: "clear", "aria-label": t("clearImage"), hidden: true, onclick: () => this.set(null) }, "×");
    this.error = h("p", { class: "error", role: "alert" });
    this.label = h("label", { class: "drop" }, this.input, this.hint, this.image);
    this.element = h("div", { class: "image-input" }, this.label, this.clear, this.error);
    acceptDrops(this.label, (files) => this.load(files[0]));
  }

  async load(file) {
    if (!file) return;
    this.error.textContent = "";
    try {
      this.set(await toDataUrl(file));
    } catch {
      this.error.textContent = t("notAnImage");
    }
    this.input.value = "";
  }

  set(value) {
    this.value = value;
    this.image.hidden = this.clear.hidden = !value;
    this.hint.hidden = Boolean(value);
    this.label.classList.toggle("filled", Boolean(value));
    if (value) this.image.src = value;
    else this.image.removeAttribute("src");
  }

  async loadEntry(entry) {
    this.set(await toDataUrl(await fetchImage(entry.image_url)));
  }
}

export function acceptDrops(element, onFiles) {
  for (const kind of ["dragenter", "dragover"]) {
    element.addEventListener(kind, (event) => { event.preventDefault(); element.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) element.addEventListener(kind, () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    const files = [...event.dataTransfer.files];
    if (files.length) onFiles(files);
  });
}

/** Return an image file as a data URL, downscaled: a phone's photo shrinks to a tenth of its size. */
export async function toDataUrl(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, MAX_EDGE / Math.max(bitmap.width, bitmap.height));
  const canvas = h("canvas", { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return file.type === "image/png" && scale === 1 ? canvas.toDataURL("image/png") : canvas.toDataURL("image/jpeg", 0.92);
}

/** The evidence of an answer: cards, the cited ones first and numbered. */
export class EvidencePanel {
  constructor() {
    this.list = h("div", { class: "cards-column" }, h("p", { class: "soft" }, t("noEvidence")));
    this.element = h("aside", { class: "evidence", "aria-label": t("evidence") }, h("h2", {}, t("evidence")), this.list);
    this.cards = new Map();
  }

  show(answer, closedBook, emptyText = t("noMatch")) {
    this.cards.clear();
    this.parts = new Map((answer.sources ?? []).map((source) => [source.entry_id, source.part]));
    const numbers = new Map(answer.citations.map((id, index) => [id, index + 1]));
    const group = (title, hits) => hits.length
      ? [h("h3", {}, title), h("ol", { class: "plain" }, hits.map((hit) => h("li", {}, this.card(hit, numbers.get(hit.id)))))]
      : [];
    const cited = answer.citations.map((id) => answer.evidence.find((hit) => hit.id === id)).filter(Boolean);
    const uncited = answer.evidence.filter((hit) => !numbers.has(hit.id));
    const parts = [...group(t("cited"), cited), ...group(t("alsoRead"), uncited)];
    const empty = h("p", { class: "soft" }, closedBook ? t("retrievalOff") : emptyText);
    this.list.replaceChildren(...(parts.length ? parts : [empty]));
  }

  card(hit, number) {
    const part = this.parts.get(hit.id) ?? hit.part;
    const text = part.text || hit.part.text || hit.texts[0] || "";
    const card = h("button", { type: "button", class: `evidence-card${number ? " cited" : ""}`, onclick: () => openEntry(hit.id, part.box) },
      entryImage(hit, 160, ""),
      h("span", { class: "words" },
        h("b", { lang: langOf(nameOf(hit)) }, number ? h("span", { class: "number" }, String(number)) : null, nameOf(hit)),
        part.page ? h("span", { class: "soft small" }, t("page", part.page)) : null,
        h("span", { class: "snippet", lang: langOf(text) }, shorten(text))));
    this.cards.set(hit.id, card);
    return card;
  }

  /** Highlight the card of an entry. */
  highlight(id) {
    for (const card of this.cards.values()) card.classList.remove("highlighted");
    const card = this.cards.get(id);
    if (!card) return openEntry(id, this.parts.get(id)?.box);
    card.classList.add("highlighted");
    card.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    card.focus({ preventScroll: true });
  }
}

/** Return the first text of an entry, or the beginning of what is written on its image. */
export function textOf(entry) {
  return entry.texts[0] ?? (entry.regions ?? []).map((region) => region.text).join(" ").slice(0, 200);
}

/** Show an entry's image with a box of it highlighted. */
function highlightedImage(entry, box) {
  const mark = h("span", { class: "highlight", role: "img", "aria-label": t("highlight") });
  const [left, top, right, bottom] = box.map((share) => share * 100);
  Object.assign(mark.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
  return h("span", { class: "page-image" }, entryImage(entry, 2048, nameOf(entry)), mark);
}

/** Show what is written on an entry's image, one region on a line; doubtful words are set apart. */
function writtenText(regions) {
  const lines = (regions ?? []).filter((region) => region.text);
  if (!lines.length) return null;
  return h("div", { class: "entry-text" }, h("h3", {}, t("written")),
    lines.map((region) => h("div", { lang: langOf(region.text), class: region.confidence < DOUBTFUL ? "doubtful" : "" }, region.text)));
}

/** Return a text on one line of at most `maxLength` characters, without the marks of Markdown's headings and tables. */
export function shorten(text, maxLength = 140) {
  const lines = text.split("\n").map((part) => part.trim().replace(/^#{1,6} +|^\| *| *\|$/g, "")).filter((part) => /[^\s|:-]/.test(part));
  const line = lines.join(" · ");
  return line.length > maxLength ? `${line.slice(0, maxLength)}…` : line;
}

/** Show an answer with its citation marks as buttons; without marks, the citations follow the text. */
export function renderAnswer(element, answer, evidence, closedBook) {
  const highlight = (id) => { evidence.show(answer, closedBook); evidence.highlight(id); };
  const mark = (number, id) => h("button", { type: "button", class: "mark", "aria-label": t("citation", number), onclick: () => highlight(id) }, String(number));
  const parts = answer.text.split(/( ?\[\d{1,3}\])/);
  let hasMarks = false;
  const nodes = parts.map((part) => {
    const number = part.match(/\[(\d+)\]/)?.[1];
    const id = number && answer.citations[number - 1];
    if (!id) return part;
    hasMarks = true;
    return mark(number, id);
  });
  if (!hasMarks) answer.citations.forEach((id, index) => nodes.push(mark(index + 1, id)));
  element.replaceChildren(...nodes);
  element.lang = langOf(answer.text);
  element.classList.toggle("abstained", answer.abstained);
}

/** Return the answer in the last chunk of a chat completion. */
export function answerOfChunk(text, chunk) {
  return { text, evidence: chunk.evidence, citations: chunk.citations.map((url) => readCitation(url).id), sources: chunk.sources, abstained: chunk.abstained, confidence: chunk.confidence };
}

const entryActions = { findSimilar: () => {}, ask: () => {}, removed: () => {} };
/** Set what the buttons of the entry dialog do. */
export function onEntryAction(actions) {
  Object.assign(entryActions, actions);
}

/** Open an entry; `box` is the part of its image to highlight: left, top, right, bottom, 0 to 1. */
export async function openEntry(id, box = null) {
  const dialog = document.getElementById("entry");
  const entry = await get(`/v1/entries/${encodeURIComponent(id)}`);
  const close = (then) => () => { dialog.close(); then?.(); };
  const metadata = Object.entries(entry.metadata);
  dialog.replaceChildren(
    h("button", { type: "button", class: "clear", "aria-label": t("close"), onclick: close() }, "×"),
    entry.image_url ? h("figure", { class: box ? "page" : "" }, box ? highlightedImage(entry, box) : entryImage(entry, 1024, nameOf(entry))) : "",
    h("div", { class: "entry-words" },
      h("h2", { id: "entry-name", lang: langOf(nameOf(entry)) }, nameOf(entry)),
      nameOf(entry) === entry.id ? null : h("p", { class: "soft small" }, entry.id),
      entry.texts.map((text) => h("p", { class: "entry-text", lang: langOf(text) }, text)),
      writtenText(entry.regions),
      metadata.length ? h("dl", {}, metadata.map(([key, value]) => [h("dt", {}, key), h("dd", {}, typeof value === "string" ? value : JSON.stringify(value))])) : null,
      h("div", { class: "row" },
        entry.image_url ? h("button", { type: "button", class: "main", onclick: close(() => entryActions.ask(entry)) }, t("askAbout")) : null,
        h("button", { type: "button", onclick: close(() => entryActions.findSimilar(entry)) }, t("findSimilar")),
        h("button", { type: "button", class: "danger", onclick: async () => {
          if (!confirm(t("confirmRemove", entry.id))) return;
          await send("DELETE", `/v1/entries/${encodeURIComponent(entry.id)}`);
          announce(t("removed"));
          close(() => entryActions.removed(entry))();
        } }, t("remove")))));
  if (!dialog.open) dialog.showModal();
  const mark = dialog.querySelector(".highlight");
  mark?.previousSibling.addEventListener("load", () => {
    const figure = mark.closest("figure");
    figure.scrollTop = mark.offsetTop + mark.offsetHeight / 2 - figure.clientHeight / 2;
  }, { once: true });
}

/** Show how far a hit is above random entries of the base: five signs, or nothing if it is not known. */
function relevanceBar(hit) {
  if (hit.relevance === undefined || hit.relevance === null) return null;
  const filled = Math.round(5 * hit.relevance);
  return h("span", { role: "img", "aria-label": `${t("relevance")}: ${filled}/5` }, "▰".repeat(filled) + "▱".repeat(5 - filled) + " ");
}

/** Create a gallery card of an entry or a hit. An entry whose only name is its id is titled by its text. */
export function galleryCard(entry) {
  const matched = entry.part && (entry.part.modality === "image" ? t("matchedImage") : t("matchedText"));
  const text = entry.part?.text || textOf(entry);
  const name = nameOf(entry) === entry.id && entry.image_url && text ? shorten(text, 60) : nameOf(entry);
  return h("li", {}, h("button", { type: "button", class: "tile", onclick: () => openEntry(entry.id, entry.part?.box) },
    entry.image_url ? entryImage(entry, 480, "") : h("span", { class: "quote", lang: langOf(text) }, shorten(text, 110)),
    h("span", { class: "tile-name", lang: langOf(name) }, name),
    entry.part ? h("span", { class: "soft small" }, relevanceBar(entry), matched, entry.part.page ? ` · ${t("page", entry.part.page)}` : "") : null));
}
