/** The import form shows the fields that the chosen source uses; without this script it shows all of them. */

const FILES = ["location", "upload"];
const USES = {
  folder: ["location", "labels_from", "taxonomy"],
  archive: [...FILES, "labels_from", "taxonomy"],
  list: [...FILES, "labels_from", "root", "mos_low", "mos_high", "higher_is_worse", "taxonomy"],
  webdataset: [...FILES, "taxonomy"],
  cifar: [...FILES, "split", "taxonomy"],
  koniq10k: FILES,
  spaq: FILES,
  livewild: FILES,
  kadid10k: FILES,
  csiq: FILES,
  tid2013: FILES,
  distorted: ["photographs", "corpus", "location", "size", "seed"],
};
const OPTIONAL = [...new Set(Object.values(USES).flat())];

const form = document.querySelector("#corpus-form form");
const source = form.elements.source;

function show() {
  const used = USES[source.value];
  for (const name of OPTIONAL) {
    const field = form.elements[name].closest(".field");
    field.hidden = !used.includes(name);
    if (field.hidden) form.elements[name].value = "";
  }
  const mark = form.elements.location.closest(".field").querySelector("label .muted");
  if (mark) mark.hidden = !used.includes("upload") && source.value !== "distorted";
}

source.addEventListener("change", show);
show();
