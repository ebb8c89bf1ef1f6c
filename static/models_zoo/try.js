/** Shows the chosen picture at once; it is not kept on the server. */

const input = document.querySelector('input[name="picture"]');
const preview = document.getElementById("picture-preview");
let address = null;

input.addEventListener("change", () => {
  if (address) URL.revokeObjectURL(address);
  preview.replaceChildren();
  const [file] = input.files;
  if (!file) return;
  address = URL.createObjectURL(file);
  const image = new Image();
  image.alt = "The chosen picture";
  image.src = address;
  image.onerror = () => { preview.textContent = "This browser cannot show the picture; the server may still read it."; };
  preview.append(image);
});
