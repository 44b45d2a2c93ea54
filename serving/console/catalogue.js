// Catalogue: search as you type, filters with counts, sorting, pages.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { getJson } from "./api.js";
import { useKept } from "./asked.js";
import { Problem, day, gainsOf, number, useLoaded } from "./parts.js";

const FILTERS = {
  domain: "Domain", task_type: "Task", base_model: "Base model", languages: "Language", tags: "Tag", licence: "Licence", status: "State",
};
const LOADED = 500;
const SORTED = 10_000;
const PAGE = 24;
const WAIT_MS = 200;
const ORDERS = {
  match: ["best match", null],
  name: ["name", (a, b) => a.name.localeCompare(b.name) || b.version - a.version],
  newest: ["newest", (a, b) => b.created - a.created],
  texts: ["most texts", (a, b) => b.sample_size - a.sample_size],
  gain: ["measured gain", (a, b) => gainOf(b) - gainOf(a)],
};

function gainOf(learnware) {
  const gains = gainsOf(learnware);
  return gains.length ? Math.max(...gains.map((each) => each.value)) : -Infinity;
}

// The filter's text form carries neither of these marks inside a value.
const sendable = (value) => value !== "" && !/[,|<>=]/.test(value);

const where = (chosen, except) => Object.entries(chosen)
  .filter(([field, values]) => field !== except && values.length)
  .map(([field, values]) => `${field}=${values.join("|")}`).join(",");

const query = (fields) => new URLSearchParams(fields).toString();

function useSettled(value) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), WAIT_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

export function Catalogue() {
  const [text, setText] = useKept("words", "");
  const [chosen, setChosen] = useKept("filters", { status: ["published"] });
  const [order, setOrder] = useKept("order", "name");
  const [page, setPage] = useKept("page", 0);
  const asked = useSettled(text.trim());
  const condition = where(chosen);
  // An order other than by name or match is worth waiting for more.
  const limit = ["match", "name"].includes(order) ? LOADED : SORTED;
  const key = `${asked}\n${condition}\n${limit}`;
  const found = useLoaded((signal) => getJson(`/learnwares?${query({ where: condition, query: asked, limit })}`, signal), key);
  const last = useRef(`${key}\n${order}`);
  useEffect(() => {
    if (last.current !== `${key}\n${order}`) setPage(0);
    last.current = `${key}\n${order}`;
  }, [key, order]);

  const toggle = (field, value) => {
    const values = chosen[field] ?? [];
    setChosen({ ...chosen, [field]: values.includes(value) ? values.filter((each) => each !== value) : [...values, value] });
  };
  const used = asked ? order : order === "match" ? "name" : order;
  const [, compare] = ORDERS[used];
  const all = found.value?.learnwares ?? [];
  const sorted = compare ? [...all].sort(compare) : all;
  const shown = sorted.slice(page * PAGE, (page + 1) * PAGE);
  const cut = found.value?.next || (asked && all.length === limit);
  return html`
    <h1>Catalogue</h1>
    <div class="row search">
      <input type="search" aria-label="Search the catalogue" placeholder="Search by name, description, domain, tag …" value=${text}
        onInput=${(event) => { setText(event.target.value); setOrder(event.target.value.trim() ? "match" : "name"); }} />
      <label class="inline">Sort by <select value=${used} onChange=${(event) => setOrder(event.target.value)}>
        ${Object.entries(ORDERS).filter(([id]) => asked || id !== "match").map(([id, [name]]) => html`<option key=${id} value=${id}>${name}</option>`)}
      </select></label>
    </div>
    <div class="catalogue">
      <details class="filters" open=${matchMedia("(min-width: 50rem)").matches}>
        <summary>Filters</summary>
        ${Object.entries(FILTERS).map(([field, name]) => html`
          <${Facet} key=${field} field=${field} name=${name} chosen=${chosen[field] ?? []} where=${where(chosen, field)} among=${asked ? all : null} onToggle=${toggle} />`)}
      </details>
      <div class="results">
        <p class="hint" aria-live="polite">${found.loading ? "searching …" : html`${asked ? "the best matches: " : ""}${number(all.length)}${cut ? "+" : ""} learnware${all.length === 1 ? "" : "s"}
          ${cut ? ` – ${number(limit)} of them are loaded and sorted; search or filter to narrow them` : ""}`}</p>
        <${Problem} error=${found.error} />
        ${!found.loading && !found.error && !all.length && html`<p class="empty">Nothing here. Take a filter away or search for something else.</p>`}
        <ul class="cards">${shown.map((each) => html`<${Entry} key=${each.id} learnware=${each} />`)}</ul>
        ${all.length > PAGE && html`<nav class="row" aria-label="Pages of results">
          <button type="button" class="quiet" disabled=${page === 0} onClick=${() => setPage(page - 1)}>Previous</button>
          <span>page ${page + 1} of ${Math.ceil(all.length / PAGE)}</span>
          <button type="button" class="quiet" disabled=${(page + 1) * PAGE >= all.length} onClick=${() => setPage(page + 1)}>Next</button>
        </nav>`}
      </div>
    </div>`;
}

// ``among`` are the learnwares that a search found; without one the catalogue counts.
function Facet({ field, name, chosen, where, among, onToggle }) {
  const counts = useLoaded((signal) => getJson(`/learnwares/facets?${query({ field, where, limit: 20 })}`, signal), where);
  const values = Object.entries((among ? counted(among, field) : counts.value?.values) ?? {}).filter(([value]) => sendable(value));
  for (const value of chosen) if (!values.some(([each]) => each === value)) values.push([value, 0]);
  if (!values.length) return null;
  return html`<fieldset><legend>${name}</legend>${values.map(([value, count]) => html`
    <label key=${value} class="facet"><input type="checkbox" checked=${chosen.includes(value)} onChange=${() => onToggle(field, value)} />
      <span>${value}</span><span class="count">${number(count)}</span></label>`)}
  </fieldset>`;
}

function counted(learnwares, field) {
  const counts = {};
  for (const learnware of learnwares) for (const value of [learnware[field]].flat()) counts[value] = (counts[value] ?? 0) + 1;
  return Object.fromEntries(Object.entries(counts).sort((a, b) => b[1] - a[1]).slice(0, 20));
}

function Entry({ learnware }) {
  const gain = gainOf(learnware);
  return html`<li class="card">
    <div class="ranked-head"><h2><a href=${`#/learnware/${learnware.id}`}>${learnware.name}</a></h2><span class="hint">version ${learnware.version}</span></div>
    <p class="clamp">${learnware.description || html`<span class="hint">no description</span>`}</p>
    <p class="tags">${[...new Set([learnware.domain, learnware.task_type, ...learnware.tags])].filter(Boolean).map((tag) => html`<span class="tag">${tag}</span>`)}
      ${learnware.status !== "published" && html`<span class="tag state">${learnware.status}</span>`}</p>
    <p class="hint">${learnware.base_model === "none" ? "whole model" : `on ${learnware.base_model}`}, ${number(learnware.sample_size)} texts, ${day(learnware.created)}
      ${gain > -Infinity && html`, gain ${gain}`}</p>
  </li>`;
}
