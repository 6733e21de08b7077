// What is drawn on the photo, by pointer and by keys. Runs behind page.js, in one scope with it.

function draw() {
  const scale = Math.min(2, window.devicePixelRatio || 1);
  [canvas.width, canvas.height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.max(1, side * scale));
  const pen = canvas.getContext("2d"), longer = Math.max(canvas.width, canvas.height);
  if (tool === "look" && !drawing) return;
  const areas = new OffscreenCanvas(canvas.width, canvas.height), shade = areas.getContext("2d");
  for (const stroke of drawing ? [...strokes, drawing] : strokes) {
    const isArea = stroke.color === "area", on = isArea ? shade : pen;
    const points = stroke.points.map(([x, y]) => [x * canvas.width, y * canvas.height]);
    on.lineCap = on.lineJoin = "round";
    on.strokeStyle = on.fillStyle = isArea ? "#00e5ff" : stroke.color;
    on.globalAlpha = isArea || points.length === 1 ? 1 : 0.5;  // the result is to be seen below
    if (points.length > 1 || isArea) {
      on.lineWidth = Math.max(2, stroke.size * longer);
      on.beginPath();
      on.moveTo(...points[0]);
      for (const point of points) on.lineTo(...point);
      on.stroke();
    } else {  // a click is a known point, however thick the brush
      on.beginPath();
      on.arc(...points[0], 6 * scale, 0, 7);
      on.fill();
      on.lineWidth = 2 * scale; on.strokeStyle = "#fff"; on.stroke();
      on.lineWidth = scale; on.strokeStyle = "#000"; on.stroke();
    }
  }
  pen.globalAlpha = 0.4;
  pen.drawImage(areas, 0, 0);
  pen.globalAlpha = 1;
  if (cross && document.activeElement === canvas) {
    const [x, y, arm] = [cross[0] * canvas.width, cross[1] * canvas.height, 14 * scale];
    for (const [color, width] of [["#000", 4], ["#fff", 2]]) {
      pen.strokeStyle = color; pen.lineWidth = width * scale;
      pen.stroke(new Path2D(`M${x - arm} ${y}H${x + arm}M${x} ${y - arm}V${y + arm}`));
    }
  }
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((value) => Math.min(1, Math.max(0, value)));
}

function change(others) {
  strokes = others; revision += 1;
  show();
  repaint();
}

function finish(stroke) { change([...strokes, stroke]); }
function undo() { if (strokes.length) change(strokes.slice(0, -1)); }

function pickFrom(image, [x, y]) {
  if (!image.naturalWidth) return;
  const spot = new OffscreenCanvas(1, 1).getContext("2d");
  spot.drawImage(image, Math.min(image.naturalWidth - 1, Math.floor(x * image.naturalWidth)), Math.min(image.naturalHeight - 1, Math.floor(y * image.naturalHeight)), 1, 1, 0, 0, 1, 1);
  const [red, green, blue] = spot.getImageData(0, 0, 1, 1).data;
  setColor("#" + [red, green, blue].map((code) => code.toString(16).padStart(2, "0")).join(""));
}

function setColor(color) { at("color").value = color; setTool("color"); }

function begin(point) {
  return { color: tool === "area" ? "area" : at("color").value, size: Number(at("size").value) / 100, points: [point] };
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button || !event.isPrimary) { drawing = null; return; }
  cross = null;
  if (tool === "pick") { pickFrom(at("after"), place(event)); return; }
  canvas.setPointerCapture(event.pointerId);
  if (tool === "look") { split(100 * place(event)[0]); return; }
  drawing = begin(place(event));
  draw();
});
canvas.addEventListener("pointermove", (event) => {
  if (!canvas.hasPointerCapture(event.pointerId)) return;
  if (tool === "look") { split(100 * place(event)[0]); return; }
  if (!drawing) return;
  const point = place(event), last = drawing.points[drawing.points.length - 1];
  const moved = Math.hypot((point[0] - last[0]) * canvas.clientWidth, (point[1] - last[1]) * canvas.clientHeight);
  if (moved >= (drawing.points.length > 1 ? 2 : 5)) { drawing.points.push(point); draw(); }
});
canvas.addEventListener("pointerup", () => { const stroke = drawing; drawing = null; if (stroke) finish(stroke); });
canvas.addEventListener("pointercancel", () => { drawing = null; draw(); });
canvas.addEventListener("blur", draw);
canvas.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 0.05 : 0.01;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key in moves) {
    const move = moves[event.key];
    if (tool === "look") split(Math.min(100, Math.max(0, Number(at("split").value) + 100 * move[0])));
    else cross = (cross || [0.5, 0.5]).map((value, axis) => Math.min(1, Math.max(0, value + move[axis])));
  } else if ((event.key === "Enter" || event.key === " ") && tool !== "look") {
    cross = cross || [0.5, 0.5];
    if (tool === "pick") pickFrom(at("after"), cross);
    else finish(begin(cross));
  } else return;
  event.preventDefault();
  draw();
});
root.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); undo(); }
  if (event.key === "Escape") cancel();
});
