/**
 * Answers on their way to the server. Each is kept in localStorage under a key of its own until the server has taken or
 * refused it, so that nothing is lost by a reload, a crash or a dropped network, and two windows do not disturb each
 * other. They are posted one at a time, in order; the same answer may be posted twice, the server keeps the first.
 */

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30_000;

/** Milliseconds before try number `failures + 1`. */
export function waitBefore(failures) {
  return Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.max(0, failures - 1));
}

/** What to do with an entry after a response: "taken", "refused" (drop it and say why), or "later" (keep it). */
export function afterStatus(status) {
  if (status >= 200 && status < 300) return "taken";
  return [400, 403, 404, 409, 410].includes(status) ? "refused" : "later";
}

export class Outbox {
  /**
   * @param {string} prefix of the storage keys: one per person and campaign
   * @param {(entry) => Promise<{status: number, body: object}>} post throws when the network is down
   * @param {{taken, refused, waiting}} on callbacks: (entry, body), (entry, status, body), (failures, status)
   */
  constructor(prefix, post, on, storage = window.localStorage) {
    this.prefix = prefix;
    this.post = post;
    this.on = on;
    this.storage = storage;
    this.inFlight = null;
    this.failures = 0;
    this.timer = null;
    this.entries = this.load();
  }

  load() {
    const found = [];
    for (let index = 0; index < this.storage.length; index += 1) {
      const name = this.storage.key(index);
      if (!name.startsWith(this.prefix)) continue;
      try {
        found.push(JSON.parse(this.storage.getItem(name)));
      } catch {
        this.storage.removeItem(name);
      }
    }
    return found.sort((a, b) => a.order - b.order);
  }

  get slots() {
    return this.entries.map((entry) => entry.slot);
  }

  add(entry) {
    const kept = { ...entry, order: Date.now() + this.entries.length / 1000 };
    try {
      this.storage.setItem(this.prefix + entry.key, JSON.stringify(kept));
    } catch {
      // storage is full or forbidden: the answer is still posted, it just would not survive a reload
    }
    this.entries.push(kept);
    this.flush();
  }

  remove(entry) {
    this.storage.removeItem(this.prefix + entry.key);
    this.entries = this.entries.filter((other) => other.key !== entry.key);
  }

  /** Take back the latest entry if it has not been posted; returns it or null. */
  takeBack() {
    const latest = this.entries.at(-1);
    if (!latest || latest.key === this.inFlight || latest.tried) return null;
    this.remove(latest);
    return latest;
  }

  /** Try again at once, for instance because the network is back. */
  hurry() {
    clearTimeout(this.timer);
    this.timer = null;
    this.flush();
  }

  async flush() {
    if (this.inFlight || this.timer || !this.entries.length) return;
    const entry = this.entries[0];
    this.inFlight = entry.key;
    entry.tried = true;
    let status = 0;
    let body = {};
    try {
      ({ status, body } = await this.post(entry));
    } catch {
      status = 0;
    }
    this.inFlight = null;
    const outcome = afterStatus(status);
    if (outcome === "later") {
      this.failures += 1;
      this.on.waiting(this.failures, status);
      this.timer = setTimeout(() => this.hurry(), waitBefore(this.failures));
      return;
    }
    this.failures = 0;
    this.remove(entry);
    if (outcome === "taken") this.on.taken(entry, body);
    else this.on.refused(entry, status, body);
    this.flush();
  }

  /** Resolves when everything has been posted; rejects when that does not happen in time. */
  async drained(limit = 5000) {
    const end = Date.now() + limit;
    while (this.entries.length) {
      if (Date.now() > end) throw new Error("offline");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
