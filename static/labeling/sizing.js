/**
 * How large a picture is drawn. Scale: device pixels per picture pixel.
 *
 * natural: 1:1, so that nothing is resampled. Tiny pictures are enlarged by a whole number and drawn with hard edges;
 * pictures larger than the stage are scaled down to it (and shown 1:1 on zoom, to be panned).
 * fit: as large as the stage allows.
 */

const TINY_TARGET = 400; // CSS pixels that a tiny picture should roughly fill
const TINY_LIMIT = 200; // longest side in CSS pixels below which a picture counts as tiny
export const LARGEST_SCALE = 40;

/** Sizes in pixels: picture {width, height}; stage {width, height} in CSS pixels; ratio = devicePixelRatio. */
export function scaleFor(mode, picture, stage, ratio = 1) {
  const room = Math.min((stage.width * ratio) / picture.width, (stage.height * ratio) / picture.height);
  if (mode === "fit") return room > 1 ? Math.max(1, hardEdges(Math.min(room, LARGEST_SCALE))) : room;
  const longest = Math.max(picture.width, picture.height);
  if (longest < TINY_LIMIT * ratio) {
    const wanted = Math.round((TINY_TARGET * ratio) / longest);
    return Math.max(1, Math.min(wanted, Math.floor(room), LARGEST_SCALE));
  }
  return Math.min(1, room);
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
export function clampPan(offset, drawn, stage) {
  const limit = (size, room) => Math.max(0, (size - room) / 2);
  const keep = (value, most) => Math.min(most, Math.max(-most, value));
  return {
    x: keep(offset.x, limit(drawn.width, stage.width)),
    y: keep(offset.y, limit(drawn.height, stage.height)),
  };
}
