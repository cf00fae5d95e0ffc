// The browser's half of pad.py: strokes go to the kernel as lists of numbers, a picture comes back as a PNG.
//
// One request is on its way at a time. What is drawn meanwhile is sent when the answer is there, so that the picture
// never lags behind by more than one answer, and the last stroke always arrives.

const PIXELS = 640; // of the canvas, twice its size on the page: lines stay smooth on fine screens
const EVERY = 80; // ms between two requests while a stroke is being drawn
const LATE = 4000; // ms after which an answer is no longer waited for, and asked for again
const NEAR = 0.003; // of the side: a pointer's move that is shorter makes no new point

function element(parent, tag, name, text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  parent.append(made);
  return made;
}

function build(el, names) {
  const pad = element(el, "div", "ibmd-pad");
  const [left, right] = [element(pad, "div", "side"), element(pad, "div", "side")];
  element(left, "div", "title", "Draw here");
  const canvas = element(left, "canvas", "paper");
  Object.assign(canvas, { width: PIXELS, height: PIXELS });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "A square to draw in, with mouse, pen or finger");
  const below = element(left, "div", "controls");
  const undo = element(below, "button", "undo", "Undo");
  const clear = element(below, "button", "clear", "Clear");
  const examples = element(below, "select", "examples");
  examples.setAttribute("aria-label", "Example drawings");
  for (const name of ["", ...names]) examples.append(new Option(name || "no example", name));
  element(right, "div", "title", "The model's picture");
  const picture = element(right, "img", "picture");
  picture.alt = "What the model makes of the drawing";
  const other = element(element(right, "div", "controls"), "button", "colours", "New colours");
  const seed = element(other.parentElement, "span", "seed");
  const words = element(pad, "div", "words");
  return { canvas, undo, clear, examples, picture, other, seed, time: element(words, "span", "time"),
           message: element(words, "span", "message") };
}

function render({ model, el }) {
  const page = build(el, model.get("examples"));
  const pen = page.canvas.getContext("2d");
  const past = []; // what Undo goes back to
  let strokes = structuredClone(model.get("strokes"));
  let example = model.get("example");
  let stroke = null; // the one being drawn
  let backdrop = null; // the example's lines, an ImageBitmap
  let since = null; // when the first change happened that has not been sent
  let began = null; // the same of what is on its way
  let asked = null; // when that was sent
  let number = 0; // its number
  let timer = null;
  let watch = null; // asks again where no answer comes

  // -- the drawing ----------------------------------------------------------------------------

  function draw() {
    pen.fillStyle = "white";
    pen.fillRect(0, 0, PIXELS, PIXELS);
    if (example && backdrop) pen.drawImage(backdrop, 0, 0, PIXELS, PIXELS);
    Object.assign(pen, { lineCap: "round", lineJoin: "round", lineWidth: model.get("line") * PIXELS });
    for (const one of strokes) {
      pen.beginPath();
      pen.moveTo(one[0] * PIXELS, one[1] * PIXELS);
      for (let k = 2; k < one.length; k += 2) pen.lineTo(one[k] * PIXELS, one[k + 1] * PIXELS);
      if (one.length === 2) pen.lineTo(one[0] * PIXELS + 0.1, one[1] * PIXELS); // a dot: no line of length 0 is drawn
      pen.stroke();
    }
    page.undo.disabled = !past.length;
    page.clear.disabled = !strokes.length && !example;
    page.examples.value = example;
    page.seed.textContent = `z: seed ${model.get("seed")}`;
  }

  async function fetchBackdrop() {
    const png = model.get("backdrop");
    backdrop = png && png.byteLength ? await createImageBitmap(new Blob([png], { type: "image/png" })) : null;
    draw();
  }

  // -- to the kernel and back -----------------------------------------------------------------

  function send() {
    clearTimeout(timer);
    timer = null;
    const now = performance.now();
    if (asked !== null && now - asked < LATE) return; // the answer will send what is left
    [asked, began, since] = [now, since, null];
    number = Math.max(number, model.get("sent")) + 1; // a number that came before would not be answered
    model.set({ strokes: structuredClone(strokes), example, sent: number });
    model.save_changes();
    clearTimeout(watch);
    watch = setTimeout(() => {
      since ??= began;
      send();
    }, LATE);
  }

  function sayWhetherBusy() {
    page.picture.setAttribute("aria-busy", since !== null || asked !== null);
  }

  function changed(wait = 0) {
    since ??= performance.now();
    draw();
    if (!wait) send();
    else timer ??= setTimeout(send, wait);
    sayWhetherBusy();
  }

  async function answered() {
    if (asked === null || model.get("answered") < number) return show(); // to another view, or late
    const start = began;
    asked = null;
    clearTimeout(watch);
    if (since !== null) send();
    await show();
    const milliseconds = performance.now() - start;
    page.time.textContent = `From stroke to picture: ${Math.round(milliseconds)} ms. `;
    sayWhetherBusy();
    model.set("milliseconds", milliseconds);
    model.save_changes();
  }

  async function show() {
    const png = model.get("picture");
    if (!png || !png.byteLength) return;
    const old = page.picture.src;
    page.picture.src = URL.createObjectURL(new Blob([png], { type: "image/png" }));
    await page.picture.decode().catch(() => {}); // a newer picture has come in between
    await new Promise(requestAnimationFrame);
    if (old) URL.revokeObjectURL(old);
  }

  // -- the pointer ----------------------------------------------------------------------------

  function place(event) {
    const box = page.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map((part) => Math.round(1e4 * Math.min(1, Math.max(0, part))) / 1e4);
  }

  function remember() {
    past.push({ strokes: structuredClone(strokes), example });
  }

  page.canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    event.preventDefault();
    page.canvas.setPointerCapture(event.pointerId);
    remember();
    strokes.push((stroke = place(event)));
    changed(EVERY);
  });

  page.canvas.addEventListener("pointermove", (event) => {
    if (stroke === null || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) {
      const [x, y] = place(one);
      if (Math.hypot(x - stroke.at(-2), y - stroke.at(-1)) >= NEAR) stroke.push(x, y);
    }
    changed(EVERY);
  });

  for (const end of ["pointerup", "pointercancel"]) {
    page.canvas.addEventListener(end, (event) => {
      if (stroke === null || !event.isPrimary) return;
      stroke = null;
      changed();
    });
  }

  // -- the buttons ----------------------------------------------------------------------------

  page.undo.addEventListener("click", () => {
    ({ strokes, example } = past.pop());
    changed();
  });

  page.clear.addEventListener("click", () => {
    remember();
    [strokes, example] = [[], ""];
    changed();
  });

  page.examples.addEventListener("change", () => {
    remember();
    [strokes, example] = [[], page.examples.value];
    changed();
  });

  page.other.addEventListener("click", () => {
    model.set("seed", model.get("seed") + 1);
    changed();
  });

  // -- what the kernel says -------------------------------------------------------------------

  function follow() {
    if (stroke !== null || asked !== null) return; // here is newer than there
    strokes = structuredClone(model.get("strokes"));
    example = model.get("example");
    draw();
  }

  function say() {
    page.message.textContent = model.get("message");
  }

  const heard = {
    "change:answered": answered, "change:picture": () => asked === null && show(), "change:backdrop": fetchBackdrop,
    "change:strokes": follow, "change:example": follow, "change:seed": draw, "change:message": say,
  };
  for (const [name, act] of Object.entries(heard)) model.on(name, act);
  fetchBackdrop();
  show();
  say();
  return () => {
    clearTimeout(timer);
    clearTimeout(watch);
    for (const [name, act] of Object.entries(heard)) model.off(name, act);
  };
}

export default { render };
