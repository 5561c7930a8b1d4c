/**
 * Load a TFLite file into MediaPipe's runtime, which lies beside this page.
 *
 * Returns its class names and `segment(canvas)`, which gives
 * `{ labels, width, height, milliseconds }`: a class for every pixel, row by row.
 */
export async function loadSegmenter(model) {
  if (!document.createElement("canvas").getContext("webgl2")) {
    throw new Error("it has no WebGL 2, through which the runtime takes pictures.");
  }
  const { FilesetResolver, ImageSegmenter } = await import(
    "./tasks-vision/vision_bundle.mjs"
  );
  const runtime = await FilesetResolver.forVisionTasks("tasks-vision/wasm");
  const segmenter = await ImageSegmenter.createFromOptions(runtime, {
    baseOptions: { modelAssetPath: model },
    runningMode: "IMAGE",
  });
  const classes = classNames(segmenter);
  await segmenter.setOptions({ outputConfidenceMasks: false, outputCategoryMask: true });

  function segment(picture) {
    const result = {};
    const start = performance.now();
    segmenter.segment(picture, ({ categoryMask }) => {
      result.labels = categoryMask.getAsUint8Array().slice(); // it is freed on return
      result.width = categoryMask.width;
      result.height = categoryMask.height;
    });
    result.milliseconds = performance.now() - start;
    return result;
  }

  segment(blank()); // what the runtime prepares on first use is not a picture's time
  return { classes, segment };
}

/** The labels of the model's metadata; only a run tells how many classes it has. */
function classNames(segmenter) {
  const labels = segmenter.getLabels();
  let count;
  segmenter.segment(blank(), (result) => (count = result.confidenceMasks.length));
  return Array.from({ length: count }, (_, i) => labels[i] || `class ${i}`);
}

function blank() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [8, 8];
  canvas.getContext("2d").fillRect(0, 0, 8, 8);
  return canvas;
}
