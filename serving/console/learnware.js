// One learnware: its card, what was measured, how to call it, and its history.

import { html, useState } from "./vendor/htm-preact.js";
import { getBlob, getJson } from "./api.js";
import { Code, Problem, bytes, day, number, useLoaded } from "./parts.js";

const CHANGES = 20;

export function LearnwarePage({ state, argument }) {
  const found = useLoaded((signal) => getJson(`/learnwares/${encodeURIComponent(argument)}`, signal), argument);
  return html`<p><a href="#/catalogue">← Catalogue</a></p>
    <${Problem} error=${found.error} />
    ${found.value && html`<${Details} learnware=${found.value} keys=${state.keys} />`}`;
}

function Details({ learnware, keys }) {
  const facts = [
    ["Base model", learnware.base_model === "none" ? "none: a whole model" : learnware.base_model],
    ["Rank", learnware.rank || "–"], ["Size", bytes(learnware.adapter_bytes)], ["Licence", learnware.licence],
    ["Domain", learnware.domain || "–"], ["Task", learnware.task_type || "–"], ["Languages", learnware.languages.join(", ") || "–"],
    ["Tags", learnware.tags.join(", ") || "–"], ["Owner", learnware.owner], ["Taken in", day(learnware.created)],
    ["State", learnware.status], ["Id", html`<code class="id">${learnware.id}</code>`],
  ];
  const sketch = [
    ["Texts behind it", number(learnware.sample_size)],
    ["Made of", learnware.origin === "examples" ? "examples" : `${learnware.origin}: texts that the model wrote`],
    ["Privacy", learnware.privacy === "none" ? "no formal promise" : learnware.privacy],
    ["Digest", html`<code class="id">${learnware.specification_digest}</code>`],
  ];
  return html`
    <h1>${learnware.name} <span class="hint">version ${learnware.version}</span></h1>
    <p class="lead prose">${learnware.description || "No description."}</p>
    ${learnware.near_duplicates.length > 0 && html`<section class="notice"><h2>Near duplicates</h2><ul>${learnware.near_duplicates.map((each) => html`
      <li><a href=${`#/learnware/${each.id}`}>${each.reference}</a>: alike by ${each.by}, ${each.likeness.toFixed(4)}</li>`)}</ul></section>`}
    <div class="columns">
      <section class="card"><h2>Card</h2><${Facts} facts=${facts} /></section>
      <div>
        <${Measured} quality=${learnware.quality} />
        <section class="card"><h2>Specification</h2><p class="hint">A sketch of the texts it is good at, which holds none of them.</p>
          <${Facts} facts=${sketch} /><${Download} learnware=${learnware} /></section>
      </div>
    </div>
    ${learnware.status === "published" ? html`<${Calls} learnware=${learnware} keys=${keys} />` : html`<p class="notice">It is ${learnware.status}, and answers nobody.</p>`}
    <div class="columns"><${Versions} learnware=${learnware} /><${Changes} learnware=${learnware} /></div>`;
}

const Facts = ({ facts }) => html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

function Measured({ quality }) {
  return html`<section class="card"><h2>Measured</h2>
    ${quality.length ? html`<div class="scroll" tabindex="0"><table><thead><tr><th>What</th><th>Task</th><th>Metric</th><th class="n">Value</th><th class="n">Examples</th><th>Source</th></tr></thead>
      <tbody>${quality.map((each) => html`<tr><td>${each.kind}${each.subject === "base" ? " of the base model" : ""}</td><td>${each.task}</td><td>${each.metric}</td>
        <td class="n">${each.value}</td><td class="n">${number(each.examples)}</td><td>${each.source}</td></tr>`)}</tbody></table></div>`
    : html`<p class="hint">Nothing yet. <code>slmdock verify</code> measures its gain over the base model.</p>`}
  </section>`;
}

function Download({ learnware }) {
  const [error, setError] = useState(null);
  const save = async () => {
    try {
      const url = URL.createObjectURL(await getBlob(`/learnwares/${learnware.id}/specification`));
      Object.assign(document.createElement("a"), { href: url, download: `${learnware.name}.safetensors` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<button type="button" class="quiet" onClick=${save}>Download the specification</button><${Problem} error=${error} />`;
}

function Calls({ learnware, keys }) {
  const model = `${learnware.name}@${learnware.id.slice(0, 16)}`;
  const key = keys ? ` \\\n  -H "authorization: Bearer $SLMDOCK_KEY"` : "";
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }] });
  const curl = `curl ${location.origin}/v1/chat/completions${key} \\\n  -H "content-type: application/json" \\\n  -d '${body}'`;
  const python = `${keys ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url="${location.origin}/v1", api_key=${keys ? 'os.environ["SLMDOCK_KEY"]' : '"none"'})
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.choices[0].message.content)`;
  return html`<section><h2>How to call it</h2>
    <div class="columns"><div><h3>curl</h3><${Code} label="curl command" text=${curl} /></div><div><h3>Python, OpenAI's client</h3><${Code} label="Python program" text=${python} /></div></div></section>`;
}

function Versions({ learnware }) {
  const found = useLoaded((signal) => getJson(`/learnwares?limit=100&where=${encodeURIComponent(`name=${learnware.name}`)}`, signal), learnware.id);
  const versions = [...(found.value?.learnwares ?? [])].sort((a, b) => b.version - a.version);
  return html`<section class="card"><h2>Versions</h2><${Problem} error=${found.error} /><ul class="plain">${versions.map((each) => html`
    <li key=${each.id}><a href=${`#/learnware/${each.id}`} aria-current=${each.id === learnware.id ? "true" : undefined}>version ${each.version}</a> ${each.status}, ${day(each.created)}</li>`)}</ul></section>`;
}

function Changes({ learnware }) {
  const found = useLoaded((signal) => getJson(`/history?limit=${CHANGES}&learnware=${encodeURIComponent(learnware.name)}`, signal), learnware.id);
  return html`<section class="card"><h2>History</h2><${Problem} error=${found.error} /><ul class="plain">${(found.value?.data ?? []).map((each) => html`
    <li key=${each.number}><strong>${each.state}</strong>${each.version ? ` version ${each.version}` : ""} by ${each.who}, ${day(each.when)}${each.why && html`<br /><span class="hint">${each.why}</span>`}</li>`)}</ul></section>`;
}
