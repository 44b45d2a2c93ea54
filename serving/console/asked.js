// What Find was last asked, until the page is left: its sketch, and the references of who was ranked, best first.

export const asked = { specification: null, ranked: [] };
