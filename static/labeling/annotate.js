/** The labelling page: shows a trial, takes one key or click as the answer, and goes on at once. */

import { actionOf, bindable, clash, keyLabel } from "./keys.js";
import { Outbox } from "./outbox.js";
import { Pace, minutesText } from "./pace.js";
import { Pictures, reconcile } from "./queue.js";
import { Stage } from "./stage.js";
import { measure } from "./viewing.js";

const setup = JSON.parse(document.getElementById("setup").textContent);
const $ = (id) => document.getElementById(id);
const base = `/label/${setup.campaign}/`;
const UNDO_DEPTH = 10;
const POLL = 15_000; // milliseconds between looks for new work when there is none

const state = {
  queue: [], // what is still to be judged; [0] is on screen, except while a solution is
  paintedAt: null, // when its picture was painted; null while it cannot be answered
  feedback: false, // the solution of a training trial is shown, over its picture
  history: [], // answers of this visit, latest last: {trial, key}
  bindings: { ...setup.keys },
  progress: { ...setup.progress },
  trained: setup.trained,
  campaign: "open",
  failed: new Set(), // slots whose picture does not load
  device: "keyboard",
  layout: null,
  poll: null,
};
const pace = new Pace(performance.now());
const pictures = new Pictures();
const stage = new Stage($("stage"), (scale) => {
  $("zoom-level").textContent = scale >= 1 && Number.isInteger(scale) ? `${scale}:1` : `${Math.round(scale * 100)} %`;
});

// Requests

function token() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}

async function post(path, body) {
  const response = await fetch(base + path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": token() },
    body: JSON.stringify(body),
  });
  if (!response.headers.get("Content-Type")?.includes("json")) throw new Error(`status ${response.status}`);
  return { status: response.status, body: await response.json() };
}

const outbox = new Outbox(
  `falsify:answers:${setup.person}:${setup.campaign}:`,
  ({ path, order, tried, ...entry }) => post(path, { ...entry, count: setup.ahead }),
  {
    taken(entry, body) {
      online();
      absorb(body);
      if (body.notice) say(body.notice);
    },
    refused(entry, status, body) {
      online();
      state.history = state.history.filter((item) => item.key !== entry.key);
      say(body.detail ?? "An answer was not taken.");
      refill();
    },
    waiting(failures, status) {
      const count = outbox.entries.length;
      const kept = `${count} answer${count === 1 ? " is" : "s are"} kept here and will be sent.`;
      banner(status === 401
        ? `You were logged out. Log in again in another window: ${kept}`
        : `No connection to the server. Go on: ${kept}`);
    },
  },
);

/** Ask what this person holds; used at the start, after a refusal, and while there is nothing to do. */
async function refill() {
  try {
    const { status, body } = await post("next/", { count: setup.ahead });
    if (status >= 400) {
      ended(body.detail);
      return;
    }
    online();
    absorb(body);
  } catch {
    banner("No connection to the server. Trying again …");
    schedule(3000);
  }
}

function schedule(milliseconds) {
  clearTimeout(state.poll);
  state.poll = setTimeout(refill, milliseconds);
}

/** Take in what the server says the person holds. */
function absorb(body) {
  state.campaign = body.state ?? state.campaign;
  if (body.progress) state.progress = { ...body.progress };
  const before = state.queue[0]?.slot;
  if (body.trials) state.queue = reconcile(state.queue, body.trials, outbox.slots);
  pictures.ahead(state.queue);
  if (!state.queue.length) nothing();
  else if (before === undefined && !state.feedback) show();
  progress();
}

// What is on screen

function ended(why = "") {
  say(why);
  window.location.assign(`${base}thanks/`);
}

function nothing() {
  state.paintedAt = null;
  stage.clear();
  cards(null);
  if (outbox.entries.length) {
    placeholder("Sending your answers …");
    return;
  }
  if (["complete", "closed", "stopped"].includes(state.campaign)) {
    setTimeout(ended, 0);
    return;
  }
  placeholder(state.campaign === "paused"
    ? "The campaign is paused. This page goes on by itself when it is opened again."
    : "Nothing left for you right now: others are still busy. This page goes on by itself if there is more.");
  $("finish").hidden = false;
  schedule(POLL);
}

function placeholder(text) {
  $("placeholder").textContent = text;
  $("placeholder").hidden = false;
}

async function show() {
  const trial = state.queue[0];
  state.paintedAt = null;
  if (!trial) {
    if (!outbox.entries.length) refill();
    nothing();
    return;
  }
  $("finish").hidden = true;
  if (trial.training === undefined && !state.trained && !$("trained").open) {
    state.trained = true;
    if (state.history.length) $("trained").showModal();
  }
  cards(trial);
  const waited = setTimeout(() => { stage.clear(); placeholder("Loading the picture …"); }, 80);
  let images = null;
  try {
    images = await pictures.get(trial);
  } catch {
    state.failed.add(trial.slot);
  }
  clearTimeout(waited);
  if (state.queue[0] !== trial) return;
  if (images) {
    $("placeholder").hidden = true;
    stage.show(images[0], trial.pictures[0]);
  } else {
    stage.clear();
    placeholder("The picture does not load. Answer “Broken image”, or skip it.");
  }
  requestAnimationFrame(() => {
    if (state.queue[0] === trial) state.paintedAt = performance.now();
    performance.mark("trial-painted");
    if (state.answeredAt) performance.measure("answer-to-paint", { start: state.answeredAt, end: performance.now() });
    state.answeredAt = null;
  });
}

function cards(trial) {
  const shown = trial?.classes ?? [];
  $("page").dataset.classes = String(shown.length);
  ["left", "right"].forEach((side, index) => {
    const card = $(`card-${side}`);
    const about = shown[index];
    card.hidden = !about;
    if (!about) return;
    card.querySelector("h2").textContent = about.name;
    card.querySelector(".synonyms").textContent = about.synonyms.join(", ");
    card.querySelector(".gloss").textContent = about.gloss;
  });
  if (shown.length === 1) $("question").textContent = `Does the picture contain “${shown[0].name}”?`;
  if (shown.length === 2) $("question").textContent = "Which of these does the picture contain?";
  $("training-mark").hidden = !trial?.training;
  document.querySelectorAll("[data-action]").forEach((button) => {
    const action = actions().find(({ name }) => name === button.dataset.action);
    button.hidden = !action || !trial;
  });
}

function actions() {
  return setup.actions[state.queue[0]?.variant] ?? Object.values(setup.actions)[0];
}

function progress() {
  const { done, left } = state.progress;
  $("progress").max = Math.max(1, done + left);
  $("progress").value = done;
  const time = minutesText(pace.minutesLeft(left));
  $("progress-text").textContent = [`${done} of ${done + left}`, time].filter(Boolean).join(" · ");
}

function say(text) {
  if (!text) return;
  $("notice").textContent = text;
  $("notice").hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { $("notice").hidden = true; }, 8000);
}

function announce(text) {
  $("announcer").textContent = text;
}

function banner(text) {
  $("banner").textContent = text;
  $("banner").hidden = false;
}

function online() {
  $("banner").hidden = true;
}

// Acting

function act(action, { device, at }) {
  if (action.kind === "zoom") {
    stage.toggle();
    return;
  }
  if (state.feedback) {
    if (action.kind !== "undo") next();
    return;
  }
  if (action.kind === "undo") {
    undo();
    return;
  }
  const trial = state.queue[0];
  if (!trial || state.paintedAt === null) return;
  state.answeredAt = at;
  state.device = device;
  const seconds = Math.max(0, at - state.paintedAt);
  press(action.name);
  if (action.kind === "skip") {
    outbox.add({ path: "skip/", slot: trial.slot, key: crypto.randomUUID() });
    state.progress.left = Math.max(0, state.progress.left - 1);
    announce("Skipped.");
    advance();
    next();
    return;
  }
  const key = crypto.randomUUID();
  const value = {};
  if (action.kind === "answer") trial.classes.forEach(({ index }, place) => { value[index] = action.answer[place]; });
  outbox.add({
    path: "answer/",
    slot: trial.slot,
    key,
    kind: action.kind,
    value,
    presented_at: new Date(performance.timeOrigin + state.paintedAt).toISOString(),
    milliseconds: Math.round(seconds),
    viewing: { ...measure(), scale: Math.round(stage.scale * 1000) / 1000, device },
  });
  state.history = [...state.history, { trial, key, training: Boolean(trial.training) }].slice(-UNDO_DEPTH);
  announce(`${action.label}.`);
  advance();
  if (trial.training) {
    feedback(trial, action, value);
    return;
  }
  pace.answered(performance.now());
  state.progress = { done: state.progress.done + 1, left: Math.max(0, state.progress.left - 1) };
  next();
  suggestBreak();
}

/** The trial on screen is done with. */
function advance() {
  state.queue = state.queue.slice(1);
  state.paintedAt = null;
}

/** Show what comes next. */
function next() {
  state.feedback = false;
  $("feedback").hidden = true;
  pictures.forget([...state.queue, ...state.history.map(({ trial }) => trial)]);
  show();
  progress();
}

function feedback(trial, action, value) {
  const { expected, explanation } = trial.training;
  const right = action.kind === "answer" && trial.classes.every(({ index }) => value[index] === expected[index]);
  state.feedback = true;
  state.answeredAt = null;
  $("feedback").dataset.right = String(right);
  $("feedback-title").textContent = right ? "Right." : "Not quite.";
  $("feedback-answer").textContent = trial.classes
    .map(({ index, name }) => `${name}: ${expected[index] ? "yes" : "no"}`).join(" · ");
  $("feedback-why").textContent = explanation;
  $("feedback").hidden = false;
  $("feedback-next").focus();
}

async function undo() {
  const latest = state.history.at(-1);
  if (latest?.training) {
    say("Training answers stay as they are.");
    return;
  }
  const taken = outbox.takeBack();
  if (taken) {
    const known = state.history.findIndex(({ key }) => key === taken.key);
    if (known >= 0) {
      const [{ trial }] = state.history.splice(known, 1);
      again(trial);
    } else refill();
    return;
  }
  try {
    await outbox.drained();
    const { status, body } = await post("undo/", latest ? { key: latest.key } : {});
    if (status >= 400) {
      say(body.detail);
      return;
    }
    state.history = state.history.slice(0, -1);
    again(body.trial);
  } catch {
    say("Undo needs a connection to the server: it works again when you are back online.");
  }
}

/** Show a trial again whose answer was taken back. */
function again(trial) {
  state.queue = [trial, ...state.queue.filter(({ slot }) => slot !== trial.slot)];
  state.progress = { done: Math.max(0, state.progress.done - 1), left: state.progress.left + 1 };
  announce("Answer taken back.");
  say("Answer taken back: judge this picture again.");
  show();
  progress();
}

function press(name) {
  const button = document.querySelector(`[data-action="${name}"]`);
  button?.classList.add("pressed");
  setTimeout(() => button?.classList.remove("pressed"), 120);
}

function suggestBreak() {
  if (pace.wantsBreak(performance.now()) && $("break").hidden) $("break").hidden = false;
}

// Keys

function labels() {
  document.querySelectorAll("[data-action]").forEach((button) => {
    const code = state.bindings[button.dataset.action];
    button.querySelector("kbd").textContent = keyLabel(code, state.layout);
  });
}

function onKey(event) {
  if (document.querySelector("dialog[open]")) return;
  const action = actionOf(event, actions(), state.bindings);
  if (!action) return;
  event.preventDefault();
  act(action, { device: "keyboard", at: event.timeStamp });
}

const remap = { draft: {}, waiting: null };

function openKeys() {
  remap.draft = { ...state.bindings };
  remap.waiting = null;
  drawKeys();
  $("keys").showModal();
}

function drawKeys() {
  const both = Object.values(setup.actions).reverse().flat();
  const unique = both.filter((action, index) => both.findIndex(({ name }) => name === action.name) === index);
  $("keys-list").replaceChildren(...unique.map((action) => {
    const row = document.createElement("div");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "key-button";
    button.textContent = remap.waiting === action.name ? "Press a key …" : keyLabel(remap.draft[action.name], state.layout);
    button.setAttribute("aria-label", `${action.label}: ${button.textContent}. Change`);
    button.addEventListener("click", () => {
      remap.waiting = action.name;
      drawKeys();
      [...$("keys-list").querySelectorAll("button")].find((other) => other.textContent.startsWith("Press"))?.focus();
    });
    const name = document.createElement("span");
    name.textContent = action.label;
    row.append(name, button);
    return row;
  }));
  const doubled = clash(remap.draft, Object.values(setup.actions));
  const label = (name) => unique.find((action) => action.name === name).label;
  $("keys-error").textContent = doubled ? `“${label(doubled[0])}” and “${label(doubled[1])}” have the same key.` : "";
  $("keys-save").disabled = Boolean(doubled);
}

function onRemapKey(event) {
  if (!remap.waiting) return;
  event.preventDefault();
  event.stopPropagation();
  if (event.code !== "Escape") {
    if (!bindable(event.code)) return;
    remap.draft[remap.waiting] = event.code;
  }
  const place = [...$("keys-list").querySelectorAll("button")].indexOf(document.activeElement);
  remap.waiting = null;
  drawKeys();
  $("keys-list").querySelectorAll("button")[Math.max(0, place)]?.focus();
}

async function saveKeys() {
  try {
    const { status, body } = await post("preferences/", { keys: remap.draft });
    if (status >= 400) {
      $("keys-error").textContent = body.detail;
      return;
    }
    say("Your keys are remembered.");
  } catch {
    say("No connection: your keys hold for this visit only.");
  }
  state.bindings = { ...remap.draft };
  labels();
  $("keys").close();
}

// The viewing check and the start

async function check() {
  const viewing = measure();
  $("check-window").textContent = `${viewing.width} × ${viewing.height}`;
  $("check-ratio").textContent = String(viewing.pixel_ratio);
  $("check-zoom").textContent = `${Math.round(viewing.zoom * 100)} %`;
  try {
    const { body } = await post("viewing/", viewing);
    const warnings = body.warnings ?? [];
    $("check-warnings").replaceChildren(...warnings.map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }));
    $("check-good").hidden = warnings.length > 0;
    $("start-button").disabled = setup.requireViewing && warnings.length > 0;
    $("check-again").hidden = warnings.length === 0;
    return warnings;
  } catch {
    banner("No connection to the server. The check will be repeated when you start.");
    return [];
  }
}

const STARTED = `falsify:started:${setup.person}:${setup.campaign}`;

async function begin() {
  sessionStorage.setItem(STARTED, "1");
  $("start").close();
  pace.rested(performance.now());
  outbox.flush();
  await refill();
}

async function open() {
  state.layout = await navigator.keyboard?.getLayoutMap?.().catch(() => null) ?? null;
  labels();
  progress();
  if (setup.zoom) stage.mode = setup.zoom;
  $("fit").setAttribute("aria-pressed", String(stage.mode === "fit"));
  const warnings = await check();
  if (sessionStorage.getItem(STARTED) && !(setup.requireViewing && warnings.length)) await begin();
  else {
    $("start").showModal();
    $("start-button").focus();
  }
}

document.addEventListener("keydown", onKey);
$("keys").addEventListener("keydown", onRemapKey, { capture: true });
$("keys").addEventListener("cancel", (event) => { if (remap.waiting) event.preventDefault(); });
$("keys-open").addEventListener("click", openKeys);
$("keys-save").addEventListener("click", saveKeys);
$("keys-close").addEventListener("click", () => $("keys").close());
$("keys-reset").addEventListener("click", () => {
  Object.values(setup.actions).flat().forEach(({ name, code }) => { remap.draft[name] = code; });
  remap.waiting = null;
  drawKeys();
});
$("start-button").addEventListener("click", begin);
$("start").addEventListener("cancel", (event) => event.preventDefault());
$("check-again").addEventListener("click", check);
$("trained-close").addEventListener("click", () => {
  $("trained").close();
  state.paintedAt = state.paintedAt && performance.now();
});
$("feedback-next").addEventListener("click", next);
$("break-close").addEventListener("click", () => {
  $("break").hidden = true;
  pace.rested(performance.now());
});
$("fit").addEventListener("click", () => {
  stage.setMode(stage.mode === "fit" ? "natural" : "fit");
  $("fit").setAttribute("aria-pressed", String(stage.mode === "fit"));
  post("preferences/", { zoom: stage.mode }).catch(() => {});
});
$("zoom-in").addEventListener("click", () => stage.zoomTo(stage.scale * 1.5));
$("zoom-out").addEventListener("click", () => stage.zoomTo(stage.scale / 1.5));
document.querySelectorAll("[data-action]").forEach((button) => {
  button.addEventListener("click", (event) => {
    const action = actions().find(({ name }) => name === button.dataset.action);
    const device = { touch: "touch", pen: "touch" }[event.pointerType] ?? (event.detail === 0 ? "keyboard" : "mouse");
    if (action) act(action, { device, at: event.timeStamp });
  });
});
window.addEventListener("online", () => outbox.hurry());
window.addEventListener("offline", () => banner("You are offline. Go on: your answers are kept and will be sent."));
window.addEventListener("beforeunload", (event) => {
  if (outbox.entries.length && outbox.failures) event.preventDefault();
});

open();
