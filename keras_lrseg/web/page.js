import { asPixels, defaultPalette } from "./palette.js";
import { loadSegmenter } from "./segmenter.js";

const LONGEST_SIDE = 1024; // of a picture as it is shown and labelled, in pixels

const page = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((element) => [element.id, element]),
);

// --- A picture and its labels --------------------------------------------------------

let turn = 0; // a new picture, or the camera, ends what an earlier one still does

async function show(blob, name) {
  const mine = takeTurn();
  let image;
  try {
    image = await createImageBitmap(blob);
  } catch {
    if (mine === turn) complain(`${name} is not a picture that this browser can read.`);
    return;
  }
  if (mine !== turn) return;
  draw(image, image.width, image.height);
  page.overlay.hidden = true; // the one there is another picture's
  const model = await ready;
  if (!model || mine !== turn) return;
  say("Working …");
  await painted();
  if (mine === turn) label(model);
}

function takeTurn() {
  stopCamera();
  turn += 1;
  return turn;
}

/** Draw on white: a grey or transparent picture too is RGB then, as models take it. */
function draw(image, width, height) {
  const { picture, stage } = page;
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  picture.width = Math.max(1, Math.round(scale * width));
  picture.height = Math.max(1, Math.round(scale * height));
  const context = picture.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, picture.width, picture.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, picture.width, picture.height);
  stage.style.setProperty("--ratio", picture.width / picture.height);
  stage.classList.add("filled");
}

/** Run the model on what the picture's canvas shows. */
function label(model) {
  try {
    const { labels, width, height, milliseconds } = model.segment(page.picture);
    paint(labels, width, height, model.pixels);
    page.time.textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
    say("");
  } catch (error) {
    takeTurn();
    complain(`The model failed on this picture: ${reason(error)}`);
  }
}

function paint(labels, width, height, colours) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const counts = new Array(colours.length).fill(0);
  labels.forEach((label, i) => {
    pixels[i] = colours[label];
    counts[label] += 1;
  });
  [page.overlay.width, page.overlay.height] = [width, height];
  page.overlay.getContext("2d").putImageData(image, 0, 0);
  page.overlay.hidden = false;
  [...page.legend.children].forEach((row, i) => {
    const share = (100 * counts[i]) / labels.length;
    row.classList.toggle("absent", counts[i] === 0);
    row.lastChild.textContent =
      0 < share && share < 1 ? "< 1 %" : `${Math.round(share)} %`;
  });
}

/** Wait until the browser has shown what was changed. */
function painted() {
  return new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
}

/** What the runtime says, without the trace of its sources behind it. */
function reason(error) {
  return (error.message ?? "a file of the runtime is missing.").split(/\s*===/)[0];
}

function say(text) {
  page.message.textContent = text;
  page.message.classList.remove("error");
}

function complain(text) {
  page.message.textContent = text;
  page.message.classList.add("error");
}

// --- The camera ----------------------------------------------------------------------

const CAMERA_ERRORS = {
  NotFoundError: "No camera was found.",
  NotAllowedError: "The camera may not be used: allow it for this page in the browser.",
  NotReadableError: "The camera is in use by another program.",
};

async function film() {
  const mine = takeTurn();
  if (!navigator.mediaDevices) {
    complain("Browsers give the camera only to pages from https or from localhost.");
    return;
  }
  const model = await ready;
  if (!model || mine !== turn) return;
  try {
    const stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 640 } },
    });
    if (mine !== turn) return stop(stream);
    page.video.srcObject = stream;
    page.camera.textContent = "Stop camera";
    await page.video.play();
    while (mine === turn && stream.active) {
      draw(page.video, page.video.videoWidth, page.video.videoHeight);
      label(model);
      await painted();
    }
    if (mine === turn) throw new Error("it was disconnected.");
  } catch (error) {
    if (mine !== turn) return;
    takeTurn();
    complain(CAMERA_ERRORS[error.name] ?? `The camera failed: ${error.message}`);
  }
}

function stopCamera() {
  stop(page.video.srcObject);
  page.video.srcObject = null;
  page.camera.textContent = "Camera";
}

function stop(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}

// --- Controls ------------------------------------------------------------------------

page.camera.addEventListener("click", () => {
  if (page.video.srcObject) takeTurn();
  else film();
});

page.file.addEventListener("change", () => {
  const [file] = page.file.files;
  if (file) show(file, file.name);
  page.file.value = ""; // so that the same file can be chosen again
});

addEventListener("dragover", (event) => {
  event.preventDefault();
  page.stage.classList.add("target");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) page.stage.classList.remove("target");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  page.stage.classList.remove("target");
  const [file] = event.dataTransfer.files;
  if (file) show(file, file.name);
  else complain("What was dropped is not a file: drop the file of a picture.");
});

page.opacity.addEventListener("input", showOpacity);
showOpacity();

function showOpacity() {
  page.overlay.style.opacity = page.opacity.value / 100;
  page.percent.textContent = `${page.opacity.value} %`;
}

// --- The model and the samples -------------------------------------------------------

const ready = start();

/** The model with its colours; undefined if it cannot be had, which is said. */
async function start() {
  try {
    const demo = await (await fetch("demo.json")).json();
    page.model.textContent = demo.model;
    fillSamples(demo.samples);
    const model = await loadSegmenter("model.tflite");
    const colours = demo.colours ?? defaultPalette(model.classes.length);
    fillLegend(model.classes, colours);
    if (!page.message.classList.contains("error")) say("");
    return { ...model, pixels: asPixels(colours) };
  } catch (error) {
    complain(`This browser cannot run the model: ${reason(error)}`);
  }
}

function fillLegend(classes, colours) {
  const rows = classes.map((name, i) => {
    const swatch = made("i");
    swatch.style.backgroundColor = colours[i];
    return made("li", swatch, made("span", name), made("small"));
  });
  page.legend.replaceChildren(...rows);
}

function fillSamples(addresses) {
  const rows = addresses.map((address, i) => {
    const image = made("img");
    image.src = address;
    image.alt = `Sample ${i + 1}`;
    const button = made("button", image);
    button.addEventListener("click", () => showSample(address));
    return made("li", button);
  });
  page.samples.replaceChildren(...rows);
  if (addresses.length) showSample(addresses[0]);
}

async function showSample(address) {
  show(await (await fetch(address)).blob(), address);
}

function made(tag, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
}
