/**
 * Two pictures in the same place, one after the other while a key is held: differences that a glance from side to side
 * misses jump out. Laboratories alternate at 5 to 10 Hz (ISO/IEC 29170-2, JPEG AIC-3); at most six changes a second are
 * offered here, which is three flashes a second, the most that WCAG 2.2 (2.3.1) allows. The slow default is what people
 * do by hand with two windows.
 */

export const RATES = [1, 2, 4, 6]; // changes per second
export const DEFAULT_RATE = 2;

/** Which of two pictures is shown `elapsed` milliseconds after the start: 0, the left one, comes first. */
export function shownAt(elapsed, rate) {
  return Math.floor((elapsed * rate) / 1000) % 2;
}

/** A rate as remembered, or the default where it is none that is offered. */
export function rateOf(remembered) {
  const rate = Number(remembered);
  return RATES.includes(rate) ? rate : DEFAULT_RATE;
}
