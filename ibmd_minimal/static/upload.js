// The browser's half of explorers_restoring.Upload: a button that chooses a photograph and hands it to the kernel.
//
// Jupyter's server drops a connection, without a word, at a message of 10 MB. What is larger is reduced here.

const MOST = 8e6; // bytes that are sent as they are
const SIDE = 1024; // pixels of the longer side of what is not

async function reduced(file) {
  const whole = await createImageBitmap(file);
  const scale = Math.min(1, SIDE / Math.max(whole.width, whole.height));
  const [width, height] = [whole.width, whole.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "white"; // below what is transparent, as the library has it
  pen.fillRect(0, 0, width, height);
  pen.drawImage(whole, 0, 0, width, height);
  return { blob: await canvas.convertToBlob({ type: "image/png" }), size: `${whole.width}x${whole.height}` };
}

async function read(file) {
  if (file.size <= MOST) return { content: new DataView(await file.arrayBuffer()), from_size: "", problem: "" };
  try {
    const { blob, size } = await reduced(file);
    return { content: new DataView(await blob.arrayBuffer()), from_size: size, problem: "" };
  } catch {
    const size = `${file.name} has ${Math.round(file.size / 1e6)} MB and is no image that this browser knows`;
    return { content: new DataView(new ArrayBuffer(0)), from_size: "", problem: `${size}; wanted a photograph` };
  }
}

function render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-widgets jupyter-button widget-button ibmd-upload";
  Object.assign(button.style, { width: "16em", marginLeft: "7.6em" }); // below the sliders, not below their names
  button.textContent = model.get("description");
  const input = Object.assign(document.createElement("input"), { type: "file", accept: "image/*", hidden: true });
  el.append(button, input);
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const file = input.files[0];
    if (!file) return;
    const found = await read(file);
    input.value = ""; // so that the same file can be chosen again
    model.set({ name: file.name, ...found, sent: model.get("sent") + 1 });
    model.save_changes();
  });
}

export default { render };
