// The frame around the pages: navigation, the key, and which page the address names.

import { html, render, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { KEY_NEEDED, getJson, getKey, setKey } from "./api.js";
import { Catalogue } from "./catalogue.js";
import { Find } from "./find.js";
import { LearnwarePage } from "./learnware.js";
import { Live } from "./live.js";
import { CatalogueMap } from "./map.js";
import { Submit } from "./submit.js";

const PAGES = { find: ["Find", Find], catalogue: ["Catalogue", Catalogue], map: ["Map", CatalogueMap], live: ["Live", Live], submit: ["Submit", Submit] };
const HIDDEN = { learnware: ["Learnware", LearnwarePage] };

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function place() {
  const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("?")[0].split("/");
  const known = Object.hasOwn(PAGES, page) || Object.hasOwn(HIDDEN, page);
  return { page: known ? page : "find", argument: decoded(rest.join("/")) };
}

function KeyPanel({ message, refused, onDone }) {
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const keep = (event) => {
    event.preventDefault();
    setKey(field.current.value.trim());
    onDone();
  };
  return html`<form class="card key" onSubmit=${keep} aria-label="API key">
    <p class="lead">SLM Dock finds, among many specialised small language models, the one that fits your task, and lets it answer.</p>
    <h2>API key</h2>
    ${message && html`<p role="alert" class=${refused ? "problem" : ""}>${message}</p>`}
    <p>Whoever runs this dock makes one with <code>slmdock key create</code>. It is kept in this tab only, until the tab is closed.</p>
    <div class="row">
      <input ref=${field} type="password" autocomplete="off" aria-label="API key" placeholder="sk-dock-…" defaultValue=${getKey()} />
      <button type="submit">Use this key</button>
      <button type="button" class="quiet" onClick=${() => { setKey(""); onDone(); }}>Forget it</button>
    </div>
  </form>`;
}

function App() {
  const [where, setWhere] = useState(place);
  const [state, setState] = useState(null);
  const [asking, setAsking] = useState(null);
  const [used, setUsed] = useState(0);
  const main = useRef(null);

  useEffect(() => {
    const moved = () => { setWhere(place()); main.current?.focus(); scrollTo(0, 0); };
    const needed = (event) => setAsking(event.detail);
    // A file that misses its place would otherwise replace the page.
    const held = (event) => event.preventDefault();
    for (const name of ["dragover", "drop"]) addEventListener(name, held);
    addEventListener("hashchange", moved);
    addEventListener(KEY_NEEDED, needed);
    const nobody = { keys: false, local: false, max_examples: 0, max_examples_bytes: 0 };
    getJson("/v1/console").then(setState, () => setState(nobody));
  }, []);

  const [title, Page] = PAGES[where.page] ?? HIDDEN[where.page];
  useEffect(() => { document.title = `${title} – SLM Dock`; }, [title]);
  const needsKey = state?.keys && !getKey();
  const done = () => { setAsking(null); setUsed(used + 1); };
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to content</a>
    <header>
      <a class="brand" href="#/find"><img src="/console/icon.svg" alt="" width="28" height="28" />SLM Dock</a>
      <nav aria-label="Pages">${Object.entries(PAGES).map(([id, [name]]) => html`
        <a key=${id} href=${`#/${id}`} aria-current=${where.page === id ? "page" : undefined}>${name}</a>`)}
      </nav>
      ${state?.keys && html`<button type="button" class="quiet" onClick=${() => setAsking("")}>${getKey() ? "Key: set" : "Key: none"}</button>`}
    </header>
    <main id="main" ref=${main} tabindex="-1">
      ${state && (needsKey || asking !== null) && html`<${KeyPanel} message=${asking || (needsKey ? "This dock asks for an API key." : "")} refused=${Boolean(asking)} onDone=${done} />`}
      ${state && !needsKey && html`<${Page} key=${`${where.page}/${where.argument}/${used}`} state=${state} argument=${where.argument} />`}
    </main>`;
}

render(html`<${App} />`, document.getElementById("app"));
