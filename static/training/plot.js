/** What the plots of training share: round ticks, numbers in words, SVG, and charts of points with intervals. */

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 340;
const PAD = { left: 58, right: 18, top: 14, bottom: 46 };
const MARKERS = {
  circle: "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0",
  square: "M-4,-4h8v8h-8z",
  triangle: "M0,-5l5,9h-10z",
  diamond: "M0,-5.5l5,5.5l-5,5.5l-5,-5.5z",
  cross: "M-4,-4l8,8M4,-4l-8,8",
  plus: "M-5,0h10M0,-5v10",
};
export const MARKER_NAMES = Object.keys(MARKERS);

export const element = (name, attributes = {}, text = "") => {
  const made = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  if (text) made.textContent = text;
  return made;
};

export const html = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.append(...children);
  return made;
};

/* Numbers */

export function ticks(low, high, wanted = 4) {
  if (!(high > low)) return [low];
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw * (1 - 1e-9));
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

function logTicks(low, high) {
  const powers = Array.from({ length: Math.ceil(Math.log10(high)) - Math.floor(Math.log10(low)) + 1 }, (_, at) => 10 ** (Math.floor(Math.log10(low)) + at));
  const fine = powers.flatMap((power) => [1, 2, 5].map((factor) => factor * power)).filter((value) => value >= low && value <= high);
  const coarse = powers.filter((value) => value >= low && value <= high);
  return fine.length > 7 && coarse.length > 1 ? coarse : fine;
}

export function written(value) {
  if (value === 0 || Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2).replace(/\.?0+e/, "e");
  return Number(value.toPrecision(4)).toLocaleString("en-US", { maximumFractionDigits: 6 });
}

export const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)} %`;

/** 1171400 -> "1.17 M": three figures, with a factor of 1000. */
export function short(value, unit = "") {
  const sizes = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [size, prefix] = sizes.find(([size]) => Math.abs(value) >= size) ?? [1, ""];
  const scaled = value / size;
  const figures = Math.abs(scaled) >= 100 || Number.isInteger(scaled) ? Math.round(scaled) : Number(scaled.toPrecision(3));
  return `${figures}${prefix || unit ? " " : ""}${prefix}${unit}`;
}

/** "62.3 % (60.1 to 64.4)", from {value, low, high}; a dash where nothing was measured. */
export function interval(measured, digits = 1) {
  if (!measured) return "—";
  const { value, low, high } = measured;
  const around = low === null || low === undefined ? "" : ` (${(100 * low).toFixed(digits)} to ${(100 * high).toFixed(digits)})`;
  return percent(value, digits) + around;
}

/** The same for the cell of a table: the interval below the value. */
export function stacked(measured) {
  if (!measured) return "—";
  const [value, around] = interval(measured).split(" (");
  return around ? html("span", {}, value, html("br"), html("span", { class: "muted small nowrap" }, around.slice(0, -1))) : value;
}

/* Tables and readings */

/** heads: texts, those of numbers as [text]; rows: lists of texts or nodes. */
export function table(heads, rows) {
  const isNumber = heads.map((head) => Array.isArray(head));
  const cell = (name, content, at) => html(name, isNumber[at] ? { class: "num" } : {}, content);
  return html("table", { class: "table" },
    html("thead", {}, html("tr", {}, ...heads.map((head, at) => cell("th", [head].flat()[0], at)))),
    html("tbody", {}, ...rows.map(({ cells, ...attributes }) => html("tr", attributes, ...cells.map((content, at) => cell("td", content, at))))));
}

/** Fill a <dl>: pairs of name and value. */
export function readings(list, pairs) {
  list.replaceChildren(...pairs.filter(([, value]) => value !== null).map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", {}, value))));
}

/* Charts */

/** A chart of series of points.
 *
 * axes: {x, y}, each {title, format, log, low, high}. series: {name, colour (1..8), marker, line, bars, points: [{x, y, xs, ys, title, key}]};
 * xs, ys: ends of intervals; bars: width of bars that stand on 0 in place of markers. rows: {heads, rows} of the table behind it. onPick(point): a point was chosen by pointer.
 */
export function chart(place, { title, note = "" }) {
  const svg = element("svg", { role: "img", "aria-label": `${title}; the table below has the numbers` });
  const legend = html("p", { class: "legend" });
  const readout = html("p", { class: "readout" });
  const numbers = html("div", { class: "table-wrap" });
  const details = html("details", {}, html("summary", {}, "Numbers"), numbers);
  const heading = html("h3", {}, title);
  place.replaceChildren(html("section", { class: "chart curve points" }, heading, legend, svg, readout, details));
  if (note) readout.before(html("p", { class: "small muted" }, note));
  let drawn = null;
  const self = {
    svg,
    draw(content) {
      drawn = content;
      heading.textContent = content.title ?? title;
      render(self, svg, content);
      legend.replaceChildren(...content.series.filter((each) => each.name).map((each) => html("span", {}, key(each), each.name)));
      if (content.table) numbers.replaceChildren(table(content.table.heads, content.table.rows));
      details.hidden = !content.table;
      readout.textContent = content.said ?? "";
    },
  };
  svg.addEventListener("pointerover", (event) => {
    const point = event.target.closest("[data-title]");
    if (point) readout.textContent = point.dataset.title;
  });
  svg.addEventListener("pointerout", () => { readout.textContent = drawn?.said ?? ""; });
  svg.addEventListener("click", (event) => {
    const point = event.target.closest("[data-key]");
    if (point && drawn.onPick) drawn.onPick(point.dataset.key);
  });
  new ResizeObserver(() => { if (drawn && svg.clientWidth && svg.clientWidth !== self.width) render(self, svg, drawn); }).observe(place);
  return self;
}

function key({ colour, marker = "circle", line }) {
  const svg = element("svg", { class: "key-mark", viewBox: "-10 -7 20 14", "aria-hidden": "true" });
  const stroke = `var(--series-${colour})`;
  if (line) svg.append(styled(element("path", { d: "M-10,0h20", class: "line" }), { stroke }));
  svg.append(mark(marker, colour));
  return svg;
}

const styled = (node, style) => { Object.assign(node.style, style); return node; };

function mark(marker, colour) {
  const colourOf = `var(--series-${colour})`;
  const isOpen = marker === "cross" || marker === "plus";
  return styled(element("path", { d: MARKERS[marker] }), isOpen ? { stroke: colourOf, strokeWidth: 2, fill: "none" } : { fill: colourOf });
}

function scale({ log = false, low, high }, values, start, end) {
  const given = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  let least = low ?? Math.min(...given);
  let most = high ?? Math.max(...given);
  if (log) { least /= 1.15; most *= 1.15; } else {
    if (least === most) { least -= Math.abs(least) / 10 || 0.5; most += Math.abs(most) / 10 || 0.5; }
    const room = (most - least) * 0.05;
    if (low === undefined) least = least >= 0 && least < room ? 0 : least - room;
    if (high === undefined) most += room;
  }
  const of = log ? Math.log : (value) => value;
  const at = (value) => start + ((of(Math.max(value, log ? least : value)) - of(least)) / (of(most) - of(least))) * (end - start);
  return { at, ticks: (wanted) => (log ? logTicks(least, most) : ticks(least, most, wanted)) };
}

function render(self, svg, { axes, series, current = null, xLine = null }) {
  const width = Math.max(svg.clientWidth || svg.parentElement.clientWidth - 32, 240);
  self.width = svg.clientWidth;
  const points = series.flatMap((each) => each.points);
  const bottom = HEIGHT - PAD.bottom;
  const x = scale(axes.x, points.flatMap((point) => [point.x, ...(point.xs ?? [])]), PAD.left, width - PAD.right);
  const y = scale(axes.y, points.flatMap((point) => [point.y, ...(point.ys ?? [])]), bottom, PAD.top);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.replaceChildren();
  y.ticks(5).forEach((value) => {
    const at = y.at(value);
    svg.append(element("line", { class: "gridline", x1: PAD.left, x2: width - PAD.right, y1: at, y2: at }),
      element("text", { x: PAD.left - 6, y: at, dy: 4, "text-anchor": "end" }, axes.y.format(value)));
  });
  x.ticks(Math.max(2, Math.floor(width / 90))).forEach((value) => {
    const at = x.at(value);
    if (!series.some((each) => each.bars)) svg.append(element("line", { class: "gridline", x1: at, x2: at, y1: PAD.top, y2: bottom }));
    svg.append(element("text", { x: at, y: bottom + 16, "text-anchor": "middle" }, axes.x.format(value)));
  });
  svg.append(element("text", { class: "axis-title", x: (PAD.left + width - PAD.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, axes.x.title),
    element("text", { class: "axis-title", transform: `translate(12 ${(PAD.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, axes.y.title));
  if (xLine !== null) svg.append(element("line", { class: "here", x1: x.at(xLine), x2: x.at(xLine), y1: PAD.top, y2: bottom }));
  series.forEach((each) => drawSeries(svg, each, x, y));
  points.filter((point) => current !== null && [current].flat().includes(point.key)).forEach((point) => {
    svg.append(element("circle", { class: "current", cx: x.at(point.x), cy: y.at(point.y), r: 9 }));
  });
}

function drawBars(svg, { points, colour, bars }, x, y) {
  points.forEach((point) => {
    const [left, right, top, base] = [x.at(point.x - bars / 2), x.at(point.x + bars / 2), y.at(point.y), y.at(0)];
    const bar = element("rect", { class: "mark", x: left, width: right - left, y: top, height: Math.max(0.5, base - top), "data-title": point.title });
    bar.append(element("title", {}, point.title));
    svg.append(styled(bar, { fill: `var(--series-${colour})` }));
  });
}

function drawSeries(svg, series, x, y) {
  if (series.bars) { drawBars(svg, series, x, y); return; }
  const { points, colour, marker = "circle", line = false } = series;
  const stroke = `var(--series-${colour})`;
  if (line && points.length > 1) {
    const path = points.map((point) => `${x.at(point.x).toFixed(1)},${y.at(point.y).toFixed(1)}`).join(" ");
    svg.append(styled(element("polyline", { class: "line", points: path }), { stroke }));
  }
  points.forEach((point) => {
    const group = element("g", { class: "mark", "data-title": point.title });
    if (point.key !== undefined) group.setAttribute("data-key", point.key);
    const [cx, cy] = [x.at(point.x), y.at(point.y)];
    if (point.ys) group.append(styled(element("line", { class: "whisker", x1: cx, x2: cx, y1: y.at(point.ys[0]), y2: y.at(point.ys[1]) }), { stroke }));
    if (point.xs) group.append(styled(element("line", { class: "whisker", x1: x.at(point.xs[0]), x2: x.at(point.xs[1]), y1: cy, y2: cy }), { stroke }));
    const symbol = mark(marker, colour);
    symbol.setAttribute("transform", `translate(${cx.toFixed(1)} ${cy.toFixed(1)})`);
    group.append(symbol, element("circle", { class: "reach", cx, cy, r: 10 }), element("title", {}, point.title));
    svg.append(group);
  });
}

/** Ends of an interval, where it has some. */
export const ends = ({ low, high }) => (low === null || low === undefined ? undefined : [low, high]);
