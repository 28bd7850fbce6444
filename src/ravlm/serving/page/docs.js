// The API documentation: what /openapi.json describes, with an example of each request.

import { h } from "./components.js";

const spec = await (await fetch("/openapi.json")).json();
const resolve = (schema) => (schema?.$ref ? spec.components.schemas[schema.$ref.split("/").pop()] : schema);

function exampleOf(schema) {
  const resolved = resolve(schema);
  if (!resolved) return null;
  if (resolved.examples) return resolved.examples[0];
  return (resolved.anyOf ?? resolved.oneOf ?? []).map(exampleOf).find(Boolean) ?? null;
}

const shortenImages = (key, value) => (typeof value === "string" && value.startsWith("data:") ? `${value.slice(0, 40)}...` : value);

function typeOf(schema) {
  const resolved = resolve(schema) ?? {};
  if (resolved.const !== undefined) return JSON.stringify(resolved.const);
  if (resolved.enum) return resolved.enum.map((value) => JSON.stringify(value)).join(" | ");
  const forms = resolved.anyOf ?? resolved.oneOf;
  if (forms) return [...new Set(forms.map(typeOf))].filter((type) => type !== "null").join(" | ");
  if (resolved.type === "array") return `list of ${typeOf(resolved.items)}`;
  const limits = [["minimum", "from"], ["maximum", "to"], ["maxLength", "up to"]].filter(([key]) => resolved[key] !== undefined);
  return [resolved.type ?? resolved.title ?? "any", ...limits.map(([key, word]) => `${word} ${resolved[key]}`)].join(" ");
}

function fieldTables(schema) {
  const resolved = resolve(schema);
  const forms = resolved?.anyOf ? resolved.anyOf.map(resolve) : [resolved];
  return forms.filter((form) => form?.properties).map((form) => h("table", {},
    h("thead", {}, h("tr", {}, ["Field", "Type", "Default"].map((heading) => h("th", { scope: "col" }, heading)))),
    h("tbody", {}, Object.entries(form.properties).map(([name, value]) => h("tr", {},
      h("td", {}, h("code", {}, name)),
      h("td", {}, typeOf(value), value.description ? h("span", { class: "soft" }, ` ${value.description}`) : null),
      h("td", {}, (form.required ?? []).includes(name) ? "required" : String(value.default ?? "")))))));
}

function curlCommand(path, method, operation, body) {
  const command = [`curl ${location.origin}${path}`];
  if (method !== "get" && method !== "post") command.push(`-X ${method.toUpperCase()}`);
  if (spec.security) command.push("-H 'Authorization: Bearer TOKEN'");
  const example = body && exampleOf(body);
  if (example) command.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(example, shortenImages).replaceAll("'", "'\\''")}'`);
  else if (operation.requestBody && !body) command.push("-H 'Content-Type: image/jpeg'", "--data-binary @photo.jpg");
  else if (method === "post") command.push("-X POST");
  return command.join(" \\\n  ");
}

function operationView(path, method, operation) {
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  const parameters = operation.parameters ?? [];
  const responses = Object.entries(operation.responses).map(([status, response]) => h("tr", {}, h("td", {}, status), h("td", {}, response.description)));
  return h("details", { class: "operation", id: operation.operationId },
    h("summary", {}, h("span", { class: "method" }, method.toUpperCase()), h("code", {}, path)),
    h("div", { class: "inside" },
      (operation.description ?? "").split("\n\n").map((paragraph) => h("p", {}, paragraph)),
      h("pre", {}, curlCommand(path, method, operation, body)),
      parameters.length ? h("table", {}, h("tbody", {}, parameters.map((parameter) => h("tr", {},
        h("td", {}, h("code", {}, parameter.name)), h("td", {}, `${typeOf(parameter.schema)} (${parameter.in})`))))) : null,
      body ? fieldTables(body) : null,
      h("h3", {}, "Responses"), h("table", {}, h("tbody", {}, responses))));
}

const groups = new Map();
for (const [path, methods] of Object.entries(spec.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const name = operation.tags?.[0] ?? "";
    groups.set(name, [...(groups.get(name) ?? []), operationView(path, method, operation)]);
  }
}
document.getElementById("version").textContent = spec.info.version;
document.getElementById("description").textContent = spec.info.description.replaceAll("`", "");
for (const [name, operations] of groups) document.getElementById("docs").append(h("section", {}, h("h2", {}, name), operations));
