/** The dialog in which a person chooses their keys. */

import { bindable, clash, keyLabel } from "./keys.js";

const $ = (id) => document.getElementById(id);

/**
 * @param {Object<string, object[]>} sets the actions of each variant
 * @param {{bindings, layout, save}} of bindings(): the present ones, layout(): what is printed on the keys,
 *   save(bindings): an error in words, or nothing
 */
export function keysDialog(sets, { bindings, layout, save }) {
  const all = Object.values(sets).reverse().flat();
  const actions = [...new Map(all.map((action) => [action.name, action])).values()];
  const label = (name) => actions.find((action) => action.name === name).label;
  let draft = {};
  let waiting = null;

  function row(action) {
    const element = document.createElement("div");
    const name = document.createElement("span");
    name.textContent = action.label;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "key-button";
    button.dataset.name = action.name;
    button.textContent = waiting === action.name ? "Press a key …" : keyLabel(draft[action.name], layout());
    button.setAttribute("aria-label", `${action.label}: ${button.textContent}. Change`);
    button.addEventListener("click", () => {
      waiting = action.name;
      draw(action.name);
    });
    element.append(name, button);
    return element;
  }

  function draw(focused = null) {
    $("keys-list").replaceChildren(...actions.map(row));
    const doubled = clash(draft, Object.values(sets));
    $("keys-error").textContent = doubled ? `“${label(doubled[0])}” and “${label(doubled[1])}” have the same key.` : "";
    $("keys-save").disabled = Boolean(doubled);
    if (focused) $("keys-list").querySelector(`[data-name="${focused}"]`)?.focus();
  }

  function onKey(event) {
    if (!waiting) return;
    event.preventDefault();
    event.stopPropagation();
    const { kind } = actions.find(({ name }) => name === waiting);
    if (event.code !== "Escape") {
      if (!bindable(event.code, kind)) return;
      draft[waiting] = event.code;
    }
    const changed = waiting;
    waiting = null;
    draw(changed);
  }

  async function keep() {
    const error = await save(draft);
    if (error) $("keys-error").textContent = error;
    else $("keys").close();
  }

  $("keys").addEventListener("keydown", onKey, { capture: true });
  $("keys").addEventListener("cancel", (event) => { if (waiting) event.preventDefault(); });
  $("keys-open").addEventListener("click", () => {
    draft = { ...bindings() };
    waiting = null;
    draw();
    $("keys").showModal();
  });
  $("keys-save").addEventListener("click", keep);
  $("keys-close").addEventListener("click", () => $("keys").close());
  $("keys-reset").addEventListener("click", () => {
    actions.forEach(({ name, code }) => { draft[name] = code; });
    waiting = null;
    draw();
  });
}
