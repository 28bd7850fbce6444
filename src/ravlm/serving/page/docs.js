// The API as a page: what /openapi.json says, with an example of each request. Asks nothing else.

import { h } from "./parts.js";

const spec = await (await fetch("/openapi.json")).json();
const schemaOf = (found) => (found?.$ref ? spec.components.schemas[found.$ref.split("/").pop()] : found);

function example(schema) {
  const found = schemaOf(schema);
  if (!found) return null;
  if (found.examples) return found.examples[0];
  const first = (found.anyOf ?? []).map(example).find(Boolean);
  return first ?? null;
}

const short = (key, value) => (typeof value === "string" && value.startsWith("data:") ? `${value.slice(0, 40)}...` : value);

function kind(schema) {
  const found = schemaOf(schema) ?? {};
  if (found.const !== undefined) return JSON.stringify(found.const);
  if (found.enum) return found.enum.map((each) => JSON.stringify(each)).join(" | ");
  if (found.anyOf || found.oneOf) return [...new Set((found.anyOf ?? found.oneOf).map(kind))].filter((each) => each !== "null").join(" | ");
  if (found.type === "array") return `list of ${kind(found.items)}`;
  const limits = [["minimum", "from"], ["maximum", "to"], ["maxLength", "up to"]].filter(([key]) => found[key] !== undefined);
  return [found.type ?? found.title ?? "any", ...limits.map(([key, word]) => `${word} ${found[key]}`)].join(" ");
}

function fields(schema) {
  const forms = schemaOf(schema)?.anyOf ? schemaOf(schema).anyOf.map(schemaOf) : [schemaOf(schema)];
  return forms.filter((form) => form?.properties).map((form) => h("table", {},
    h("thead", {}, h("tr", {}, ["field", "what", "default"].map((each) => h("th", { scope: "col" }, each)))),
    h("tbody", {}, Object.entries(form.properties).map(([name, value]) => h("tr", {},
      h("td", {}, h("code", {}, name)),
      h("td", {}, kind(value), value.description ? h("span", { class: "soft" }, ` ${value.description}`) : null),
      h("td", {}, (form.required ?? []).includes(name) ? "needed" : String(value.default ?? "")))))));
}

function operation(path, method, told) {
  const body = told.requestBody?.content?.["application/json"]?.schema;
  const sent = body && example(body);
  const curl = [`curl ${location.origin}${path}`];
  if (method !== "get" && method !== "post") curl.push(`-X ${method.toUpperCase()}`);
  if (spec.security) curl.push("-H 'Authorization: Bearer TOKEN'");
  if (sent) curl.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(sent, short).replaceAll("'", "'\\''")}'`);
  else if (told.requestBody && !body) curl.push("-H 'Content-Type: image/jpeg'", "--data-binary @photo.jpg");
  else if (method === "post") curl.push("-X POST");
  const answers = Object.entries(told.responses).map(([status, answer]) => h("tr", {}, h("td", {}, status), h("td", {}, answer.description)));
  return h("details", { class: "operation", id: told.operationId },
    h("summary", {}, h("span", { class: "method" }, method.toUpperCase()), h("code", {}, path)),
    h("div", { class: "inside" },
      (told.description ?? "").split("\n\n").map((part) => h("p", {}, part)),
      h("pre", {}, curl.join(" \\\n  ")),
      (told.parameters ?? []).length ? h("table", {}, h("tbody", {}, told.parameters.map((each) => h("tr", {},
        h("td", {}, h("code", {}, each.name)), h("td", {}, `${kind(each.schema)} (${each.in})`))))) : null,
      body ? fields(body) : null,
      h("h3", {}, "Answers"), h("table", {}, h("tbody", {}, answers))));
}

const groups = new Map();
for (const [path, methods] of Object.entries(spec.paths)) {
  for (const [method, told] of Object.entries(methods)) {
    const name = told.tags?.[0] ?? "";
    groups.set(name, [...(groups.get(name) ?? []), operation(path, method, told)]);
  }
}
document.getElementById("version").textContent = spec.info.version;
document.getElementById("lead").textContent = spec.info.description.replaceAll("`", "");
for (const [name, operations] of groups) document.getElementById("docs").append(h("section", {}, h("h2", {}, name), operations));
