// The views: search, ask, caption, tell, edit, entries. Each is made anew when the language changes.

import { get, send, stream } from "./api.js";
import { EvidencePlace, PicturePlace, answerOfChunk, dropInto, field, galleryCard, h, langOf, renderAnswer, say, shrunk } from "./parts.js";
import { t } from "./words.js";

export const retrieval = () => document.getElementById("retrieval").checked;
const closedBook = () => (retrieval() ? {} : { k: 0 });

/** A form with a button that is busy while `work` goes on, and a line for what went wrong; below its last stack of fields,
 * where it has one. */
function form(label, work, ...fields) {
  const wrong = h("p", { class: "wrong", role: "alert" });
  const button = h("button", { class: "main" }, label);
  const element = h("form", { class: "form", onsubmit: async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    wrong.textContent = "";
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    say(t("working"));
    try {
      await work();
    } catch (error) {
      wrong.textContent = error.message;
    }
    button.disabled = false;
    button.removeAttribute("aria-busy");
  } }, ...fields);
  (element.querySelector(".stack") ?? element).append(h("div", { class: "row" }, button), wrong);
  return element;
}

function need(value, sentence) {
  if (!value) throw new Error(sentence);
  return value;
}

const title = (words) => h("h1", {}, words);

export function searchView() {
  const place = new PicturePlace();
  const words = h("input", { type: "search", name: "text", placeholder: t("searchHint"), maxlength: 2000 });
  const modality = h("select", { name: "modality" }, ["any", "image", "text"].map((each) => h("option", { value: each }, t(each))));
  const where = h("input", { name: "where", placeholder: t("whereHint"), spellcheck: "false", autocapitalize: "off" });
  const count = h("input", { name: "k", type: "number", min: 1, max: 100, value: 12 });
  const found = h("p", { class: "soft found" });
  const hits = h("ol", { class: "gallery plain" });
  const search = form(t("find"), async () => {
    const body = { k: Number(count.value) || 12, modality: modality.value };
    if (words.value.trim()) body.text = words.value.trim();
    if (place.value) body.image = place.value;
    need(body.text || body.image, t("giveSomething"));
    if (where.value.trim()) body.where = where.value.trim();
    const answer = await send("POST", "/v1/search", body);
    hits.replaceChildren(...answer.hits.map(galleryCard));
    found.textContent = answer.hits.length ? t("found", answer.hits.length) : t("nothing");
    say(found.textContent);
  }, h("div", { class: "two" }, place.element, h("div", { class: "stack" },
    field(t("searchWords"), words),
    h("details", {}, h("summary", {}, t("filters")), h("div", { class: "filters" },
      field(t("modality"), modality), field(t("count"), count), field(t("where"), where, "wide"))))));
  const element = h("section", {}, title(t("searchTitle")), search, found, hits);
  return { element, place, run: () => search.requestSubmit() };
}

/** `kept`: what an earlier ask view had said, to go on with. */
export function askView(kept) {
  const evidence = new EvidencePlace();
  let messages = kept?.messages ?? [];
  let shown = kept?.shown ?? null;
  const place = new PicturePlace();
  const talk = h("ol", { class: "talk plain", "aria-live": "off" }, kept?.turns);
  const question = h("textarea", { name: "question", rows: 2, placeholder: t("questionHint"), maxlength: 5000, onkeydown: (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); asking.requestSubmit(); }
  } });
  const asking = form(t("send"), async () => {
    const words = need(question.value.trim(), t("giveWords"));
    const closed = !retrieval();
    const content = place.value && place.value !== shown
      ? [{ type: "text", text: words }, { type: "image_url", image_url: { url: place.value } }]
      : words;
    shown = place.value;
    const reply = h("div", { class: "reply" });
    talk.append(
      h("li", { class: "turn" },
        h("div", { class: "said", lang: langOf(words) }, content === words ? null : h("img", { src: place.value, alt: t("picture") }), words),
        closed ? h("span", { class: "badge" }, t("closedBook")) : null, reply));
    question.value = "";
    reply.textContent = t("working");
    reply.classList.add("working");
    let said = "";
    const asked = [...messages, { role: "user", content }];
    try {
      await stream("/v1/chat/completions", { model: "ravlm", messages: asked, ...closedBook() }, (chunk) => {
        const piece = chunk.choices[0]?.delta.content;
        if (piece) { said += piece; reply.textContent = said; reply.classList.remove("working"); }
        if (chunk.evidence) {
          const answer = answerOfChunk(said, chunk);
          renderAnswer(reply, answer, evidence, closed);
          evidence.show(answer, closed);
        }
      });
    } catch (error) {
      question.value = words;
      shown = null;
      talk.lastChild.remove();
      throw error;
    }
    messages = [...asked, { role: "assistant", content: said }];
    reply.scrollIntoView({ block: "nearest" });
    say(`${t("answered")} ${said}`);
  }, h("div", { class: "two" }, place.element, h("div", { class: "stack" }, field(t("question"), question))));
  const again = h("button", { type: "button", class: "quiet", onclick: () => {
    messages = []; shown = null; talk.replaceChildren(); place.set(null); question.focus();
  } }, t("again"));
  const element = h("section", {}, title(t("askTitle")),
    h("div", { class: "beside" }, h("div", {}, talk, asking), evidence.element));
  asking.querySelector(".row").append(again);
  const keep = () => ({ messages, shown, turns: [...talk.children] });
  return { element, place, keep, focus: () => question.focus() };
}

/** Caption and tell: a picture and perhaps words, a streamed answer with its evidence. */
function writingView(verb, label, words) {
  const evidence = new EvidencePlace();
  const place = new PicturePlace();
  const told = h("p", { class: "story" });
  const badge = h("span", { class: "badge", hidden: true }, t("closedBook"));
  const writing = form(label, async () => {
    const body = { ...closedBook() };
    if (place.value) body.image = place.value;
    if (words?.value.trim()) body.prompt = words.value.trim();
    need(words ? body.image || body.prompt : body.image, words ? t("giveSomething") : t("givePicture"));
    const closed = !retrieval();
    badge.hidden = !closed;
    told.textContent = "";
    await stream(`/v1/${verb}`, body, (event) => {
      if (event.piece) told.textContent += event.piece;
      if (event.answer) {
        renderAnswer(told, event.answer, evidence, closed);
        evidence.show(event.answer, closed);
        say(`${t("answered")} ${event.answer.text}`);
      }
    });
  }, h("div", { class: "two" }, place.element, h("div", { class: "stack" }, words ? field(t("prompt"), words) : null)));
  const element = h("section", {}, title(t(`${verb}Title`)),
    h("div", { class: "beside" }, h("div", {}, writing, badge, told), evidence.element));
  return { element, place };
}

export const captionView = () => writingView("caption", t("describe"), null);
export const tellView = () => writingView("tell", t("tellIt"), h("input", { name: "prompt", placeholder: t("promptHint"), maxlength: 2000 }));

export function editView() {
  const evidence = new EvidencePlace();
  const place = new PicturePlace();
  const words = h("input", { name: "instruction", placeholder: t("instructionHint"), maxlength: 2000 });
  const result = h("div", {});
  const editing = form(t("change"), async () => {
    const body = { image: need(place.value, t("givePicture")), instruction: need(words.value.trim(), t("giveWords")), ...closedBook() };
    const done = await send("POST", "/v1/edit", body);
    result.replaceChildren(h("p", { class: "story", lang: langOf(done.understood) }, done.understood),
      done.region ? slider(place.value, done) : h("p", { class: "soft" }, t("unchanged")));
    evidence.show({ citations: [], evidence: done.evidence }, !retrieval(), t("noExamples"));
    say(done.understood);
  }, h("div", { class: "two" }, place.element, h("div", { class: "stack" }, field(t("instruction"), words))));
  const element = h("section", {}, title(t("editTitle")),
    h("div", { class: "beside" }, h("div", {}, editing, result), evidence.element));
  return { element, place };
}

/** Both pictures over each other, and a slider that says how much of the second is seen. */
function slider(before, done) {
  const after = h("img", { src: done.image, alt: t("after"), class: "after" });
  const region = h("img", { src: done.region, alt: "", class: "mask", hidden: true });
  const line = h("span", { class: "line", "aria-hidden": "true" });
  const range = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": t("slider"), oninput: () => set(range.value) });
  const set = (share) => {
    after.style.clipPath = `inset(0 0 0 ${share}%)`;
    line.style.left = `${share}%`;
  };
  const show = h("input", { type: "checkbox", onchange: () => { region.hidden = !show.checked; } });
  set(50);
  return h("div", {},
    h("div", { class: "slider" }, h("img", { src: before, alt: t("before") }), after, region, line, range,
      h("span", { class: "corner left", "aria-hidden": "true" }, t("before")), h("span", { class: "corner right", "aria-hidden": "true" }, t("after"))),
    h("div", { class: "row" }, h("label", { class: "check" }, show, h("span", {}, t("region"))),
      h("a", { class: "button", href: done.image, download: "edited.png" }, t("save"))));
}

export function entriesView(onChange) {
  let next = null;
  const list = h("ol", { class: "gallery plain" });
  const more = h("button", { type: "button", hidden: true, onclick: () => load(false) }, t("more"));
  const total = h("p", { class: "soft found" });
  async function load(fresh) {
    const page = await get(`/v1/entries?limit=48${fresh || !next ? "" : `&after=${encodeURIComponent(next)}`}`);
    if (fresh) list.replaceChildren();
    list.append(...page.entries.map(galleryCard));
    next = page.next;
    more.hidden = !next;
    total.textContent = t("added", page.total);
  }
  let files = [];
  const chosen = h("ul", { class: "chosen plain" });
  const input = h("input", { type: "file", accept: "image/*", multiple: true, class: "visually-hidden", onchange: () => take([...input.files]) });
  const drop = h("label", { class: "drop low" }, input, h("span", { class: "hint" }, h("span", { class: "plus", "aria-hidden": "true" }, "+"), t("pictures")));
  const wrong = h("p", { class: "wrong", role: "alert" });
  async function take(some) {
    wrong.textContent = "";
    for (const file of some) {
      try {
        files.push({ name: file.name.replace(/\.[^.]+$/, ""), url: await shrunk(file) });
      } catch {
        wrong.textContent = `${file.name}: ${t("notPicture")}`;
      }
    }
    chosen.replaceChildren(...files.map((file) => h("li", {}, h("img", { src: file.url, alt: file.name }))));
    input.value = "";
  }
  dropInto(drop, take);
  const texts = h("textarea", { rows: 3, placeholder: t("textsHint"), maxlength: 20000 });
  const id = h("input", { maxlength: 500, autocapitalize: "off", spellcheck: "false" });
  const adding = form(t("add"), async () => {
    const words = texts.value.trim();
    need(files.length || words, t("giveSomething"));
    const one = { ...(words ? { texts: [words] } : {}), ...(id.value.trim() ? { id: id.value.trim() } : {}) };
    const entries = files.length ? files.map((file) => ({ ...(files.length > 1 ? { id: file.name } : {}), ...one, image: file.url })) : [one];
    if (files.length > 1 && one.id) entries.forEach((entry, at) => { entry.id = `${one.id}-${at + 1}`; });
    for (let at = 0; at < entries.length; at += 16) {
      const done = await send("POST", "/v1/entries", { entries: entries.slice(at, at + 16) });
      if (done.quarantined.length) wrong.textContent = done.quarantined.map((item) => `${item.id}: ${item.reason}`).join(" ");
    }
    files = [];
    chosen.replaceChildren();
    texts.value = id.value = "";
    await load(true);
    onChange();
    say(total.textContent);
  }, drop, chosen, wrong, h("div", { class: "pair" }, field(t("texts"), texts), field(t("id"), id)));
  const element = h("section", {}, title(t("entriesTitle")), h("details", { class: "adding", open: true }, h("summary", {}, t("add")), adding), total, list, h("div", { class: "row centre" }, more));
  return { element, shown: () => load(true) };
}
