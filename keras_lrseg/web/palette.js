const GOLDEN_RATIO = 0.618034;

/** The colours of `keras_lrseg.data.default_palette`, as "#rrggbb". */
export function defaultPalette(count) {
  const saturations = [0.85, 0.55, 0.7];
  const values = [0.95, 0.75, 0.55, 0.85];
  return Array.from({ length: count }, (_, i) =>
    toHex((i * GOLDEN_RATIO) % 1, saturations[i % 3], values[i % 4]),
  );
}

/** One number a colour, as an ImageData's bytes hold an opaque pixel. */
export function asPixels(colours) {
  const channels = colours.map((colour) => [
    ...[1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16)),
    255,
  ]);
  return new Uint32Array(new Uint8Array(channels.flat()).buffer);
}

function toHex(hue, saturation, value) {
  const channels = [5, 3, 1].map((n) => {
    const k = (n + 6 * hue) % 6;
    const dip = Math.max(0, Math.min(k, 4 - k, 1));
    const channel = Math.round(255 * value * (1 - saturation * dip));
    return channel.toString(16).padStart(2, "0");
  });
  return `#${channels.join("")}`;
}
