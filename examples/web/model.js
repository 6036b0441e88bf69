// A .tflite file compiled by LiteRT.js, and run: WebGPU, or WebAssembly on the CPU.

import { readTflite } from "./tflite.js";

const WASM = new URL("./node_modules/@litertjs/core/wasm/", import.meta.url).href;
const ARRAYS = { float32: Float32Array, uint8: Uint8Array };
const CHANNELS = [1, 3, 4];

let loading;

/** LiteRT.js, loaded once. */
function library() {
  loading ??= load();
  return loading;
}

async function load() {
  let litert;
  try {
    litert = await import("@litertjs/core");
  } catch {
    throw new Error("LiteRT.js is not here; run `make web` first. Received: no node_modules/@litertjs/core");
  }
  // With JSPI a file that WebGPU does not take as a whole runs in parts.
  await litert.loadLiteRt(WASM, { jspi: await litert.supportsFeature("jspi") });
  return litert;
}

export class Model {
  /**
   * Opens a file.
   *
   * @param {Uint8Array} bytes Its content.
   * @param {"auto" | "webgpu" | "wasm"} wanted What is to run it.
   * @throws {Error} One line, if it cannot be run or is not fed one image.
   */
  static async open(bytes, wanted = "auto") {
    const facts = readTflite(bytes);
    check(facts);
    const litert = await library();
    const device = litert.getWebGpuDevice();
    const compile = (accelerator) =>
      // The GPU may take half precision by itself, in which 1 + a is 1 on a large map.
      litert.loadAndCompile(bytes, { accelerator, gpuOptions: { precision: "fp32" } });
    let [compiled, remark] = [undefined, ""];
    if (wanted !== "wasm" && device) {
      try {
        compiled = await compile("webgpu");
      } catch (error) {
        remark = `WebGPU does not take this file, so WebAssembly runs it. Received: ${error.message}`;
      }
    } else if (wanted !== "wasm") {
      remark = "This browser has no WebGPU, so WebAssembly runs the file.";
    }
    compiled ??= await compile("wasm");
    return new Model(litert, facts, compiled, remark, device);
  }

  constructor(litert, facts, compiled, remark, device) {
    Object.assign(this, { litert, facts, compiled, remark });
    const info = device?.adapterInfo;
    const adapter = [info?.vendor, info?.architecture].filter(Boolean).join(" ");
    const gpu = compiled.options.accelerator === "webgpu";
    /** What runs it, "webgpu" or "wasm", and in words. */
    this.backend = gpu ? "webgpu" : "wasm";
    this.runBy = !gpu
      ? "WebAssembly"
      : `WebGPU${adapter && ` (${adapter})`}${compiled.isFullyAccelerated ? "" : ", in part WebAssembly"}`;
    const [input] = facts.inputs;
    const [, height, width, channels] = input.shape;
    /** What is fed: the sizes of the image. */
    this.image = { height, width, channels };
  }

  /**
   * Runs it once.
   *
   * @param {Float32Array} pixels Of 0 to 1, height by width by channels.
   * @returns {Promise<{outputs: Object<string, number[]>, milliseconds: number}>} The outputs by their
   *   names, as the numbers that they stand for.
   */
  async run(pixels) {
    const [input] = this.facts.inputs;
    const start = performance.now();
    const tensor = new this.litert.Tensor(this.#given(pixels, input), input.shape);
    let results;
    const outputs = {};
    try {
      results = await this.compiled.run({ [input.name]: tensor });
      for (const { name, scale, zero } of this.facts.outputs) {
        const values = Array.from(await results[name].data());
        outputs[name] = scale ? values.map((value) => scale * (value - zero)) : values;
      }
    } finally {
      tensor.delete();
      for (const result of Object.values(results ?? {})) result.delete();
    }
    return { outputs, milliseconds: performance.now() - start };
  }

  #given(pixels, { dtype, scale, zero }) {
    const { mean, std } = this.facts;
    const of = (values, i) => values[values.length > 1 ? i % this.image.channels : 0];
    const scaled = pixels.map((pixel, i) => (pixel - of(mean, i)) / of(std, i));
    if (dtype === "float32") return scaled;
    return Uint8Array.from(scaled, (value) => Math.min(Math.max(Math.round(value / scale) + zero, 0), 255));
  }

  delete() {
    this.compiled.delete();
  }
}

function check({ inputs, outputs }) {
  const told = (tensors) => tensors.map((t) => `${t.name} (${t.shape.join(", ")}) ${t.dtype}`).join(", ");
  const shape = inputs[0]?.shape ?? [];
  if (inputs.length !== 1 || shape.length !== 4 || shape[0] !== 1 || !CHANNELS.includes(shape[3])) {
    throw new Error(
      `This page feeds files one image, (1, height, width, 1, 3 or 4). Received: ${told(inputs)}`);
  }
  const other = [...inputs, ...outputs].filter(({ dtype }) => !(dtype in ARRAYS));
  if (other.length) {
    throw new Error(
      "LiteRT.js takes inputs and outputs of float32 and uint8; convert the file with one of these as " +
        `--inference-type. Received: ${told(other)}`);
  }
}
