// What several pages are made of. Texts from outside are only ever set as text.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { KEY_NEEDED, getKey } from "./api.js";

export const percent = (part) => (part === null || part === undefined ? "–" : `${(100 * part).toFixed(part < 0.1 ? 1 : 0)} %`);

export const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));

export function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (size >= 1024 && power < units.length - 1) [size, power] = [size / 1024, power + 1];
  return `${size.toFixed(power && size < 10 ? 1 : 0)} ${units[power]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export const day = (seconds) => new Date(1000 * seconds).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

export function Problem({ error }) {
  if (!error) return null;
  const another = () => dispatchEvent(new CustomEvent(KEY_NEEDED, { detail: "" }));
  return html`<div class="problem" role="alert"><strong>That did not work.</strong> ${error.message}
    ${error.status === 403 && getKey() && html`<p><button type="button" class="quiet" onClick=${another}>Use another key</button></p>`}</div>`;
}

export function Bar({ part, label, kind = "" }) {
  const width = `${Math.round(100 * Math.min(1, Math.max(0, part)))}%`;
  return html`<span class="bar ${kind}" role="img" aria-label=${label}><span style=${{ width }}></span></span>`;
}

export function Code({ text, label }) {
  const [said, say] = useState("Copy");
  const shown = useRef(null);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      // Over plain HTTP from another machine browsers give no clipboard.
      getSelection().selectAllChildren(shown.current);
      say("Selected: press Ctrl+C");
    }
    setTimeout(() => say("Copy"), 2500);
  };
  return html`<div class="code">
    <pre tabindex="0" aria-label=${label}><code ref=${shown}>${text}</code></pre>
    <button type="button" class="quiet" onClick=${copy} aria-label=${`Copy ${label}`} aria-live="polite">${said}</button>
  </div>`;
}

// Otherwise a browser says nothing when the same file, mended meanwhile, is chosen again.
export const chooseAnew = (event) => { event.target.value = ""; };

// A place to drop one file, which is a labelled file chooser too.
export function FileDrop({ label, hint, accept, chosen, onFile }) {
  const [over, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    if (event.dataTransfer.files[0]) onFile(event.dataTransfer.files[0]);
  };
  const hover = (event) => { event.preventDefault(); setOver(true); };
  return html`<label class=${`drop ${over ? "over" : ""}`} onDragOver=${hover} onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <span class="drop-label">${label}</span>
    <span class="hint">${chosen ? `${chosen.name}, ${bytes(chosen.size)}` : hint}</span>
    <input type="file" accept=${accept} onClick=${chooseAnew} onChange=${(event) => event.target.files[0] && onFile(event.target.files[0])} />
  </label>`;
}

// What was measured that a learnware has more than its base model.
export const gainsOf = (learnware) => learnware.quality.filter((each) => each.kind === "gain" && each.subject === "learnware");

// Loads again whenever ``key`` changes; what came too late is dropped.
export function useLoaded(load, key) {
  const [state, setState] = useState({ value: null, error: null, loading: true });
  useEffect(() => {
    const control = new AbortController();
    setState((old) => ({ ...old, loading: true }));
    load(control.signal).then(
      (value) => control.signal.aborted || setState({ value, error: null, loading: false }),
      (error) => control.signal.aborted || setState({ value: null, error, loading: false }),
    );
    return () => control.abort();
  }, [key]);
  return state;
}

// Pasted or dropped examples as JSON Lines: they are that already, or a list in JSON, or each line is a text.
export function asJsonLines(text) {
  if (text.trimStart().startsWith("{")) return text;
  if (text.trimStart().startsWith("[")) {
    try {
      return JSON.parse(text).map((each) => JSON.stringify(typeof each === "string" ? { text: each } : each)).join("\n");
    } catch { /* lines that begin with a bracket */ }
  }
  return text.split("\n").filter((line) => line.trim()).map((line) => JSON.stringify({ text: line.trim() })).join("\n");
}
