// What a .tflite file says of itself: its inputs and outputs, which of them are attention, the scale
// of its pixels and its labels. LiteRT.js gives names and shapes only.

const TYPES = { 0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8" };
const ATTENTION = "ulsam_attention"; // {output: layer} as JSON
const APP = "TFLITE_METADATA"; // a flatbuffer of its own
const LABELS = "labels.txt"; // in a zip archive behind the flatbuffer
const PIXEL = 255; // the app's metadata count pixels from 0 to 255
const text = new TextDecoder();

/**
 * Reads the file.
 *
 * @param {Uint8Array} bytes Its content.
 * @returns {{inputs: Tensor[], outputs: Tensor[], attention: Object<string, string>, mean: number[],
 *   std: number[], scaled: boolean, labels: string[]}} A tensor has a name, shape, dtype and, if it
 *   is quantised, scale and zero. `scaled`: whether mean and deviation are the file's own.
 * @throws {Error} If it is no .tflite file, or a damaged one.
 */
export function readTflite(bytes) {
  if (text.decode(bytes.subarray(4, 8)) !== "TFL3") {
    throw new Error(`This is no .tflite file. Received: ${bytes.length} bytes without its mark, TFL3`);
  }
  try {
    return read(bytes);
  } catch (error) {
    throw new Error(
      `The file is truncated or damaged; convert or copy it again. Received: ${bytes.length} bytes, ` +
        error.message);
  }
}

function read(bytes) {
  // The numbers are those of the fields in TFLite's schema.
  const model = root(bytes);
  const graph = model.tables(2)[0];
  const tensors = graph.tables(0);
  const signature = model.tables(7)[0];
  const ends = (slot) => {
    const named = signature?.tables(slot) ?? [];
    return named.length
      ? named.map((entry) => tensorOf(tensors[entry.uint(1)], entry.string(0)))
      : graph.vector(slot + 1, "getInt32", 4).map((index) => tensorOf(tensors[index]));
  };
  const buffers = model.tables(4);
  const entry = model.tables(6).map((m) => [m.string(0), m.uint(1)]);
  const metadata = Object.fromEntries(entry.map(([name, index]) => [name, buffers[index].bytes(0)]));
  const attention = metadata[ATTENTION] ? JSON.parse(text.decode(metadata[ATTENTION])) : {};
  return { inputs: ends(0), outputs: ends(1), attention, ...scaleOf(metadata[APP]), labels: labels(bytes) };
}

function tensorOf(table, name = table.string(3)) {
  const quantization = table.table(4);
  return {
    name,
    shape: table.vector(0, "getInt32", 4),
    dtype: TYPES[table.byte(1)] ?? `type ${table.byte(1)}`,
    scale: quantization?.vector(2, "getFloat32", 4)[0],
    zero: Number(quantization?.vector(3, "getBigInt64", 8)[0] ?? 0),
  };
}

function scaleOf(content) {
  // ModelMetadata, SubGraphMetadata, TensorMetadata, ProcessUnit, NormalizationOptions.
  const image = content && root(content).tables(3)[0]?.tables(2)[0];
  const options = image?.tables(4)[0]?.table(1);
  const floats = (slot) => options?.vector(slot, "getFloat32", 4).map((value) => value / PIXEL) ?? [];
  const [mean, std] = [floats(0), floats(1)];
  const scaled = mean.length > 0 && std.length > 0;
  return scaled ? { mean, std, scaled } : { mean: [0], std: [1], scaled };
}

/** The labels of the zip archive at the end of the file, which are stored as they are. */
function labels(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end > bytes.length - 65558 && end > 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end <= 0 || view.getUint32(end, true) !== 0x06054b50) return [];
  let entry = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left -= 1) {
    const [nameSize, extraSize, noteSize] = [28, 30, 32].map((at) => view.getUint16(entry + at, true));
    const name = text.decode(bytes.subarray(entry + 46, entry + 46 + nameSize));
    if (name === LABELS && view.getUint16(entry + 10, true) === 0) {
      const local = view.getUint32(entry + 42, true);
      const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      const size = view.getUint32(entry + 20, true);
      return text.decode(bytes.subarray(start, start + size)).trimEnd().split("\n");
    }
    entry += 46 + nameSize + extraSize + noteSize;
  }
  return [];
}

function root(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return new Table(view, view.getUint32(0, true));
}

/** A table of a flatbuffer; its fields by their numbers. */
class Table {
  constructor(view, start) {
    this.view = view;
    this.start = start;
    this.fields = start - view.getInt32(start, true);
  }

  /** Where a field is; 0 if it is left out. */
  place(slot) {
    const at = 4 + 2 * slot;
    if (at >= this.view.getUint16(this.fields, true)) return 0;
    const offset = this.view.getUint16(this.fields + at, true);
    return offset && this.start + offset;
  }

  byte(slot) {
    const place = this.place(slot);
    return place && this.view.getInt8(place);
  }

  uint(slot) {
    const place = this.place(slot);
    return place && this.view.getUint32(place, true);
  }

  /** Where what a field points to is; 0 if it is left out. */
  target(slot) {
    const place = this.place(slot);
    return place && place + this.view.getUint32(place, true);
  }

  table(slot) {
    const target = this.target(slot);
    return target ? new Table(this.view, target) : undefined;
  }

  bytes(slot) {
    const target = this.target(slot);
    if (!target) return new Uint8Array();
    const { buffer, byteOffset } = this.view;
    return new Uint8Array(buffer, byteOffset + target + 4, this.view.getUint32(target, true));
  }

  string(slot) {
    return text.decode(this.bytes(slot));
  }

  vector(slot, get, width) {
    const target = this.target(slot);
    const count = target && this.view.getUint32(target, true);
    if (count * width > this.view.byteLength) throw new RangeError("a vector longer than the file");
    return Array.from({ length: count }, (_, i) => this.view[get](target + 4 + i * width, true));
  }

  tables(slot) {
    const first = this.target(slot) + 4;
    return this.vector(slot, "getUint32", 4).map(
      (offset, i) => new Table(this.view, first + 4 * i + offset));
  }
}
