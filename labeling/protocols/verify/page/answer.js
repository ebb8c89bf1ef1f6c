/** Verify labels: class cards beside the picture, a yes or no for each. An answer is a list of them in shown order. */

const SIDES = ["left", "right"];

export function create() {
  const page = document.getElementById("page");
  return { enlarges: true, show: (trial) => show(page, trial), value, solution };
}

function show(page, { classes }) {
  page.dataset.classes = String(classes.length);
  SIDES.forEach((side, place) => card(document.getElementById(`card-${side}`), classes[place]));
  if (classes.length === 1) return `Does the picture contain “${classes[0].name}”?`;
  return "Which of these does the picture contain?";
}

function card(element, about) {
  element.hidden = !about;
  if (!about) return;
  element.querySelector("h2").textContent = about.name;
  element.querySelector(".synonyms").textContent = about.synonyms.join(", ");
  element.querySelector(".gloss").textContent = about.gloss;
}

function value({ classes }, answer) {
  return Object.fromEntries(classes.map(({ index }, place) => [index, answer[place]]));
}

function solution({ classes, training }, given) {
  return {
    isRight: given !== null && classes.every(({ index }) => given[index] === training.expected[index]),
    text: classes.map(({ index, name }) => `${name}: ${training.expected[index] ? "yes" : "no"}`).join(" · "),
  };
}
