/** Trials ahead: which come next, and their pictures, decoded before they are needed. */

/**
 * The new queue from the old one and what the server says the person holds.
 *
 * The first of `queue` is on screen and stays. Others stay in their order while they are held; new ones follow. What
 * has been answered here but not yet there (`answered`: slots) is left out.
 */
export function reconcile(queue, held, answered) {
  const done = new Set(answered);
  const heldSlots = new Set(held.map((trial) => trial.slot));
  const kept = queue.filter((trial, index) => !done.has(trial.slot) && (index === 0 || heldSlots.has(trial.slot)));
  const known = new Set(kept.map((trial) => trial.slot));
  return [...kept, ...held.filter((trial) => !known.has(trial.slot) && !done.has(trial.slot))];
}

const TRIES = 3;

/** Everything a trial shows: its pictures from left to right, then the reference if there is one. */
export function picturesOf(trial) {
  return trial.reference ? [...trial.pictures, trial.reference] : trial.pictures;
}

/** The pictures of each slot, in shown order and the reference last, fetched and decoded once. */
export class Pictures {
  constructor(makeImage = () => new Image()) {
    this.makeImage = makeImage;
    this.images = new Map();
  }

  /** A promise of the decoded <img>s of a trial; rejects when one cannot be shown. */
  get(trial) {
    const known = this.images.get(trial.slot);
    if (known) return known;
    const images = Promise.all(picturesOf(trial).map((picture) => this.fetch(picture)));
    this.images.set(trial.slot, images);
    return images;
  }

  async fetch(picture) {
    for (let attempt = 1; ; attempt += 1) {
      const image = this.makeImage();
      image.decoding = "sync";
      image.draggable = false;
      image.src = attempt === 1 ? picture.image : `${picture.image}?try=${attempt}`;
      try {
        await image.decode();
        return image;
      } catch (error) {
        if (attempt >= TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, 400 * attempt));
      }
    }
  }

  ahead(trials) {
    trials.forEach((trial) => this.get(trial).catch(() => this.images.delete(trial.slot)));
  }

  forget(keep) {
    const slots = new Set(keep.map((trial) => trial.slot));
    [...this.images.keys()].filter((slot) => !slots.has(slot)).forEach((slot) => this.images.delete(slot));
  }
}
