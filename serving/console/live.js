// Live: the gateway's last minute, as ``slmdock top`` shows it.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { getJson } from "./api.js";
import { Bar, Problem, bytes, duration, number } from "./parts.js";

const EVERY_MS = 2000;
const KEPT = 90;
const RESIDENTS = 40;

// A rate with as many digits as tell it from nothing.
const rate = (value) => (value >= 10 ? number(Math.round(value)) : value === 0 ? "0" : value.toFixed(value < 0.1 ? 2 : 1));

export function Live() {
  const [history, setHistory] = useState([]);
  const [error, setError] = useState(null);
  const [paused, setPaused] = useState(false);
  const [residency, setResidency] = useState(null);
  useEffect(() => {
    if (paused) return undefined;
    let timer, over = false, allowed = true;
    const look = async () => {
      try {
        if (!document.hidden) {
          const snapshot = await getJson("/v1/live");
          if (over) return;
          // Needs the role serve, which this key may not have.
          if (allowed) getJson("/v1/residency").then((found) => over || setResidency(found), () => { allowed = false; });
          setHistory((old) => [...old, snapshot].slice(-KEPT));
          setError(null);
        }
      } catch (failure) {
        if (over) return;
        setError(failure);
        if (failure.status === 401 || failure.status === 403) return;
      }
      if (!over) timer = setTimeout(look, EVERY_MS);
    };
    look();
    return () => { over = true; clearTimeout(timer); };
  }, [paused]);
  const snapshot = history.at(-1);
  return html`<div class="ranked-head"><h1>Live</h1>
      <button type="button" class="quiet" aria-pressed=${paused} onClick=${() => setPaused(!paused)}>${paused ? "Go on" : "Pause"}</button></div>
    <${Problem} error=${error} />
    ${snapshot && html`<${Frame} snapshot=${snapshot} history=${history} residency=${residency} />`}`;
}

function Frame({ snapshot, history, residency }) {
  const { last_minute: minute, dock } = snapshot;
  const stages = Object.entries(snapshot.in_flight);
  const inFlight = stages.reduce((sum, [, count]) => sum + count, 0);
  const replicas = dock.engines.flatMap((engine) => engine.replicas);
  const residents = replicas.reduce((sum, one) => sum + one.residents, 0);
  const fallbacks = minute.decisions.fallback ?? 0;
  const line = (pick) => history.map(pick);
  return html`<p class="hint">Over the last ${Math.round(minute.window_seconds)} s; up ${duration(snapshot.uptime_seconds)};
      ${dock.learnwares === null ? html` <strong class="bad">the catalogue does not answer</strong>` : ` ${number(dock.learnwares)} learnwares`};
      curves since this page was opened, ${Math.round((KEPT * EVERY_MS) / 60_000)} min at most</p>
    <div class="tiles">
      <${Tile} name="Requests a second" value=${rate(minute.requests)} line=${line((each) => each.last_minute.requests)}
        more=${`${rate(minute.refused)} refused, ${rate(minute.failed)} failed`} bad=${minute.failed > 0} />
      <${Tile} name="Tokens a second, where told" value=${rate(minute.completion_tokens)} line=${line((each) => each.last_minute.completion_tokens)}
        more=${`${rate(minute.prompt_tokens)} read`} />
      <${Tile} name="In flight" value=${inFlight} line=${line((each) => Object.values(each.in_flight).reduce((sum, count) => sum + count, 0))}
        more=${stages.map(([stage, count]) => `${count} ${stage}`).join(", ")} />
      <${Tile} name="Adapters in memory" value=${replicas.length ? number(residents) : "–"} line=${line((each) => each.dock.engines.flatMap((engine) => engine.replicas).reduce((sum, one) => sum + one.residents, 0))}
        more=${replicas.length ? `in ${replicas.length} replica${replicas.length === 1 ? "" : "s"}` : "this engine does not tell"} />
      <${Tile} name="Fallbacks" value=${fallbacks} line=${line((each) => each.last_minute.decisions.fallback ?? 0)} more="answered by the base model after a fault" bad=${fallbacks > 0} />
    </div>
    <div class="columns"><${Decisions} decisions=${minute.decisions} /><${Times} minute=${minute} /></div>
    <div class="columns"><${Engines} engines=${dock.engines} /><${MostUsed} used=${minute.most_used} /></div>
    ${residency?.replicas.length > 0 && html`<${Residents} replicas=${residency.replicas} />`}
    ${dock.whole && html`<${Whole} whole=${dock.whole} />`}`;
}

function Tile({ name, value, line, more, bad = false }) {
  return html`<section class="card tile"><h2>${name}</h2><p class=${`big ${bad ? "bad" : ""}`}>${value}</p><${Sparkline} line=${line} /><p class="hint">${more}</p></section>`;
}

function Sparkline({ line }) {
  const top = Math.max(...line, 1e-9);
  const points = line.map((value, index) => `${(100 * index) / Math.max(1, line.length - 1)},${29 - 27 * (value / top)}`);
  return html`<svg class="spark" viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true"><path d="M0 29H100" /><polyline points=${points.join(" ")} /></svg>`;
}

function Decisions({ decisions }) {
  const rows = Object.entries(decisions);
  const most = Math.max(...rows.map(([, count]) => count), 1);
  return html`<section class="card"><h2>Decisions</h2>${rows.length ? html`<table><tbody>${rows.map(([kind, count]) => html`
    <tr><th scope="row">${kind}</th><td class="n">${number(count)}</td><td class="wide"><${Bar} part=${count / most} label=${`${count} ${kind}`} kind=${kind === "fallback" ? "warn" : ""} /></td></tr>`)}</tbody></table>`
  : html`<p class="hint">none yet</p>`}</section>`;
}

function Times({ minute }) {
  const rows = [["Decision", minute.decision], ["First token, streams only", minute.first_token], ["Whole answer", minute.whole]];
  return html`<section class="card"><h2>Times</h2><table><thead><tr><th></th><th class="n">half within</th><th class="n">95 % within</th></tr></thead>
    <tbody>${rows.map(([name, times]) => html`<tr><th scope="row">${name}</th><td class="n">${duration(times?.p50)}</td><td class="n">${duration(times?.p95)}</td></tr>`)}</tbody></table></section>`;
}

const State = ({ up }) => html`<span class=${up ? "up" : "bad"}>${up ? "up" : "DOWN"}</span>`;

function Engines({ engines }) {
  return html`<section class="card"><h2>Engines</h2><div class="scroll" tabindex="0"><table><thead><tr><th>Engine</th><th>State</th><th class="n">In flight</th><th class="n">Adapters</th></tr></thead>
    <tbody>${engines.flatMap((engine) => [
      html`<tr><th scope="row">${engine.base_model}</th><td><${State} up=${engine.healthy} /></td><td class="n">${engine.replicas.length ? "" : "–"}</td><td class="n">${engine.replicas.length ? "" : "–"}</td></tr>`,
      ...engine.replicas.map((one) => html`<tr><td class="hint">${one.replica}</td><td><${State} up=${one.up} /></td><td class="n">${one.in_flight}</td><td class="n">${number(one.residents)}</td></tr>`),
    ])}</tbody></table></div></section>`;
}

function Residents({ replicas }) {
  return html`<section class="card"><h2>In memory</h2><div class="scroll" tabindex="0"><table><thead><tr><th>Replica</th><th class="n">Places</th><th>Adapters, the latest used first</th></tr></thead>
    <tbody>${replicas.map((one) => html`<tr key=${one.replica}><th scope="row">${one.replica}</th><td class="n">${one.adapters.length} of ${number(one.capacity)}</td>
      <td>${[...one.adapters].reverse().slice(0, RESIDENTS).map((each) => html`<span class="tag" title=${`${number(each.uses)} uses`}>${each.model.split("@")[0]}${each.pinned && " (pinned)"}</span>`)}
        ${one.adapters.length > RESIDENTS && `and ${number(one.adapters.length - RESIDENTS)} more`}</td></tr>`)}</tbody></table></div></section>`;
}

function MostUsed({ used }) {
  return html`<section class="card"><h2>Most used learnwares</h2>${used.length ? html`<div class="scroll" tabindex="0"><table><thead><tr><th>Learnware</th><th class="n">Requests</th><th class="n">Tokens out</th></tr></thead>
    <tbody>${used.map((one) => html`<tr><th scope="row"><a href=${`#/learnware/${one.learnware}`}>${one.model.split("@")[0]}</a></th><td class="n">${number(one.requests)}</td><td class="n">${number(one.completion_tokens)}</td></tr>`)}</tbody></table></div>`
  : html`<p class="hint">none yet</p>`}</section>`;
}

function Whole({ whole }) {
  return html`<section class="card"><h2>Whole models</h2><p class="hint">${bytes(whole.used)} of ${bytes(whole.budget)}</p><table><tbody>${whole.models.map((one) => html`
    <tr><th scope="row">${one.model}</th><td>${one.up ? "up" : "starting"}</td><td class="n">${one.in_flight} in flight</td><td class="n">${bytes(one.bytes)}</td></tr>`)}</tbody></table></section>`;
}
