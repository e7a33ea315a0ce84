// Draw the charts of the reader's theme; one legend controls all of them.
"use strict";
(() => {
  const { panels, datasets } = JSON.parse(document.getElementById("figures").textContent);
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  const views = new Map();
  const hidden = new Set();
  let round = 0;

  async function draw() {
    const turn = ++round;
    const theme = darkness.matches ? "dark" : "light";
    document.documentElement.dataset.drawn = "";
    for (const [id, specs] of Object.entries(panels)) {
      const element = document.getElementById(id);
      const drawn = await vegaEmbed(element, { ...specs[theme], datasets }, {
        actions: false,
        ast: true,
        defaultStyle: false,
        logLevel: 1, // errors only: a layer may be empty when the legend hides it
        mode: "vega-lite",
        renderer: "svg",
        tooltip: { disableDefaultStyle: true },
      });
      if (turn !== round) return drawn.finalize();
      views.get(id)?.finalize();
      views.set(id, drawn);
    }
    await filter();
    document.documentElement.dataset.drawn = theme;
  }

  const setAll = (name, value) =>
    Promise.all([...views.values()].map(({ view }) => view.signal(name, value).runAsync()));

  // Legend: click to hide or show, double-click to show only one, hover to highlight.
  const keys = [...document.querySelectorAll(".legend button[data-contender]")];
  const all = document.getElementById("show-all");

  function filter() {
    for (const key of keys) key.setAttribute("aria-pressed", String(!hidden.has(key.dataset.contender)));
    all.disabled = hidden.size === 0;
    return setAll("hidden", [...hidden]);
  }

  for (const key of keys) {
    const name = key.dataset.contender;
    key.addEventListener("click", () => {
      if (!hidden.delete(name)) hidden.add(name);
      if (hidden.size === keys.length) hidden.clear();
      filter();
    });
    key.addEventListener("dblclick", () => {
      hidden.clear();
      for (const other of keys) if (other !== key) hidden.add(other.dataset.contender);
      filter();
    });
    for (const event of ["pointerenter", "focus"]) key.addEventListener(event, () => setAll("focus", name));
    for (const event of ["pointerleave", "blur"]) key.addEventListener(event, () => setAll("focus", ""));
  }
  all.addEventListener("click", () => {
    hidden.clear();
    filter();
    keys[0]?.focus();
  });

  darkness.addEventListener("change", draw);
  draw();
})();
