// How the page asks the server: JSON, streams of server-sent events, pictures. Knows no element but the token's dialog.

import { t } from "./words.js";

const token = () => sessionStorage.getItem("token");

export class Refused extends Error {}

async function ask(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    if (token()) headers.Authorization = `Bearer ${token()}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new Refused(t("unreachable"));
    }
    if (response.status === 401) {
      await askForToken();
      continue;
    }
    if (!response.ok) {
      const told = await response.json().catch(() => null);
      throw new Refused(told?.error?.message ?? `${response.status}`);
    }
    return response;
  }
}

let asking = null;

/** One dialog, however many requests wait for it. */
function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token");
    const field = document.getElementById("token-value");
    field.value = "";
    dialog.addEventListener("close", () => {
      if (field.value) sessionStorage.setItem("token", field.value);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

export async function get(path) {
  return (await ask(path)).json();
}

export async function send(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(path, { method, headers, body: body && JSON.stringify(body) })).json();
}

/** Gives each event of a stream to `onEvent`, until [DONE]. */
export async function stream(path, body, onEvent) {
  const headers = { "Content-Type": "application/json" };
  const content = JSON.stringify({ ...body, stream: true });
  const response = await ask(path, { method: "POST", headers, body: content });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let held = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const events = held.split("\n\n");
    held = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const found = JSON.parse(data);
      if (found.error) throw new Refused(found.error.message);
      onEvent(found);
    }
  }
}

const pathOf = (url, edge) => `${new URL(url).pathname}?edge=${edge}`;

/** A picture of the server as a file. */
export async function pictureFile(url, edge = 1024) {
  return (await ask(pathOf(url, edge))).blob();
}

/** An address that an <img> can show for a picture of the server: where a token is needed, that of a copy here. */
export async function shownAt(url, edge = 480) {
  return token() ? URL.createObjectURL(await pictureFile(url, edge)) : pathOf(url, edge);
}

export const idOfCitation = (url) => decodeURIComponent(new URL(url).hash.replace("#entry=", ""));
