/** A network that stops early: a slider over the budget; the page routes the sample images itself. */

import { chart, ends, html, interval, percent, readings, short, stacked, table, written } from "./plot.js";

/** The exit at which an image leaves: the first whose entropy is below its threshold, else the last. */
export function exitOf(entropies, thresholds) {
  const found = thresholds.findIndex((threshold, at) => entropies[at] < threshold);
  return found === -1 ? thresholds.length : found;
}

export function explore(root, content, { sprites, name }) {
  const find = (selector) => root.querySelector(selector);
  const budget = find("#budget");
  const points = content.points.map((point, index) => ({ ...point, index })).sort((a, b) => a.macs_honest - b.macs_honest);
  const tradeoff = chart(find("[data-tradeoff]"), { title: "Accuracy against computation" });
  const exits = chart(find("[data-exits]"), { title: "Where images leave" });
  const asked = new URLSearchParams(location.hash.slice(1)).get("budget");
  budget.max = points.length - 1;
  budget.value = asked === null ? Math.floor((points.length - 1) / 2)
    : points.reduce((best, point, at) => (Math.abs(point.budget - asked) < Math.abs(points[best].budget - asked) ? at : best), 0);
  const chosen = (group) => root.querySelector(`input[name="${group}"]:checked`).value;
  const share = (title) => ({ title, format: (value) => percent(value, 0) });
  drawAttacks();
  drawExitTable();

  function draw() {
    const now = points[Number(budget.value)];
    const macs = chosen("macs");
    find("[data-budget]").textContent = `${short(now[macs])} MACs`;
    budget.setAttribute("aria-valuetext", `${short(now[macs])} MACs`);
    const single = content.single;
    const less = single ? 1 - now[macs] / single.macs : null;
    readings(find("[data-readings]"), [
      ["Standard accuracy", interval(now.sa)], ["Robust accuracy", interval(now.ra)],
      ["Computation beside one exit", less === null ? null : `${percent(Math.abs(less), 0)} ${less >= 0 ? "less" : "more"}`],
      ["Images per second", now.images_per_second ? short(now.images_per_second) : null],
      ["With one exit", single?.images_per_second ? `${short(single.images_per_second)} images per second` : null],
    ]);
    find("[data-thresholds]").textContent = `It leaves where the entropy (nats) is below: ${now.thresholds.map((value, at) => `${content.exits[at].name} ${written(value)}`).join(" · ")}`;
    const form = find("[data-point]");
    if (form) form.value = JSON.stringify({ thresholds: now.thresholds });
    history.replaceState(null, "", `#budget=${now.budget}`);
    drawTradeoff(now, macs);
    drawExits(now);
    drawGroups(now);
  }

  function drawTradeoff(now, macs) {
    const line = (key, label) => points.slice().sort((a, b) => a[macs] - b[macs]).map((point) => ({
      x: point[macs], y: point[key].value, ys: ends(point[key]), key: point.index, title: `${short(point[macs])} MACs: ${label} ${interval(point[key])}` }));
    const series = [
      { name: "clean", colour: 1, line: true, points: line("sa", "clean") }, { name: "attacked", colour: 2, line: true, points: line("ra", "attacked") },
    ];
    if (content.single) {
      const dot = (key, label) => [{ x: content.single.macs, y: content.single[key].value, ys: ends(content.single[key]), title: `one exit, ${label}: ${interval(content.single[key])} at ${short(content.single.macs)} MACs` }];
      series.push({ name: "one exit, clean", colour: 1, marker: "square", points: dot("sa", "clean") }, { name: "one exit, attacked", colour: 2, marker: "square", points: dot("ra", "attacked") });
    }
    tradeoff.draw({
      axes: { x: { title: "Mean MACs of an image", format: (value) => short(value) }, y: share("Accuracy") }, series, current: now.index, xLine: now[macs],
      said: `${short(now[macs])} MACs: clean ${interval(now.sa)}, attacked ${interval(now.ra)}`,
      table: {
        heads: [["MACs, honest"], ["MACs, paper"], ["SA"], ["RA"], ["Images per second"], ["Thresholds"]],
        rows: points.map((point) => ({ ...(point.index === now.index ? { "aria-current": "true" } : {}),
          cells: [short(point.macs_honest), short(point.macs_paper), stacked(point.sa), stacked(point.ra), point.images_per_second ? short(point.images_per_second) : "—", point.thresholds.map(written).join(", ")] })),
      },
      onPick: (key) => { budget.value = points.findIndex((point) => point.index === Number(key)); draw(); },
    });
  }

  function drawExits(now) {
    const bars = (key, colour, label, aside) => ({ name: label, colour, marker: "square", bars: 0.26,
      points: now[key].map((value, at) => ({ x: at + 1 + aside, y: value, title: `${content.exits[at].name}, ${label}: ${percent(value)}` })) });
    exits.draw({
      axes: { x: { title: "Exit", format: (value) => (Number.isInteger(value) ? content.exits[value - 1]?.name ?? "" : ""), low: 0.5, high: content.exits.length + 0.5 },
        y: { ...share("Share of the images"), low: 0, high: Math.max(...now.share, ...now.share_attacked, 0.05) * 1.05 } },
      series: [bars("share", 1, "clean", -0.14), bars("share_attacked", 2, "attacked", 0.14)],
      table: { heads: ["Exit", ["Clean"], ["Attacked"]], rows: content.exits.map((each, at) => ({ cells: [each.name, percent(now.share[at]), percent(now.share_attacked[at])] })) },
    });
  }

  function drawAttacks() {
    const place = find("[data-attacks]");
    if (!content.attacks.length) { place.remove(); return; }
    const worst = content.attacks.reduce((a, b) => (b.ra.value < a.ra.value ? b : a));
    const rows = content.attacks.map((each) => ({ cells: [each === worst ? html("b", {}, `${each.name} (worst)`) : each.name, interval(each.ra)] }));
    place.replaceChildren(html("section", { class: "card" }, html("h3", {}, "Robust accuracy by attack"), html("div", { class: "table-wrap" }, table(["Attack", ["Robust accuracy"]], rows)),
      html("p", { class: "small muted" }, "At the default thresholds. The headline is the worst of them.")));
  }

  function drawExitTable() {
    const rows = content.exits.map((each) => ({ cells: [each.name, short(each.macs_honest), short(each.macs_paper), stacked(each.accuracy), stacked(each.accuracy_attacked)] }));
    find("[data-exit-table]").replaceChildren(table(["Exit", ["MACs, honest"], ["MACs, paper"], ["Accuracy, all images"], ["Attacked"]], rows));
  }

  function drawGroups(now) {
    const which = chosen("images");
    const sprite = sprites[which ? "attacked" : "clean"];
    const left = content.labels.map((label, image) => ({ label, image, exit: exitOf(content[`entropies${which}`][image], now.thresholds) }));
    const said = ({ image, exit }) => content[`predictions${which}`][image][exit];
    const groups = content.exits.map((each, at) => {
      const here = left.filter(({ exit }) => exit === at);
      const cards = here.map((entry) => {
        const [predicted, probability] = said(entry);
        const right = predicted === entry.label;
        return html("figure", { class: "tile-pair single" }, html("div", { class: "tile-one" }, sprite.of(entry.image, `test image ${entry.image + 1}, ${name(entry.label)}`),
          html("span", { class: `said ${right ? "is-right" : "is-wrong"}` }, `${right ? "✓" : "✗"} ${name(predicted)} ${percent(probability, 0)}`)), html("figcaption", {}, name(entry.label)));
      });
      const heading = html("h3", {}, `${each.name} `, html("span", { class: "unit small" }, `${here.length} image${here.length === 1 ? "" : "s"}, ${short(each.macs_honest)} MACs each`));
      return html("div", { class: "exit-group" }, heading, here.length ? html("div", { class: "tiles" }, ...cards) : html("p", { class: "small muted" }, "None leaves here."));
    });
    const right = left.filter((entry) => said(entry)[0] === entry.label).length;
    find("[data-score]").textContent = `Of ${left.length} images ${right} are right.`;
    find("[data-groups]").replaceChildren(...groups);
  }

  root.addEventListener("input", draw);
  draw();
}
