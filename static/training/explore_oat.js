/** One network, all trade-offs: a slider over lambda, one over width. */

import { chart, ends, html, interval, percent, readings, short, stacked, written } from "./plot.js";

const near = (left, right) => Math.abs(left - right) < 1e-9;

export function explore(root, content, { sprites, name }) {
  const find = (selector) => root.querySelector(selector);
  const [lam, width] = [find("#lam"), find("#width")];
  const points = content.points.map((point, index) => ({ ...point, index }));
  const widths = [...new Set(points.map((point) => point.width))].sort((a, b) => a - b);
  const of = (wanted) => points.filter((point) => near(point.width, wanted)).sort((a, b) => a.lam - b.lam);
  const titled = (point) => `λ ${written(point.lam)}${widths.length > 1 ? `, width ${written(point.width)}` : ""}: SA ${interval(point.sa)}, RA ${interval(point.ra)}`;
  const asked = new URLSearchParams(location.hash.slice(1));

  width.max = widths.length - 1;
  width.value = Math.max(0, widths.findIndex((each) => near(each, Number(asked.get("width") ?? widths.at(-1)))));
  if (!widths.some((each) => near(each, Number(asked.get("width") ?? NaN)))) width.value = widths.length - 1;
  find("[data-width-slider]").hidden = widths.length < 2;
  const wanted = asked.has("lam") ? Number(asked.get("lam")) : content.lambdas[Math.floor(content.lambdas.length / 2)];
  const line = () => of(widths[Number(width.value)]);
  lam.max = line().length - 1;
  lam.value = closest(line(), wanted);

  const tradeoff = chart(find("[data-tradeoff]"), { title: "Robust against standard accuracy" });
  const byLambda = chart(find("[data-by-lambda]"), { title: "Both accuracies over λ" });
  const tiles = content.labels.map((label, image) => card(label, image));
  find("[data-tiles]").replaceChildren(...tiles.map((tile) => tile.figure));
  find("[data-trained]").textContent = content.continuous
    ? `Trained: λ ${content.lambdas.map(written).join(", ")}. Between them the encoding is interpolated; the slider stops where it was measured.`
    : `Trained, and adjustable to: λ ${content.lambdas.map(written).join(", ")}. Nothing lies between them.`;
  const total = content.dedicated.reduce((sum, each) => sum + each.seconds, 0);
  find("[data-cost]").textContent = content.dedicated.length
    ? `Training took ${short(content.seconds)} s for this one network, ${short(total)} s for the ${content.dedicated.length} dedicated ones.`
    : `Training took ${short(content.seconds)} s.`;

  function card(label, image) {
    const clean = sprites.clean.of(image, `test image ${image + 1}, ${name(label)}`);
    const attacked = sprites.attacked.of(image, `the same, attacked`);
    const [said, fooled] = [html("span", { class: "said" }), html("span", { class: "said" })];
    const pair = (tile, text, what) => html("div", { class: "tile-one" }, tile, html("span", { class: "small muted" }, what), text);
    const figure = html("figure", { class: "tile-pair" }, pair(clean, said, "clean"), pair(attacked, fooled, "attacked"), html("figcaption", {}, name(label)));
    return { figure, attacked, said, fooled };
  }

  function say(place, [said, probability], label) {
    const right = said === label;
    place.className = `said ${right ? "is-right" : "is-wrong"}`;
    place.textContent = `${right ? "✓" : "✗"} ${name(said)} ${percent(probability, 0)}`;
    return right;
  }

  function draw() {
    const now = line()[Number(lam.value)];
    find("[data-lam]").textContent = `${written(now.lam)}${now.trained ? "" : " (not trained: interpolated)"}`;
    lam.setAttribute("aria-valuetext", `${written(now.lam)}${now.trained ? "" : ", interpolated"}`);
    find("[data-width]").textContent = written(now.width);
    width.setAttribute("aria-valuetext", written(now.width));
    readings(find("[data-readings]"), [
      ["Standard accuracy", interval(now.sa)],
      [`Robust accuracy, ${content.attack}`, interval(now.ra)],
      ["Robust accuracy, independent attack", interval(now.ra_independent)],
      ["MACs of an image", short(now.macs)], ["Measured on", `${written(now.n)} images`],
    ]);
    const right = content.labels.map((label, image) => {
      sprites.attacked.show(tiles[image].attacked, now.index * content.labels.length + image);
      return [say(tiles[image].said, content.clean[now.index][image], label), say(tiles[image].fooled, content.attacked[now.index][image], label)];
    });
    const count = (at) => right.filter((each) => each[at]).length;
    find("[data-score]").textContent = `Of ${right.length} images ${count(0)} are right clean, ${count(1)} attacked.`;
    const form = find("[data-point]");
    if (form) form.value = JSON.stringify({ lam: now.lam, width: now.width });
    history.replaceState(null, "", `#lam=${now.lam}&width=${now.width}`);
    drawTradeoff(now);
    drawByLambda(now);
  }

  const rows = (now) => ({
    heads: [["λ"], ["Width"], ["SA"], ["RA"], ["Independent RA"], ["MACs"], "Trained"],
    rows: points.map((point) => ({
      ...(point.index === now.index ? { "aria-current": "true" } : {}),
      cells: [written(point.lam), written(point.width), stacked(point.sa), stacked(point.ra), stacked(point.ra_independent), short(point.macs), point.trained ? "yes" : "interpolated"],
    })),
  });
  const share = (title) => ({ title, format: (value) => percent(value, 0) });

  function drawTradeoff(now) {
    const series = widths.map((each, at) => ({
      name: widths.length > 1 ? `one network, width ${written(each)}` : "one network", colour: at + 1, line: true,
      points: of(each).map((point) => ({ x: point.sa.value, y: point.ra.value, key: point.index, title: titled(point),
        ...(point.index === now.index ? { xs: ends(point.sa), ys: ends(point.ra) } : {}) })),
    }));
    series.push({ name: content.dedicated.length ? "dedicated networks" : "", colour: 8, marker: "square", points: content.dedicated.map((each) => ({
      x: each.sa.value, y: each.ra.value, xs: ends(each.sa), ys: ends(each.ra), title: `${each.name} (λ ${written(each.lam)}): SA ${interval(each.sa)}, RA ${interval(each.ra)}` })) });
    tradeoff.draw({ axes: { x: share("Standard accuracy"), y: share("Robust accuracy") }, series, current: now.index, said: titled(now), table: rows(now), onPick: pick });
  }

  function drawByLambda(now) {
    const points = line();
    const measure = (key) => points.map((point) => ({ x: point.lam, y: point[key].value, ys: ends(point[key]), key: point.index, title: titled(point) }));
    const dots = (key) => content.dedicated.map((each) => ({ x: each.lam, y: each[key].value, ys: ends(each[key]), title: `${each.name}: ${interval(each[key])}` }));
    const series = [
      { name: "standard accuracy", colour: 1, line: true, points: measure("sa") }, { name: "robust accuracy", colour: 2, line: true, points: measure("ra") },
      { name: content.dedicated.length ? "dedicated, standard" : "", colour: 1, marker: "square", points: dots("sa") },
      { name: content.dedicated.length ? "dedicated, robust" : "", colour: 2, marker: "square", points: dots("ra") },
    ];
    byLambda.draw({ title: `Both accuracies over λ${widths.length > 1 ? `, width ${written(now.width)}` : ""}`,
      axes: { x: { title: "λ", format: written }, y: share("Accuracy") }, series, current: [now.index], xLine: now.lam, onPick: pick });
  }

  function pick(key) {
    const point = points[Number(key)];
    width.value = widths.findIndex((each) => near(each, point.width));
    lam.max = line().length - 1;
    lam.value = line().findIndex((each) => each.index === point.index);
    draw();
  }

  lam.addEventListener("input", draw);
  width.addEventListener("input", () => {
    const before = Number(new URLSearchParams(location.hash.slice(1)).get("lam"));
    lam.max = line().length - 1;
    lam.value = closest(line(), before);
    draw();
  });
  find("[data-ticks]").replaceChildren(...line().map((point) => html("span", { class: point.trained ? "trained" : "" }, point.trained ? written(point.lam) : "")));
  draw();
}

/** The place of the point whose lambda is next to the wanted one. */
function closest(line, wanted) {
  return line.reduce((best, point, at) => (Math.abs(point.lam - wanted) < Math.abs(line[best].lam - wanted) ? at : best), 0);
}
