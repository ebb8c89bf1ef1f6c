/** Compressed networks: accuracy against size, the best within a budget, and what each layer became. */

import { MARKER_NAMES, chart, element, ends, html, interval, percent, readings, short, stacked, table, written } from "./plot.js";

const SIZES = {
  bytes: ["File on disk", (value) => short(value, "B")], bytes_zip: ["File, zipped", (value) => short(value, "B")],
  paper_bits: ["The paper's formula", (value) => short(value, "bit")], true_bits: ["Bits of the weights in the file", (value) => short(value, "bit")],
};
const ACCURACIES = { ra: "Robust accuracy", sa: "Standard accuracy", ra_independent: "Robust accuracy, independent attack" };

export function explore(root, content) {
  const find = (selector) => root.querySelector(selector);
  const [budget, size, accuracy, point] = ["#budget", "#size", "#accuracy", "#point"].map(find);
  const points = content.points;
  const families = [...new Set(points.map((each) => each.family))];
  const known = (key) => points.some((each) => each[key] !== null && each[key] !== undefined);
  size.replaceChildren(...Object.keys(SIZES).filter(known).map((key) => html("option", { value: key }, SIZES[key][0])));
  accuracy.replaceChildren(...Object.keys(ACCURACIES).filter(known).map((key) => html("option", { value: key }, ACCURACIES[key])));
  point.replaceChildren(...points.map((each) => html("option", { value: each.name }, each.name)));
  const asked = decodeURIComponent(new URLSearchParams(location.hash.slice(1)).get("point") ?? "");
  const first = points.find((each) => each.name === asked) ?? points.find((each) => content.layers.some((layer) => layer.point === each.name)) ?? points[0];
  point.value = first.name;
  const pareto = chart(find("[data-pareto]"), { title: "Accuracy against size" });
  const with_ = (key) => points.filter((each) => each[key] !== null && each[key] !== undefined);
  const sizes = () => [...new Set(with_(size.value).map((each) => each[size.value]))].sort((a, b) => a - b);
  setBudget(Math.floor(sizes().length / 2));

  function setBudget(at) {
    budget.max = sizes().length - 1;
    budget.value = at;
  }

  function draw() {
    const [what, how] = [size.value, accuracy.value];
    const most = sizes()[Number(budget.value)];
    const words = SIZES[what][1];
    find("[data-budget]").textContent = words(most);
    budget.setAttribute("aria-valuetext", words(most));
    const within = with_(what).filter((each) => each[what] <= most && each[how]);
    const best = families.map((family) => within.filter((each) => each.family === family).reduce((a, b) => (!a || b[how].value > a[how].value ? b : a), null));
    const rows = families.map((family, at) => ({ family, best: best[at] })).sort((a, b) => (b.best?.[how].value ?? -1) - (a.best?.[how].value ?? -1));
    find("[data-best]").replaceChildren(table(["Family", "Point", [ACCURACIES[how]], ["Size"]], rows.map((row) => ({
      cells: row.best ? [row.family, row.best.name, stacked(row.best[how]), words(row.best[what])] : [row.family, "none so small", "—", "—"] }))));
    const titled = (each) => `${each.name}: ${words(each[what])}, SA ${interval(each.sa)}, RA ${interval(each.ra)}`;
    const series = families.map((family, at) => ({ name: family, colour: (at % 8) + 1, marker: MARKER_NAMES[at % MARKER_NAMES.length], line: true,
      points: with_(what).filter((each) => each.family === family && each[how]).sort((a, b) => a[what] - b[what])
        .map((each) => ({ x: each[what], y: each[how].value, ys: ends(each[how]), key: each.name, title: titled(each) })) }));
    const all = sizes();
    pareto.draw({
      axes: { x: { title: SIZES[what][0], format: words, log: all.at(-1) > 8 * all[0] }, y: { title: ACCURACIES[how], format: (value) => percent(value, 0) } },
      series, current: point.value, xLine: most, said: titled(points.find((each) => each.name === point.value)),
      table: { heads: ["Point", ["Ratio"], ["Bits"], ["SA"], ["RA"], ["Independent RA"], ["File"], ["Zipped"], ["Formula"], ["Non-zeros"]],
        rows: points.map((each) => ({ ...(each.name === point.value ? { "aria-current": "true" } : {}), cells: [each.name, some(each.ratio), some(each.bits), stacked(each.sa), stacked(each.ra), stacked(each.ra_independent),
          some(each.bytes, (value) => short(value, "B")), some(each.bytes_zip, (value) => short(value, "B")), some(each.paper_bits, (value) => short(value, "bit")), some(each.nnz)] })) },
      onPick: (key) => { point.value = key; draw(); },
    });
    drawPoint();
  }

  function drawPoint() {
    const now = points.find((each) => each.name === point.value);
    history.replaceState(null, "", `#point=${encodeURIComponent(now.name)}`);
    readings(find("[data-readings]"), [
      ["Standard accuracy", interval(now.sa)], ["Robust accuracy", interval(now.ra)], ["Independent attack", interval(now.ra_independent)],
      ["File", `${short(now.bytes, "B")}${now.bytes_zip ? `, ${short(now.bytes_zip, "B")} zipped` : ""}`],
      ["Non-zeros", now.nnz ? `${written(now.nnz)}${now.weights ? ` of ${written(now.weights)} weights (${percent(now.nnz / now.weights)})` : ""}` : null],
      ["Paper's formula", now.paper_bits ? `${short(now.paper_bits, "bit")}${now.true_bits ? `; in the file ${short(now.true_bits, "bit")}` : ""}` : null],
    ]);
    const layers = content.layers.filter((layer) => layer.point === now.name);
    find("[data-layers]").replaceChildren(layers.length
      ? table(["Layer", "Density", ["Rank"], ["Bits"], ["Values"], "Codebook"], layers.map((layer) => ({ cells: [layer.name, density(layer.density), some(layer.rank), some(layer.bits), layer.codebook.length || "—", codebook(layer)] })))
      : html("p", { class: "muted" }, "Nothing was kept of the layers of this point."));
  }

  [budget, accuracy, point].forEach((control) => control.addEventListener("input", draw));
  size.addEventListener("input", () => { setBudget(Math.floor(sizes().length / 2)); draw(); });
  draw();
}

const some = (value, words = written) => (value === null || value === undefined ? "—" : words(value));

function density(value) {
  const bar = html("i", { class: "density" });
  bar.style.width = `${Math.max(1, 100 * value)}%`;
  return html("span", { class: "density-cell" }, html("span", { class: "density-track" }, bar), percent(value, value < 0.1 ? 2 : 1));
}

/** The values that the weights of a layer take, as strokes from the smallest to the largest. */
function codebook({ name, codebook: values }) {
  if (!values.length) return "—";
  const most = Math.max(...values.map(Math.abs)) || 1;
  const svg = element("svg", { class: "codebook", viewBox: "0 0 200 18", role: "img", "aria-label": `${name}: ${values.length} values from ${written(Math.min(...values))} to ${written(Math.max(...values))}` });
  svg.append(element("line", { class: "gridline", x1: 0, x2: 200, y1: 9, y2: 9 }), element("line", { class: "zero", x1: 100, x2: 100, y1: 0, y2: 18 }));
  values.forEach((value) => { const x = 100 + (value / most) * 97; svg.append(element("line", { class: "code", x1: x, x2: x, y1: 3, y2: 15 })); });
  svg.append(element("title", {}, `${written(Math.min(...values))} to ${written(Math.max(...values))}`));
  return svg;
}
