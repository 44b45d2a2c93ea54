// Find: a task's examples or sketch in, ranked learnwares out, and the winner tried right there.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { getJson, postBytes, sketch } from "./api.js";
import { Bar, Code, FileDrop, Problem, asJsonLines, bytes, gainsOf, percent, useLoaded } from "./parts.js";
import { Try } from "./try.js";
import { asked as last, useKept } from "./asked.js";

const COMMAND = "slmdock spec my-task.jsonl --task --out task.safetensors";
const EXAMPLE = "Does the contract allow the tenant to sublet?\nMay the landlord keep the deposit?";
const SHOWN = 10;

// A key may have but one of the roles that searching and serving need; then the page shows what it may.
const allowed = (answer) => answer.then((value) => ({ value }), (error) => {
  if (error.status !== 403) throw error;
  return { refused: error };
});

export function Find({ state }) {
  const [found, setFound] = useKept("found", null);
  const [now, setNow] = useState({ busy: "", error: null });
  const round = useRef(0);
  const facets = useLoaded((signal) => getJson("/learnwares/facets?field=status", signal), "");
  const count = facets.value?.values.published;

  // A later question is the one that counts, also if an earlier one is answered after it.
  const ask = async (words, makeSpecification) => {
    const mine = ++round.current;
    const say = ({ busy = "", error = null, found = null }) => {
      if (mine !== round.current) return;
      setNow({ busy, error });
      setFound(found);
    };
    say({ busy: words });
    try {
      const specification = await makeSpecification();
      say({ busy: "comparing the sketch with the catalogue …" });
      const [ranking, task] = await Promise.all([allowed(postBytes(`/search?limit=${SHOWN}`, specification)), allowed(postBytes("/v1/tasks", specification))]);
      if (ranking.refused && task.refused) throw ranking.refused;
      if (mine !== round.current) return;
      last.specification = specification;
      last.ranked = (ranking.value?.ranked ?? []).map((one) => `${one.learnware.name}@${one.learnware.version}`);
      say({ found: { ranking: ranking.value, task: task.value } });
    } catch (error) {
      say({ error });
    }
  };
  const askFile = (file) => ask("reading the sketch …", async () => file);
  const askTexts = (text) => ask("making the sketch on this machine …", () => sketch(asJsonLines(text), "task"));
  return html`
    <h1>Find the model that fits your task</h1>
    <p class="lead">This dock holds ${count === undefined ? "" : html`<strong>${count.toLocaleString("en")}</strong>`} specialised
      small language models, called <em>learnwares</em>. Each has a sketch of the texts it is good at. Show some examples of your task: their sketch is
      compared with all of them, and you get the one that fits, or hear that none does.</p>
    <div class="columns">
      ${state.local && html`<${Examples} limits=${state} busy=${now.busy} onTexts=${askTexts} />`}
      <${SketchFile} local=${state.local} onFile=${askFile} />
    </div>
    <div aria-live="polite">
      ${now.busy && html`<p class="busy">${now.busy}</p>`}
      <${Problem} error=${now.error} />
    </div>
    ${found && html`<${Found} ...${found} />`}`;
}

function Examples({ limits, busy, onTexts }) {
  const [text, setText] = useKept("examples", "");
  const [file, setFile] = useState(null);
  const [error, setError] = useState(null);
  const take = async (given) => {
    setFile(given);
    const tooLarge = given.size > limits.max_examples_bytes;
    setError(tooLarge ? new Error(`${given.name} has ${bytes(given.size)}; ${bytes(limits.max_examples_bytes)} are taken here.`) : null);
    if (!tooLarge) setText(await given.text());
  };
  return html`<section class="card" aria-labelledby="examples">
    <h2 id="examples">Paste or drop examples</h2>
    <p class="where"><strong>Where your text goes:</strong> to the gateway's process at <code>${location.host}</code>, which makes
      the sketch, and nowhere else. It is neither stored nor logged. If you came here through a tunnel, that process runs on
      the tunnel's other end.</p>
    <label for="texts">Prompts as the model will see them, one a line, or JSON Lines with a field <code>text</code></label>
    <textarea id="texts" rows="7" value=${text} onInput=${(event) => setText(event.target.value)}
      placeholder=${EXAMPLE}></textarea>
    <${FileDrop} label="… or drop a file" hint=".jsonl or .txt" accept=".jsonl,.ndjson,.txt,.json" chosen=${file} onFile=${take} />
    <${Problem} error=${error} />
    <button type="button" disabled=${busy || !text.trim()} onClick=${() => onTexts(text)}>Find the model</button>
  </section>`;
}

function SketchFile({ local, onFile }) {
  const [file, setFile] = useState(null);
  return html`<section class="card" aria-labelledby="sketch">
    <h2 id="sketch">${local ? "Or bring a sketch" : "Bring a sketch of your task"}</h2>
    <p class="where"><strong>Where your text goes:</strong> nowhere. The command reads your examples on your own machine and
      writes a sketch without any text; only that file is sent. It comes with SLM Dock, which must be installed there too.</p>
    <${Code} label="the command that makes a sketch" text=${COMMAND} />
    <p class="hint">One JSON object a line: <code>${'{"text": "…"}'}</code>. Add <code>--epsilon 4</code> for a formal promise of privacy.</p>
    <${FileDrop} label="Drop the sketch here" hint="task.safetensors" accept=".safetensors" chosen=${file}
      onFile=${(given) => { setFile(given); onFile(given); }} />
  </section>`;
}

function Found({ ranking, task }) {
  const ranked = ranking?.ranked ?? [];
  const decided = task ?? { ...ranking.decision, learnware: ranking.decision.learnware?.id ?? null, mixture: [] };
  const chosen = ranked.find((one) => one.learnware.id === decided.learnware);
  const threshold = ranking?.decision.threshold;
  // Where the nearest does not fit none does, whatever a farther one's own tasks are like.
  const fitting = ranked.filter((one) => answers(one, decided) || (ranking.decision.learnware && one.p_value >= threshold));
  const rest = ranked.filter((one) => !fitting.includes(one));
  const order = ranked.length > 0 && html`<p class="hint">${orderOf(ranked)}</p>`;
  const [open, setOpen] = useKept("unfit", false);
  const heading = useRef(null);
  useEffect(() => heading.current.focus(), []);
  return html`
    <section aria-labelledby="decision">
      <h2 id="decision" ref=${heading} tabindex="-1">Decision</h2>
      <${Verdict} task=${decided} chosen=${chosen} nearest=${ranking?.decision.learnware} candidates=${ranking?.candidates} />
      ${fitting.length > 0 && order}
      <${List} ranked=${fitting} task=${decided} threshold=${threshold} fits=${true} />
      ${rest.length > 0 && html`<details class="unfit" open=${open} onToggle=${(event) => setOpen(event.target.open)}><summary>${rest.length}${fitting.length ? " more" : ""} that ${rest.length === 1 ? "does" : "do"} not fit</summary>
        ${!fitting.length && order}<${List} ranked=${rest} task=${decided} threshold=${threshold} /></details>`}
      ${ranking && html`<p><a href="#/map">See your task on the map</a></p>`}
      ${!ranking && html`<p class="hint">The whole list needs a key with the role search.</p>`}
    </section>
    ${task ? html`<${Try} task=${task} learnware=${chosen?.learnware} />` : html`<p class="hint">Trying it needs a key with the role serve.</p>`}`;
}

function Verdict({ task, chosen, nearest, candidates }) {
  if (!task.learnware && nearest) {
    return html`<div class="verdict none"><strong>${nearest.name} fits, but cannot answer here.</strong> It stands on ${nearest.base_model}, which
      this dock does not serve; the base model would answer.</div>`;
  }
  if (!task.learnware) {
    return html`<div class="verdict none"><strong>None fits.</strong> No learnware here was made for texts like yours, so the base
      model would answer: ${task.reason.replace(/^none fits: /, "")}.</div>`;
  }
  const [, named, said] = /^(\S+) fits: (.*)$/.exec(task.reason) ?? [];
  const name = chosen?.learnware.name ?? named ?? task.learnware.slice(0, 16);
  const what = task.mixture.length ? html`Your task is a mixture; several share it: <span class="hint">${task.reason}</span>`
    : html`<strong>${name}</strong> fits: ${said ?? task.reason}`;
  return html`<div class="verdict fits">${what}. ${candidates && html`<span class="hint">${candidates} compared exactly.</span>`}</div>`;
}

// Why it stands where it does, in words.
function why(one, task, threshold, fits) {
  const share = task.mixture.find((part) => part.learnware === one.learnware.id);
  if (share) return `answers ${percent(share.weight)} of your task`;
  if (one.learnware.id === task.learnware) return "chosen";
  if (one.p_value === null) return "";
  if (one.p_value < threshold) return `does not fit: only ${percent(one.p_value)} of its own tasks lie at least as far from it`;
  if (!task.learnware && !fits) return "not the nearest, and the nearest does not fit";
  return `fits too: ${percent(one.p_value)} of its own tasks lie at least as far from it`;
}

const answers = ({ learnware }, task) => task.learnware === learnware.id || task.mixture.some((part) => part.learnware === learnware.id);

// With parameter vectors the distance is more than that of the texts; a private sketch has none.
const apart = (one) => one.distance ?? one.mmd;

function orderOf(ranked) {
  if (apart(ranked[0]) === null) return "In the order of their fit.";
  const nearestFirst = ranked.every((one, i) => !i || apart(ranked[i - 1]) <= apart(one));
  const order = nearestFirst ? "In the order of their distance, the nearest first." : "In the order of their distance and, where that decides nothing, of what was measured.";
  return `${order} Fit also looks at how far each one's own texts spread, so that it may order them otherwise.`;
}

function quality({ learnware, expected, measured }) {
  const gains = gainsOf(learnware).map((each) => `${each.value} ${each.metric}`).join(", ");
  const far = Math.abs(expected).toFixed(2);
  const standing = far === "0.00" ? "at" : `${far} standard deviations ${expected < 0 ? "below" : "above"}`;
  // What is expected of nearness and a gain alone is no measurement on such tasks.
  const said = measured > 0 ? [`expected to score ${standing} the average of the learnwares measured on tasks like this`] : [];
  return [...said, ...(gains ? [`measured gain ${gains}`] : [])].join("; ") || "not measured";
}

function List({ ranked, task, threshold, fits }) {
  return ranked.length > 0 && html`<ol class="ranking">${ranked.map((one) => html`<${Ranked} key=${one.learnware.id} one=${one} task=${task} threshold=${threshold} fits=${fits} />`)}</ol>`;
}

function Ranked({ one, task, threshold, fits }) {
  const { learnware } = one;
  const won = answers(one, task);
  return html`<li class=${`card ${won ? "won" : ""}`}>
    <div class="ranked-head">
      <h3><a href=${`#/learnware/${learnware.id}`}>${learnware.name}</a></h3>
      <span class="hint">${learnware.domain}</span>
    </div>
    <p>${learnware.description || html`<span class="hint">no description</span>`}</p>
    <dl class="facts">
      ${apart(one) !== null && html`<div><dt>Distance</dt><dd>${apart(one).toFixed(3)} <span class="hint">${one.distance === null ? "MMD of the texts" : "of texts and parameters"}</span></dd></div>`}
      <div><dt>Fit</dt><dd>${one.fit.toFixed(3)} <${Bar} part=${one.fit} label=${`fit ${one.fit.toFixed(3)} of 1`} kind=${won ? "good" : ""} /></dd></div>
      <div><dt>Quality</dt><dd>${quality(one)}</dd></div>
      <div><dt>Why</dt><dd>${why(one, task, threshold, fits)}</dd></div>
    </dl>
  </li>`;
}
