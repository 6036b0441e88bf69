// Pictures: strokes as the digits network knows them, and any picture as a model takes it.

export const SIZE = 32; // of a digit
const CELLS = 8; // of scikit-learn's drawings, along a side
const DOTS = 4; // along a side of a cell, all set for a level of 16
const FINE = 4; // along a side of a dot
const PEN = 5; // width of a stroke, in dots
const [TALLEST, WIDEST] = [32, 26]; // what digits fill of 32 by 32 dots
const SMALLEST = 0.1; // of the pad: a dab is not made a block

/** A canvas of the given size, and what draws on it. */
export function blank(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return { canvas, context };
}

/** Draws strokes, lists of [x, y], each point moved by `at`. */
export function drawStrokes(context, strokes, at, width) {
  Object.assign(context, { lineWidth: width, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(...at(stroke[0]));
    for (const point of stroke) context.lineTo(...at(point));
    context.stroke();
  }
}

/**
 * The picture of a digit: as the data that the network was trained on was made.
 *
 * Those are 32 x 32 dots, filled by the digit; how many are set in each cell of 4 x 4; and the 8 x 8
 * counts enlarged again. The pen is as wide whatever the size of the drawing.
 *
 * @param {number[][][]} strokes Lists of points [x, y] of 0 to 1.
 * @returns {HTMLCanvasElement} Grey on black.
 */
export function digitPicture(strokes) {
  const points = strokes.flat();
  const ends = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return [Math.min(...values), Math.max(...values)];
  });
  const [width, height] = ends.map(([least, most]) => Math.max(most - least, SMALLEST));
  const zoom = FINE * Math.min((TALLEST - PEN) / height, (WIDEST - PEN) / width);
  const at = (point) => point.map(
    (value, axis) => (FINE * SIZE) / 2 + zoom * (value - (ends[axis][0] + ends[axis][1]) / 2));
  const { context } = blank(FINE * SIZE, FINE * SIZE);
  drawStrokes(context, strokes, at, FINE * PEN);
  const ink = context.getImageData(0, 0, FINE * SIZE, FINE * SIZE).data;
  const side = FINE * DOTS;
  const sums = new Float64Array(CELLS * CELLS);
  for (let y = 0; y < FINE * SIZE; y += 1) {
    for (let x = 0; x < FINE * SIZE; x += 1) {
      sums[Math.floor(y / side) * CELLS + Math.floor(x / side)] += ink[4 * (y * FINE * SIZE + x) + 3];
    }
  }
  const levels = sums.map((sum) => Math.round((DOTS * DOTS * sum) / (255 * side * side)));
  return greyCanvas(enlarge(levels), SIZE, SIZE);
}

/**
 * 8 x 8 levels of 0 to 16 as 32 x 32 pixels of 0 to 255: bilinear between the centres of cells.
 *
 * @param {ArrayLike<number>} levels Row by row.
 * @returns {Uint8ClampedArray} Row by row, which rounds to the nearest, halves to the even one.
 */
export function enlarge(levels) {
  const pixels = new Uint8ClampedArray(SIZE * SIZE);
  const parts = Array.from({ length: SIZE }, (_, i) => {
    const place = Math.max((i + 0.5) * (CELLS / SIZE) - 0.5, 0);
    const first = Math.floor(place);
    return { first, second: Math.min(first + 1, CELLS - 1), share: place - first };
  });
  const mix = (a, b, share) => (1 - share) * a + share * b;
  parts.forEach((row, y) => parts.forEach((column, x) => {
    const [above, below] = [row.first, row.second].map((r) =>
      mix(levels[r * CELLS + column.first], levels[r * CELLS + column.second], column.share));
    pixels[y * SIZE + x] = mix(above, below, row.share) * (255 / 16);
  }));
  return pixels;
}

function greyCanvas(grey, width, height) {
  const { canvas, context } = blank(width, height);
  const image = context.createImageData(width, height);
  grey.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}

/** A picture cropped at its centre and resized to `width` by `height`. */
export function fitted(picture, width, height) {
  const zoom = Math.max(width / picture.width, height / picture.height);
  const [w, h] = [width / zoom, height / zoom];
  const { canvas, context } = blank(width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, (picture.width - w) / 2, (picture.height - h) / 2, w, h, 0, 0, width, height);
  return canvas;
}

/** The pixels of a canvas, 0 to 1, as `channels` numbers a position: grey, colours, with opacity. */
export function pixelsOf(canvas, channels) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const pixels = new Float32Array(width * height * channels);
  for (let i = 0; i < width * height; i += 1) {
    const [red, green, blue] = data.subarray(4 * i, 4 * i + 3);
    if (channels === 1) pixels[i] = Math.round(0.299 * red + 0.587 * green + 0.114 * blue) / 255;
    for (let c = 0; channels > 1 && c < channels; c += 1) {
      pixels[channels * i + c] = data[4 * i + c] / 255;
    }
  }
  return pixels;
}
