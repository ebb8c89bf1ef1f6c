/**
 * The labelling page: shows a trial, takes one key or click as the answer, and goes on at once. It knows trials, keys,
 * answers on their way and progress; what is asked, and how, is the protocol's.
 *
 * A protocol's module (`setup.module`) exports `create({ root, setup, sided, say })`, which gives
 *   show(trial)              a trial comes on screen; returns the question where it is the trial's own
 *   value(trial, answer)     what is kept of an action's `answer`, or of what `submitted` gave
 *   solution(trial, value)   of a training trial, {isRight, text}; `value` is null where no answer was given
 *   move(by), submitted()    where it has such actions; `submitted` gives an answer, or null where none stands yet
 *   picks                    names of the actions that clicks on the pictures mean, from left to right
 *   enlarges                 whether tiny pictures are enlarged
 * `root` holds its controls: buttons with `data-action`; a word such as "Left" in `data-sided` where it may be "Upper".
 */

import { RATES, rateOf } from "./flicker.js";
import { actionOf, isForElement, keyLabel, panOf, zoomOf } from "./keys.js";
import { keysDialog } from "./keysdialog.js";
import { Outbox } from "./outbox.js";
import { Pace, minutesText } from "./pace.js";
import { Pictures, reconcile } from "./queue.js";
import { poster } from "./requests.js";
import { sided } from "./scale.js";
import { Stage } from "./stage.js";
import { measure } from "./viewing.js";

const setup = JSON.parse(document.getElementById("setup").textContent);
const $ = (id) => document.getElementById(id);
const base = `/label/${setup.campaign}/`;
const post = poster(base);
const UNDO_DEPTH = 10;
const HELD = ["flicker", "reference"]; // kinds of actions that last while their key is held
const POLL = 15_000; // milliseconds between looks for new work when there is none
const RATE = "falsify:flicker"; // storage key of the flicker rate, which belongs to the screen
const stacked = window.matchMedia("(max-width: 820px) and (orientation: portrait)"); // as in labeling.css

const state = {
  queue: [], // what is still to be judged; [0] is on screen, except while a solution is
  paintedAt: null, // when its pictures were painted; null while it cannot be answered
  feedback: false, // the solution of a training trial is shown, under its pictures
  history: [], // answers of this visit, latest last: {trial, key}
  bindings: { ...setup.keys },
  progress: { ...setup.progress },
  trained: setup.trained,
  campaign: "open",
  layout: null,
  held: null, // code of the key that is held for flicker or the reference
  poll: null,
};
const pace = new Pace(performance.now(), setup.blockMinutes);
const pictures = new Pictures();
const stage = new Stage($("stage"), { changed: sizes, picked: pick });
const protocol = (await import(setup.module)).create({
  root: $("answers"), setup, say, sided: (text) => sided(text, stacked.matches),
});

// Requests

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
  controls(null);
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
  if ($("break").open) return;
  if (pace.wantsBreak(performance.now())) {
    rest();
    return;
  }
  $("finish").hidden = true;
  if (trial.training === undefined && !state.trained && !$("trained").open) {
    state.trained = true;
    if (state.history.length) $("trained").showModal();
  }
  controls(trial);
  const images = await loaded(trial);
  if (state.queue[0] !== trial) return;
  if (images) {
    $("placeholder").hidden = true;
    stage.show(images, trial);
  } else {
    stage.clear();
    placeholder(trial.pictures.length === 1
      ? "The picture does not load. Answer “Broken image”, or skip it."
      : "A picture does not load. Answer “Broken image”, or skip the pair.");
  }
  painted(trial);
}

/** The decoded pictures of a trial, or null where one does not load; says so while they are waited for. */
async function loaded(trial) {
  const waited = setTimeout(() => { stage.clear(); placeholder("Loading …"); }, 80);
  try {
    return await pictures.get(trial);
  } catch {
    return null;
  } finally {
    clearTimeout(waited);
  }
}

/** Note when the trial is on screen: the second frame starts when the first has been handed over. */
function painted(trial) {
  const answeredAt = state.answeredAt;
  state.answeredAt = null;
  requestAnimationFrame(() => requestAnimationFrame(() => {
    if (state.queue[0] !== trial) return;
    state.paintedAt = performance.now();
    performance.mark("trial-painted");
    if (answeredAt) performance.measure("answer-to-paint", { start: answeredAt, end: state.paintedAt });
  }));
}

function controls(trial) {
  $("question").textContent = (trial && protocol.show(trial)) || setup.question;
  $("training-mark").hidden = !trial?.training;
  const names = trial ? actions().map(({ name }) => name) : [];
  document.querySelectorAll("[data-action]").forEach((button) => {
    button.hidden = !names.includes(button.dataset.action);
  });
  const reference = document.querySelector("[data-action=reference]");
  if (trial?.reference) state.hasReferences = true;
  reference.hidden ||= !state.hasReferences;
  reference.disabled = !trial?.reference;
  document.querySelector("[data-action=flicker]").hidden ||= trial?.pictures.length !== 2;
}

function actions() {
  return setup.actions[state.queue[0]?.variant] ?? Object.values(setup.actions)[0];
}

/** Say how large the pictures are drawn, and whether all of them is seen. */
function sizes(scales, seen) {
  const text = (scale) => (scale >= 1 && Number.isInteger(scale) ? `${scale}:1` : `${Math.round(scale * 100)} %`);
  $("zoom-level").textContent = [...new Set(scales.map(text))].join(" · ");
  $("part").hidden = seen > 0.999;
  const how = window.matchMedia("(pointer: coarse)").matches
    ? "drag to move, Zoom shows all"
    : `drag or Shift + arrows, ${keyLabel(state.bindings.zoom, state.layout)} shows all`;
  $("part").textContent = `You see ${Math.round(seen * 100)} %: ${how}`;
}

/** Turn "Left" into "Upper" where the pictures stand one above the other, and back. */
function words() {
  document.querySelectorAll("[data-sided]").forEach((element) => {
    element.textContent = sided(element.dataset.sided, stacked.matches);
  });
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
    if (!["undo", "move"].includes(action.kind)) next();
    return;
  }
  if (action.kind === "undo") {
    undo();
    return;
  }
  const trial = state.queue[0];
  if (!trial || state.paintedAt === null) return;
  if (action.kind === "move") {
    protocol.move(action.answer);
    return;
  }
  const answer = action.kind === "submit" ? protocol.submitted() : action.answer;
  if (action.kind === "submit" && answer === null) return;
  state.answeredAt = at;
  press(action.name);
  if (action.kind === "skip") skip(trial);
  else give(trial, action, answer, { device, at });
}

function skip(trial) {
  outbox.add({ path: "skip/", slot: trial.slot, key: crypto.randomUUID() });
  state.progress.left = Math.max(0, state.progress.left - 1);
  announce("Skipped.");
  advance();
  next();
}

function give(trial, action, answer, { device, at }) {
  const isAnswer = ["answer", "submit"].includes(action.kind);
  const key = crypto.randomUUID();
  const value = isAnswer ? protocol.value(trial, answer) : {};
  outbox.add({
    path: "answer/",
    slot: trial.slot,
    key,
    kind: isAnswer ? "answer" : action.kind,
    value,
    presented_at: new Date(performance.timeOrigin + state.paintedAt).toISOString(),
    milliseconds: Math.round(Math.max(0, at - state.paintedAt)),
    viewing: { ...measure(), scale: Math.round(stage.scale * 1000) / 1000, device, session: pace.session },
  });
  state.history = [...state.history, { trial, key, training: Boolean(trial.training) }].slice(-UNDO_DEPTH);
  announce(`${sided(action.label, stacked.matches)}.`);
  advance();
  if (trial.training) {
    feedback(trial, isAnswer ? value : null);
    return;
  }
  pace.answered(performance.now());
  state.progress = { done: state.progress.done + 1, left: Math.max(0, state.progress.left - 1) };
  next();
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
  $("page").classList.remove("solved");
  pictures.forget([...state.queue, ...state.history.map(({ trial }) => trial)]);
  show();
  progress();
}

function feedback(trial, value) {
  const { isRight, text } = protocol.solution(trial, value);
  state.feedback = true;
  state.answeredAt = null;
  $("feedback").dataset.right = String(isRight);
  $("feedback-title").textContent = isRight ? "Right." : "Not quite.";
  $("feedback-answer").textContent = text;
  $("feedback-why").textContent = trial.training.explanation;
  $("feedback").hidden = false;
  $("page").classList.add("solved");
  $("feedback-next").focus();
}

/** A click on a picture, where that is an answer. */
function pick(index, event) {
  const action = actions().find(({ name }) => name === protocol.picks?.[index]);
  if (action && !state.feedback) act(action, { device: deviceOf(event), at: event.timeStamp });
}

function deviceOf(event) {
  return { touch: "touch", pen: "touch" }[event.pointerType] ?? (event.detail === 0 ? "keyboard" : "mouse");
}

/** A break: an empty screen, until the person goes on. */
function rest() {
  stage.clear();
  controls(null);
  const { done, left } = state.progress;
  const time = minutesText(pace.minutesLeft(left));
  $("break-count").textContent = `${done} done, ${left} to go${time ? `: ${time}` : ""}.`;
  $("break").showModal();
}

function rested() {
  $("break").close();
  pace.rested(performance.now());
  show();
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

// Keys

function labels() {
  document.querySelectorAll("[data-action]").forEach((button) => {
    const code = state.bindings[button.dataset.action];
    if (code) button.querySelector("kbd").textContent = keyLabel(code, state.layout);
  });
}

function onKey(event) {
  if (document.querySelector("dialog[open]") || isForElement(event)) return;
  const action = actionOf(event, actions(), state.bindings);
  const pan = panOf(event);
  const zoom = action ? null : zoomOf(event);
  if (!action && !pan && !zoom) return;
  event.preventDefault();
  if (pan) stage.panStep(pan);
  else if (zoom) stage.zoomBy(1.5 ** zoom);
  else if (isHeld(action)) hold(action, event.code);
  else act(action, { device: "keyboard", at: event.timeStamp });
}

function isHeld({ kind }) {
  return HELD.includes(kind);
}

/** Flicker, or show the reference, until `release`. */
function hold(action, by) {
  release();
  state.held = by;
  document.querySelector(`[data-action="${action.name}"]`)?.classList.add("pressed");
  if (action.kind === "flicker") stage.flicker();
  else stage.hold(true);
}

function release() {
  state.held = null;
  for (const kind of HELD) document.querySelector(`[data-action=${kind}]`).classList.remove("pressed");
  stage.unflicker();
  stage.hold(false);
}

async function saveKeys(bindings) {
  try {
    const { status, body } = await post("preferences/", { keys: bindings });
    if (status >= 400) return body.detail;
    say("Your keys are remembered.");
  } catch {
    say("No connection: your keys hold for this visit only.");
  }
  state.bindings = { ...bindings };
  labels();
  return "";
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
  stage.enlarges = Boolean(protocol.enlarges);
  stage.isPickable = Boolean(protocol.picks);
  stage.mode = setup.zoom ?? "natural";
  if ($("flicker-rate")) rates($("flicker-rate"));
  $("fit").setAttribute("aria-pressed", String(stage.mode === "fit"));
  labels();
  words();
  progress();
  const warnings = await check();
  if (sessionStorage.getItem(STARTED) && !(setup.requireViewing && warnings.length)) await begin();
  else {
    $("start").showModal();
    $("start-button").focus();
  }
}

/** The choice of the flicker's rate, remembered in this browser. */
function rates(choice) {
  stage.rate = rateOf(localStorage.getItem(RATE));
  choice.replaceChildren(...RATES.map((rate) => new Option(`${rate} a second`, rate, false, rate === stage.rate)));
  choice.addEventListener("change", () => {
    stage.rate = Number(choice.value);
    localStorage.setItem(RATE, choice.value);
    choice.blur();
  });
}

/** Buttons do what their key does; those that are held, for as long as they are, or from one key press to the next. */
function wire(button) {
  const action = () => actions().find(({ name }) => name === button.dataset.action);
  if (isHeld({ kind: button.dataset.action })) {
    button.addEventListener("pointerdown", () => hold(action(), "pointer"));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(name, release);
    button.addEventListener("click", (event) => {
      if (event.detail !== 0) return;
      if (state.held === "button") release();
      else hold(action(), "button");
    });
    return;
  }
  button.addEventListener("click", (event) => {
    if (action()) act(action(), { device: deviceOf(event), at: event.timeStamp });
  });
}

keysDialog(setup.actions, { bindings: () => state.bindings, layout: () => state.layout, save: saveKeys });
document.querySelectorAll("[data-action]").forEach(wire);
document.addEventListener("keydown", onKey);
document.addEventListener("keyup", (event) => { if (event.code === state.held) release(); });
// A button that was clicked gives the focus back, so that Enter and Space mean what they are bound to.
document.addEventListener("click", ({ detail, target }) => {
  if (detail && !target.closest("dialog")) target.closest("button")?.blur();
});
window.addEventListener("blur", release);
stacked.addEventListener("change", words);
$("start-button").addEventListener("click", begin);
$("start").addEventListener("cancel", (event) => event.preventDefault());
$("check-again").addEventListener("click", check);
$("trained-close").addEventListener("click", () => {
  $("trained").close();
  state.paintedAt = state.paintedAt && performance.now();
});
$("feedback-next").addEventListener("click", next);
$("break").addEventListener("cancel", (event) => event.preventDefault());
$("break-close").addEventListener("click", rested);
$("fit").addEventListener("click", () => {
  stage.setMode(stage.mode === "fit" ? "natural" : "fit");
  $("fit").setAttribute("aria-pressed", String(stage.mode === "fit"));
  post("preferences/", { zoom: stage.mode }).catch(() => {});
});
$("zoom-in").addEventListener("click", () => stage.zoomBy(1.5));
$("zoom-out").addEventListener("click", () => stage.zoomBy(1 / 1.5));
window.addEventListener("online", () => outbox.hurry());
window.addEventListener("offline", () => banner("You are offline. Go on: your answers are kept and will be sent."));
window.addEventListener("beforeunload", (event) => {
  if (outbox.entries.length && outbox.failures) event.preventDefault();
});

open();
