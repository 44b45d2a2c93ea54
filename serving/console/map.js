// Map: every learnware a point, like beside like, and the task that Find was asked about among them.

import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact.js";
import { getJson, postBytes } from "./api.js";
import { Problem, number } from "./parts.js";
import { SIDE, WHOLE, draw, moved, nearest, toMap, under, zoomed } from "./plot.js";
import { asked } from "./asked.js";

const WAIT_MS = 700;
const LOOKS = 10;
const COLOURS = ["#3b7ddd", "#d2601a", "#2e9650", "#b455c0", "#d6453c", "#11939f", "#937400", "#db5c98"];
const OTHER = "#7a8898";
const STEP = 0.12;
const LISTED = 8;
// Of the first that Find lists, if they are no more than a third of all, so that a ring says something.
const RINGED = 10;
const NAMED = 3;

const pixel = (hex) => (0xff000000 | (parseInt(hex.slice(5, 7), 16) << 16) | (parseInt(hex.slice(3, 5), 16) << 8) | parseInt(hex.slice(1, 3), 16)) >>> 0;
const nameOf = (reference) => reference.slice(0, reference.lastIndexOf("@"));

// The map there is, and the next one where Find names a learnware that came in since.
async function load(signal, onProgress, onMap) {
  for (let looked = 0; looked < LOOKS; ) {
    const found = await getJson("/v1/map", signal);
    signal.throwIfAborted();
    if (found.references) {
      if (!looked || !lacksFirst(found)) onMap(found);
      if (!lacksFirst(found)) return;
      looked += 1;
    } else {
      onProgress(found.done);
    }
    await new Promise((done) => setTimeout(done, WAIT_MS));
    signal.throwIfAborted();
  }
}

const lacksFirst = (map) => asked.ranked.length > 0 && !map.references.includes(asked.ranked[0]);

export function CatalogueMap() {
  const [points, setPoints] = useState(null);
  const [done, setDone] = useState(0);
  const [error, setError] = useState(null);
  useEffect(() => {
    const control = new AbortController();
    load(control.signal, setDone, setPoints).catch((failure) => control.signal.aborted || setError(failure));
    return () => control.abort();
  }, []);
  return html`<h1>Map</h1>
    <p class="lead">Every point is a learnware. Those made for like texts lie beside each other; how far apart two groups are means little.${" "}
      ${asked.specification ? "The star is your task." : html`Show examples under <a href="#/find">Find</a>, and your task is among them.`}</p>
    <${Problem} error=${error} />
    ${!points && !error && html`<p class="busy" aria-live="polite">laying out the catalogue … ${done ? `${number(done)} learnwares` : ""}</p>`}
    ${points && !points.references.length && html`<p class="empty">No learnware is published yet.</p>`}
    ${points && points.references.length > 0 && html`<${Chart} points=${points} />`}`;
}

function Chart({ points }) {
  const [hidden, setHidden] = useState([]);
  const [words, setWords] = useState("");
  const [task, setTask] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    if (asked.specification) postBytes("/v1/map", asked.specification).then(setTask, setError);
  }, [points]);
  // The eight commonest domains have colours of their own.
  const groups = useMemo(() => {
    const counts = points.domains.map((name, code) => ({ name, code, count: 0 }));
    for (const code of points.domain) counts[code].count += 1;
    counts.sort((a, b) => b.count - a.count);
    const own = counts.slice(0, COLOURS.length).map((each, i) => ({ name: each.name || "no domain", count: each.count, codes: [each.code], colour: COLOURS[i] }));
    const rest = counts.slice(COLOURS.length);
    const others = { name: `${rest.length} others`, count: rest.reduce((sum, each) => sum + each.count, 0), codes: rest.map((each) => each.code), colour: OTHER };
    return rest.length ? [...own, others] : own;
  }, [points]);
  const colours = useMemo(() => {
    const of = new Uint32Array(points.domains.length);
    for (const group of groups) for (const code of group.codes) of[code] = pixel(group.colour);
    return Uint32Array.from(points.domain, (code) => of[code]);
  }, [groups]);
  const asks = words.trim().toLowerCase();
  const shown = useMemo(() => {
    const away = new Set(groups.filter((group) => hidden.includes(group.name)).flatMap((group) => group.codes));
    return Uint8Array.from(points.domain, (code, i) => !away.has(code) && (!asks || points.references[i].toLowerCase().includes(asks)));
  }, [groups, hidden, asks]);
  const count = shown.reduce((sum, each) => sum + each, 0);
  const toggle = (name) => setHidden(hidden.includes(name) ? hidden.filter((each) => each !== name) : [...hidden, name]);
  return html`
    <div class="row search">
      <input type="search" aria-label="Highlight by name" placeholder="Highlight by name …" value=${words} onInput=${(event) => setWords(event.target.value)} />
      <span class="hint" aria-live="polite">${number(count)} of ${number(points.published)} learnwares
        ${points.published > points.references.length ? ` (a sample of ${number(points.references.length)} is drawn)` : ""}</span>
    </div>
    <div class="row legend" role="group" aria-label="Domains">${groups.map((group) => html`
      <button key=${group.name} type="button" class="quiet" aria-pressed=${!hidden.includes(group.name)} onClick=${() => toggle(group.name)}>
        <span class="dot" style=${{ background: group.colour }}></span>${group.name} <span class="count">${number(group.count)}</span></button>`)}
    </div>
    <${Problem} error=${error} />
    <${Canvas} points=${points} shown=${shown} colours=${colours} task=${task} />`;
}

function Canvas({ points, shown, colours, task }) {
  const canvas = useRef(null);
  const [view, setView] = useState(WHOLE);
  const [over, setOver] = useState(-1);
  const [size, setSize] = useState("");
  const now = useRef(null);
  now.current = { view, shown };
  const ranked = useMemo(() => {
    const places = new Map(points.references.map((reference, i) => [reference, i]));
    return asked.ranked.map((reference) => places.get(reference)).filter((place) => place !== undefined);
  }, [points]);
  const ringed = task ? ranked.slice(0, Math.min(RINGED, Math.max(1, Math.floor(points.references.length / 3)))) : [];

  useEffect(() => {
    const fit = () => {
      const { clientWidth, clientHeight } = canvas.current;
      const [width, height] = [clientWidth * devicePixelRatio, clientHeight * devicePixelRatio].map(Math.round);
      // A canvas is emptied by being given a size, also the same one.
      if (canvas.current.width !== width || canvas.current.height !== height) Object.assign(canvas.current, { width, height });
      setSize(`${canvas.current.width} ${canvas.current.height}`);
    };
    const observer = new ResizeObserver(fit);
    observer.observe(canvas.current);
    const release = steer(canvas.current, () => now.current.view, setView, (at) => under(canvas.current, now.current.view, points, now.current.shown, at), setOver,
      (place) => { location.hash = `#/learnware/${points.references[place]}`; });
    return () => { observer.disconnect(); release(); };
  }, [points]);

  useEffect(() => {
    if (!canvas.current.width) return undefined;
    const frame = requestAnimationFrame(() => {
      const style = getComputedStyle(canvas.current), edge = style.getPropertyValue("--card"), ink = style.getPropertyValue("--ink");
      const named = ringed.slice(0, NAMED);
      const label = (place) => (place === over ? points.references[place] : named.includes(place) ? nameOf(points.references[place]) : "");
      const marks = task ? [{ ...task, task: true, colour: style.getPropertyValue("--bad"), edge, label: "your task" }] : [];
      for (const place of new Set(over < 0 ? ringed : [...ringed, over])) {
        marks.push({ x: points.x[place], y: points.y[place], colour: ink, edge, label: label(place), must: place === over });
      }
      draw(canvas.current, view, points, shown, colours, pixel(style.getPropertyValue("--line").trim()), marks);
    });
    return () => cancelAnimationFrame(frame);
  }, [view, over, size, shown, colours, task]);

  const keys = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const step = (STEP * SIDE) / view.zoom;
    const does = {
      ArrowLeft: () => moved(view, -step, 0), ArrowRight: () => moved(view, step, 0), ArrowUp: () => moved(view, 0, -step), ArrowDown: () => moved(view, 0, step),
      "+": () => zoomed(view, 1.5), "-": () => zoomed(view, 1 / 1.5), 0: () => WHOLE,
    }[event.key];
    if (does) { event.preventDefault(); setView(does()); }
  };
  const toTask = () => setView({ x: task.x, y: task.y, zoom: 8 });
  const beside = useMemo(() => nearest(points, shown, view, LISTED), [points, shown, view]);
  return html`<div class="chart">
      <canvas ref=${canvas} tabindex="0" role="img" onKeyDown=${keys}
        aria-label=${`${number(points.references.length)} learnwares as points. Arrow keys move, + and - zoom, 0 shows all; the learnwares in the middle are listed below.`}></canvas>
      <div class="zoom">
        <button type="button" class="quiet" aria-label="Zoom in" onClick=${() => setView(zoomed(view, 1.5))}>+</button>
        <button type="button" class="quiet" aria-label="Zoom out" onClick=${() => setView(zoomed(view, 1 / 1.5))}>−</button>
        <button type="button" class="quiet" onClick=${() => setView(WHOLE)}>All</button>
        ${task && html`<button type="button" class="quiet" onClick=${toTask}>Your task</button>`}
      </div>
    </div>
    <p class="hint">Drag to move, scroll to zoom, click a point to open it.${ringed.length > 0 && ` Ringed: the first ${ringed.length > 1 ? ringed.length : ""} that Find lists for your task.`}</p>
    ${task && ranked.length > 0 && html`<h2>Nearest to your task, compared exactly</h2>
      <ol class="plain inline-list">${ranked.map((place) => html`<li key=${place}><${Link} reference=${points.references[place]} /></li>`)}</ol>`}
    <h2>In the middle of the view</h2>
    <ul class="plain inline-list">${beside.map((place) => html`<li key=${place}><${Link} reference=${points.references[place]} /></li>`)}</ul>`;
}

const Link = ({ reference }) => html`<a href=${`#/learnware/${reference}`}>${nameOf(reference)}</a>`;

// Mouse and fingers: one moves, two or the wheel zoom, a click opens. Returns what lets go again.
function steer(canvas, view, setView, pointUnder, setOver, open) {
  const held = new Map();
  let travelled = 0;
  const span = () => { const [a, b] = [...held.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
  const middle = () => { const all = [...held.values()]; return { clientX: all.reduce((sum, each) => sum + each.clientX, 0) / all.length, clientY: all.reduce((sum, each) => sum + each.clientY, 0) / all.length }; };
  const handlers = {
    wheel: (event) => { event.preventDefault(); setView(zoomed(view(), Math.exp(-event.deltaY / 400), toMap(canvas, view(), event))); },
    pointerdown: (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId); held.set(event.pointerId, event);
      travelled = held.size > 1 ? Infinity : 0;
    },
    pointermove: (event) => {
      const before = held.get(event.pointerId);
      if (!before) {
        const place = pointUnder(toMap(canvas, view(), event));
        canvas.classList.toggle("over", place >= 0);
        return setOver(place);
      }
      const [was, wide] = [toMap(canvas, view(), middle()), held.size === 2 ? span() : 0];
      held.set(event.pointerId, event);
      const is = toMap(canvas, view(), middle());
      travelled += Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY);
      const next = moved(view(), was.x - is.x, was.y - is.y);
      return setView(wide ? zoomed(next, span() / wide, is) : next);
    },
    pointerup: (event) => {
      const there = held.delete(event.pointerId);
      const place = there && travelled < 5 ? pointUnder(toMap(canvas, view(), event)) : -1;
      if (place >= 0) open(place);
    },
    pointercancel: (event) => held.delete(event.pointerId),
    pointerleave: () => setOver(-1),
  };
  for (const [name, handler] of Object.entries(handlers)) canvas.addEventListener(name, handler, { passive: false });
  return () => { for (const [name, handler] of Object.entries(handlers)) canvas.removeEventListener(name, handler); };
}
