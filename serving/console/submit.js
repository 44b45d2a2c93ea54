// Submit: an adapter's folder, its card and its specification in; the dock's checks are its answer.

import { html, useState } from "./vendor/htm-preact.js";
import { getJson, postBytes, postForm, sketch } from "./api.js";
import { Code, FileDrop, Problem, asJsonLines, bytes, chooseAnew, number } from "./parts.js";

const NEEDED = ["adapter_config.json", "adapter_model.safetensors"];
const FIELDS = [
  ["name", "Name", "letters, digits, dots, dashes", true], ["description", "Description", "what it is good at", false],
  ["domain", "Domain", "such as law", false], ["task_type", "Task", "such as classification", false],
  ["licence", "Licence", "such as apache-2.0", false], ["languages", "Languages", "en, de", false], ["tags", "Tags", "contracts, tenancy", false],
];
const LISTS = ["languages", "tags"];
const WATCH_MS = 1500;

// The files of what was dropped, of folders those directly inside.
async function filesOf(items) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const inside = await Promise.all(entries.map((entry) => (entry.isDirectory ? listed(entry.createReader()) : [entry])));
  const files = inside.flat().filter((entry) => entry.isFile);
  return Promise.all(files.map((entry) => new Promise((done, failed) => entry.file(done, failed))));
}

async function listed(reader) {
  const found = [];
  while (true) {
    const part = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!part.length) return found;
    found.push(...part);
  }
}

export function Submit({ state }) {
  const [files, setFiles] = useState({});
  const [card, setCard] = useState({});
  const [sketched, setSketched] = useState(null);
  const [examples, setExamples] = useState(null);
  const [heldOut, setHeldOut] = useState(null);
  const [hold, setHold] = useState(false);
  const [rename, setRename] = useState(false);
  const [base, setBase] = useState("");
  const [run, setRun] = useState(null);

  const missing = NEEDED.filter((name) => !files[name]);
  const ready = !missing.length && card.name && (sketched || examples);
  const submit = async (event) => {
    event.preventDefault();
    const steps = [`adapter read: ${NEEDED.map((name) => `${name} (${bytes(files[name].size)})`).join(", ")}`];
    let learnware = null;
    const told = (now, more = {}) => setRun({ steps: [...steps], now, error: null, learnware, ...more });
    try {
      let specification = sketched;
      if (!specification) {
        told("making the specification on this machine …");
        specification = await sketch(asJsonLines(await examples.text()), "learnware");
        steps.push(`specification made of ${examples.name}`);
      }
      told("uploading; the dock checks the adapter, the card and the specification …");
      const form = new FormData();
      form.set("card", JSON.stringify(cardOf(card)));
      form.set("specification", specification, "specification.safetensors");
      form.set("adapter_config", files[NEEDED[0]]);
      form.set("adapter_model", files[NEEDED[1]]);
      const options = new URLSearchParams({ state: hold ? "checked" : "published", rename });
      if (base.trim()) options.set("base", base.trim());
      learnware = await postForm(`/learnwares?${options}`, form);
      steps.push("checked and taken in", `state: ${learnware.status}`);
      told("");
      if (heldOut) await verify(learnware, heldOut, hold, (verification) => told("", { verification }));
    } catch (error) {
      told("", { error });
    }
  };
  return html`<h1>Submit a learnware</h1>
    <p class="lead">A LoRA adapter in PEFT's format, a card, and a specification: a sketch of the texts it was trained for.</p>
    <form onSubmit=${submit} class="columns">
      <section class="card"><h2>1. Adapter</h2><${Folder} files=${files} onFiles=${setFiles} />
        <p class="hint" aria-live="polite">${missing.length ? `Still missing: ${missing.join(", ")}` : "Both files are there; nothing else of the folder is sent."}</p>
        <h2>2. Specification</h2>
        <${FileDrop} label="Drop a specification file" hint="made by slmdock spec" accept=".safetensors" chosen=${sketched} onFile=${(file) => { setSketched(file); setExamples(null); }} />
        ${state.local && html`<${FileDrop} label="… or examples" hint="JSON Lines or a text a line" accept=".jsonl,.ndjson,.txt" chosen=${examples} onFile=${(file) => { setExamples(file); setSketched(null); }} />
          <p class="where"><strong>Where examples go:</strong> to the gateway's process at <code>${location.host}</code>, which makes the specification and keeps no text.</p>`}
        <${Code} label="the command that makes a specification" text="slmdock spec my-examples.jsonl --out specification.safetensors" />
        <h2>3. Held-out examples <span class="hint">optional</span></h2>
        <${FileDrop} label="Drop examples that it was not trained on" hint="JSON Lines with text and answer, at least 16" accept=".jsonl,.ndjson" chosen=${heldOut} onFile=${setHeldOut} />
        <p class="where"><strong>Where they go:</strong> to the dock, which runs the adapter on them beside its base model and then forgets them.</p>
      </section>
      <section class="card"><h2>4. Card</h2>
        ${FIELDS.map(([field, label, hint, required]) => html`<div class="field"><label for=${`card-${field}`}>${label}${required ? "" : html` <span class="hint">optional</span>`}</label>
          ${field === "description" ? html`<textarea id=${`card-${field}`} rows="3" placeholder=${hint} onInput=${(event) => setCard({ ...card, [field]: event.target.value })}></textarea>`
          : html`<input id=${`card-${field}`} required=${required} placeholder=${hint} onInput=${(event) => setCard({ ...card, [field]: event.target.value })} />`}</div>`)}
        <div class="field"><label for="base">Base model <span class="hint">optional</span></label>
          <input id="base" placeholder="as the adapter's files say" onInput=${(event) => setBase(event.target.value)} /></div>
        <label class="facet"><input type="checkbox" checked=${rename} onChange=${(event) => setRename(event.target.checked)} /><span>If it is in under another name, give it this one</span></label>
        <label class="facet"><input type="checkbox" checked=${hold} onChange=${(event) => setHold(event.target.checked)} /><span>Hold it back until it is verified, or published by hand</span></label>
        <button type="submit" disabled=${!ready || Boolean(run?.now)}>Submit</button>
      </section>
    </form>
    ${run && html`<${Run} run=${run} />`}`;
}

function cardOf(fields) {
  const filled = Object.entries(fields).filter(([, value]) => value.trim());
  return Object.fromEntries(filled.map(([field, value]) => [
    field, LISTS.includes(field) ? value.split(",").map((each) => each.trim()).filter(Boolean) : value.trim(),
  ]));
}

// Asks for a verification by running, and tells of it until it is over or the page is left.
async function verify(learnware, file, publish, tell) {
  const examples = asJsonLines(await file.text()).split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  const path = `/learnwares/${learnware.id}/verification`;
  let now = await postBytes(path, JSON.stringify({ examples, publish }), "application/json");
  while (true) {
    tell(now);
    if (!now.verifying || !["waiting", "running"].includes(now.job.state) || !location.hash.startsWith("#/submit")) return;
    await new Promise((done) => setTimeout(done, WATCH_MS));
    now = await getJson(path);
  }
}

function Folder({ files, onFiles }) {
  const [over, setOver] = useState(false);
  const take = (list) => onFiles({ ...files, ...Object.fromEntries(list.filter((file) => NEEDED.includes(file.name)).map((file) => [file.name, file])) });
  const drop = async (event) => {
    event.preventDefault();
    setOver(false);
    take(await filesOf(event.dataTransfer.items));
  };
  const hover = (event) => { event.preventDefault(); setOver(true); };
  return html`<label class=${`drop ${over ? "over" : ""}`} onDragOver=${hover} onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <span class="drop-label">Drop the adapter's folder or its two files</span><span class="hint">${NEEDED.join(", ")}</span>
    <input type="file" multiple accept=".json,.safetensors" aria-label="Adapter files" onClick=${chooseAnew} onChange=${(event) => take([...event.target.files])} /></label>`;
}

function Run({ run }) {
  return html`<section class="card" aria-live="polite"><h2>Checks</h2>
    <ol class="steps">${run.steps.map((step) => html`<li class="up">${step}</li>`)}${run.now && html`<li class="busy">${run.now}</li>`}</ol>
    <${Problem} error=${run.error} />
    ${run.learnware && html`<p><a href=${`#/learnware/${run.learnware.id}`}>${run.learnware.name}, version ${run.learnware.version}</a> is in the catalogue.
      ${run.learnware.near_duplicates.length > 0 && html`<br />Almost the same as ${run.learnware.near_duplicates.map((each) => each.reference).join(", ")}.`}</p>`}
    ${run.verification && html`<${Verification} of=${run.verification} />`}
  </section>`;
}

function Verification({ of: { job, verifying } }) {
  const waits = job.state === "waiting" && !verifying;
  return html`<p>Verification by running: ${job.state}${job.state === "running" && `, ${number(job.done)} of ${number(job.total)} answers`}${job.error && `: ${job.error}`}
    ${waits && html`; this dock does none by itself: <code>slmdock verify</code> goes on with it.`}</p>`;
}
