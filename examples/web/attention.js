// The attention maps over the picture: a block for each site, a panel for each group.

import { scaleOf, tickLabel, viridis } from "./colours.js";
import { blank } from "./picture.js";

const PANEL = 192; // pixels across
const OPACITY = 0.65; // the picture beneath is grey and bright, so that the colours tell the values
const BAR = 128;

/** `<tag>` with properties, and what is in it. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** One site on the page. */
export class Site {
  /**
   * @param {string} layer Its name.
   * @param {number[]} shape (1, height, width, groups).
   */
  constructor(layer, [, height, width, groups]) {
    Object.assign(this, { height, width, groups });
    this.panels = Array.from({ length: groups }, (_, group) => {
      const canvas = element("canvas", { width: PANEL, role: "img" });
      canvas.addEventListener("pointermove", (event) => this.#point(canvas, group, event));
      canvas.addEventListener("pointerleave", () => { this.pointed.textContent = ""; });
      return canvas;
    });
    this.pointed = element("p", { className: "soft" });
    this.ticks = element("div", { className: "ticks" });
    const figures = this.panels.map((canvas, group) =>
      element("figure", {}, canvas, element("figcaption", { textContent: `group ${group}` })));
    this.root = element("section", { className: "site" },
      element("h3", { textContent: `${layer} (${height} × ${width})` }),
      element("div", { className: "maps" }, ...figures),
      element("div", { className: "scale" }, bar(), this.ticks),
      this.pointed);
  }

  /**
   * Draws maps.
   *
   * @param {number[]} values Height by width by groups, each map summing to 1.
   * @param {HTMLCanvasElement} picture What they are drawn over.
   */
  draw(values, picture) {
    this.times = values.map((value) => value * this.height * this.width);
    const least = this.times.reduce((a, b) => Math.min(a, b), Infinity);
    const most = this.times.reduce((a, b) => Math.max(a, b), 0);
    const scale = scaleOf(least, most);
    const grey = bright(picture);
    this.panels.forEach((canvas, group) => this.#panel(canvas, group, scale, grey));
    this.ticks.replaceChildren(...scale.ticks.map((tick) => {
      const mark = element("span", { textContent: tickLabel(tick) });
      mark.style.left = `${100 * scale.place(tick)}%`;
      return mark;
    }));
  }

  #panel(canvas, group, scale, grey) {
    canvas.height = Math.round((PANEL * grey.height) / grey.width);
    const map = blank(this.width, this.height);
    const image = map.context.createImageData(this.width, this.height);
    let highest = 0;
    for (let i = 0; i < this.height * this.width; i += 1) {
      const value = this.#at(i, group);
      image.data.set([...viridis(scale.place(value)), 255], 4 * i);
      if (value > this.#at(highest, group)) highest = i;
    }
    map.context.putImageData(image, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false; // positions are squares
    context.drawImage(grey, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = OPACITY;
    context.drawImage(map.canvas, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
    canvas.setAttribute("aria-label", `group ${group}, most ${this.#told(highest, group)}`);
  }

  #at(position, group) {
    return this.times[position * this.groups + group];
  }

  #told(position, group) {
    const [row, column] = [Math.floor(position / this.width), position % this.width];
    return `${this.#at(position, group).toPrecision(2)} times uniform at row ${row}, column ${column}`;
  }

  #point(canvas, group, { offsetX, offsetY }) {
    if (!this.times) return;
    const [row, column] = [
      [offsetY, canvas.clientHeight, this.height],
      [offsetX, canvas.clientWidth, this.width],
    ].map(([at, whole, count]) => Math.min(Math.max(Math.floor((at * count) / whole), 0), count - 1));
    this.pointed.textContent = `group ${group}: ${this.#told(row * this.width + column, group)}`;
  }
}

/** The bar of the colours. */
function bar() {
  const { canvas, context } = blank(BAR, 1);
  for (let i = 0; i < BAR; i += 1) {
    context.fillStyle = `rgb(${viridis((i + 0.5) / BAR).join(" ")})`;
    context.fillRect(i, 0, 1, 1);
  }
  return canvas;
}

/** The picture in grey, its darkest half bright and its brightest white. */
function bright(picture) {
  const { width, height } = picture;
  const { canvas, context } = blank(width, height);
  context.drawImage(picture, 0, 0);
  const image = context.getImageData(0, 0, width, height);
  const grey = Float64Array.from({ length: width * height }, (_, i) =>
    (image.data[4 * i] + image.data[4 * i + 1] + image.data[4 * i + 2]) / 3);
  const [least, most] = [Math.min, Math.max].map((end) => grey.reduce((a, b) => end(a, b)));
  grey.forEach((value, i) => {
    const share = most > least ? (value - least) / (most - least) : 0.5;
    image.data.fill(Math.round(255 * (0.5 + share / 2)), 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
  return canvas;
}
