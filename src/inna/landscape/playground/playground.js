// The page: settings, the optimizers they make, runs computed in slices of time, and drawing in every frame.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const KINDS = ["inna", "gd", "heavy-ball", "nesterov", "adam"];
  const NAMES = data.names;
  const SLICE = 7; // milliseconds of computing per frame of 16
  const PLAY_SECONDS = 7;
  const LESSON_SECONDS = 4;
  const STEP = 0.01; // fraction of the frame per arrow key
  const FLAT = 1e-6; // smaller curvatures are rounding errors

  const scenes = Object.fromEntries(
    Object.entries(data.scenes).map(([name, scene]) => [
      name,
      { ...scene, objective: scene.spectrum ? inna.quadratic(...scene.spectrum) : inna.objectives[name] },
    ]),
  );

  // --- Settings ---------------------------------------------------------------------------------------------------

  const initial = () => ({
    ...data.defaults,
    start: [...data.defaults.start],
    beside: [...data.defaults.beside],
  });
  let settings = initial();
  const scene = () => scenes[settings.scene];

  const followsInna = () => settings.same && !settings.lock;
  const sgdLr = () => (followsInna() ? settings.lr ** 2 : settings.sgdLr);
  const momentum = () => (followsInna() ? Math.max(0, 1 - settings.alpha * settings.lr) : settings.momentum);
  const gdLr = () => (followsInna() ? settings.lr : settings.gdLr);
  const adamLr = () => (followsInna() ? settings.lr : settings.adamLr);

  function sgd(kind) {
    const nesterov = kind === "nesterov";
    const [lr, mu] = kind === "gd" ? [gdLr(), 0] : [sgdLr(), momentum()];
    return { kind, at: (factor) => inna.fromSgd(lr * factor, mu, nesterov), description: `lr ${say(lr)}${kind === "gd" ? "" : `, momentum ${+mu.toPrecision(6)}`}` };
  }

  function own() {
    if (settings.lock) {
      const model = sgd(settings.lock);
      const { lr, alpha, beta } = model.at(1);
      return { kind: "inna", locked: true, at: () => ({ lr, alpha, beta }), speed: null, description: `γ ${say(lr)}, α ${say(alpha)}, β ${say(beta)}` };
    }
    const { lr, alpha, beta, speed } = settings;
    const bound = guardFault() === null ? settings.bound : null;
    const guarded = bound === null ? "" : `, guard at ${say(bound)}`;
    return { kind: "inna", at: (factor) => ({ lr: lr * factor, alpha, beta }), speed, bound, description: `γ ${say(lr)}, α ${say(alpha)}, β ${say(beta)}${guarded}` };
  }

  // The reason why the settings allow no guard, as in inna.dynamics.check_weights; null if they do.
  function guardFault() {
    const { lr, alpha, beta, speed } = settings;
    if (settings.lock) return "Not while INNA is locked.";
    if (settings.bound === null && scene().lowest === null) return "Here J has no lower bound.";
    for (const [name, value] of [["β", beta], ["γ", lr]]) {
      if (alpha * value > 1) return `Needs α${name} ≤ 1, here ${say(alpha * value)}: past gradients would have negative weights.`;
    }
    if (speed !== null && speed < beta) return "Needs s ≥ β: the first gradient would have a negative weight.";
    return null;
  }

  function optimizers() {
    return KINDS.filter((kind) => kind === "inna" || settings.beside.includes(kind)).map((kind) => {
      if (kind === "inna") return own();
      if (kind === "adam") return { kind, lr: adamLr(), ...data.adam, description: `lr ${say(adamLr())}` };
      return sgd(kind);
    });
  }

  function say(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size >= 1e5 || size < 1e-3 ? value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e").replaceAll("-", "−") : String(+value.toPrecision(4)).replace("-", "−");
  }

  // --- Controls ---------------------------------------------------------------------------------------------------

  // Slider positions 0 to 1000 to values: by powers of ten, or with finer steps at the beginning.
  const logarithmic = (low, high) => ({
    value: (position) => 10 ** (low + (position / 1000) * (high - low)),
    position: (value) => (1000 * (Math.log10(value) - low)) / (high - low),
  });
  const bent = (high, bend) => ({
    value: (position) => high * (position / 1000) ** bend,
    position: (value) => 1000 * (value / high) ** (1 / bend),
  });
  const forget = { value: (p) => 1 - 10 ** (-5 * (p / 1000)), position: (v) => 200 * -Math.log10(Math.max(1 - v, 1e-5)) };

  const SLIDERS = [
    { key: "alpha", place: "inna-sliders", label: "α", note: "viscous damping", scale: bent(3, 1.6), minimum: 0 },
    { key: "beta", place: "inna-sliders", label: "β", note: "Newtonian damping", scale: bent(2, 2.2), minimum: 0 },
    { key: "lr", place: "inna-sliders", label: "γ", note: "learning rate", scale: logarithmic(-5, 1), above: 0 },
    { key: "speed", place: "inna-sliders", label: "s", note: "initial speed", scale: bent(3, 1.6), minimum: 0 },
    { key: "gdLr", place: "rival-sliders", label: "lr", note: "of gradient descent", scale: logarithmic(-6, 1), above: 0 },
    { key: "sgdLr", place: "rival-sliders", label: "lr", note: "of heavy ball and Nesterov", scale: logarithmic(-10, 1), above: 0 },
    { key: "momentum", place: "rival-sliders", label: "momentum", note: "of both", scale: forget, minimum: 0, maximum: 1 },
    { key: "adamLr", place: "rival-sliders", label: "lr", note: "of Adam", scale: logarithmic(-6, 1), above: 0 },
    { key: "steps", place: "run-sliders", label: "iterations", note: "", scale: logarithmic(1, Math.log10(data.maxSteps)), minimum: 1, maximum: data.maxSteps, whole: true },
    { key: "q", place: "run-sliders", label: "q", note: "decay (k+1)^−q", scale: bent(1, 1), minimum: 0 },
  ];

  const shownValue = {
    alpha: () => own().at(1).alpha,
    beta: () => own().at(1).beta,
    lr: () => own().at(1).lr,
    speed: () => settings.speed ?? own().at(1).beta,
    gdLr, sgdLr, momentum, adamLr,
    steps: () => settings.steps,
    q: () => (settings.lock ? 0 : settings.q),
  };
  const disabled = {
    alpha: () => settings.lock, beta: () => settings.lock, lr: () => settings.lock, q: () => settings.lock,
    speed: () => settings.lock || settings.speed === null,
  };

  for (const slider of SLIDERS) {
    const box = document.createElement("div");
    box.className = "slider";
    const label = document.createElement("label");
    label.htmlFor = `range-${slider.key}`;
    label.append(`${slider.label} `, Object.assign(document.createElement("i"), { textContent: slider.note }));
    const typed = Object.assign(document.createElement("input"), { type: "text", inputMode: "decimal", id: `value-${slider.key}`, autocomplete: "off" });
    typed.setAttribute("aria-label", `${slider.label} ${slider.note}, as a number`);
    const range = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 1000, step: 1, id: `range-${slider.key}` });
    box.append(label, typed, range);
    byId(slider.place).append(box);
    Object.assign(slider, { box, typed, range });
    range.addEventListener("input", () => {
      const value = slider.scale.value(Number(range.value));
      change({ [slider.key]: slider.whole ? Math.round(Number(value.toPrecision(2))) : Number(value.toPrecision(3)) });
    });
    typed.addEventListener("change", () => {
      const value = Number(typed.value.replace(",", ".").replace("−", "-"));
      const fine = typed.value.trim() !== "" && Number.isFinite(value) && value >= (slider.minimum ?? 0) && value <= (slider.maximum ?? Infinity)
        && (slider.above === undefined || value > slider.above) && (!slider.whole || Number.isInteger(value));
      typed.setAttribute("aria-invalid", String(!fine));
      if (fine) change({ [slider.key]: value });
    });
  }

  for (const kind of KINDS.slice(1)) {
    const label = document.createElement("label");
    label.className = "check";
    const box = Object.assign(document.createElement("input"), { type: "checkbox", id: `beside-${kind}` });
    label.append(box, keyOf(kind), NAMES[kind]);
    byId("rivals").append(label);
    box.addEventListener("change", () => {
      change({ beside: KINDS.filter((each) => (each === kind ? box.checked : settings.beside.includes(each))) });
    });
  }

  function keyOf(kind) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("class", "key");
    svg.setAttribute("viewBox", "0 0 26 12");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("class", `c${KINDS.indexOf(kind)}`);
    path.setAttribute("d", "M0 6H26");
    path.setAttribute("stroke-dasharray", View.STROKES[kind].dash.map((each) => each / 2).join(" "));
    svg.append(path);
    return svg;
  }

  function showControls() {
    for (const { key, typed, range, scale, box, whole } of SLIDERS) {
      const value = shownValue[key]();
      if (document.activeElement !== range) range.value = scale.position(value);
      range.setAttribute("aria-valuetext", String(+value.toPrecision(6)));
      typed.value = whole ? String(value) : String(+value.toPrecision(6));
      typed.setAttribute("aria-invalid", "false");
      const off = Boolean(disabled[key]?.());
      typed.disabled = range.disabled = off;
      if (key.endsWith("Lr") || key === "momentum") box.hidden = followsInna();
    }
    for (const kind of KINDS.slice(1)) byId(`beside-${kind}`).checked = settings.beside.includes(kind);
    byId("same").checked = followsInna();
    byId("same").disabled = Boolean(settings.lock);
    byId("authors").checked = settings.speed === null || Boolean(settings.lock);
    byId("authors").disabled = Boolean(settings.lock);
    byId("lock").checked = Boolean(settings.lock);
    if (settings.lock) byId("lock-to").value = settings.lock;
    byId("guard").checked = settings.bound !== null && !settings.lock;
    byId("guard").disabled = guardFault() !== null && settings.bound === null;
    byId("bound").textContent = settings.bound === null || settings.bound === scene().lowest ? "min J" : say(settings.bound);
    byId("lock-says").textContent = settings.lock
      ? `from_sgd: INNA makes the iterates of SGD(${sgd(settings.lock).description}${settings.lock === "nesterov" ? ", nesterov" : ""}). Set lr${settings.lock === "gd" ? "" : " and momentum"} below.`
      : "";
    byId("scene").value = settings.scene;
    byId("formula").textContent = `J = ${scene().formula}`;
    const [x, y] = settings.start;
    byId("start").setAttribute("aria-label", `Start at ${say(x)}, ${say(y)}: arrow keys move it`);
    byId("command").textContent = command();
    showLesson();
  }

  function showLesson() {
    const current = data.lessons.findIndex((lesson) => Object.entries(lesson.settings).every(([name, value]) => String(value) === String(settings[name])));
    for (const button of document.querySelectorAll("[data-lesson]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.lesson) === current));
    }
    const { title, text } = data.lessons[current] ?? { title: "Five steps", text: "Each button sets up one property of INNA. Or change the settings as you like." };
    const head = Object.assign(document.createElement("b"), { textContent: `${title}. ` });
    if (byId("lesson").textContent !== head.textContent + text) byId("lesson").replaceChildren(head, text);
  }

  function command() {
    const { lr, alpha, beta } = own().at(1);
    const words = [`inna landscape --objective ${settings.scene} --alpha ${+alpha.toPrecision(9)} --beta ${+beta.toPrecision(9)} --lr ${+lr.toPrecision(9)}`];
    if (!settings.lock && settings.speed !== null) words.push(`--initial-speed ${settings.speed}`);
    if (own().bound != null) words.push(`--loss-bound ${own().bound}`);
    if (!settings.lock && settings.q > 0) words.push(`--q ${settings.q}`);
    words.push(`--start ${settings.start.map((each) => +each.toPrecision(6)).join(" ")} --steps ${settings.steps}`);
    const rates = { gd: () => `:lr=${gdLr()}`, "heavy-ball": () => `:lr=${sgdLr()},momentum=${momentum()}`, nesterov: () => `:lr=${sgdLr()},momentum=${momentum()}`, adam: () => `:lr=${adamLr()}` };
    for (const kind of settings.beside) words.push(`--beside ${kind}${followsInna() ? "" : rates[kind]()}`);
    if (!settings.beside.length) words.push("--beside none");
    return words.join(" ");
  }

  function change(changes) {
    settings = { ...settings, ...changes };
    showControls();
    restart();
    remember();
  }

  function toScene(name) {
    const { lr, steps, start, lowest } = scenes[name];
    change({ scene: name, lr, steps, start: [...start], lock: "", bound: settings.bound === null ? null : lowest });
    layout();
  }

  byId("scene").addEventListener("change", () => toScene(byId("scene").value));
  byId("authors").addEventListener("change", () => change({ speed: byId("authors").checked ? null : 1 }));
  byId("same").addEventListener("change", () => change({ ...frozen(), same: byId("same").checked }));
  byId("lock").addEventListener("change", () => lockTo(byId("lock").checked ? byId("lock-to").value : ""));
  byId("lock-to").addEventListener("change", () => { if (settings.lock) lockTo(byId("lock-to").value); });
  byId("reset").addEventListener("click", () => { settings = initial(); playing = null; change({}); layout(); });
  byId("guard").addEventListener("change", () => change({ bound: byId("guard").checked ? scene().lowest : null }));
  byId("play").addEventListener("click", () => { playing = playing === null ? { from: null, seconds: PLAY_SECONDS } : null; if (playing) repaint(); else wake(); });
  for (const button of document.querySelectorAll("[data-preset]")) {
    button.addEventListener("click", () => { change({ ...data.presets[button.dataset.preset], lock: "", same: true }); layout(); });
  }
  for (const button of document.querySelectorAll("[data-lesson]")) {
    button.addEventListener("click", () => {
      const chosen = data.lessons[button.dataset.lesson].settings;
      playing = matchMedia("(prefers-reduced-motion: reduce)").matches ? null : { from: null, seconds: LESSON_SECONDS };
      change({ ...chosen, start: [...chosen.start], beside: [...chosen.beside] });
      layout();
    });
  }

  let told = 0;
  byId("copy").addEventListener("click", async () => {
    history.replaceState(null, "", address());
    let copied = true;
    try {
      await navigator.clipboard.writeText(location.href);
    } catch {
      copied = false; // the browser allows it on secure pages only: the link is shown to be copied by hand
    }
    byId("link").hidden = copied;
    if (!copied) {
      byId("link").value = location.href;
      byId("link").select();
    }
    byId("copy").textContent = copied ? "Copied" : "Copy link";
    clearTimeout(told);
    told = setTimeout(() => { byId("copy").textContent = "Copy link"; }, 2000);
  });

  // The current learning rates of the other optimizers, to keep once they no longer follow INNA's.
  const frozen = () => ({ gdLr: gdLr(), sgdLr: sgdLr(), momentum: momentum(), adamLr: adamLr() });

  function lockTo(kind) {
    const beside = !kind || settings.beside.includes(kind) ? settings.beside : KINDS.filter((each) => each === kind || settings.beside.includes(each));
    change({ ...frozen(), lock: kind, beside });
  }

  // --- The start --------------------------------------------------------------------------------------------------

  const handle = byId("start");
  const plane = byId("plane");

  function moveTo(event) {
    const place = plane.getBoundingClientRect();
    const inside = (t, size) => Math.max(0, Math.min(size, t));
    const [u, v] = [inside(event.clientX - place.left, place.width), inside(event.clientY - place.top, place.height)];
    change({ start: [box.x(u), box.y(v)].map((each) => Number(each.toPrecision(4))) });
  }

  handle.addEventListener("pointerdown", (event) => { handle.setPointerCapture(event.pointerId); event.preventDefault(); handle.focus(); });
  handle.addEventListener("pointermove", (event) => { if (handle.hasPointerCapture(event.pointerId)) moveTo(event); });
  byId("marks").addEventListener("click", moveTo);
  handle.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    const far = STEP * (event.shiftKey ? 5 : 1);
    const sizes = [box.right - box.left, box.top - box.bottom];
    const limits = [[box.left, box.right], [box.bottom, box.top]];
    change({ start: settings.start.map((each, i) => Number(Math.max(limits[i][0], Math.min(limits[i][1], each + far * way[i] * sizes[i])).toPrecision(6))) });
  });

  // --- The runs and their drawing ---------------------------------------------------------------------------------

  let colors, box, race, trails, losses, energies;
  let playing = null; // or when playing began
  let shown = -1;
  let awake = false;

  function layout() {
    colors = View.theme();
    box = View.ground(byId("ground"), scene(), colors);
    repaint();
  }

  function restart() {
    const every = optimizers();
    const q = settings.lock ? 0 : settings.q;
    race = new Race(every, scene().objective, settings.start, settings.steps, q);
    if (playing) playing = { ...playing, from: null };
    repaint();
  }

  // Redraw the runs from their beginning.
  function repaint() {
    if (!box || !race) return;
    const others = View.fit(byId("others")).context;
    const ownContext = View.fit(byId("own")).context;
    trails = race.runners.map((runner, i) => View.trail(i ? others : ownContext, box, runner, colorOf(runner), strokeOf(runner)));
    const columns = View.columnsOf(byId("loss"));
    const curve = (values) => new View.Curve(values, race.steps, columns, scene().lowest);
    const series = (name) => race.runners.map((runner) => ({ runner, curve: curve(runner[name]), stroke: strokeOf(runner) }));
    losses = series("loss");
    energies = series("energy").filter(({ runner }) => runner.optimizer.kind !== "adam");
    shown = -1;
    const [x, y] = settings.start;
    handle.style.transform = `translate(${box.px(x)}px, ${box.py(y)}px)`;
    byId("loss-axis").textContent = scene().lowest === null ? ": J" : scene().lowest ? ": J − min J" : ": J";
    byId("energy-axis").textContent = scene().lowest ? ": E / 2(1+αβ) − min J" : ": E / 2(1+αβ)";
    delete document.documentElement.dataset.done;
    wake();
  }

  const strokeOf = (runner) => (race.runners.length > 1 ? View.STROKES[runner.optimizer.kind] : { width: 2.4, dash: [] });
  const colorOf = (runner) => colors.optimizers[KINDS.indexOf(runner.optimizer.kind)];

  function wake() {
    if (awake) return;
    awake = true;
    requestAnimationFrame(frame);
  }

  function frame(now) {
    awake = false;
    race.run(SLICE);
    let target = race.done;
    if (playing) {
      playing.from ??= now;
      target = Math.min(race.done, Math.round((race.steps * (now - playing.from)) / (1000 * playing.seconds)));
      if (target >= race.steps) playing = null;
    }
    byId("play").textContent = playing ? "Stop" : "Play";
    byId("play").setAttribute("aria-pressed", String(Boolean(playing)));
    show(target);
    if (!race.finished || target < race.steps) wake();
    else {
      document.documentElement.dataset.done = String(race.steps);
      document.documentElement.dataset.drawn = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    }
  }

  // Where J is unbounded below, a curve ends where its path leaves the frame: the rest would flatten everything.
  function lastShown(runner, k) {
    const last = Math.min(k, runner.length - 1);
    if (scene().lowest !== null) return last;
    const left = leaving(runner, last);
    return left === null ? last : left;
  }

  function leaving(runner, last) {
    const { left, right, bottom, top } = box;
    for (let n = runner.seen ?? 0; n <= last; n++) {
      const [x, y] = [runner.points[2 * n], runner.points[2 * n + 1]];
      if (x < left || x > right || y < bottom || y > top) {
        runner.left = n;
        runner.seen = n;
        return n;
      }
    }
    runner.seen = last + 1;
    return runner.left ?? null;
  }

  function show(target) {
    if (target === shown) return;
    shown = target;
    for (const trail of trails) trail.to(target);
    const ends = race.runners.map((runner) => {
      const last = Math.min(target, runner.length - 1);
      return { x: runner.points[2 * last], y: runner.points[2 * last + 1], color: colorOf(runner) };
    });
    // Where runs end at one point, each is a ring around the next.
    ends.forEach((end, i) => { end.size = 5.5 + 2.5 * (ends.length - 1 - i); });
    View.marks(byId("marks"), box, scene(), ends, colors);
    for (const [id, series] of [["loss", losses], ["energy", energies]]) {
      for (const { runner, curve } of series) curve.to(lastShown(runner, target));
      const drawn = series.map(({ runner, curve, stroke }) => ({ curve, color: colorOf(runner), stroke }));
      View.curves(byId(id), drawn, race.steps, scene().lowest !== null, colors);
    }
    showStability(target);
    showStanding(target);
    showGuard(target);
  }

  function showGuard(target) {
    const fault = guardFault();
    const runner = race.runners[0];
    const last = Math.min(target, runner.length - 1);
    let words = fault !== null && (settings.bound !== null || settings.lock === "") ? fault : "";
    if (fault === null && settings.bound !== null) words = `${runner.cuts[last].toLocaleString("en")} of ${last.toLocaleString("en")} steps cut.`;
    byId("guard-says").textContent = words;
  }

  function showStability(target) {
    const runner = race.runners[0];
    const last = Math.min(target, runner.length - 1);
    // Narrow enough to rarely contain a kink, wide enough for differences in double precision.
    const width = 1e-6 * (box.right - box.left);
    const [x, y] = [runner.points[2 * last], runner.points[2 * last + 1]];
    const found = inna.curvatures(scene().objective.gradient, x, y, width).filter(Number.isFinite);
    const { lr, alpha, beta } = runner.optimizer.at(race.runners[0].q > 0 ? inna.powerDecay(runner.q, last) : 1);
    View.stability(byId("stability"), { lr, alpha, beta, found }, colors);
    const top = Math.max(...found);
    let words = "No curvature here is positive: no learning rate is stable.";
    if (top > FLAT) {
      const limit = inna.maxLr(alpha, beta, top);
      const rate = inna.factor(lr, alpha, beta, top);
      words = `At INNA’s current point λ = ${found.map((each) => say(Math.abs(each) < FLAT ? 0 : each)).join(" and ")}. At λ = ${say(top)} learning rates below γ = ${say(limit)} are stable; the current one multiplies an error by ${rate.toPrecision(4)} per step.`;
    }
    byId("stability-says").textContent = words;
  }

  function showStanding(target) {
    const body = byId("standing");
    const names = race.runners.map((runner) => runner.optimizer.kind).join();
    if (body.dataset.names !== names) {
      body.dataset.names = names;
      body.replaceChildren(
        ...race.runners.map((runner) => {
          const line = document.createElement("tr");
          const head = Object.assign(document.createElement("th"), { scope: "row" });
          const name = document.createElement("span");
          name.append(keyOf(runner.optimizer.kind), NAMES[runner.optimizer.kind]);
          head.append(name);
          line.append(head, ...[0, 1, 2, 3].map(() => document.createElement("td")));
          return line;
        }),
      );
    }
    race.runners.forEach((runner, i) => {
      const last = Math.min(target, runner.length - 1);
      const cells = body.rows[i].cells;
      const left = leaving(runner, last);
      const notes = [];
      if (runner.diverged !== null && runner.diverged <= target) notes.push(`diverged at iteration ${runner.diverged.toLocaleString("en")}`);
      if (left !== null) notes.push(`left the frame at ${left.toLocaleString("en")}`);
      cells[1].textContent = say(runner.loss[last]);
      cells[2].textContent = `(${say(runner.points[2 * last])}, ${say(runner.points[2 * last + 1])})`;
      cells[3].textContent = runner.optimizer.description;
      cells[4].textContent = notes.join(", ");
      cells[4].className = runner.diverged !== null && runner.diverged <= target ? "lost" : "";
    });
    byId("count").textContent = target.toLocaleString("en");
  }

  // --- Settings in the address --------------------------------------------------------------------------------------

  const WORDS = ["scene", "lock"];
  const NUMBERS = ["alpha", "beta", "lr", "speed", "q", "steps", "gdLr", "sgdLr", "momentum", "adamLr"];
  let written = 0;

  function address() {
    const kept = new URLSearchParams();
    for (const name of [...WORDS, ...NUMBERS, "bound"]) if (settings[name] !== null && settings[name] !== "") kept.set(name, settings[name]);
    kept.set("start", settings.start.join(" "));
    kept.set("beside", settings.beside.join(" "));
    kept.set("same", settings.same ? 1 : 0);
    return `#${kept}`;
  }

  function remember() {
    clearTimeout(written);
    written = setTimeout(() => history.replaceState(null, "", address()), 400);
  }

  function recall() {
    const kept = new URLSearchParams(location.hash.slice(1));
    if (!(kept.get("scene") in scenes)) return;
    const number = (name, least) => {
      const value = Number(kept.get(name));
      return kept.has(name) && Number.isFinite(value) && value >= least ? value : null;
    };
    for (const name of NUMBERS) {
      const { minimum, above, maximum, whole } = SLIDERS.find(({ key }) => key === name);
      const value = number(name, minimum ?? 0);
      if (value !== null && !(value <= above) && !(value > maximum) && (!whole || Number.isInteger(value))) settings[name] = value;
    }
    settings.speed = number("speed", 0);
    settings.bound = number("bound", -Infinity);
    settings.scene = kept.get("scene");
    const start = (kept.get("start") ?? "").split(" ").map(Number);
    settings.start = start.length === 2 && start.every(Number.isFinite) ? start : [...scene().start];
    settings.beside = KINDS.filter((kind) => kind !== "inna" && (kept.get("beside") ?? "").split(" ").includes(kind));
    settings.same = kept.get("same") !== "0";
    settings.lock = ["gd", "heavy-ball", "nesterov"].includes(kept.get("lock")) ? kept.get("lock") : "";
  }

  recall();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", layout);
  let size = "";
  new ResizeObserver(() => {
    const now = `${plane.clientWidth} ${plane.clientHeight}`;
    if (now !== size) {
      size = now;
      layout();
    }
  }).observe(plane);
  showControls();
  restart();
})();
