/** The form of a new version: shows what the chosen kind needs, fills the numbers of the chosen preset. */

const kinds = JSON.parse(document.getElementById("kinds-of-field").textContent);
const presets = JSON.parse(document.getElementById("presets").textContent);
const byName = (name) => document.querySelector(`[name="${name}"]`);
const byHand = ["resize", "resize_mode", "interpolation", "crop", "channels", "range", "mean", "std"];

function showWhatIsNeeded() {
  const kind = byName("kind").value;
  const custom = byName("preset").value === "custom";
  for (const [name, wanted] of Object.entries(kinds)) {
    const field = byName(name)?.closest(".field");
    if (field) field.hidden = !wanted.split(" ").includes(kind) || (byHand.includes(name) && !custom);
  }
  document.getElementById("architecture-found").hidden = kind !== "torch";
}

function fillPreset() {
  const values = presets[byName("preset").value];
  if (!values) return;
  for (const [name, value] of Object.entries(values)) {
    const input = byName(name);
    if (input) input.value = value ?? "";
  }
}

document.addEventListener("click", (event) => {
  const choice = event.target.closest("[data-architecture]");
  if (!choice) return;
  const input = byName("architecture");
  input.value = choice.dataset.architecture;
  input.dispatchEvent(new Event("input", { bubbles: true }));
});
byName("kind").addEventListener("change", showWhatIsNeeded);
byName("preset").addEventListener("change", () => { fillPreset(); showWhatIsNeeded(); });
if (byName("preset").value !== "custom") fillPreset();
showWhatIsNeeded();
