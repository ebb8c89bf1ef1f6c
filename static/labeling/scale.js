/** The numbers of ratings and comparisons: places along the scale, the order of the sides, zones in words. */

/** 0 … 1 along the scale, from left to right. */
export function fractionOf(value, { low, high }) {
  return (value - low) / (high - low);
}

export function clamped(value, { low, high }) {
  return Math.min(high, Math.max(low, value));
}

/**
 * A number as it is kept, in the order of the trial, from one as shown, and the other way round: it is its own inverse.
 *
 * As shown, a negative number of a comparison prefers the left picture; as kept, a positive one the trial's first.
 */
export function turned(value, pictures) {
  return pictures.length === 2 && pictures[0].place === 0 ? 0 - value : value;
}

/** The zone of right answers as shown, from {low, high} as kept. */
export function zoneShown(expected, pictures) {
  const ends = [turned(expected.low, pictures), turned(expected.high, pictures)];
  return { low: Math.min(...ends), high: Math.max(...ends) };
}

export function isWithin(value, zone) {
  return zone.low <= value && value <= zone.high;
}

/** The scale's word nearest to a number; within the zone of uncertainty that of its middle. */
export function wordAt(value, { labels, zone = 0 }) {
  const about = zone && Math.abs(value) <= zone ? 0 : value;
  const usable = zone && about !== 0 ? labels.filter(([number]) => Math.sign(number) === Math.sign(about)) : labels;
  return usable.reduce((best, label) => (Math.abs(label[0] - about) < Math.abs(best[0] - about) ? label : best))[1];
}

/** What a zone of right answers says, in words. The ends of a zone belong to the words that lie within it. */
export function zoneWords({ low, high }, scale) {
  const inside = Math.min(1e-3, (high - low) / 4);
  const words = scale.step
    ? scale.labels.filter(([number]) => low <= number && number <= high).map(([, word]) => word)
    : [...new Set([wordAt(low + inside, scale), wordAt(high - inside, scale)])];
  const range = scale.step ? "" : ` (${signed(low, scale)} to ${signed(high, scale)})`;
  const [first, last] = [words[0], words.at(-1)];
  if (words.length === 1) return first + range;
  return `${first} ${words.length > 2 ? "to" : "or"} ${last[0].toLowerCase()}${last.slice(1)}${range}`;
}

/** A number with a real minus; of a scale that has both, with its sign. */
export function signed(value, { low }) {
  const rounded = Math.round(value * 10) / 10;
  if (rounded < 0) return `−${-rounded}`;
  return low < 0 && rounded > 0 ? `+${rounded}` : String(rounded);
}

/** Left and right where pictures stand side by side, upper and lower where they stand one above the other. */
export function sided(text, isStacked) {
  if (!isStacked) return text;
  const words = { Left: "Upper", left: "upper", Right: "Lower", right: "lower" };
  return text.replace(/\b([Ll]eft|[Rr]ight)\b/g, (word) => words[word]);
}
