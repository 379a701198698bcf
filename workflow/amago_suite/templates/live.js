"use strict";
// The page while its runs go on: what they do now, and a new page when some have finished.
(() => {
  const version = document.documentElement.dataset.version;
  const line = document.getElementById("live-line");
  const bar = document.getElementById("live-bar");
  const inputs = () => [...document.querySelectorAll("input[data-filters]")];
  const folds = () => [...document.querySelectorAll("details")];
  const name = (fold) => fold.id || fold.querySelector("summary").firstChild.textContent.trim();

  // A new page looks like the old one: same place, same fold-outs, same filters.
  const kept = sessionStorage.getItem("live");
  if (kept) {
    sessionStorage.removeItem("live");
    const { open, filters, top } = JSON.parse(kept);
    for (const fold of folds()) if (open.includes(name(fold))) fold.open = true;
    for (const input of inputs()) {
      input.value = filters[input.id] || "";
      input.dispatchEvent(new Event("input"));
    }
    scrollTo({ top, behavior: "instant" });
  }
  function renew() {
    sessionStorage.setItem("live", JSON.stringify({
      open: folds().filter((fold) => fold.open).map(name),
      filters: Object.fromEntries(inputs().map((input) => [input.id, input.value])),
      top: scrollY,
    }));
    location.reload();
  }
  async function look() {
    try {
      const state = await (await fetch("state", { cache: "no-store" })).json();
      if (state.version !== version) return renew();
      const said = state.problem ? `${state.line} \u00b7 not shown: ${state.problem}` : state.line;
      if (line.textContent !== said) line.textContent = said;
      bar.value = state.fraction;
    } catch {
      line.textContent = "No longer watching: `amago-suite watch` has ended, and this is the last page it made.";
    }
    setTimeout(look, 2000);
  }
  look();
})();
