// Requests to the server: JSON, streams of server-sent events, images; and the token dialog.

import { t } from "./i18n.js";

const token = () => sessionStorage.getItem("token");

export class ServerError extends Error {}

async function request(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    if (token()) headers.Authorization = `Bearer ${token()}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new ServerError(t("unreachable"));
    }
    if (response.status === 401) {
      await askForToken();
      continue;
    }
    if (!response.ok) {
      const body = await response.json().catch(() => null);
      throw new ServerError(body?.error?.message ?? `${response.status}`);
    }
    return response;
  }
}

let tokenDialog = null;

/** Show one dialog, however many requests wait for the token. */
function askForToken() {
  tokenDialog ??= new Promise((resolve) => {
    const dialog = document.getElementById("token");
    const field = document.getElementById("token-value");
    field.value = "";
    dialog.addEventListener("close", () => {
      if (field.value) sessionStorage.setItem("token", field.value);
      tokenDialog = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return tokenDialog;
}

export async function get(path) {
  return (await request(path)).json();
}

export async function send(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method, headers, body: body && JSON.stringify(body) })).json();
}

/** Pass each event of a stream to `onEvent`, until [DONE]. */
export async function stream(path, body, onEvent) {
  const headers = { "Content-Type": "application/json" };
  const content = JSON.stringify({ ...body, stream: true });
  const response = await request(path, { method: "POST", headers, body: content });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let buffer = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const content = JSON.parse(data);
      if (content.error) throw new ServerError(content.error.message);
      onEvent(content);
    }
  }
}

const imagePath = (url, edge) => `${new URL(url).pathname}?edge=${edge}`;

/** Return an image of the server as a file. */
export async function fetchImage(url, edge = 1024) {
  return (await request(imagePath(url, edge))).blob();
}

/** Return an address that an <img> can show; with a token that is the address of a local copy. */
export async function imageSource(url, edge = 480) {
  return token() ? URL.createObjectURL(await fetchImage(url, edge)) : imagePath(url, edge);
}

/** Return the entry that an address names, and the box on its image, null without one. */
export function readCitation(url) {
  const values = new URLSearchParams(new URL(url, location.href).hash.slice(1));
  const box = values.get("box")?.split(",").map(Number);
  return { id: values.get("entry"), box: box?.length === 4 && box.every((value) => value >= 0 && value <= 1) ? box : null };
}
