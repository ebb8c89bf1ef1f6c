/** The viewing check: window size, pixel ratio, browser zoom. */

/** Browser zoom cannot be read; on desktops the outer and inner width of the window tell it closely enough. */
export function zoomOf({ outerWidth, innerWidth, hasTouch, pinch = 1 }) {
  if (hasTouch || !outerWidth || !innerWidth) return pinch;
  const ratio = outerWidth / innerWidth;
  const known = [0.25, 0.33, 0.5, 0.67, 0.75, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5];
  const nearest = known.reduce((best, zoom) => (Math.abs(zoom - ratio) < Math.abs(best - ratio) ? zoom : best));
  return Math.abs(nearest - ratio) < 0.04 * nearest ? nearest * pinch : pinch;
}

export function measure(view = window) {
  return {
    width: view.innerWidth,
    height: view.innerHeight,
    pixel_ratio: Math.round(view.devicePixelRatio * 1000) / 1000,
    zoom: Math.round(zoomOf({
      outerWidth: view.outerWidth,
      innerWidth: view.innerWidth,
      hasTouch: view.matchMedia("(pointer: coarse)").matches,
      pinch: view.visualViewport?.scale ?? 1,
    }) * 100) / 100,
  };
}
