/** The picture on its grey stage: natural size or fit, zoom by wheel, pinch or double click, pan by dragging. */

import { LARGEST_SCALE, clampPan, isPixelated, scaleFor } from "./sizing.js";

const STEP = 1.25;

export class Stage {
  constructor(frame, onChange) {
    this.frame = frame;
    this.onChange = onChange;
    this.mode = "natural";
    this.image = null;
    this.scale = 1;
    this.offset = { x: 0, y: 0 };
    this.pointers = new Map();
    frame.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    frame.addEventListener("pointerdown", (event) => this.down(event));
    frame.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      frame.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    frame.addEventListener("dblclick", () => this.toggle());
    new ResizeObserver(() => this.reset()).observe(frame);
  }

  get ratio() {
    return window.devicePixelRatio || 1;
  }

  get room() {
    return { width: this.frame.clientWidth, height: this.frame.clientHeight };
  }

  get drawn() {
    const size = this.scale / this.ratio;
    return { width: this.picture.width * size, height: this.picture.height * size };
  }

  show(image, picture) {
    this.image = image;
    this.picture = picture;
    image.alt = "The picture to judge";
    this.frame.replaceChildren(image);
    this.reset();
  }

  clear() {
    this.image = null;
    this.frame.replaceChildren();
  }

  /** Back to the size that the mode says. */
  reset() {
    if (!this.image) return;
    this.offset = { x: 0, y: 0 };
    this.scale = scaleFor(this.mode, this.picture, this.room, this.ratio);
    this.draw();
  }

  setMode(mode) {
    this.mode = mode;
    this.reset();
  }

  /** Between the size of the mode and a closer look: 1:1 for what was scaled down, twice as large otherwise. */
  toggle() {
    if (!this.image) return;
    const base = scaleFor(this.mode, this.picture, this.room, this.ratio);
    if (this.scale === base) this.zoomTo(base < 1 ? 1 : base * 2);
    else this.reset();
  }

  zoomTo(scale) {
    if (!this.image) return;
    const least = Math.min(1, scaleFor("fit", this.picture, this.room, this.ratio));
    const next = Math.min(LARGEST_SCALE * 2, Math.max(least, scale));
    this.offset = { x: (this.offset.x * next) / this.scale, y: (this.offset.y * next) / this.scale };
    this.scale = next;
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    this.zoomTo(this.scale * (event.deltaY < 0 ? STEP : 1 / STEP));
  }

  down(event) {
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.frame.setPointerCapture(event.pointerId);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before || !this.image) return;
    const now = { x: event.clientX, y: event.clientY };
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      const spread = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      this.zoomTo((this.scale * spread(now)) / spread(before));
    } else {
      this.offset = { x: this.offset.x + now.x - before.x, y: this.offset.y + now.y - before.y };
      this.draw();
    }
    this.pointers.set(event.pointerId, now);
  }

  draw() {
    const { width, height } = this.drawn;
    this.offset = clampPan(this.offset, { width, height }, this.room);
    this.image.width = this.picture.width;
    this.image.height = this.picture.height;
    this.image.style.width = `${width}px`;
    this.image.style.height = `${height}px`;
    this.image.style.transform = `translate(${this.offset.x}px, ${this.offset.y}px)`;
    this.image.classList.toggle("pixelated", isPixelated(this.scale));
    this.frame.classList.toggle("pannable", width > this.room.width + 1 || height > this.room.height + 1);
    this.onChange(this.scale);
  }
}
