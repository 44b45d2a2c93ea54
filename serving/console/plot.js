// Many points on a canvas: pixels are written straight into the picture, so that 100 000 of them move smoothly.

import { around, placed } from "./labels.js";

export const SIDE = 65535;
const MOST_ZOOM = 400;
const REACH = 12;
const STAR = 11;
const LETTERS = 13;
// Labels keep off the points while so few are in view.
const FEW = 400;

// Where the view is: its middle, in the map's numbers, and how many times the whole map is enlarged.
export const WHOLE = { x: SIDE / 2, y: SIDE / 2, zoom: 1 };

export function zoomed(view, factor, at = view) {
  const zoom = Math.min(MOST_ZOOM, Math.max(0.8, view.zoom * factor));
  const part = view.zoom / zoom;
  return { x: at.x + (view.x - at.x) * part, y: at.y + (view.y - at.y) * part, zoom };
}

export const moved = (view, x, y) => ({ ...view, x: Math.min(SIDE, Math.max(0, view.x + x)), y: Math.min(SIDE, Math.max(0, view.y + y)) });

// Pixels of the canvas for one of the map's numbers.
const scaleOf = (canvas, view) => (0.94 * Math.min(canvas.width, canvas.height) * view.zoom) / SIDE;

export function toMap(canvas, view, event) {
  const box = canvas.getBoundingClientRect(), scale = scaleOf(canvas, view), dense = canvas.width / box.width;
  return {
    x: view.x + ((event.clientX - box.left) * dense - canvas.width / 2) / scale,
    y: view.y + ((event.clientY - box.top) * dense - canvas.height / 2) / scale,
  };
}

function toScreen(canvas, view, x, y) {
  const scale = scaleOf(canvas, view);
  return [(x - view.x) * scale + canvas.width / 2, (y - view.y) * scale + canvas.height / 2];
}

// The place in the list of the point under the pointer, -1 if none is near; hidden ones are passed over.
export function under(canvas, view, points, shown, at) {
  const dense = canvas.width / canvas.getBoundingClientRect().width;
  let best = -1, least = (REACH * dense / scaleOf(canvas, view)) ** 2;
  for (let i = 0; i < points.x.length; i++) {
    const distance = (points.x[i] - at.x) ** 2 + (points.y[i] - at.y) ** 2;
    if (distance < least && shown[i]) [best, least] = [i, distance];
  }
  return best;
}

// The points nearest to the middle of the view, nearest first.
export function nearest(points, shown, view, count) {
  const found = [];
  for (let i = 0; i < points.x.length; i++) {
    if (!shown[i]) continue;
    const distance = (points.x[i] - view.x) ** 2 + (points.y[i] - view.y) ** 2;
    if (found.length === count && distance >= found[count - 1][0]) continue;
    found.push([distance, i]);
    found.sort((a, b) => a[0] - b[0]);
    found.length = Math.min(found.length, count);
  }
  return found.map(([, i]) => i);
}

// A disc's pixels as steps in a picture of this width.
function disc(radius, width) {
  const steps = [], whole = Math.ceil(radius);
  for (let y = -whole; y <= whole; y++) for (let x = -whole; x <= whole; x++) if (x * x + y * y <= radius * radius) steps.push(y * width + x);
  return steps;
}

// Colours are 0xAABBGGRR, one a point: what is shown lies above what is not. Of the marks the first has its label first.
export function draw(canvas, view, points, shown, colours, faint, marks) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const scale = scaleOf(canvas, view), left = view.x - width / 2 / scale, top = view.y - height / 2 / scale;
  const dense = width / canvas.clientWidth;
  const radius = Math.min(6, Math.max(1.2, (60 * Math.sqrt(view.zoom)) / Math.sqrt(points.x.length))) * dense;
  const steps = disc(radius, width), edge = Math.ceil(radius), inView = [];
  for (const above of [false, true]) {
    for (let i = 0; i < points.x.length; i++) {
      if (Boolean(shown[i]) !== above) continue;
      const x = Math.round((points.x[i] - left) * scale), y = Math.round((points.y[i] - top) * scale);
      if (x < edge || y < edge || x >= width - edge || y >= height - edge) continue;
      const colour = above ? colours[i] : faint, middle = y * width + x;
      for (const step of steps) pixels[middle + step] = colour;
      if (inView.length <= FEW) inView.push(around(x, y, radius));
    }
  }
  context.putImageData(picture, 0, 0);
  const found = marks.map((mark) => {
    const [x, y] = toScreen(canvas, view, mark.x, mark.y);
    return { ...mark, x, y, reach: mark.task ? STAR * dense : radius + 4 * dense };
  });
  for (const mark of [...found].reverse()) drawMark(context, mark, dense);
  drawLabels(context, found, [...found.map((mark) => around(mark.x, mark.y, mark.reach)), ...buttonsOn(canvas, dense), ...(inView.length > FEW ? [] : inView)], dense);
}

function drawMark(context, { x, y, task, reach, colour, edge }, dense) {
  context.lineWidth = 2.5 * dense;
  context.strokeStyle = context.fillStyle = colour;
  context.beginPath();
  if (task) {
    for (let i = 0; i < 10; i++) {
      const turn = (Math.PI * i) / 5 - Math.PI / 2, length = i % 2 ? 0.42 * reach : reach;
      context.lineTo(x + length * Math.cos(turn), y + length * Math.sin(turn));
    }
    context.closePath();
    context.fill();
    context.lineWidth = 1.5 * dense;
    context.strokeStyle = edge;
    context.stroke();
  } else {
    context.arc(x, y, reach, 0, 2 * Math.PI);
    context.stroke();
  }
}

function drawLabels(context, marks, taken, dense) {
  context.font = `600 ${LETTERS * dense}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineWidth = 4 * dense;
  const labels = marks.filter((mark) => mark.label).map((mark) => ({
    ...mark, room: mark.reach + 4 * dense, width: context.measureText(mark.label).width, height: (LETTERS + 4) * dense,
  }));
  placed(labels, taken, context.canvas).forEach((place, i) => {
    if (!place) return;
    const at = [place.left, (place.top + place.bottom) / 2];
    context.strokeStyle = labels[i].edge;
    context.fillStyle = labels[i].colour;
    context.strokeText(labels[i].label, ...at);
    context.fillText(labels[i].label, ...at);
  });
}

function buttonsOn(canvas, dense) {
  const { left, top } = canvas.getBoundingClientRect();
  return [...canvas.parentElement.querySelectorAll("button")].map((button) => {
    const each = button.getBoundingClientRect();
    return { left: (each.left - left) * dense, right: (each.right - left) * dense, top: (each.top - top) * dense, bottom: (each.bottom - top) * dense };
  });
}
