// The page: shows what the studio tells (props.value), keeps the strokes, and asks by events.
const at = (id) => element.querySelector("#cz-" + id);
const root = element.querySelector("#cz");
const canvas = at("canvas");
const SWATCHES = [["#e0b592", "fair skin"], ["#8d5a3a", "dark skin"], ["#7fa6d6", "sky"], ["#3f6f9e", "water"], ["#5f7d3a", "leaves"],
  ["#93a35a", "grass"], ["#8a6142", "wood"], ["#a4553f", "brick"], ["#c9a56b", "sand, straw"], ["#8b2f36", "wine red"], ["#33466f", "navy"], ["#808080", "gray"]];
const HINTS = {
  look: "Drag across the photo to compare it with how it came.",
  color: "Click or brush a color that you know; it spreads over the thing you touch.",
  area: "Brush over what is to be painted anew, then give it a color; outside of it nothing changes.",
  pick: "Click the photo, or the reference, to take a color from it.",
};

let state = { photo: null, versions: [], moment: -1 };
let serial = 0, revision = 0, chosen = 0, tool = "look", strokes = [], drawing = null, cross = null;
let name = "photo", opening = "", opened = null, waiting = false, asked = null, later = 0;

// Asking

function question() {
  return { serial, version: chosen, revision, strokes, outside: at("outside").value,
    use_reference: at("use-reference").checked, saturation: Number(at("saturation").value) };
}

function ask(event, more = {}) {
  serial += 1; waiting = true; asked = event;
  if (event === "paint") trigger("halt", { serial });
  trigger(event, { ...question(), ...more });
}

function paint(kind, words, more = {}) {
  say(words, false, 0);
  ask("paint", { kind, ...more });
}

function repaint() {
  if (!state.photo) return;
  if (at("show-doubt").checked && !doubted()) paint("doubt", "Looking where the colors are a guess");
  else if (fresh(chosen)) show();
  else paint("edit", "Painting");
}

// While something is painted it waits: what arrives then is held against these again.
function restyle() {
  const { saturation, outside } = question();
  const differs = state.photo && state.versions.some((one) => one.saturation !== saturation || one.outside !== outside);
  if (differs && (!waiting || asked === "restyle")) ask("restyle");
}

async function send(file) {
  say("Sending " + file.name, false, null);
  const suffix = (file.name.match(/\.[A-Za-z0-9]{1,5}$/) || [""])[0].toLowerCase();
  const letters = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0"));
  try {  // under a name that no other visitor's file has
    const sent = await upload(new File([file], letters.join("") + suffix));
    const path = sent && (sent.path || (sent[0] && sent[0].path));
    if (!path) throw new Error("no answer");
    return path;
  } catch (error) {
    const large = /maximum allowed size|413/i.test(String(error && error.message));
    say(file.name + ": " + (large ? "too large for this server" : "could not be sent (too large, or the program has stopped)"), true);
    return null;
  }
}

async function open(file) {
  if (!file) return;
  const path = await send(file);
  if (!path) return;
  opening = file.name;
  paint("open", "Reading " + opening, { path, version: 0, revision: revision + 1, strokes: [], outside: "painted", saturation: 1 });
}

// A photo has been read; one that cannot be leaves everything as it is.
function begun() {
  opened = state.photo.view; name = opening || name; opening = "";
  strokes = []; revision += 1; chosen = 0; drawing = null;
  at("saturation").value = 1; at("saturation-value").value = "1.00"; at("show-doubt").checked = false;
  at("outside").value = state.photo.has_color ? "photo" : "painted";
  setTool("look"); split(0);
}

async function openReference(file) {
  if (!file) return;
  const path = await send(file);
  if (path) { revision += 1; paint("reference", "Reading " + file.name, { path }); }
}

// Showing

function say(words, error = false, progress = undefined) {
  const busy = progress !== undefined;
  at("status").hidden = !words;
  at("status").classList.toggle("error", error); at("words").textContent = words;
  at("progress").hidden = !busy; at("cancel").textContent = busy ? "Cancel" : "Close";
  if (progress === null || progress === undefined) at("progress").removeAttribute("value");
  else at("progress").value = progress;
  root.setAttribute("aria-busy", busy ? "true" : "false");
}

const version = (seed) => (state.versions || []).find((one) => one.seed === seed);
const doubted = () => { const asked = question(); return ["version", "revision", "saturation"].every((one) => state.doubt[one] === asked[one]); };
const fresh = (seed) => { const one = version(seed); return one && one.revision === revision; };

function receive() {
  const told = props.value;
  if (!told || told.moment <= state.moment) return;
  state = told;
  if (state.photo && state.photo.view !== opened) begun();
  if (state.serial === serial) {
    if (state.error) { waiting = false; say((opening || name) + ": " + state.error, true); opening = ""; }
    else if (state.progress !== null) say(capital(state.doing || "Painting"), false, state.progress);
    else { waiting = false; say(state.message || ""); }
  }
  if (!chosen && state.photo && state.versions.length) chosen = state.versions[0].seed;
  if (state.result && state.serial === serial) download(state.result);
  if (!waiting && !state.error) restyle();
  if (!waiting && !state.error && at("show-doubt").checked) repaint();
  show();
}

const capital = (words) => words[0].toUpperCase() + words.slice(1);
function source(image, url) { if (image.getAttribute("src") !== url) { if (url) image.src = url; else image.removeAttribute("src"); } }

function show() {
  const photo = state.photo;
  root.classList.toggle("open", !!photo);
  at("work").hidden = !photo;
  if (!photo) return;
  const one = version(chosen);
  source(at("before"), photo.view);
  source(at("after"), one ? one.view : photo.view);
  source(at("doubt"), state.doubt.view);
  at("doubt").hidden = at("legend").hidden = !(at("show-doubt").checked && doubted());
  showLegend();
  at("notes").textContent = one && fresh(chosen) && one.notes ? capital(one.notes) + "." : "";
  showVersions();
  source(at("reference-view"), state.reference);
  at("reference").hidden = at("reference-remove").hidden = !state.reference;
  at("more").disabled = !state.more;
  at("save").disabled = !one || !fresh(chosen);
  at("undo").disabled = at("clear").disabled = !strokes.length;
  at("outside-row").hidden = !strokes.some((stroke) => stroke.color === "area");
  at("about").textContent = `${photo.width} x ${photo.height} pixels, downloaded at full size with what its file says about itself.`;
  fit();
}

function showLegend() {
  const { title, note, steps } = state.doubt, [above, bar, words, below] = at("legend").children;
  if (words.children.length) return;
  above.textContent = title; below.textContent = capital(note) + ".";
  bar.style.background = `linear-gradient(90deg, ${steps.map(([, color]) => color)})`;
  for (const [word] of steps) words.append(Object.assign(document.createElement("span"), { textContent: word }));
}

function showVersions() {
  const box = at("versions");
  while (box.children.length > state.versions.length) box.lastChild.remove();
  state.versions.forEach((one, index) => {
    let button = box.children[index];
    if (!button) {
      button = document.createElement("button");
      button.type = "button";
      button.setAttribute("role", "radio");
      button.append(new Image(), document.createElement("span"));
      button.addEventListener("click", () => { chosen = Number(button.dataset.seed); show(); repaint(); });
      box.append(button);
    }
    button.dataset.seed = one.seed;
    button.setAttribute("aria-checked", one.seed === chosen);
    button.setAttribute("aria-label", "Version " + one.seed);
    source(button.firstChild, one.view);
    button.lastChild.textContent = one.seed;
  });
}

function fit() {
  const photo = state.photo, frame = at("frame"), zoom = Number(at("zoom").value);
  const room = parseFloat(getComputedStyle(frame).maxHeight) || window.innerHeight * 0.7;
  const width = Math.min(frame.clientWidth, (room * photo.width) / photo.height) * zoom;
  at("stage").style.width = width + "px";
  at("stage").style.height = (width * photo.height) / photo.width + "px";
  draw();
}

function split(percent) {
  at("split").value = percent;
  at("stage").style.setProperty("--split", percent + "%");
  at("stage").classList.toggle("split", percent > 0 && percent < 100);
}

// Controls

function setTool(wish) {
  tool = wish;
  for (const button of root.querySelectorAll("[data-tool]")) button.setAttribute("aria-checked", button.dataset.tool === tool);
  canvas.classList.toggle("draw", tool !== "look");
  at("brush").hidden = tool === "look" || tool === "pick";
  at("colors").hidden = tool !== "color";
  at("hint").textContent = HINTS[tool];
  if (state.photo) draw();
}

function cancel() {
  if (!waiting) return;
  serial += 1; waiting = false;
  trigger("halt", { serial });
  at("show-doubt").checked = false;
  say("Stopped.");
  show();
}

function download(result) {
  Object.assign(document.createElement("a"), { href: result, download: "" }).click();  // the server tells the name
}

at("file").addEventListener("change", (event) => { open(event.target.files[0]); event.target.value = ""; });
at("reference-file").addEventListener("change", (event) => { openReference(event.target.files[0]); event.target.value = ""; });
at("reference-remove").addEventListener("click", () => { revision += 1; paint("reference", "Painting", { path: "" }); });
at("use-reference").addEventListener("change", () => { revision += 1; repaint(); });
at("reference-view").addEventListener("click", (event) => {
  const box = event.target.getBoundingClientRect();
  pickFrom(event.target, [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
});
for (const button of root.querySelectorAll("[data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
for (const [color, title] of SWATCHES) {
  const button = document.createElement("button");
  button.type = "button"; button.title = title; button.setAttribute("aria-label", title); button.style.background = color;
  button.addEventListener("click", () => setColor(color));
  at("swatches").append(button);
}
at("split").addEventListener("input", (event) => split(Number(event.target.value)));
at("zoom").addEventListener("change", fit);
at("undo").addEventListener("click", undo);
at("clear").addEventListener("click", () => change([]));
at("outside").addEventListener("change", restyle);
at("saturation").addEventListener("input", (event) => {
  at("saturation-value").value = Number(event.target.value).toFixed(2);
  clearTimeout(later);
  later = setTimeout(restyle, 200);
});
at("show-doubt").addEventListener("change", () => { repaint(); show(); });
at("more").addEventListener("click", () => paint("more", "Painting"));
at("save").addEventListener("click", () => { say("Writing the file", false, null); ask("save", { format: at("format").value, name: name.replace(/\.[^.]*$/, "") }); });
at("cancel").addEventListener("click", () => { if (waiting) cancel(); else say(""); });
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {  // beside the photo, too: the browser would leave the page for it
    event.preventDefault();
    root.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
  });
}
document.addEventListener("colorize-failed", () => {
  if (waiting) { waiting = false; opening = ""; say("The program is busy with other visitors, or has stopped. Try again in a moment.", true); }
});
new ResizeObserver(() => { if (state.photo) fit(); }).observe(at("frame"));
watch("value", receive);
setTool("look");
