/** The explorer of an adjustable result: everything was measured before, the page only moves among it. */

import { html } from "./plot.js";

const root = document.getElementById("explore");
const PAGES = { oat: "./explore_oat.js", rdi: "./explore_rdi.js", atmc: "./explore_atmc.js" };
const TILE = 88; // pixels a side on the page, or the next whole multiple of the picture's own

/** Tiles of a sprite: of(index) is an element that shows one of them, show(element, index) another one. */
function tilesOf(sprite) {
  const zoom = Math.max(1, Math.round(TILE / sprite.width));
  const [width, height] = [sprite.width * zoom, sprite.height * zoom];
  const file = root.dataset.files.replace(/_$/, encodeURIComponent(sprite.file));
  const show = (tile, index) => {
    tile.style.backgroundPosition = `${-(index % sprite.columns) * width}px ${-Math.floor(index / sprite.columns) * height}px`;
  };
  const of = (index, label) => {
    const tile = html("span", { class: "sprite", role: "img", "aria-label": label });
    Object.assign(tile.style, { width: `${width}px`, height: `${height}px`, backgroundImage: `url("${file}")`, backgroundSize: `${sprite.columns * width}px auto` });
    show(tile, index);
    return tile;
  };
  return { of, show, width };
}

async function start() {
  const response = await fetch(root.dataset.explorer, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  const content = await response.json();
  const { explore } = await import(PAGES[content.kind]);
  const sprites = Object.fromEntries(Object.entries(content.sprites ?? {}).map(([name, sprite]) => [name, tilesOf(sprite)]));
  const name = (index) => content.classes?.[index] ?? `class ${index}`;
  root.querySelector("[data-explorer-body]").hidden = false;
  explore(root, content, { sprites, name });
  root.querySelector("[data-loading]").remove();
}

start().catch((error) => { root.querySelector("[data-loading]").textContent = `The explorer could not be read (${error.message}): load the page again.`; });
