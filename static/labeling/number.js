/**
 * The controls of protocols whose answer is a number: buttons, or a slider with buttons for its most used places. What
 * they need of a page stands in annotate.js.
 */

import { clamped, fractionOf, isWithin, signed, turned, wordAt, zoneShown, zoneWords } from "./scale.js";

/** Buttons alone: each answers at once. */
export function choices({ root, setup, sided }) {
  const buttons = answerButtons(root, setup);
  return {
    show: () => mark(buttons, null),
    value: ({ pictures }, number) => ({ value: turned(number, pictures) }),
    solution(trial, value) {
      const zone = zoneShown(trial.training.expected, trial.pictures);
      mark(buttons, zone);
      return solved(trial, value, zone, setup.scale, sided);
    },
  };
}

/** A slider that is sent when it stands right, over buttons that answer at once. */
export function slider(context) {
  const { root, setup, sided, say } = context;
  const { scale } = setup;
  const input = root.querySelector("input[type=range]");
  const output = root.querySelector("output");
  const expected = root.querySelector(".sc-expected");
  const middle = (scale.low + scale.high) / 2;
  const parts = choices(context);
  let number = null; // as shown; null until the slider is moved

  function draw() {
    input.value = number ?? middle;
    root.classList.toggle("unset", number === null);
    const words = number === null ? "Not set yet" : sided(`${wordAt(number, scale)}, ${signed(number, scale)}`);
    input.setAttribute("aria-valuetext", words);
    output.textContent = words;
  }

  function set(value) {
    number = value;
    draw();
  }

  lay(root, scale);
  for (const name of ["input", "pointerup"]) input.addEventListener(name, () => set(Number(input.value)));
  draw();
  return {
    ...parts,
    show(trial) {
      parts.show(trial);
      expected.hidden = true;
      set(null);
    },
    move: (by) => set(clamped((number ?? middle) + by, scale)),
    submitted() {
      if (number === null) say("Move the slider first, or answer with one of the keys.");
      return number;
    },
    solution(trial, value) {
      const zone = zoneShown(trial.training.expected, trial.pictures);
      place(expected, zone, scale);
      if (value !== null) set(turned(value.value, trial.pictures));
      return parts.solution(trial, value);
    },
  };
}

function answerButtons(root, setup) {
  const answers = new Map(Object.values(setup.actions).flat().map(({ name, answer }) => [name, answer]));
  return [...root.querySelectorAll("[data-action]")]
    .filter(({ dataset }) => typeof answers.get(dataset.action) === "number")
    .map((button) => ({ button, number: answers.get(button.dataset.action) }));
}

/** Mark the buttons within a zone, or none. */
function mark(buttons, zone) {
  buttons.forEach(({ button, number }) => button.classList.toggle("expected", zone !== null && isWithin(number, zone)));
}

function solved(trial, value, zone, scale, sided) {
  const isRight = value !== null && isWithin(turned(value.value, trial.pictures), zone);
  return { isRight, text: `Expected: ${sided(zoneWords(zone, scale))}.` };
}

/** Put everything with `data-at` at its place along the scale, and the zone of uncertainty around its middle. */
function lay(root, scale) {
  root.querySelectorAll("[data-at]").forEach((element) => {
    element.style.left = `${100 * fractionOf(Number(element.dataset.at), scale)}%`;
  });
  const zone = root.querySelector(".sc-zone");
  zone.hidden = !scale.zone;
  place(zone, { low: -scale.zone, high: scale.zone }, scale, zone.hidden);
}

function place(element, { low, high }, scale, isHidden = false) {
  const start = fractionOf(low, scale);
  element.style.left = `${100 * start}%`;
  element.style.width = `${100 * (fractionOf(high, scale) - start)}%`;
  element.hidden = isHidden;
}
