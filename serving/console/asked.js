// What pages were asked, kept until the tab is left, so that going back finds it again.

import { useState } from "./vendor/htm-preact.js";

// Find's last task: its sketch, and the references of who was ranked, best first.
export const asked = { specification: null, ranked: [] };

const kept = new Map();

// As ``useState``, under a name of the whole console.
export function useKept(name, first) {
  const [value, setValue] = useState(kept.has(name) ? kept.get(name) : first);
  return [value, (next) => { kept.set(name, next); setValue(next); }];
}
