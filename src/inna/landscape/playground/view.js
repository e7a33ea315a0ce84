// Drawing: the landscape, paths and marks on it, curves over the iterations, the region of stable learning rates.
"use strict";
const View = (() => {
  const BANDS = 22;
  const FLOOR = 1e-16;
  const SKIP = 0.35; // least distance in pixels between two vertices of a path
  // Width and dashes by kind of optimizer: where paths coincide all of them are seen.
  const STROKES = {
    inna: { width: 5, dash: [] },
    gd: { width: 1.8, dash: [14, 6, 3, 6] },
    "heavy-ball": { width: 2.2, dash: [12, 12] },
    nesterov: { width: 2.2, dash: [3, 7] },
    adam: { width: 2.2, dash: [7, 9] },
  };

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const rgb = (color) => [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  const mix = (a, b, t) => a.map((each, i) => each + t * (b[i] - each));

  function theme() {
    const named = ["background", "text", "muted", "line", "accent", "low"].map((name) => [name, css(`--${name}`)]);
    return { ...Object.fromEntries(named), optimizers: [0, 1, 2, 3, 4].map((i) => css(`--c${i}`)) };
  }

  // Resize a canvas to its place on the page in device pixels; its context uses pixels of the page.
  function fit(canvas) {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const { width, height } = canvas.getBoundingClientRect();
    const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return { context, width, height, ratio };
  }

  // Grow the frame in one direction to the proportions of the canvas, to keep circles round.
  function fill(frame, width, height) {
    const [left, right, bottom, top] = frame;
    const scale = Math.min(width / (right - left), height / (top - bottom));
    const [x, y] = [(left + right) / 2, (bottom + top) / 2];
    const [dx, dy] = [width / scale / 2, height / scale / 2];
    return {
      left: x - dx, right: x + dx, bottom: y - dy, top: y + dy, scale,
      px: (u) => (u - x + dx) * scale,
      py: (v) => (y + dy - v) * scale,
      x: (px) => x - dx + px / scale,
      y: (py) => y + dy - py / scale,
    };
  }

  // Map heights to bands, evenly spaced in the logarithm above the minimum, or in rank without a minimum.
  function bander(value, lowest, box) {
    const heights = [];
    for (let i = 0; i < 70; i++) {
      for (let j = 0; j < 50; j++) {
        const u = box.left + ((i + 0.5) / 70) * (box.right - box.left);
        const v = box.bottom + ((j + 0.5) / 50) * (box.top - box.bottom);
        heights.push(value(u, v) - (lowest ?? 0));
      }
    }
    heights.sort((a, b) => a - b);
    const quantile = (p) => heights[Math.round(p * (heights.length - 1))];
    if (lowest !== null) {
      const high = Math.log(quantile(0.997));
      const low = Math.max(Math.log(Math.max(quantile(0.004), 1e-300)), high - Math.log(1e5));
      return (x, y) => {
        const height = value(x, y) - lowest;
        return height > 0 ? Math.min(BANDS, Math.max(0, (BANDS * (Math.log(height) - low)) / (high - low))) : 0;
      };
    }
    const edges = Array.from({ length: BANDS - 1 }, (_, i) => quantile((i + 1) / BANDS));
    return (x, y) => {
      const height = value(x, y);
      let [a, b] = [0, edges.length];
      while (a < b) {
        const middle = (a + b) >> 1;
        if (height >= edges[middle]) a = middle + 1;
        else b = middle;
      }
      return a;
    };
  }

  function ground(canvas, scene, colors) {
    const { context, width, height, ratio } = fit(canvas);
    const box = fill(scene.frame, width, height);
    const { width: w, height: h } = canvas;
    const band = bander(scene.objective.value, scene.lowest, box);
    const low = rgb(colors.low);
    const high = rgb(colors.background);
    const shades = Array.from({ length: BANDS + 1 }, (_, i) => mix(low, high, (i / BANDS) ** 0.75));
    const lines = shades.map((shade) => mix(shade, rgb(colors.muted), 0.42));
    const image = context.createImageData(w, h);
    let above = new Int16Array(w);
    let current = new Int16Array(w);
    for (let j = 0; j < h; j++) {
      const y = box.y((j + 0.5) / ratio);
      for (let i = 0; i < w; i++) current[i] = Math.floor(band(box.x((i + 0.5) / ratio), y));
      for (let i = 0; i < w; i++) {
        const edge = (i > 0 && current[i - 1] !== current[i]) || (j > 0 && above[i] !== current[i]);
        const shade = (edge ? lines : shades)[current[i]];
        const at = 4 * (j * w + i);
        image.data[at] = shade[0];
        image.data[at + 1] = shade[1];
        image.data[at + 2] = shade[2];
        image.data[at + 3] = 255;
      }
      [above, current] = [current, above];
    }
    context.putImageData(image, 0, 0);
    return box;
  }

  // A growing path: `to(k)` draws it up to iterate k.
  function trail(context, box, runner, color, { width, dash }) {
    let drawn = 0;
    let length = 0; // of the path so far, where its next dash continues
    let [x, y] = [box.px(runner.points[0]), box.py(runner.points[1])];
    const far = (t) => Math.max(-1e5, Math.min(1e5, t));
    return {
      to(k) {
        const last = Math.min(k, runner.length - 1);
        if (last <= drawn) return;
        context.lineDashOffset = length;
        context.beginPath();
        context.moveTo(x, y);
        for (let n = drawn + 1; n <= last; n++) {
          const u = far(box.px(runner.points[2 * n]));
          const v = far(box.py(runner.points[2 * n + 1]));
          if (n < last && Math.abs(u - x) < SKIP && Math.abs(v - y) < SKIP) continue;
          context.lineTo(u, v);
          length += Math.hypot(u - x, v - y);
          [x, y] = [u, v];
        }
        Object.assign(context, { strokeStyle: color, lineWidth: width, lineJoin: "round", lineCap: dash.length ? "butt" : "round" });
        context.setLineDash(dash);
        context.stroke();
        drawn = last;
      },
    };
  }

  function star(context, x, y, size) {
    context.beginPath();
    for (let i = 0; i < 10; i++) {
      const radius = i % 2 ? size * 0.42 : size;
      const angle = (Math.PI * i) / 5 - Math.PI / 2;
      context.lineTo(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
    }
    context.closePath();
  }

  function marks(canvas, box, scene, ends, colors) {
    const { context } = fit(canvas);
    Object.assign(context, { fillStyle: colors.text, strokeStyle: colors.background, lineWidth: 1.5 });
    for (const [x, y] of scene.minimisers) {
      star(context, box.px(x), box.py(y), 8);
      context.stroke();
      context.fill();
    }
    for (const [x, y] of scene.saddles) {
      const [u, v] = [box.px(x), box.py(y)];
      context.fillRect(u - 6, v - 1.5, 12, 3);
      context.fillRect(u - 1.5, v - 6, 3, 12);
    }
    for (const [x, y] of scene.spurious) {
      const [u, v] = [box.px(x), box.py(y)];
      context.beginPath();
      context.moveTo(u - 6, v - 5);
      context.lineTo(u + 6, v - 5);
      context.lineTo(u, v + 6);
      context.closePath();
      context.fill();
    }
    for (const { x, y, color, size } of ends) {
      context.beginPath();
      context.arc(box.px(x), box.py(y), size, 0, 2 * Math.PI);
      Object.assign(context, { fillStyle: color, strokeStyle: colors.background, lineWidth: 2 });
      context.fill();
      context.stroke();
    }
  }

  // Smallest and largest value per column of pixels, to keep every dip.
  class Curve {
    constructor(values, steps, columns, lowest) {
      Object.assign(this, { values, steps, columns, lowest, done: -1 });
      this.low = new Float64Array(columns).fill(Infinity);
      this.high = new Float64Array(columns).fill(-Infinity);
    }

    to(k) {
      for (let n = this.done + 1; n <= k; n++) {
        const height = this.values[n];
        const value = this.lowest === null ? height : Math.log10(Math.max(height - this.lowest, FLOOR));
        const column = Math.min(this.columns - 1, Math.floor((n / this.steps) * this.columns));
        if (value < this.low[column]) this.low[column] = value;
        if (value > this.high[column]) this.high[column] = value;
      }
      this.done = Math.max(this.done, k);
    }
  }

  const LEFT = 44;
  const BOTTOM = 20;
  const TOP = 8;
  const RIGHT = 8;

  function power(exponent) {
    const digits = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
    return `10${[...String(exponent)].map((each) => digits[each]).join("")}`;
  }

  function ticks(low, high, wanted) {
    const rough = (high - low) / wanted;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((each) => each * unit).find((each) => each >= rough);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
    return found;
  }

  const short = (value) => (Math.abs(value) >= 1e4 ? `${+(value / 1e3).toPrecision(4)}k` : String(+value.toPrecision(4)));

  function axes(context, width, height, colors, xs, ys) {
    Object.assign(context, { font: `11px ${css("--font")}`, fillStyle: colors.muted, strokeStyle: colors.line, lineWidth: 1 });
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const { at, label } of ys) {
      context.beginPath();
      context.moveTo(LEFT, Math.round(at) + 0.5);
      context.lineTo(width - RIGHT, Math.round(at) + 0.5);
      context.stroke();
      context.fillText(label, LEFT - 6, at);
    }
    context.textBaseline = "alphabetic";
    xs.forEach(({ at, label }, i) => {
      context.textAlign = at > width - 30 ? "right" : i ? "center" : "left";
      context.fillText(label, at > width - 30 ? width - RIGHT + 4 : at, height - 4);
    });
  }

  const columnsOf = (canvas) => Math.max(10, Math.floor(canvas.getBoundingClientRect().width - LEFT - RIGHT));

  function curves(canvas, drawn, steps, logarithmic, colors) {
    const { context, width, height } = fit(canvas);
    let [low, high] = [Infinity, -Infinity];
    for (const { curve } of drawn) {
      for (let i = 0; i < curve.columns; i++) {
        if (curve.low[i] < low) low = curve.low[i];
        if (curve.high[i] > high) high = curve.high[i];
      }
    }
    if (!(high > -Infinity)) [low, high] = [0, 1];
    if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
    const y = (value) => TOP + ((high - value) / (high - low)) * (height - TOP - BOTTOM);
    const x = (k) => LEFT + (k / steps) * (width - LEFT - RIGHT);
    const marksY = logarithmic
      ? [...new Set(ticks(low, high, 4).map(Math.round))].filter((each) => each >= low && each <= high)
      : ticks(low, high, 4);
    axes(
      context, width, height, colors,
      ticks(0, steps, Math.max(2, width / 75)).map((k) => ({ at: x(k), label: short(k) })),
      marksY.map((value) => ({ at: y(value), label: logarithmic ? power(value) : short(value) })),
    );
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, width - LEFT, height - BOTTOM + 2);
    context.clip();
    for (const { curve, color, stroke } of drawn) {
      context.beginPath();
      for (let i = 0; i < curve.columns; i++) {
        if (!(curve.high[i] > -Infinity)) continue;
        const at = LEFT + ((i + 0.5) / curve.columns) * (width - LEFT - RIGHT);
        context.lineTo(at, y(curve.high[i]));
        if (curve.low[i] < curve.high[i]) context.lineTo(at, y(curve.low[i]));
      }
      Object.assign(context, { strokeStyle: color, lineWidth: Math.min(stroke.width, 3.2) * 0.85, lineJoin: "round" });
      context.setLineDash(stroke.dash);
      context.stroke();
    }
    context.restore();
  }

  // Curvature from 10^-2 to 10^4 and learning rates from 10^-5 to 10, both logarithmic.
  const CURVATURES = [-2, 4];
  const RATES = [-5, 1];

  function stability(canvas, { lr, alpha, beta, found }, colors) {
    const { context, width, height } = fit(canvas);
    const x = (log) => LEFT + ((log - CURVATURES[0]) / (CURVATURES[1] - CURVATURES[0])) * (width - LEFT - RIGHT);
    const y = (log) => TOP + ((RATES[1] - log) / (RATES[1] - RATES[0])) * (height - TOP - BOTTOM);
    const inside = (log) => Math.max(RATES[0], Math.min(RATES[1], log));
    context.beginPath();
    context.moveTo(x(CURVATURES[0]), y(RATES[0]));
    for (let px = LEFT; px <= width - RIGHT; px++) {
      const log = CURVATURES[0] + ((px - LEFT) / (width - LEFT - RIGHT)) * (CURVATURES[1] - CURVATURES[0]);
      context.lineTo(px, y(inside(Math.log10(inna.maxLr(alpha, beta, 10 ** log)))));
    }
    context.lineTo(x(CURVATURES[1]), y(RATES[0]));
    context.closePath();
    context.fillStyle = colors.low;
    context.fill();
    axes(
      context, width, height, colors,
      [-2, 0, 2, 4].map((log) => ({ at: x(log), label: power(log) })),
      [-5, -3, -1, 1].map((log) => ({ at: y(log), label: power(log) })),
    );
    context.textAlign = "left";
    context.fillStyle = colors.text;
    context.fillText("stable", x(-2) + 8, y(RATES[0]) - 8);
    const level = y(inside(Math.log10(Math.max(lr, 1e-300))));
    Object.assign(context, { strokeStyle: colors.optimizers[0], lineWidth: 1.5 });
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(LEFT, level);
    context.lineTo(width - RIGHT, level);
    context.stroke();
    context.setLineDash([]);
    for (const curvature of found.filter((each) => each > 0)) {
      const at = x(Math.max(CURVATURES[0], Math.min(CURVATURES[1], Math.log10(curvature))));
      context.beginPath();
      context.arc(at, level, 5, 0, 2 * Math.PI);
      context.fillStyle = inna.isStable(lr, alpha, beta, curvature) ? colors.optimizers[0] : css("--bad");
      Object.assign(context, { strokeStyle: colors.background, lineWidth: 2 });
      context.fill();
      context.stroke();
    }
  }

  return { STROKES, theme, fit, fill, ground, trail, marks, Curve, columnsOf, curves, stability };
})();
