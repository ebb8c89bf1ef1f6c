/** Marks the settings of a run that differ from its preset, each with a button that takes the preset's value back. */

const form = document.querySelector(".run-form");

const box = (field) => field.querySelector("[data-preset]");
const current = (input) => (input.type === "checkbox" ? (input.checked ? "true" : "") : input.value.trim());

/** Whether two texts mean the same: numbers by value ("0.10" is "0.1"), lists part by part, others as they are. */
export function same(left, right) {
  const parts = [left, right].map((text) => text.split(",").map((part) => part.trim()));
  if (parts[0].length !== parts[1].length) return false;
  return parts[0].every((part, at) => {
    const other = parts[1][at];
    return part === other || (part !== "" && other !== "" && Number(part) === Number(other));
  });
}

function mark(field) {
  const input = box(field);
  if (!input) return false;
  const differs = !same(current(input), input.dataset.preset);
  field.classList.toggle("is-changed", differs);
  field.querySelector("[data-preset-note]").hidden = !differs;
  return differs;
}

function markAll() {
  const changed = [...form.querySelectorAll("[data-config-field]")].filter(mark).length;
  const note = form.querySelector("[data-changes]");
  if (note) note.textContent = changed ? `${changed} setting${changed > 1 ? "s differ" : " differs"} from it.` : "";
}

form.addEventListener("input", markAll);
form.addEventListener("click", (event) => {
  const field = event.target.closest("[data-preset-reset]")?.closest("[data-config-field]");
  if (!field) return;
  const input = box(field);
  if (input.type === "checkbox") input.checked = input.dataset.preset !== "";
  else input.value = input.dataset.preset;
  markAll();
  input.focus();
});
document.addEventListener("htmx:afterSettle", markAll);
markAll();
