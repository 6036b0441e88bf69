// The drawing pad: strokes by mouse, pen, finger or keyboard.

import { drawStrokes } from "./picture.js";

const PEN = 0.07; // of the pad
const STEP = 0.03; // of one press of an arrow
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  /** @param {() => void} changed Called whenever the strokes are others. */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.changed = changed;
    /** Lists of points [x, y] of 0 to 1. */
    this.strokes = [];
    this.pen = { place: [0.5, 0.5], down: false, shown: false };
    /** Whether what is drawn gives way to the first stroke. */
    this.example = false;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => { this.drawing = false; });
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#show({ down: false, shown: false }));
  }

  clear() {
    this.show([]);
    this.changed();
  }

  /** Shows strokes; as an example they give way to the first one that is drawn. */
  show(strokes, example = false) {
    Object.assign(this, { strokes, example });
    this.#show({ down: false });
  }

  #begin(point) {
    if (this.example) this.show([]);
    this.strokes.push([point]);
    this.#draw();
    this.changed();
  }

  #extend(points) {
    this.strokes.at(-1).push(...points);
    this.#draw();
    this.changed();
  }

  #down(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.drawing = true;
    this.#begin(this.#place(event));
  }

  #move(event) {
    if (!this.drawing || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    this.#extend((events.length ? events : [event]).map((one) => this.#place(one)));
  }

  #place({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [(clientX - left) / width, (clientY - top) / height];
  }

  #key(event) {
    const arrow = ARROWS[event.key];
    if (event.key === "Escape") this.clear();
    else if (event.key === " ") {
      this.#show({ down: !this.pen.down, shown: true });
      if (this.pen.down) this.#begin(this.pen.place);
    } else if (arrow) {
      const place = this.pen.place.map((v, i) => Math.min(Math.max(v + STEP * arrow[i], 0), 1));
      this.#show({ place, shown: true });
      if (this.pen.down) this.#extend([place]);
    } else return;
    event.preventDefault();
  }

  #show(pen) {
    Object.assign(this.pen, pen);
    this.#draw();
  }

  #draw() {
    const { width } = this.canvas;
    const at = (point) => point.map((value) => value * width);
    this.context.clearRect(0, 0, width, width);
    this.context.strokeStyle = "#fff";
    drawStrokes(this.context, this.strokes, at, PEN * width);
    if (!this.pen.shown) return;
    this.context.beginPath();
    this.context.arc(...at(this.pen.place), (PEN * width) / 2, 0, 2 * Math.PI);
    Object.assign(this.context, { strokeStyle: "#fde725", lineWidth: 3 });
    this.context.stroke();
  }
}
