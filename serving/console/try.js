// The chosen model and the base model on one prompt, side by side.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { getJson, streamed } from "./api.js";
import { Problem, useLoaded } from "./parts.js";

const MAX_TOKENS = 256;

export function Try({ task, learnware }) {
  const [prompt, setPrompt] = useState("");
  const [chat, setChat] = useState(true);
  const [tokens, setTokens] = useState(MAX_TOKENS);
  const [round, setRound] = useState(null);
  const models = useLoaded((signal) => getJson("/v1/models?limit=1", signal), "");
  const first = models.value?.data[0]?.id;
  const base = learnware && learnware.base_model !== "none" ? learnware.base_model : first;
  const ask = (event) => {
    event.preventDefault();
    setRound({ number: (round?.number ?? 0) + 1, prompt, chat, tokens });
  };
  return html`<section aria-labelledby="try">
    <h2 id="try">Try it</h2>
    <p class="where"><strong>Where your text goes:</strong> the prompt goes to the gateway at <code>${location.host}</code> and the
      model engines behind it.</p>
    <form onSubmit=${ask} class="card">
      <label for="prompt">Prompt</label>
      <textarea id="prompt" rows="3" value=${prompt} onInput=${(event) => setPrompt(event.target.value)}></textarea>
      <div class="row">
        <label class="inline">As <select value=${chat ? "chat" : "text"} onChange=${(event) => setChat(event.target.value === "chat")}>
          <option value="chat">a conversation</option><option value="text">plain text to go on with</option></select></label>
        <label class="inline">up to <input type="number" min="1" max="8192" value=${tokens}
          onInput=${(event) => setTokens(Math.max(1, Math.min(8192, Number(event.target.value) || 1)))} /> tokens</label>
        <button type="submit" disabled=${!prompt.trim() || !base}>Answer</button>
      </div>
      <${Problem} error=${models.error} />
    </form>
    ${round && html`<div class="columns answers">
      ${task.learnware && html`<${Answer} key=${`task${round.number}`} title="The dock's choice" model=${`task:${task.id}`} round=${round} />`}
      <${Answer} key=${`base${round.number}`} title=${task.learnware ? "The base model" : "The base model, since none fits"} model=${base} round=${round} />
    </div>`}
  </section>`;
}

function Answer({ title, model, round }) {
  const [text, setText] = useState("");
  const [state, setState] = useState({ name: "running", error: null });
  const [head, setHead] = useState(null);
  const control = useRef(null);
  useEffect(() => {
    const own = (control.current = new AbortController());
    const input = round.chat ? { messages: [{ role: "user", content: round.prompt }] } : { prompt: round.prompt };
    const run = async () => {
      try {
        // Without sampling, so that what differs is the models' doing.
        const body = { model, max_tokens: round.tokens, temperature: 0, ...input };
        for await (const piece of streamed(round.chat ? "/v1/chat/completions" : "/v1/completions", body, own.signal, setHead)) {
          setText((old) => old + piece);
        }
        setState({ name: "done", error: null });
      } catch (error) {
        setState(error.name === "AbortError" ? { name: "stopped", error: null } : { name: "failed", error });
      }
    };
    run();
    return () => own.abort();
  }, []);
  const running = state.name === "running";
  return html`<section class="card answer" aria-label=${title} aria-busy=${running}>
    <div class="ranked-head"><h3>${title}</h3>
      ${running ? html`<button type="button" class="quiet" onClick=${() => control.current.abort()}>Stop</button>` : html`<span class="hint">${state.name}</span>`}
    </div>
    <p class="hint"><code>${head?.get("x-slmdock-model") ?? model}</code></p>
    ${head?.get("x-slmdock-decision") === "fallback" && html`<p class="notice">The base model answered in its place: ${head.get("x-slmdock-reason")}.</p>`}
    <div class="stream">${text}${running && html`<span class="cursor" aria-hidden="true"></span>`}</div>
    <${Problem} error=${state.error} />
  </section>`;
}
