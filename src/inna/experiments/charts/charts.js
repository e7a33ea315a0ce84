// Draw the charts of the reader's theme; one legend controls all of them.
"use strict";
(() => {
  const { panels, datasets, axes } = JSON.parse(document.getElementById("figures").textContent);
  const narrow = matchMedia("(max-width: 640px)");
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  const views = new Map();
  const hidden = new Set();
  let round = 0;
  let unit = "epoch";

  // A copy of a specification with another x-axis; on a phone without names at the ends of lines.
  function adapted(id, specification) {
    const copy = structuredClone(specification);
    const axis = axes[id]?.[unit];
    const walk = (node) => {
      if (node === null || typeof node !== "object") return;
      if (axis && node.x?.field in axes[id]) node.x = axis;
      for (const [name, child] of Object.entries(node)) if (name !== "x") walk(child);
    };
    walk(copy);
    if (narrow.matches) {
      copy.params = copy.params.map((each) => (each.name === "labels" ? { ...each, value: false } : each));
    }
    return copy;
  }

  async function draw() {
    const turn = ++round;
    const theme = darkness.matches ? "dark" : "light";
    document.documentElement.dataset.drawn = "";
    for (const [id, specs] of Object.entries(panels)) {
      const element = document.getElementById(id);
      const drawn = await vegaEmbed(element, { ...adapted(id, specs[theme]), datasets }, {
        actions: false,
        ast: true,
        defaultStyle: false,
        logLevel: 1, // errors only: a layer may be empty when the legend hides it
        mode: "vega-lite",
        renderer: "svg",
        tooltip: { disableDefaultStyle: true },
      });
      if (turn !== round) return drawn.finalize();
      // To assistive technology a chart is one picture with Vega's description; its parts have no names.
      element.setAttribute("role", "img");
      element.querySelector("svg").setAttribute("aria-hidden", "true");
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

  // The variants of an optimizer are one entry of the legend until it is opened.
  for (const opener of document.querySelectorAll(".legend .unfold")) {
    opener.addEventListener("click", () => {
      const open = opener.parentElement.classList.toggle("open");
      opener.setAttribute("aria-expanded", String(open));
    });
  }

  // In a table they are one line, the first of them, until it is opened.
  for (const body of document.querySelectorAll("table tbody")) {
    const families = Map.groupBy(body.rows, (line) => line.dataset.family ?? "");
    families.delete("");
    for (const [family, [first, ...others]] of families) {
      if (others.length === 0) continue;
      const opener = document.createElement("button");
      opener.type = "button";
      opener.className = "unfold";
      const show = (open) => {
        for (const line of others) line.classList.toggle("folded", !open);
        opener.setAttribute("aria-expanded", String(open));
        opener.textContent = open ? `fold ${family}` : `best of ${others.length + 1} ${family}: show all`;
      };
      opener.addEventListener("click", () => show(opener.getAttribute("aria-expanded") !== "true"));
      first.cells[0].append(opener);
      show(false);
    }
  }

  // Choose the x-axis of the curves.
  for (const choice of document.querySelectorAll('input[name="unit"]')) {
    choice.addEventListener("change", () => {
      unit = choice.value;
      draw();
    });
  }

  // Paint a picture at three pixels a point.
  async function painted(svg) {
    const image = new Image();
    image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [3 * image.width, 3 * image.height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  // Save a chart as it is drawn, on the page's background, with a legend where its names are nowhere else.
  async function save(id, format) {
    const theme = darkness.matches ? "dark" : "light";
    const copy = adapted(id, panels[id][theme]);
    copy.background = getComputedStyle(document.documentElement).backgroundColor;
    copy.width = 640;
    copy.padding = { ...copy.padding, left: 12, top: 12, bottom: 12 };
    const walk = (node) => {
      if (node === null || typeof node !== "object") return;
      for (const channel of ["color", "shape", "strokeDash"]) {
        const domain = node[channel]?.scale?.domain;
        if (domain) node[channel].legend = { title: null, values: domain.filter((name) => !hidden.has(name)) };
      }
      for (const child of Object.values(node)) walk(child);
    };
    if (copy.usermeta?.legend) walk(copy);
    const place = document.createElement("div");
    const { view } = await vegaEmbed(place, { ...copy, datasets }, { actions: false, ast: true, defaultStyle: false, logLevel: 1, mode: "vega-lite", renderer: "svg", tooltip: { disableDefaultStyle: true } });
    await view.signal("hidden", [...hidden]).runAsync();
    const text = await view.toSVG();
    view.finalize();
    const picture = format === "svg" ? new Blob([text], { type: "image/svg+xml" }) : await painted(text);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(picture);
    link.download = `${id.replace(/^chart-/, "")}.${format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  for (const id of Object.keys(panels)) {
    const bar = document.createElement("p");
    bar.className = "save";
    for (const format of ["png", "svg"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = format.toUpperCase();
      button.title = `Save this chart as ${format.toUpperCase()}`;
      button.setAttribute("aria-label", `Save as ${format.toUpperCase()}: ${document.getElementById(id).dataset.title}`);
      button.addEventListener("click", () => save(id, format));
      bar.append(button);
    }
    document.getElementById(id).after(bar);
  }

  // A table that is wider than its place says so.
  const places = document.querySelectorAll(".scroll");
  const look = () => {
    for (const place of places) place.classList.toggle("wide", place.scrollWidth > place.clientWidth + 1);
  };
  document.addEventListener("toggle", look, true); // it does not bubble
  document.addEventListener("change", look);
  document.addEventListener("click", look); // a family that opens has longer names
  addEventListener("resize", look);
  addEventListener("load", look);

  darkness.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
  draw();
})();
