/**
 * The pictures on their grey stage: one, or two side by side (one above the other where the window is narrow).
 *
 * Zoom by wheel, pinch, keys or double click, pan by dragging or keys; both pictures zoom and pan together: the same
 * factor, and the same distance from their centres. While flicker is held the two pictures take turns in one place, the
 * middle of the stage; while the reference is held it stands in the place of each picture.
 *
 * factor: on top of the scale that the view ("natural" or "fit", see sizing.js) gives each picture.
 * offset: of the pictures from the centre of their panes, in CSS pixels.
 */

import { DEFAULT_RATE, shownAt } from "./flicker.js";
import { LARGEST_SCALE, clampPan, isPixelated, scaleFor, shareSeen, startOf } from "./sizing.js";

const STEP = 1.25;
const PAN = 80; // CSS pixels a key press
const CLICK = 6; // CSS pixels that a pointer may move in a click

export class Stage {
  /**
   * @param {HTMLElement} frame
   * @param {{changed, picked}} on callbacks: (scales of the pictures, share that is seen), (index of a picture, event)
   */
  constructor(frame, on) {
    this.frame = frame;
    this.on = on;
    this.mode = this.view = "natural";
    this.enlarges = false;
    this.rate = DEFAULT_RATE;
    this.shown = [];
    this.hasReference = false;
    this.factor = 1;
    this.offset = { x: 0, y: 0 };
    this.pointers = new Map();
    this.moved = 0;
    this.flickering = null;
    frame.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    frame.addEventListener("pointerdown", (event) => this.down(event));
    frame.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      frame.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    frame.addEventListener("click", (event) => this.click(event));
    frame.addEventListener("dblclick", () => { if (!this.isPickable) this.toggle(); });
    new ResizeObserver(() => this.reset()).observe(frame);
  }

  get ratio() {
    return window.devicePixelRatio || 1;
  }

  get isPickable() {
    return this.frame.classList.contains("pickable");
  }

  set isPickable(is) {
    this.frame.classList.toggle("pickable", is);
  }

  /** Show the decoded <img>s of a trial: `images` in shown order and the reference last, if there is one. */
  show(images, { pictures, reference }) {
    this.unflicker();
    this.hasReference = Boolean(reference);
    this.hold(false);
    this.shown = pictures.map((picture, index) => this.pane(picture, images[index], index, pictures.length));
    if (reference) this.shown.forEach((each, index) => this.addReference(each, reference, images.at(-1), index));
    this.frame.dataset.panes = String(pictures.length);
    this.frame.replaceChildren(...this.shown.map(({ pane }) => pane));
    this.measure();
    this.reset();
  }

  pane(picture, image, index, count) {
    const pane = document.createElement("div");
    pane.className = "an-pane";
    pane.dataset.index = String(index);
    image.alt = count === 1 ? "The picture to judge" : ["The first picture", "The second picture"][index];
    pane.append(image);
    return { pane, faces: [{ image, picture }] };
  }

  addReference(each, picture, decoded, index) {
    const image = index === 0 ? decoded : decoded.cloneNode();
    image.alt = "The reference";
    image.classList.add("an-reference");
    each.pane.append(image);
    each.faces.push({ image, picture });
  }

  clear() {
    this.unflicker();
    this.shown = [];
    this.frame.replaceChildren();
  }

  /** Read the panes' sizes: once per trial or change of layout, for reading forces the browser to lay out. */
  measure() {
    for (const each of this.shown) {
      const { left, top, width, height } = each.pane.getBoundingClientRect();
      each.room = { width, height };
      each.origin = { x: left, y: top };
    }
  }

  base(face, room) {
    return scaleFor(this.view, face.picture, room, this.ratio, this.enlarges);
  }

  drawn(face, room) {
    const size = (this.base(face, room) * this.factor) / this.ratio;
    return { width: face.picture.width * size, height: face.picture.height * size };
  }

  /** Drawn scale of each picture, device pixels per picture pixel. */
  get scales() {
    return this.shown.map(({ faces, room }) => this.base(faces[0], room) * this.factor);
  }

  /** The smallest scale of what is on screen; 1 while nothing is. */
  get scale() {
    return this.shown.length ? Math.min(...this.scales) : 1;
  }

  /** The scale at which the largest picture is seen whole; 1 where all are at 1:1. */
  get whole() {
    return Math.min(...this.shown.map(({ faces, room }) => scaleFor("fit", faces[0].picture, room, this.ratio)));
  }

  /** Back to what the mode says. */
  reset() {
    this.view = this.mode;
    this.factor = 1;
    this.offset = { x: 0, y: 0 };
    if (!this.shown.length) return;
    this.measure();
    this.draw();
  }

  setMode(mode) {
    this.mode = mode;
    this.reset();
  }

  /** Between 1:1 and the whole picture where that is not the same, between 1:1 and twice as large where it is. */
  toggle() {
    if (!this.shown.length) return;
    const isBase = this.factor === 1;
    const isLarge = this.whole < 1;
    this.offset = { x: 0, y: 0 };
    if (isBase && isLarge) this.view = this.view === "fit" ? "natural" : "fit";
    else if (isBase) this.factor = 2;
    else this.view = this.mode;
    if (!isBase || isLarge) this.factor = 1;
    this.draw();
  }

  /** Zoom by `times` around a point of the pane, in CSS pixels from its centre. */
  zoomBy(times, about = { x: 0, y: 0 }) {
    if (!this.shown.length) return;
    const scales = this.scales;
    const most = (LARGEST_SCALE * 2) / Math.max(...scales);
    const by = Math.min(most, Math.max(this.whole / Math.min(...scales), times));
    this.factor *= by;
    this.offset = { x: about.x - (about.x - this.offset.x) * by, y: about.y - (about.y - this.offset.y) * by };
    this.draw();
  }

  panBy(x, y) {
    if (!this.shown.length) return;
    this.offset = { x: this.offset.x + x, y: this.offset.y + y };
    this.draw();
  }

  /** Pan by a key: [x, y] as keys.panOf gives it. */
  panStep([x, y]) {
    this.panBy(x * PAN, y * PAN);
  }

  // Pointers

  paneAt(event) {
    return this.shown.find(({ pane }) => pane.contains(event.target)) ?? this.shown[0];
  }

  fromCentre(event) {
    const { origin, room } = this.paneAt(event);
    return { x: event.clientX - origin.x - room.width / 2, y: event.clientY - origin.y - room.height / 2 };
  }

  wheel(event) {
    event.preventDefault();
    if (this.shown.length) this.zoomBy(event.deltaY < 0 ? STEP : 1 / STEP, this.fromCentre(event));
  }

  down(event) {
    if (event.button !== 0) return;
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.pointers.size === 1) this.moved = 0;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before || !this.shown.length) return;
    const now = { x: event.clientX, y: event.clientY };
    this.moved += Math.hypot(now.x - before.x, now.y - before.y);
    if (this.moved > CLICK) this.frame.setPointerCapture(event.pointerId);
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      const spread = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      this.moved += CLICK;
      this.zoomBy(spread(now) / spread(before));
    } else {
      this.panBy(now.x - before.x, now.y - before.y);
    }
    this.pointers.set(event.pointerId, now);
  }

  /** A click that is no drag and not the second of a double click picks a picture. */
  click(event) {
    const pane = event.target.closest(".an-pane");
    if (pane && this.moved <= CLICK && event.detail <= 1) this.on.picked(Number(pane.dataset.index), event);
  }

  // Held keys

  /** Let the two pictures take turns in one place, until `unflicker`. */
  flicker() {
    if (this.shown.length !== 2 || this.flickering) return;
    const start = performance.now();
    const turn = (now) => {
      this.frame.dataset.turn = String(shownAt(Math.max(0, now - start), this.rate));
      this.flickering = requestAnimationFrame(turn);
    };
    this.frame.classList.add("flickering");
    this.offsetBefore = this.offset;
    this.measure();
    this.draw();
    turn(start);
  }

  unflicker() {
    if (!this.flickering) return;
    cancelAnimationFrame(this.flickering);
    this.flickering = null;
    this.frame.classList.remove("flickering");
    delete this.frame.dataset.turn;
    this.offset = this.offsetBefore;
    this.measure();
    this.draw();
  }

  /** Show the reference in the place of each picture, or no longer. */
  hold(is) {
    this.frame.classList.toggle("referring", is && this.hasReference);
  }

  // Drawing

  draw() {
    this.keepInView();
    this.shown.forEach((each) => each.faces.forEach((face) => this.place(face, each)));
    const sizes = this.shown.map(({ faces, room }) => ({ drawn: this.drawn(faces[0], room), room }));
    const seen = sizes.map(({ drawn, room }) => shareSeen(drawn, room));
    this.frame.classList.toggle("pannable", seen.some((share) => share < 0.999));
    if (!this.flickering) this.on.changed(this.scales, Math.min(...seen));
  }

  /** Pan no further than the larger picture reaches; the smaller one stops at its own end. */
  keepInView() {
    const ends = this.shown.map(({ faces, room }) => clampPan(this.offset, this.drawn(faces[0], room), room));
    const farther = (a, b) => (Math.abs(b) > Math.abs(a) ? b : a);
    this.offset = { x: ends.map(({ x }) => x).reduce(farther), y: ends.map(({ y }) => y).reduce(farther) };
  }

  place(face, { room, origin }) {
    const { image, picture } = face;
    const drawn = this.drawn(face, room);
    const offset = clampPan(this.offset, drawn, room);
    image.width = picture.width;
    image.height = picture.height;
    image.style.width = `${drawn.width}px`;
    image.style.height = `${drawn.height}px`;
    const start = (side, axis) => startOf({
      room: room[side], size: drawn[side], offset: offset[axis], origin: origin[axis], ratio: this.ratio,
    });
    image.style.left = `${start("width", "x")}px`;
    image.style.top = `${start("height", "y")}px`;
    image.classList.toggle("pixelated", isPixelated(this.base(face, room) * this.factor));
  }
}
