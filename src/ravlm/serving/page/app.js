// The page: tabs, language, theme, and navigation from one view to another.

import { get, readCitation } from "./api.js";
import { h, onEntryAction, openEntry, textOf } from "./components.js";
import { currentLanguage, setLanguage, t, translate } from "./i18n.js";
import { askView, captionView, editView, entriesView, searchView, tellView } from "./views.js";

const VIEWS = { search: searchView, ask: askView, caption: captionView, tell: tellView, edit: editView, entries: () => entriesView(showAbout) };
const NAMES = Object.keys(VIEWS);
const tabs = document.getElementById("tabs");
const main = document.getElementById("main");
const views = {};
let current = "search";

function build() {
  translate(document);
  const language = document.getElementById("language");
  language.textContent = currentLanguage() === "zh" ? "English" : "中文";
  language.lang = currentLanguage() === "zh" ? "en" : "zh";
  tabs.replaceChildren(...NAMES.map((name) => h("button", {
    type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `view-${name}`, onclick: () => show(name), onkeydown: moveFocus,
  }, t(name))));
  const images = Object.fromEntries(NAMES.map((name) => [name, views[name]?.imageInput?.value]));
  main.replaceChildren(...NAMES.map((name) => {
    views[name] = VIEWS[name](views[name]?.state?.());
    if (images[name]) views[name].imageInput.set(images[name]);
    return h("div", { id: `view-${name}`, role: "tabpanel", "aria-labelledby": `tab-${name}`, hidden: true }, views[name].element);
  }));
  show(current, false);
  showAbout();
}

function show(name, updateAddress = true) {
  current = name;
  for (const other of NAMES) {
    const selected = other === name;
    const tab = document.getElementById(`tab-${other}`);
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    document.getElementById(`view-${other}`).hidden = !selected;
  }
  document.getElementById("retrieval-switch").hidden = ["search", "entries"].includes(name);
  document.title = `ravlm · ${t(name)}`;
  if (updateAddress && location.hash !== `#${name}`) history.replaceState(null, "", `#${name}`);
  views[name].onShow?.();
}

/** Arrow keys, Home and End move from tab to tab. */
function moveFocus(event) {
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  const index = NAMES.indexOf(current);
  const ends = { Home: 0, End: NAMES.length - 1 };
  const target = event.key in steps ? (index + steps[event.key] + NAMES.length) % NAMES.length : ends[event.key];
  if (target === undefined) return;
  event.preventDefault();
  show(NAMES[target]);
  document.getElementById(`tab-${NAMES[target]}`).focus();
}

async function showAbout() {
  const element = document.getElementById("about");
  try {
    const about = await get("/v1/about");
    element.textContent = t("about", about.entries.toLocaleString(), about.encoder, about.generator);
  } catch (error) {
    element.textContent = error.message;
  }
}

function applyTheme(theme) {
  if (theme) localStorage.setItem("theme", theme);
  const stored = localStorage.getItem("theme");
  if (stored) document.documentElement.dataset.theme = stored;
}

function openHash(hash) {
  const target = hash.replace(/^#/, "");
  if (target.startsWith("entry=")) {
    const { id, box } = readCitation(hash);
    openEntry(id, box).catch(() => {});
  }
  else if (NAMES.includes(target)) show(target, false);
}

document.getElementById("language").addEventListener("click", () => {
  setLanguage(currentLanguage() === "zh" ? "en" : "zh");
  build();
});
document.getElementById("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.trim() === "dark";
  applyTheme(dark ? "light" : "dark");
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((item) => item.type.startsWith("image/"));
  if (file) views[current].imageInput?.load(file);
});
addEventListener("hashchange", () => openHash(location.hash));
onEntryAction({
  ask: async (entry) => { show("ask"); await views.ask.imageInput.loadEntry(entry); views.ask.focus(); },
  findSimilar: async (entry) => {
    show("search");
    if (entry.image_url) await views.search.imageInput.loadEntry(entry);
    else document.querySelector("#view-search [name=text]").value = textOf(entry);
    views.search.run();
  },
  removed: () => { if (current === "entries") views.entries.onShow(); showAbout(); },
});
applyTheme();
build();
openHash(location.hash);
