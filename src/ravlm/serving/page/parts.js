// The pieces that views are made of: elements, the place for a picture, answers with marks, evidence, an entry's dialog.

import { get, idOfCitation, pictureFile, send, shownAt } from "./api.js";
import { t } from "./words.js";

const LONGEST = 1280;

/** An element; `on...` are listeners, null and false are left out. Text is never read as HTML. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function say(words) {
  document.getElementById("status").textContent = words;
}

const isChinese = (text) => /[\u3400-\u9fff]/.test(text);
export const langOf = (text) => (isChinese(text) ? "zh" : "en");

/** What an entry's first line calls it, else its id. */
export function nameOf(entry) {
  const first = (entry.texts[0] ?? "").split("\n")[0];
  return first.match(/^[^:：]{1,20}[:：]\s*(.+)$/)?.[1] ?? entry.id;
}

function picture(entry, edge, alt) {
  if (!entry.image_url) return h("div", { class: "blank", "aria-hidden": "true" }, "“ ”");
  const image = h("img", { alt, loading: "lazy" });
  shownAt(entry.image_url, edge).then((address) => { image.src = address; });
  return image;
}

/** A labelled field. */
export function field(label, input, kind = "") {
  return h("label", { class: `field ${kind}` }, h("span", {}, label), input);
}

/** A place to drop, paste or choose a picture: `value` is its data URL, or null. */
export class PicturePlace {
  constructor(onChange = () => {}) {
    this.value = null;
    this.onChange = onChange;
    this.input = h("input", { type: "file", accept: "image/*", class: "visually-hidden", onchange: () => this.take(this.input.files[0]) });
    this.hint = h("span", { class: "hint" }, h("span", { class: "plus", "aria-hidden": "true" }, "+"), t("drop"));
    this.image = h("img", { alt: t("picture"), hidden: true });
    this.clear = h("button", { type: "button", class: "clear", "aria-label": t("takeAway"), hidden: true, onclick: () => this.set(null) }, "×");
    this.wrong = h("p", { class: "wrong", role: "alert" });
    this.label = h("label", { class: "drop" }, this.input, this.hint, this.image);
    this.element = h("div", { class: "place" }, this.label, this.clear, this.wrong);
    dropInto(this.label, (files) => this.take(files[0]));
  }

  async take(file) {
    if (!file) return;
    this.wrong.textContent = "";
    try {
      this.set(await shrunk(file));
    } catch {
      this.wrong.textContent = t("notPicture");
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
    this.onChange(value);
  }

  async showEntry(entry) {
    this.set(await shrunk(await pictureFile(entry.image_url)));
  }
}

export function dropInto(element, onFiles) {
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

/** A picture file as a data URL, no larger than is looked at: a phone's photo is sent in a tenth of its size. */
export async function shrunk(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = h("canvas", { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return file.type === "image/png" && scale === 1 ? canvas.toDataURL("image/png") : canvas.toDataURL("image/jpeg", 0.92);
}

/** A place for the evidence of an answer: cards, the cited ones first and numbered. */
export class EvidencePlace {
  constructor() {
    this.list = h("div", { class: "cards-column" }, h("p", { class: "soft" }, t("noEvidence")));
    this.element = h("aside", { class: "evidence", "aria-label": t("evidence") }, h("h2", {}, t("evidence")), this.list);
    this.cards = new Map();
  }

  show(answer, closed, without = t("absent")) {
    this.cards.clear();
    const numbers = new Map(answer.citations.map((id, place) => [id, place + 1]));
    const group = (title, hits) => hits.length
      ? [h("h3", {}, title), h("ol", { class: "plain" }, hits.map((hit) => h("li", {}, this.card(hit, numbers.get(hit.id)))))]
      : [];
    const cited = answer.citations.map((id) => answer.evidence.find((hit) => hit.id === id)).filter(Boolean);
    const rest = answer.evidence.filter((hit) => !numbers.has(hit.id));
    const none = closed ? t("closedHint") : without;
    const parts = [...group(t("restsOn"), cited), ...group(t("alsoRead"), rest)];
    this.list.replaceChildren(...(parts.length ? parts : [h("p", { class: "soft" }, none)]));
  }

  card(hit, number) {
    const text = hit.part.text || hit.texts[0] || "";
    const card = h("button", { type: "button", class: `evidence-card${number ? " cited" : ""}`, onclick: () => openEntry(hit.id) },
      picture(hit, 160, ""),
      h("span", { class: "words" },
        h("b", { lang: langOf(nameOf(hit)) }, number ? h("span", { class: "number" }, String(number)) : null, nameOf(hit)),
        h("span", { class: "snippet", lang: langOf(text) }, brief(text)),
        h("span", { class: "soft small" }, `${t("score")} ${hit.score.toFixed(2)}`)));
    this.cards.set(hit.id, card);
    return card;
  }

  /** Point at the card of an entry. */
  point(id) {
    for (const card of this.cards.values()) card.classList.remove("pointed");
    const card = this.cards.get(id);
    if (!card) return openEntry(id);
    card.classList.add("pointed");
    card.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    card.focus({ preventScroll: true });
  }
}

export function brief(text, most = 140) {
  const line = text.split("\n").map((part) => part.trim()).filter(Boolean).join(" · ");
  return line.length > most ? `${line.slice(0, most)}…` : line;
}

/** An answer's words with their marks as buttons; where it has none, the citations behind it. */
export function renderAnswer(place, answer, evidence, closed) {
  const point = (id) => { evidence.show(answer, closed); evidence.point(id); };
  const mark = (number, id) => h("button", { type: "button", class: "mark", "aria-label": t("entryOf", number), onclick: () => point(id) }, String(number));
  const parts = answer.text.split(/( ?\[\d{1,3}\])/);
  let marked = false;
  const nodes = parts.map((part) => {
    const number = part.match(/\[(\d+)\]/)?.[1];
    const id = number && answer.citations[number - 1];
    if (!id) return part;
    marked = true;
    return mark(number, id);
  });
  if (!marked) answer.citations.forEach((id, at) => nodes.push(mark(at + 1, id)));
  place.replaceChildren(...nodes);
  place.lang = langOf(answer.text);
  place.classList.toggle("absent", answer.abstained);
}

/** The answer of a chat completion's last chunk. */
export function answerOfChunk(text, chunk) {
  return { text, evidence: chunk.evidence, citations: chunk.citations.map(idOfCitation), abstained: chunk.abstained, confidence: chunk.confidence };
}

const followers = { like: () => {}, ask: () => {}, removed: () => {} };
/** What the entry's dialog does beside showing: the app says. */
export function follow(actions) {
  Object.assign(followers, actions);
}

export async function openEntry(id) {
  const dialog = document.getElementById("entry");
  const entry = await get(`/v1/entries/${encodeURIComponent(id)}`);
  const close = (then) => () => { dialog.close(); then?.(); };
  const facts = Object.entries(entry.metadata);
  dialog.replaceChildren(
    h("button", { type: "button", class: "clear", "aria-label": t("close"), onclick: close() }, "×"),
    entry.image_url ? h("figure", {}, picture(entry, 1024, nameOf(entry))) : "",
    h("div", { class: "entry-words" },
      h("h2", { id: "entry-name", lang: langOf(nameOf(entry)) }, nameOf(entry)),
      nameOf(entry) === entry.id ? null : h("p", { class: "soft small" }, entry.id),
      entry.texts.map((text) => h("p", { class: "entry-text", lang: langOf(text) }, text)),
      facts.length ? h("dl", {}, facts.map(([key, value]) => [h("dt", {}, key), h("dd", {}, typeof value === "string" ? value : JSON.stringify(value))])) : null,
      h("div", { class: "row" },
        entry.image_url ? h("button", { type: "button", class: "main", onclick: close(() => followers.ask(entry)) }, t("askIt")) : null,
        h("button", { type: "button", onclick: close(() => followers.like(entry)) }, t("like")),
        h("button", { type: "button", class: "danger", onclick: async () => {
          if (!confirm(t("sureRemove", entry.id))) return;
          await send("DELETE", `/v1/entries/${encodeURIComponent(entry.id)}`);
          say(t("removed"));
          close(() => followers.removed(entry))();
        } }, t("remove")))));
  if (!dialog.open) dialog.showModal();
}

/** A card of the gallery: an entry, or a hit with its score. What has no name but an id is shown by what it says. */
export function galleryCard(entry) {
  const matched = entry.part && (entry.part.modality === "image" ? t("matchedPicture") : t("matchedText"));
  const text = entry.part?.text || entry.texts[0] || "";
  const name = nameOf(entry) === entry.id && entry.image_url && text ? brief(text, 60) : nameOf(entry);
  return h("li", {}, h("button", { type: "button", class: "tile", onclick: () => openEntry(entry.id) },
    entry.image_url ? picture(entry, 480, "") : h("span", { class: "quote", lang: langOf(text) }, brief(text, 110)),
    h("span", { class: "tile-name", lang: langOf(name) }, name),
    entry.part ? h("span", { class: "soft small" }, `${entry.score.toFixed(2)} · ${matched}`) : null));
}
