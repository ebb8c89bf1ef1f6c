/**
 * How large a picture is drawn. Scale: device pixels per picture pixel.
 *
 * natural: 1:1, so that nothing is resampled; what is larger than its pane is panned.
 * fit: the whole picture.
 * Where a protocol asks what a picture contains (`enlarges`), tiny pictures are enlarged by a whole number and drawn
 * with hard edges, and fit enlarges as well; where it asks how a picture looks, nothing is enlarged but on request.
 */

const TINY_TARGET = 400; // CSS pixels that a tiny picture should roughly fill
const TINY_LIMIT = 200; // longest side in CSS pixels below which a picture counts as tiny
export const LARGEST_SCALE = 40;

/** Sizes in pixels: picture {width, height}; pane {width, height} in CSS pixels; ratio = devicePixelRatio. */
export function scaleFor(mode, picture, pane, ratio = 1, enlarges = false) {
  const room = Math.min((pane.width * ratio) / picture.width, (pane.height * ratio) / picture.height);
  if (mode === "fit") return room > 1 && enlarges ? hardEdges(Math.min(room, LARGEST_SCALE)) : Math.min(1, room);
  const longest = Math.max(picture.width, picture.height);
  if (!enlarges || longest >= TINY_LIMIT * ratio) return 1;
  const wanted = Math.round((TINY_TARGET * ratio) / longest);
  return Math.max(1, Math.min(wanted, Math.floor(room), LARGEST_SCALE));
}

/** Whole numbers above 2, so that enlarged pixels stay squares of one size. */
function hardEdges(scale) {
  return scale >= 2 ? Math.floor(scale) : scale;
}

/** Enlarged pictures are drawn with hard edges: no colours that are not in the picture. */
export function isPixelated(scale) {
  return scale >= 2;
}

/** The nearest offset (CSS pixels from the centre) that keeps the picture in view: centred on an axis where it fits. */
export function clampPan(offset, drawn, pane) {
  const limit = (size, room) => Math.max(0, (size - room) / 2);
  const keep = (value, most) => Math.min(most, Math.max(-most, value));
  return {
    x: keep(offset.x, limit(drawn.width, pane.width)),
    y: keep(offset.y, limit(drawn.height, pane.height)),
  };
}

/** The share of a picture that its pane shows, 0 … 1. */
export function shareSeen(drawn, pane) {
  return Math.min(1, pane.width / drawn.width) * Math.min(1, pane.height / drawn.height);
}

/**
 * Where a side of a picture starts in its pane, in CSS pixels, such that it starts on a device pixel: a picture that is
 * drawn between device pixels is blurred. `origin`: where the pane starts in the window.
 */
export function startOf({ room, size, offset, origin, ratio }) {
  return Math.round((origin + (room - size) / 2 + offset) * ratio) / ratio - origin;
}
