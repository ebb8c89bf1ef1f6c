/** The curves of a run: drawn as SVG from its metrics, kept live by "falsify:job" (static/jobs/live.js).
 *
 * Stages follow each other on the axis of steps, in the order in which they began. Metrics that the method's card does
 * not name get plots of their own. Each plot has a read-out under the pointer (arrow keys move it too) and a table.
 */

import { element, html, ticks, written } from "./plot.js";

const MOST_POINTS = 4000; // of a series here: beyond that it is asked for anew, thinned
const TABLE_ROWS = 60;
const COLOURS = 8;
const PAUSE_MS = 1000;
const HEIGHT = 250;
const PAD = { left: 52, right: 14, top: 18, bottom: 34 };

const root = document.getElementById("curves");
const cards = JSON.parse(document.getElementById("plots").textContent);
const series = new Map(); // "stage\0metric" -> {stage, name, points}
const plots = new Map(); // title -> plot
let position = 0;
let asking = false;
let again = false;

/* Data */

function take(answer) {
  if (answer.restarted || position === 0) series.clear();
  position = answer.position;
  answer.series.forEach(({ stage, name, points }) => {
    const key = `${stage}\0${name}`;
    if (!series.has(key)) series.set(key, { stage, name, points: [] });
    series.get(key).points.push(...points);
  });
}

async function update() {
  if (asking) { again = true; return; }
  asking = true;
  try {
    const response = await fetch(`${root.dataset.metrics}?after=${position}`, { headers: { Accept: "application/json" } });
    if (response.ok) {
      take(await response.json());
      if ([...series.values()].some((each) => each.points.length > MOST_POINTS)) { position = 0; again = true; }
      draw();
    }
  } catch {
    again = false; // the server is away: the next event asks again
  }
  setTimeout(() => {
    asking = false;
    if (again) { again = false; update(); }
  }, PAUSE_MS);
}

/** Where each stage begins on the common axis, and where the last one ends. */
function stages() {
  const ends = new Map();
  series.forEach(({ stage, points }) => {
    const last = points.length ? points[points.length - 1][0] : 0;
    ends.set(stage, Math.max(ends.get(stage) ?? 0, last));
  });
  const starts = new Map();
  let total = 0;
  ends.forEach((end, stage) => { starts.set(stage, total); total += end; });
  return { starts, total };
}

/* Plots */

function plotOf(title, unit, metrics) {
  if (plots.has(title)) return plots.get(title);
  const svg = element("svg", { role: "img", tabindex: "0", "aria-label": `${title} over steps; the table below has the numbers` });
  const legend = html("p", { class: "legend" });
  const readout = html("p", { class: "readout", "aria-live": "off" });
  const table = html("div", { class: "table-wrap" });
  const details = html("details", {}, html("summary", {}, "Numbers"), table);
  const heading = html("h3", {}, title);
  if (unit) heading.append(html("span", { class: "unit small" }, ` ${unit}`));
  const figure = html("section", { class: "chart curve" }, heading, legend, svg, readout, details);
  const plot = { title, unit, metrics, svg, legend, readout, table, details, figure, lines: [], at: null };
  svg.addEventListener("pointermove", (event) => point(plot, event));
  svg.addEventListener("pointerleave", () => { plot.at = null; cross(plot); });
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || !plot.scale) return;
    event.preventDefault();
    const steps = [...new Set(plot.lines.flatMap((line) => line.points.map(([x]) => x)))].sort((a, b) => a - b);
    const now = plot.at === null ? steps.length - 1 : steps.findIndex((x) => x >= plot.at);
    plot.at = steps[Math.min(Math.max(now + (plot.at === null ? 0 : move), 0), steps.length - 1)];
    cross(plot);
  });
  details.addEventListener("toggle", () => tabulate(plot));
  plots.set(title, plot);
  root.append(figure);
  return plot;
}

function draw() {
  const names = new Set([...series.values()].filter((each) => each.points.length).map((each) => each.name));
  root.querySelector("[data-curves-empty]").hidden = names.size > 0;
  const order = stages();
  const named = new Set(cards.flatMap((card) => card.metrics.map(([name]) => name)));
  const wanted = cards.filter((card) => card.metrics.some(([name]) => names.has(name)));
  const others = [...names].filter((name) => !named.has(name)).sort();
  others.forEach((name) => wanted.push({ title: name.replaceAll("_", " "), unit: "", metrics: [[name, name.replaceAll("_", " ")]] }));
  wanted.forEach((card) => drawPlot(plotOf(card.title, card.unit, card.metrics), order));
}

function drawPlot(plot, order) {
  plot.lines = plot.metrics.map(([name, label], at) => {
    const parts = [...series.values()].filter((each) => each.name === name && each.points.length);
    const moved = parts.map(({ stage, points }) => points.map(([step, value]) => [order.starts.get(stage) + step, value, stage, step]));
    return { label, colour: `var(--series-${(at % COLOURS) + 1})`, parts: moved, points: moved.flat() };
  }).filter((line) => line.points.length);
  plot.order = order;
  plot.legend.replaceChildren(...plot.lines.map((line) => {
    const swatch = html("i", { class: "swatch" });
    swatch.style.background = line.colour;
    return html("span", {}, swatch, line.label);
  }));
  render(plot);
  if (plot.details.open) tabulate(plot);
}

function scaleOf(plot, width) {
  const values = plot.lines.flatMap((line) => line.points.map(([, value]) => value));
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low === high) { low -= Math.abs(low) / 10 || 0.5; high += Math.abs(high) / 10 || 0.5; }
  const room = (high - low) * 0.06;
  low = low >= 0 && low - room < 0 ? 0 : low - room;
  high += room;
  const last = Math.max(plot.order.total, 1);
  const inner = width - PAD.left - PAD.right;
  const tall = HEIGHT - PAD.top - PAD.bottom;
  return {
    low, high, last, width,
    x: (step) => PAD.left + (step / last) * inner,
    y: (value) => PAD.top + (1 - (value - low) / (high - low)) * tall,
    step: (x) => ((x - PAD.left) / inner) * last,
  };
}

function render(plot) {
  const width = Math.max(plot.svg.clientWidth || plot.figure.clientWidth - 32, 240);
  const scale = scaleOf(plot, width);
  const { svg } = plot;
  const bottom = HEIGHT - PAD.bottom;
  plot.scale = scale;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.replaceChildren();
  ticks(scale.low, scale.high).forEach((value) => {
    const y = scale.y(value);
    svg.append(
      element("line", { class: "gridline", x1: PAD.left, x2: width - PAD.right, y1: y, y2: y }),
      element("text", { x: PAD.left - 6, y, dy: 4, "text-anchor": "end" }, written(value)),
    );
  });
  ticks(0, scale.last, Math.max(2, Math.floor(width / 110))).filter(Number.isInteger).forEach((step) => {
    svg.append(element("text", { x: scale.x(step), y: bottom + 16, "text-anchor": "middle" }, written(step)));
  });
  svg.append(element("text", { x: width - PAD.right, y: HEIGHT - 3, "text-anchor": "end" }, "step"));
  drawStages(plot, scale, bottom);
  plot.lines.forEach((line) => drawLine(svg, line, scale));
  plot.cross = element("line", { class: "cross", y1: PAD.top, y2: bottom, x1: 0, x2: 0, visibility: "hidden" });
  svg.append(plot.cross);
  cross(plot);
}

/** Dashed lines where a stage begins, with their names while there is room. */
function drawStages(plot, scale, bottom) {
  const starts = [...plot.order.starts];
  if (starts.length < 2) return;
  let free = 0;
  starts.forEach(([stage, start], at) => {
    const x = scale.x(start);
    if (at) plot.svg.append(element("line", { class: "stage-line", x1: x, x2: x, y1: PAD.top, y2: bottom }));
    const needed = stage.length * 6 + 8;
    const end = scale.x(at + 1 < starts.length ? starts[at + 1][1] : scale.last);
    if (x >= free && end - x >= needed) {
      plot.svg.append(element("text", { class: "stage", x: x + 4, y: PAD.top - 6 }, stage));
      free = x + needed;
    }
  });
}

function drawLine(svg, line, scale) {
  line.parts.forEach((points) => {
    const places = points.map(([step, value]) => `${scale.x(step).toFixed(1)},${scale.y(value).toFixed(1)}`);
    const path = element("polyline", { class: "line", points: places.join(" ") });
    path.style.stroke = line.colour;
    svg.append(path);
    if (points.length > 30) return;
    points.forEach(([step, value]) => {
      const dot = element("circle", { cx: scale.x(step), cy: scale.y(value), r: points.length > 1 ? 2.2 : 3.5 });
      dot.style.fill = line.colour;
      svg.append(dot);
    });
  });
}

/* Read-out and table */

function point(plot, event) {
  const box = plot.svg.getBoundingClientRect();
  plot.at = plot.scale.step(((event.clientX - box.left) / box.width) * plot.scale.width);
  cross(plot);
}

/** The point of a line next to a place on the axis. */
function nearest(line, at) {
  return line.points.reduce((best, each) => (Math.abs(each[0] - at) < Math.abs(best[0] - at) ? each : best));
}

function cross(plot) {
  if (plot.at === null || !plot.lines.length) {
    plot.cross.setAttribute("visibility", "hidden");
    plot.readout.textContent = newest(plot);
    return;
  }
  const found = plot.lines.map((line) => [line, nearest(line, plot.at)]);
  const [x, , stage, step] = found.map(([, each]) => each).reduce((best, each) => (Math.abs(each[0] - plot.at) < Math.abs(best[0] - plot.at) ? each : best));
  const place = plot.scale.x(x);
  plot.cross.setAttribute("x1", place);
  plot.cross.setAttribute("x2", place);
  plot.cross.setAttribute("visibility", "visible");
  const where = plot.order.starts.size > 1 && stage ? `${stage}, step` : "step";
  plot.readout.textContent = `${where} ${step.toLocaleString("en-US")}: ${found.map(([line, each]) => `${line.label} ${written(each[1])}`).join(" · ")}`;
}

const newest = (plot) => (plot.lines.length
  ? `newest: ${plot.lines.map((line) => `${line.label} ${written(line.points[line.points.length - 1][1])}`).join(" · ")}`
  : "");

/** The numbers behind a plot: all steps, or so many of them, evenly apart, with the newest. */
function tabulate(plot) {
  if (!plot.details.open) return;
  const rows = new Map();
  plot.lines.forEach((line, at) => line.points.forEach(([x, value, stage, step]) => {
    if (!rows.has(x)) rows.set(x, { stage, step, values: [] });
    rows.get(x).values[at] = value;
  }));
  const sorted = [...rows].sort(([a], [b]) => a - b).map(([, row]) => row);
  const every = Math.ceil(sorted.length / TABLE_ROWS);
  const shown = sorted.filter((_, at) => at % every === 0 || at === sorted.length - 1);
  const staged = plot.order.starts.size > 1;
  const cell = (text) => html("td", { class: "num" }, text);
  const head = html("tr", {}, ...(staged ? [html("th", {}, "Stage")] : []), html("th", { class: "num" }, "Step"),
    ...plot.lines.map((line) => html("th", { class: "num" }, line.label)));
  const body = shown.map(({ stage, step, values }) => html("tr", {}, ...(staged ? [html("td", {}, stage)] : []),
    cell(step.toLocaleString("en-US")), ...plot.lines.map((_, at) => cell(values[at] === undefined ? "—" : written(values[at])))));
  plot.table.replaceChildren(html("table", { class: "table" }, html("thead", {}, head), html("tbody", {}, ...body)));
}

document.addEventListener("falsify:job", update);
new ResizeObserver(() => plots.forEach((plot) => { if (plot.lines.length && plot.svg.clientWidth !== plot.scale?.width) render(plot); })).observe(root);
update();
