/** The import form shows the fields that the chosen source uses; without this script it shows all of them. */

const USES = {
  folder: ["location", "labels_from"],
  archive: ["location", "upload", "labels_from"],
  list: ["location", "upload", "labels_from", "root"],
  webdataset: ["location", "upload"],
  cifar: ["location", "upload", "split"],
};
const OPTIONAL = ["location", "upload", "labels_from", "root", "split"];

const form = document.querySelector("#corpus-form form");
const source = form.elements.source;

function show() {
  for (const name of OPTIONAL) {
    const field = form.elements[name].closest(".field");
    field.hidden = !USES[source.value].includes(name);
    if (field.hidden) form.elements[name].value = "";
  }
  const mark = form.elements.location.closest(".field").querySelector("label .muted");
  if (mark) mark.hidden = !USES[source.value].includes("upload");
}

source.addEventListener("change", show);
show();
