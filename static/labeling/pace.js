/** How fast a person is, how long it will still take, and when a break would do good. */

const REMEMBERED = 25;
const PAUSE = 2 * 60_000; // a gap this long is a break

export function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Eight hexadecimal characters that name the trials between two breaks. */
export function sessionName(random = crypto) {
  return [...random.getRandomValues(new Uint8Array(4))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Milliseconds from answer to answer, of the latest answers; pauses do not count.
 *
 * `block`: minutes after which a break is due. `session` names what is answered between two breaks.
 */
export class Pace {
  constructor(now, block = 30) {
    this.block = block * 60_000;
    this.session = sessionName();
    this.gaps = [];
    this.latest = now;
    this.since = now;
  }

  answered(now) {
    const gap = now - this.latest;
    if (gap >= PAUSE) this.rested(now);
    else this.gaps = [...this.gaps, gap].slice(-REMEMBERED);
    this.latest = now;
  }

  /** Minutes for `left` more answers, or null while too little is known. */
  minutesLeft(left) {
    return this.gaps.length < 3 ? null : (median(this.gaps) * left) / 60_000;
  }

  wantsBreak(now) {
    return now - this.since >= this.block;
  }

  /** A break has ended: another block begins. */
  rested(now) {
    this.since = now;
    this.session = sessionName();
  }
}

export function minutesText(minutes) {
  if (minutes === null) return "";
  if (minutes < 1) return "less than a minute left";
  const whole = Math.round(minutes);
  return `about ${whole} minute${whole === 1 ? "" : "s"} left`;
}
