/** Keeps every element with data-job="<id>" up to date: by server-sent events, by polling while they are away.
 *
 * Sends, bubbling from the element: "falsify:job" (detail: the job) on each change, "falsify:job-ended" once at its end.
 * A job inside [data-job-reload] reloads the page when it ends. [data-jobs-live] hears of jobs that are not on the page
 * as "falsify:jobs-changed" on the body.
 */

const POLL_MS = 2000;
const RETRY_MS = 20000;
const ADDRESS = document.getElementById("live-script")?.dataset.live ?? "/jobs/live.json";

let source = null;
let timer = null;
let followed = "";
let leaving = false;

const shown = (id) => document.querySelectorAll(`[data-job="${CSS.escape(id)}"]`);
const alive = () => [...document.querySelectorAll("[data-job]:not([data-job-over])")];
const wantsList = () => document.querySelector("[data-jobs-live]") !== null;

function text(element, selector, value) {
  const target = element.querySelector(selector);
  if (target && target.textContent !== value) target.textContent = value;
  return target;
}

function draw(element, job) {
  const badge = text(element, "[data-job-state]", job.state_label);
  if (badge) badge.className = `badge${job.tone ? ` badge-${job.tone}` : ""}`;
  text(element, "[data-job-message]", job.message);
  text(element, "[data-job-numbers]", job.numbers);
  const error = text(element, "[data-job-error]", job.error);
  if (error) error.hidden = !job.error;
  const progress = element.querySelector(".progress");
  if (progress) {
    progress.hidden = job.ended && job.state !== "failed";
    if (job.percent !== null) progress.setAttribute("aria-valuenow", Math.round(job.percent));
    const bar = progress.querySelector(".progress-bar");
    bar.style.width = `${job.percent ?? 0}%`;
    bar.classList.toggle("bad", job.state === "failed");
  }
}

/** Show the page anew, unless its reader is on the way to another one: a reload would call that off. */
function reload() {
  if (!leaving) window.location.reload();
}

function update(job) {
  const elements = shown(job.id);
  if (!elements.length && wantsList()) document.body.dispatchEvent(new CustomEvent("falsify:jobs-changed"));
  elements.forEach((element) => {
    if (element.hasAttribute("data-job-over")) return;
    draw(element, job);
    element.dispatchEvent(new CustomEvent("falsify:job", { bubbles: true, detail: job }));
    if (!job.ended) return;
    element.setAttribute("data-job-over", "");
    element.dispatchEvent(new CustomEvent("falsify:job-ended", { bubbles: true, detail: job }));
    if (element.closest("[data-job-reload]")) reload();
    else if (wantsList()) document.body.dispatchEvent(new CustomEvent("falsify:jobs-changed"));
  });
}

/** Ask for the state of what is shown, and for a ticket to follow it; null when the server is away. */
async function ask() {
  const query = new URLSearchParams(alive().map((element) => ["job", element.dataset.job]));
  if (wantsList()) query.set("list", "1");
  try {
    const response = await fetch(`${ADDRESS}?${query}`, { headers: { Accept: "application/json" } });
    if (!response.ok) return null;
    const answer = await response.json();
    answer.jobs.forEach(update);
    return answer;
  } catch {
    return null;
  }
}

function poll(until) {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    if (Date.now() > until) return follow();
    if (!alive().length && !wantsList()) return undefined;
    if (document.visibilityState === "visible") await ask();
    return poll(until);
  }, POLL_MS);
}

async function follow() {
  clearTimeout(timer);
  source?.close();
  source = null;
  if (!alive().length && !wantsList()) return;
  followed = key();
  const answer = await ask();
  if (!answer?.events) {
    poll(Date.now() + RETRY_MS);
    return;
  }
  source = new EventSource(answer.events);
  source.addEventListener("open", ask); // what happened between the ticket and now
  source.addEventListener("job", (event) => update(JSON.parse(event.data)));
  source.addEventListener("error", () => { // the ticket is used up: get another one, later
    source?.close();
    source = null;
    poll(Date.now() + RETRY_MS);
  });
}

const key = () => `${wantsList()}|${alive().map((element) => element.dataset.job).sort().join()}`;

document.addEventListener("htmx:load", () => { if (key() !== followed) follow(); });
window.addEventListener("beforeunload", () => {
  leaving = true;
  setTimeout(() => { leaving = false; }, RETRY_MS); // a download leaves the page where it is
});
window.addEventListener("pagehide", () => source?.close());
window.addEventListener("pageshow", (event) => {
  leaving = false;
  if (event.persisted) follow();
});
follow();
