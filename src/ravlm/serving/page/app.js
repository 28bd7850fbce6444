// The page: tabs, language, light and dark, and what leads from one view to another.

import { get } from "./api.js";
import { follow, h, openEntry } from "./parts.js";
import { askView, captionView, editView, entriesView, searchView, tellView } from "./views.js";
import { chooseLanguage, currentLanguage, t, translate } from "./words.js";

const VIEWS = { search: searchView, ask: askView, caption: captionView, tell: tellView, edit: editView, entries: () => entriesView(about) };
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
    type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `view-${name}`, onclick: () => show(name), onkeydown: move,
  }, t(name))));
  const pictures = Object.fromEntries(NAMES.map((name) => [name, views[name]?.place?.value]));
  main.replaceChildren(...NAMES.map((name) => {
    views[name] = VIEWS[name](views[name]?.keep?.());
    if (pictures[name]) views[name].place.set(pictures[name]);
    return h("div", { id: `view-${name}`, role: "tabpanel", "aria-labelledby": `tab-${name}`, hidden: true }, views[name].element);
  }));
  show(current, false);
  about();
}

function show(name, remember = true) {
  current = name;
  for (const each of NAMES) {
    const chosen = each === name;
    const tab = document.getElementById(`tab-${each}`);
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    document.getElementById(`view-${each}`).hidden = !chosen;
  }
  document.getElementById("retrieval-switch").hidden = ["search", "entries"].includes(name);
  document.title = `ravlm · ${t(name)}`;
  if (remember && location.hash !== `#${name}`) history.replaceState(null, "", `#${name}`);
  views[name].shown?.();
}

/** Arrow keys, Home and End go from tab to tab. */
function move(event) {
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  const at = NAMES.indexOf(current);
  const ends = { Home: 0, End: NAMES.length - 1 };
  const to = event.key in steps ? (at + steps[event.key] + NAMES.length) % NAMES.length : ends[event.key];
  if (to === undefined) return;
  event.preventDefault();
  show(NAMES[to]);
  document.getElementById(`tab-${NAMES[to]}`).focus();
}

async function about() {
  try {
    const found = await get("/v1/about");
    document.getElementById("about").textContent = t("about", found.entries.toLocaleString(), found.encoder, found.generator);
  } catch (error) {
    document.getElementById("about").textContent = error.message;
  }
}

function theme(chosen) {
  if (chosen) localStorage.setItem("theme", chosen);
  const kept = localStorage.getItem("theme");
  if (kept) document.documentElement.dataset.theme = kept;
}

function goTo(hash) {
  const place = hash.replace(/^#/, "");
  if (place.startsWith("entry=")) openEntry(decodeURIComponent(place.slice(6))).catch(() => {});
  else if (NAMES.includes(place)) show(place, false);
}

document.getElementById("language").addEventListener("click", () => {
  chooseLanguage(currentLanguage() === "zh" ? "en" : "zh");
  build();
});
document.getElementById("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.trim() === "dark";
  theme(dark ? "light" : "dark");
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
  if (file) views[current].place?.take(file);
});
addEventListener("hashchange", () => goTo(location.hash));
follow({
  ask: async (entry) => { show("ask"); await views.ask.place.showEntry(entry); views.ask.focus(); },
  like: async (entry) => {
    show("search");
    if (entry.image_url) await views.search.place.showEntry(entry);
    else document.querySelector("#view-search [name=text]").value = entry.texts[0];
    views.search.run();
  },
  removed: () => { if (current === "entries") views.entries.shown(); about(); },
});
theme();
build();
goTo(location.hash);
