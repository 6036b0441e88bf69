// The colours of the attention, as docs/attention.md has them: viridis over the logarithm of what is
// "times uniform".

// Matplotlib's viridis at 0, 1/24, … 1, as [red, green, blue].
const STOPS = (
  "440154 471063 481f70 472d7b 443983 404688 3b528b 365d8d 31688e " +
  "2c728e 287c8e 24868e 21918c 1f9a8a 20a486 28ae80 35b779 48c16e " +
  "5ec962 75d054 90d743 addc30 c8e020 e5e419 fde725"
).split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

// The shortest scale, about the uniform attention: a flat map is neither dark nor bright. And the
// longest: zeros would have no end.
const [LOW, HIGH] = [0.5, 2];
const DEEPEST = 1000;

/** The colour at `share`, 0 to 1, as [red, green, blue] of 0 to 255. */
export function viridis(share) {
  const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const first = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[first].map((start, i) =>
    Math.round(start + (place - first) * (STOPS[first + 1][i] - start)));
}

/** A logarithmic scale over values: where one lies, 0 to 1, and its ticks. */
export function scaleOf(least, most) {
  const top = Math.max(most, HIGH);
  const bottom = Math.min(Math.max(least, top / DEEPEST), LOW);
  const span = Math.log(top / bottom);
  const place = (value) => Math.log(Math.min(Math.max(value, bottom), top) / bottom) / span;
  const [first, last] = [Math.ceil(Math.log2(bottom)), Math.floor(Math.log2(top))];
  const step = Math.ceil((last - first) / 5);
  const powers = Array.from({ length: last - first + 1 }, (_, i) => first + i);
  // Powers of two, the uniform attention among them.
  const ticks = powers.filter((power) => power % step === 0).map((power) => 2 ** power);
  return { bottom, top, place, ticks };
}

/** A power of two as a number or a fraction. */
export const tickLabel = (tick) => (tick >= 1 ? `${tick}` : `1/${1 / tick}`);
