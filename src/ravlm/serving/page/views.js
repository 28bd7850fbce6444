// The views: search, ask, caption, tell, edit, entries. Each is rebuilt when the language changes.

import { get, send, stream } from "./api.js";
import { EvidencePanel, ImageInput, acceptDrops, announce, answerOfChunk, field, galleryCard, h, langOf, renderAnswer, toDataUrl } from "./components.js";
import { t } from "./i18n.js";

const retrievalOn = () => document.getElementById("retrieval").checked;
const retrievalOptions = () => (retrievalOn() ? {} : { k: 0 });

/** A form with a button that is busy while `submit` runs, and a line for errors, below its last stack of fields if any. */
function form(label, submit, ...fields) {
  const error = h("p", { class: "error", role: "alert" });
  const button = h("button", { class: "main" }, label);
  const element = h("form", { class: "form", onsubmit: async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    error.textContent = "";
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    announce(t("working"));
    try {
      await submit();
    } catch (failure) {
      error.textContent = failure.message;
    }
    button.disabled = false;
    button.removeAttribute("aria-busy");
  } }, ...fields);
  (element.querySelector(".stack") ?? element).append(h("div", { class: "row" }, button), error);
  return element;
}

function required(value, message) {
  if (!value) throw new Error(message);
  return value;
}

const title = (text) => h("h1", {}, text);
const withImage = (imageInput, ...fields) => h("div", { class: "with-image" }, imageInput.element, h("div", { class: "stack" }, ...fields));
const withEvidence = (evidence, ...content) => h("div", { class: "with-evidence" }, h("div", {}, ...content), evidence.element);

export function searchView() {
  const imageInput = new ImageInput();
  const text = h("input", { type: "search", name: "text", placeholder: t("searchHint"), maxlength: 2000 });
  const options = [["any", t("any")], ["image", t("imageParts")], ["text", t("textParts")]];
  const modality = h("select", { name: "modality" }, options.map(([value, label]) => h("option", { value }, label)));
  const where = h("input", { name: "where", placeholder: t("whereHint"), spellcheck: "false", autocapitalize: "off" });
  const count = h("input", { name: "k", type: "number", min: 1, max: 100, value: 12 });
  const summary = h("p", { class: "soft summary" });
  const gallery = h("ol", { class: "gallery plain" });
  const searchForm = form(t("find"), async () => {
    const body = { k: Number(count.value) || 12, modality: modality.value };
    if (text.value.trim()) body.text = text.value.trim();
    if (imageInput.value) body.image = imageInput.value;
    required(body.text || body.image, t("needTextOrImage"));
    if (where.value.trim()) body.where = where.value.trim();
    const { hits } = await send("POST", "/v1/search", { ...body, relevance: true });
    gallery.replaceChildren(...hits.map(galleryCard));
    summary.textContent = hits.length ? t("found", hits.length) : t("nothing");
    announce(summary.textContent);
  }, withImage(imageInput, field(t("searchText"), text),
    h("details", {}, h("summary", {}, t("filters")), h("div", { class: "filters" },
      field(t("modality"), modality), field(t("count"), count), field(t("where"), where, "wide")))));
  const element = h("section", {}, title(t("searchTitle")), searchForm, summary, gallery);
  return { element, imageInput, run: () => searchForm.requestSubmit() };
}

/** `state` is that of an earlier ask view, whose conversation goes on. */
export function askView(state) {
  const evidence = new EvidencePanel();
  const imageInput = new ImageInput();
  let messages = state?.messages ?? [];
  let sentImage = state?.sentImage ?? null;
  const conversation = h("ol", { class: "conversation plain", "aria-live": "off" }, state?.turns);
  const question = h("textarea", { name: "question", rows: 2, placeholder: t("questionHint"), maxlength: 5000, onkeydown: (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); askForm.requestSubmit(); }
  } });
  const askForm = form(t("send"), async () => {
    const text = required(question.value.trim(), t("needText"));
    const closedBook = !retrievalOn();
    const image = imageInput.value !== sentImage ? imageInput.value : null;
    const content = image ? [{ type: "text", text }, { type: "image_url", image_url: { url: image } }] : text;
    sentImage = imageInput.value;
    const reply = h("div", { class: "reply working" }, t("working"));
    const bubble = h("div", { class: "bubble", lang: langOf(text) }, image ? h("img", { src: image, alt: t("image") }) : null, text);
    conversation.append(h("li", { class: "turn" }, bubble, closedBook ? h("span", { class: "badge" }, t("closedBook")) : null, reply));
    question.value = "";
    let output = "";
    const prompt = [...messages, { role: "user", content }];
    try {
      await stream("/v1/chat/completions", { model: "ravlm", messages: prompt, ...retrievalOptions() }, (chunk) => {
        const piece = chunk.choices[0]?.delta.content;
        if (piece) { output += piece; reply.textContent = output; reply.classList.remove("working"); }
        if (chunk.evidence) {
          const answer = answerOfChunk(output, chunk);
          renderAnswer(reply, answer, evidence, closedBook);
          evidence.show(answer, closedBook);
        }
      });
    } catch (failure) {
      question.value = text;
      sentImage = null;
      conversation.lastChild.remove();
      throw failure;
    }
    messages = [...prompt, { role: "assistant", content: output }];
    reply.scrollIntoView({ block: "nearest" });
    announce(`${t("answered")} ${output}`);
  }, withImage(imageInput, field(t("question"), question)));
  const newChat = h("button", { type: "button", class: "quiet", onclick: () => {
    messages = []; sentImage = null; conversation.replaceChildren(); imageInput.set(null); question.focus();
  } }, t("newChat"));
  askForm.querySelector(".row").append(newChat);
  const element = h("section", {}, title(t("askTitle")), withEvidence(evidence, conversation, askForm));
  return { element, imageInput, state: () => ({ messages, sentImage, turns: [...conversation.children] }), focus: () => question.focus() };
}

/** Caption and tell: an image and, with `prompt`, a topic; a streamed answer with its evidence. */
function writingView(verb, label, prompt) {
  const evidence = new EvidencePanel();
  const imageInput = new ImageInput();
  const output = h("p", { class: "story" });
  const badge = h("span", { class: "badge", hidden: true }, t("closedBook"));
  const writingForm = form(label, async () => {
    const body = { ...retrievalOptions() };
    if (imageInput.value) body.image = imageInput.value;
    if (prompt?.value.trim()) body.prompt = prompt.value.trim();
    required(body.image || body.prompt, prompt ? t("needTextOrImage") : t("needImage"));
    const closedBook = !retrievalOn();
    badge.hidden = !closedBook;
    output.textContent = "";
    await stream(`/v1/${verb}`, body, (event) => {
      if (event.piece) output.textContent += event.piece;
      if (event.answer) {
        renderAnswer(output, event.answer, evidence, closedBook);
        evidence.show(event.answer, closedBook);
        announce(`${t("answered")} ${event.answer.text}`);
      }
    });
  }, withImage(imageInput, prompt ? field(t("prompt"), prompt) : null));
  const element = h("section", {}, title(t(`${verb}Title`)), withEvidence(evidence, writingForm, badge, output));
  return { element, imageInput };
}

export const captionView = () => writingView("caption", t("describe"), null);
export const tellView = () => writingView("tell", t("write"), h("input", { name: "prompt", placeholder: t("promptHint"), maxlength: 2000 }));

export function editView() {
  const evidence = new EvidencePanel();
  const imageInput = new ImageInput();
  const instruction = h("input", { name: "instruction", placeholder: t("instructionHint"), maxlength: 2000 });
  const result = h("div", {});
  const editForm = form(t("apply"), async () => {
    const image = required(imageInput.value, t("needImage"));
    const text = required(instruction.value.trim(), t("needText"));
    const edit = await send("POST", "/v1/edit", { image, instruction: text, ...retrievalOptions() });
    result.replaceChildren(h("p", { class: "story", lang: langOf(edit.understood) }, edit.understood),
      edit.region ? slider(image, edit) : h("p", { class: "soft" }, t("unchanged")));
    evidence.show({ citations: [], evidence: edit.evidence }, !retrievalOn(), t("noExamples"));
    announce(edit.understood);
  }, withImage(imageInput, field(t("instruction"), instruction)));
  const element = h("section", {}, title(t("editTitle")), withEvidence(evidence, editForm, result));
  return { element, imageInput };
}

/** Both images on top of each other, and a slider that sets how much of the edited one is visible. */
function slider(original, edit) {
  const after = h("img", { src: edit.image, alt: t("after"), class: "after" });
  const region = h("img", { src: edit.region, alt: "", class: "mask", hidden: true });
  const line = h("span", { class: "line", "aria-hidden": "true" });
  const range = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": t("slider"), oninput: () => set(range.value) });
  const set = (percent) => {
    after.style.clipPath = `inset(0 0 0 ${percent}%)`;
    line.style.left = `${percent}%`;
  };
  const showRegion = h("input", { type: "checkbox", onchange: () => { region.hidden = !showRegion.checked; } });
  set(50);
  return h("div", {},
    h("div", { class: "slider" }, h("img", { src: original, alt: t("before") }), after, region, line, range,
      h("span", { class: "corner left", "aria-hidden": "true" }, t("before")), h("span", { class: "corner right", "aria-hidden": "true" }, t("after"))),
    h("div", { class: "row" }, h("label", { class: "check" }, showRegion, h("span", {}, t("region"))),
      h("a", { class: "button", href: edit.image, download: "edited.png" }, t("save"))));
}

/** Split the files and fields of the add form into entries. */
function newEntries(files, text, id) {
  const content = text ? { texts: [text] } : {};
  if (!files.length) return [{ ...content, ...(id ? { id } : {}) }];
  return files.map((file, index) => {
    const name = files.length === 1 ? id : id ? `${id}-${index + 1}` : file.name;
    return { ...content, ...(name ? { id: name } : {}), image: file.url };
  });
}

export function entriesView(onChange) {
  let next = null;
  const gallery = h("ol", { class: "gallery plain" });
  const more = h("button", { type: "button", hidden: true, onclick: () => load(false) }, t("more"));
  const total = h("p", { class: "soft summary" });
  async function load(fromStart) {
    const page = await get(`/v1/entries?limit=48${fromStart || !next ? "" : `&after=${encodeURIComponent(next)}`}`);
    if (fromStart) gallery.replaceChildren();
    gallery.append(...page.entries.map(galleryCard));
    next = page.next;
    more.hidden = !next;
    total.textContent = t("total", page.total);
  }
  let files = [];
  const previews = h("ul", { class: "previews plain" });
  const input = h("input", { type: "file", accept: "image/*", multiple: true, class: "visually-hidden", onchange: () => addFiles([...input.files]) });
  const drop = h("label", { class: "drop low" }, input, h("span", { class: "hint" }, h("span", { class: "plus", "aria-hidden": "true" }, "+"), t("dropMany")));
  const error = h("p", { class: "error", role: "alert" });
  async function addFiles(newFiles) {
    error.textContent = "";
    for (const file of newFiles) {
      try {
        files.push({ name: file.name.replace(/\.[^.]+$/, ""), url: await toDataUrl(file) });
      } catch {
        error.textContent = `${file.name}: ${t("notAnImage")}`;
      }
    }
    previews.replaceChildren(...files.map((file) => h("li", {}, h("img", { src: file.url, alt: file.name }))));
    input.value = "";
  }
  acceptDrops(drop, addFiles);
  const text = h("textarea", { rows: 3, placeholder: t("textsHint"), maxlength: 20000 });
  const id = h("input", { maxlength: 500, autocapitalize: "off", spellcheck: "false" });
  const addForm = form(t("add"), async () => {
    required(files.length || text.value.trim(), t("needTextOrImage"));
    const entries = newEntries(files, text.value.trim(), id.value.trim());
    for (let start = 0; start < entries.length; start += 16) {
      const { quarantined } = await send("POST", "/v1/entries", { entries: entries.slice(start, start + 16) });
      if (quarantined.length) error.textContent = quarantined.map((item) => `${item.id}: ${item.reason}`).join(" ");
    }
    files = [];
    previews.replaceChildren();
    text.value = id.value = "";
    await load(true);
    onChange();
    announce(total.textContent);
  }, drop, previews, error, h("div", { class: "pair" }, field(t("texts"), text), field(t("id"), id)));
  const element = h("section", {}, title(t("entriesTitle")), h("details", { class: "add-form", open: true }, h("summary", {}, t("add")), addForm),
    total, gallery, h("div", { class: "row center" }, more));
  return { element, onShow: () => load(true) };
}
