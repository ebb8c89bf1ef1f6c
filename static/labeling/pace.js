/** How fast a person is, how long it will still take, and when a break would do good. */

const REMEMBERED = 25;
const PAUSE = 2 * 60_000; // a gap this long is a break
const STRETCH = 20 * 60_000; // labelling without one for this long suggests one

export function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Milliseconds from answer to answer, of the latest answers; pauses do not count. */
export class Pace {
  constructor(now) {
    this.gaps = [];
    this.latest = now;
    this.since = now;
  }

  answered(now) {
    const gap = now - this.latest;
    if (gap >= PAUSE) this.since = now;
    else this.gaps = [...this.gaps, gap].slice(-REMEMBERED);
    this.latest = now;
  }

  /** Minutes for `left` more answers, or null while too little is known. */
  minutesLeft(left) {
    return this.gaps.length < 3 ? null : (median(this.gaps) * left) / 60_000;
  }

  wantsBreak(now) {
    return now - this.since >= STRETCH;
  }

  rested(now) {
    this.since = now;
  }
}

export function minutesText(minutes) {
  if (minutes === null) return "";
  if (minutes < 1) return "less than a minute left";
  const whole = Math.round(minutes);
  return `about ${whole} minute${whole === 1 ? "" : "s"} left`;
}
