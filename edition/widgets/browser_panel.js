// The panel around samlibToy: sliders, buttons, and pictures of SGD and LSAM trained side by side. It sets up every
// block that stands on the page and is not set up yet, so that the same block may stand there twice.
(() => {
  "use strict";
  const toy = globalThis.samlibToy;
  const INK = {text: "#222", grid: "#ddd", even: "#777", 1: "#3a2f87", "-1": "#7d5d00"}; // labels: darker than their ground
  // Milliseconds of each frame: training, pictures (the contours' grid adapts to this), and where pictures are cut off.
  const [TRAIN_MS, DRAW_MS, CUT_MS] = [6, 8, 12];
  const COARSE = [24, 48], FINE = 96; // grid points a side, least and most while training, and at rest
  const EPOCH = 60; // steps a frame at most: the training is meant to be watched
  const OPENING = 3000; // steps that run by themselves where the panel comes into view, at most four seconds
  const percent = share => `${(100 * share).toFixed(1)}\u00a0%`;

  // A canvas's context in CSS pixels, sharp on any screen, cleared to white: the pictures keep their colours in dark mode.
  function sheet(canvas) {
    const width = canvas.clientWidth, height = canvas.clientHeight, scale = globalThis.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, {width: w, height: h});
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.font = `11px ${getComputedStyle(canvas).fontFamily}`;
    return {context, width, height};
  }

  // Gold for -1, white where undecided, violet for +1, as in the chapter's contours.
  function tint(values, n) {
    const sizes = Float64Array.from(values, Math.abs).sort(), scale = Math.max(sizes[Math.floor(0.9 * n * n)], 1e-6);
    const image = new ImageData(n, n), ends = {true: [75, 63, 158], false: [166, 124, 0]};
    for (let i = 0; i < n * n; i++) {
      const level = 0.75 * Math.abs(Math.tanh(values[i] / scale)), end = ends[values[i] > 0];
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 + level * (end[c] - 255);
      image.data[4 * i + 3] = 255;
    }
    return image;
  }

  // The zero line by marching squares, in units of the grid.
  function zeroLine(values, n, line) {
    const cross = (a, b) => a / (a - b);
    for (let y = 0; y + 1 < n; y++) {
      for (let x = 0; x + 1 < n; x++) {
        const i = y * n + x, [a, b, c, d] = [values[i], values[i + 1], values[i + n + 1], values[i + n]];
        const ends = [];
        if (a > 0 !== b > 0) ends.push([x + cross(a, b), y]);
        if (b > 0 !== c > 0) ends.push([x + 1, y + cross(b, c)]);
        if (d > 0 !== c > 0) ends.push([x + cross(d, c), y + 1]);
        if (a > 0 !== d > 0) ends.push([x, y + cross(a, d)]);
        for (let e = 0; e + 1 < ends.length; e += 2) line(ends[e], ends[e + 1]);
      }
    }
  }

  function drawContour(canvas, values, n, radius, data, column) {
    const {context, width, height} = sheet(canvas), small = Object.assign(document.createElement("canvas"), {width: n, height: n});
    small.getContext("2d").putImageData(tint(values, n), 0, 0);
    // Grid points lie on the edges of the picture: half a cell of the image falls outside.
    const cell = width / (n - 1);
    context.drawImage(small, -cell / 2, -cell / 2, n * cell, n * cell);
    const dot = Math.max(width / 150, 0.9);
    for (const label of [1, -1]) {
      context.fillStyle = INK[label];
      context.beginPath();
      data.labels.forEach((y, i) => {
        const px = (data.inputs[4 * i + column] / radius + 1) * width / 2;
        const py = (1 - data.inputs[4 * i + column + 1] / radius) * height / 2;
        if (y === label) context.moveTo(px, py), context.arc(px, py, dot, 0, 7);
      });
      context.fill();
    }
    context.strokeStyle = "#000";
    context.lineWidth = width > 150 ? 2 : 1.2;
    context.beginPath();
    zeroLine(values, n, ([x0, y0], [x1, y1]) => {
      context.moveTo(x0 * cell, y0 * cell);
      context.lineTo(x1 * cell, y1 * cell);
    });
    context.stroke();
  }

  // Axes from 0 with labelled ticks; returns the context and what turns a value into a pixel.
  function axes(canvas, xMax, yMax, xTicks, yTicks) {
    const {context, width, height} = sheet(canvas), [left, right, top, bottom] = [30, width - 20, 8, height - 18];
    const x = value => left + value / xMax * (right - left), y = value => bottom - value / yMax * (bottom - top);
    context.fillStyle = INK.text;
    context.strokeStyle = INK.grid;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const tick of yTicks) {
      context.strokeRect(left, y(tick), right - left, 0);
      context.fillText(String(tick), left - 4, y(tick));
    }
    context.textAlign = "center";
    for (const tick of xTicks) context.fillText(tick.toLocaleString("en"), x(tick), height - 8);
    return {context, x, y};
  }

  function drawCurve({context, x, y}, values, place, colour, dash = []) {
    Object.assign(context, {strokeStyle: colour, lineWidth: 1.8, lineJoin: "round"});
    context.setLineDash(dash);
    context.beginPath();
    let open = false;
    for (let i = 0; i < values.length; i++) {
      if (Number.isFinite(values[i])) context[open ? "lineTo" : "moveTo"](x(place(i)), y(values[i]));
      open = Number.isFinite(values[i]);
    }
    context.stroke();
    context.setLineDash([]);
  }

  function drawRatios(canvas, pair, colours) {
    const {sgd, lsam, phantom} = pair.curves, finite = [...sgd, ...lsam, ...phantom].filter(Number.isFinite);
    const top = Math.max(1.5, Math.min(Math.ceil(2.1 * finite.reduce((a, b) => Math.max(a, b), 0)) / 2, 5));
    const ticks = Array.from({length: Math.floor(top / 0.5) + 1}, (_, i) => i / 2).filter(t => top <= 2 || t % 1 === 0);
    const end = pair.settings.nSteps, frame = axes(canvas, end, top, [0, end / 2, end], ticks);
    const at = i => (i + 0.5) * toy.WINDOW;
    drawCurve(frame, sgd, at, colours.sgd);
    drawCurve(frame, lsam, at, colours.lsam, [5, 4]);
    drawCurve(frame, phantom.map(value => Math.min(value, top)), at, colours.phantom);
  }

  // As the paper and the figures order them, the most important example first: the curve is turned by half a turn.
  function drawLorenz(canvas, curves, colours) {
    const [sgd, lsam, phantom] = [curves.sgd, curves.lsam, curves.phantom].map(curve => curve.map(value => 1 - value).reverse());
    const frame = axes(canvas, 1, 1, [0, 0.5, 1], [0, 0.5, 1]), place = i => i / (sgd.length - 1);
    drawCurve(frame, [0, 1], i => i, INK.even, [2, 3]);
    drawCurve(frame, sgd, place, colours.sgd);
    drawCurve(frame, lsam, place, colours.lsam, [5, 4]);
    drawCurve(frame, phantom, place, colours.phantom);
  }

  // The plane of v: the last steps of the second network from v to its phantom, and both ratios as slopes.
  function drawPlane(canvas, pair, colours) {
    const {v} = pair.networks.lsam, last = pair.trace.length ? pair.trace : [{v, phantom: v}];
    const top = Math.max(3, ...last.flatMap(row => [...row.v, ...row.phantom])) * 1.1, ticks = [0, 1, 2, 3, 4, 5].filter(t => t < top);
    const frame = axes(canvas, top, top, ticks, ticks), {context, x, y} = frame;
    const mean = [0, 1].map(k => last.reduce((sum, row) => sum + row.phantom[k], 0) / last.length);
    const ray = ([easy, hard], dash, colour) => {
      const far = top / Math.max(easy, hard, 1e-6);
      drawCurve(frame, [0, far * hard], i => i * far * easy, colour, dash);
    };
    ray(v, [5, 4], colours.real);
    ray(mean, [], colours.phantom);
    context.globalAlpha = 0.45;
    for (const row of last) drawCurve(frame, [row.v[1], row.phantom[1]], i => [row.v, row.phantom][i][0], INK.even);
    context.globalAlpha = 1;
    const dots = (points, size, colour) => {
      context.fillStyle = colour;
      for (const [easy, hard] of points) {
        context.beginPath();
        context.arc(x(easy), y(hard), size, 0, 7);
        context.fill();
      }
    };
    dots(last.map(row => row.phantom), 3, colours.phantom);
    dots([v], 6, colours.real);
  }

  // The training examples in the plane of the hard feature, each with an area in proportion to its weight.
  function drawWeights(canvas, data, weights, radius) {
    const {context, width, height} = sheet(canvas), mean = weights.reduce((a, b) => a + b, 0) / weights.length;
    weights.forEach((weight, i) => {
      const px = (data.inputs[4 * i + 2] / radius + 1) * width / 2, py = (1 - data.inputs[4 * i + 3] / radius) * height / 2;
      context.fillStyle = INK[data.labels[i]];
      context.globalAlpha = 0.7;
      context.beginPath();
      context.arc(px, py, width / 120 * Math.sqrt(weight / Math.max(mean, 1e-12)), 0, 7);
      context.fill();
    });
    context.globalAlpha = 1;
  }

  class Panel {
    constructor(box) {
      this.settings = JSON.parse(box.dataset.settings);
      this.find = name => box.querySelector(`[data-part="${name}"]`);
      this.inputs = [...box.querySelectorAll("input")];
      this.still = matchMedia("(prefers-reduced-motion: reduce)");
      Object.assign(this, {visible: false, pair: null, target: 0, work: null, grid: COARSE[1]});
      this.inputs.forEach(input => input.addEventListener("input", () => this.change()));
      this.find("train").addEventListener("click", () => this.toggle());
      this.find("restart").addEventListener("click", () => this.restart());
      // Off the screen nothing is computed, and before the panel is first seen not even its first picture.
      new IntersectionObserver(entries => this.see(entries.at(-1).isIntersecting)).observe(box);
      new ResizeObserver(([{contentRect: {width}}]) => {
        if (this.pair && width && width !== this.width) this.settle();
        this.width = width || this.width;
      }).observe(box);
    }

    get values() {
      const value = ({dataset, value}) => dataset.values ? JSON.parse(dataset.values)[Number(value)] : Number(value);
      return {...this.settings.values, ...Object.fromEntries(this.inputs.map(input => [input.name, value(input)]))};
    }

    get step() { return this.pair ? this.pair.step : 0; }

    see(visible) {
      if (visible && !this.visible && this.target) this.end = performance.now() + this.time;
      this.visible = visible;
      if (visible && !this.pair) this.change();
      this.schedule();
    }

    change() {
      for (const input of this.inputs) {
        const text = String(this.values[input.name]) + (input.name === "complexity" ? "°" : "");
        input.setAttribute("aria-valuetext", text);
        input.closest("label").querySelector("output").value = text;
        input.disabled = input.name === "ratio" && this.values.vector !== "fixed";
      }
      this.restart();
      if (!this.still.matches && this.target < this.settings.nSteps) this.run(OPENING, 4000);
    }

    restart() {
      this.pair = new toy.Pair(this.settings, this.values);
      const {rho, ratio, term, vector} = this.values, title = this.find("lsam-title");
      const intervention = {fixed: `c = ${ratio}`, phantom: "own phantom", permuted: "permuted phantom"}[vector];
      this.second = term ? `${intervention}:` : "LSAM";
      if (title) title.textContent = term ? intervention : rho > 0 ? `LSAM, ρ = ${rho}` : "LSAM, ρ = 0 (SGD)";
      this.work = null;
      if (!this.target) this.settle();
    }

    toggle() {
      if (this.target) return this.stop();
      if (this.step >= this.settings.nSteps || !this.pair.finite) this.restart();
      this.run(this.settings.nSteps, Infinity);
    }

    run(target, milliseconds) {
      Object.assign(this, {target, time: milliseconds, end: performance.now() + milliseconds});
      this.measured = this.spoken = -Infinity;
      this.find("train").textContent = "Pause";
      this.find("status").ariaBusy = "true";  // read aloud at the end, not all the way
      this.schedule();
    }

    stop() {
      this.target = 0;
      this.find("train").textContent = "Train";
      this.find("status").ariaBusy = "false";
      this.settle();
    }

    schedule() {
      if (!this.visible || !this.target || this.pending) return;
      this.pending = true;
      requestAnimationFrame(() => { this.pending = false; this.frame(); });
    }

    frame() {
      if (!this.visible || !this.target) return;
      const {pair} = this, start = performance.now(), last = Math.min(this.target, pair.step + EPOCH);
      while (pair.step < last && performance.now() < start + TRAIN_MS) pair.advance();
      this.quick();
      this.find("progress").value = pair.step;
      this.paint(performance.now());
      if (pair.step >= this.target || start > this.end || !pair.finite) this.stop();
      this.schedule();
    }

    // One round of pictures, or as much of it as the time allows.
    paint(start) {
      this.work ??= this.draw(this.grid);
      let done = false;
      while (!done && performance.now() < start + CUT_MS) done = this.work.next().done;
      if (done) this.work = null;
      const slow = performance.now() > start + DRAW_MS;
      this.grid = slow ? Math.max(this.grid - 4, COARSE[0]) : Math.min(this.grid + 2, COARSE[1]);
    }

    // Draws everything at once, and finely: for a picture that stays.
    settle() {
      this.measured = this.spoken = -Infinity;
      for (const _ of this.draw(FINE));
      this.quick();
      this.find("progress").value = this.step;
    }

    // What is drawn in every frame.
    quick() {
      const {pair, settings: {colours}} = this, ratio = this.find("ratio"), plane = this.find("plane");
      if (ratio) drawRatios(ratio, pair, colours);
      if (plane) drawPlane(plane, pair, colours);
    }

    // All pictures but the ratios, in slices of well under a millisecond.
    * draw(n) {
      const {pair, settings} = this, curves = {}, networks = Object.entries(pair.networks);
      for (const [name, network] of networks) {
        yield* this.contour(name, network, 1, n);
        const weights = toy.importance(network, pair.train, pair.order, pair.values.rho, settings.batchSize);
        curves[name] = toy.lorenz(weights.real);
        if (name === "lsam") {
          curves.phantom = toy.lorenz(weights.phantom);
          for (const kind of ["real", "phantom"]) {
            const canvas = this.find(`${kind}-weights`);
            if (canvas) drawWeights(canvas, pair.train, weights[kind], 1.15 * settings.hardScale);
          }
        }
        yield;
      }
      const lorenz = this.find("lorenz");
      if (lorenz && curves.sgd && curves.lsam && curves.phantom) drawLorenz(lorenz, curves, settings.colours);
      // What hardly changes, or costs most, twice a second.
      if (performance.now() < this.measured + 500) return;
      const errors = {};
      for (const [name, network] of networks) {
        yield* this.contour(name, network, 0, n / 2);
        errors[name] = yield* this.errors(name, network);
      }
      this.measured = performance.now();
      this.speak(errors, curves);
    }

    * contour(name, network, k, n) {
      const canvas = this.find(`${name}-${k ? "hard" : "easy"}`);
      if (!canvas) return;
      const values = new Float64Array(n * n), scale = k ? this.settings.hardScale : this.settings.easyScale;
      const radius = 1.15 * scale, at = i => radius * (2 * i / (n - 1) - 1);
      for (let y = 0; y < n; y++) {
        for (let x = 0; x < n; x++) values[y * n + x] = network.v[k] * network.phi(k, at(x), -at(y));
        yield;
      }
      drawContour(canvas, values, n, radius, this.pair.train, 2 * k);
    }

    // Shares of fresh examples on the wrong side of each probe v_k phi_k and of the label's f.
    * errors(name, network) {
      const {test, settings} = this.pair, wrong = {easy: 0, hard: 0, label: 0};
      for (let i = 0; i < settings.nTest; i++) {
        const [easy, hard] = network.signed(test, i).map((value, k) => network.v[k] * value);
        wrong.easy += !(easy > 0) / settings.nTest;
        wrong.hard += !(hard > 0) / settings.nTest;
        wrong.label += !(easy + hard > 0) / settings.nTest;
        if (i % 100 === 99) yield;
      }
      for (const [key, share] of Object.entries(wrong)) {
        const place = this.find(`${name}-${key}-error`);
        if (place) place.textContent = percent(share);
      }
      return wrong;
    }

    // The pictures in words, at most every two seconds.
    speak({sgd, lsam}, curves) {
      if (performance.now() < this.spoken + 2000) return;
      this.spoken = performance.now();
      const ratio = value => Number.isFinite(value) ? value.toFixed(2) : "none";
      const now = name => ratio(this.pair.curves[name].at(-1));
      const even = name => curves[name] ? toy.gini(curves[name]).toFixed(2) : "none";
      this.find("status").textContent = !this.pair.finite
        ? `The training diverged at step ${this.step.toLocaleString("en")}: choose a smaller learning rate or radius.`
        : `Step ${this.step.toLocaleString("en")} of ${this.settings.nSteps.toLocaleString("en")}. ` +
          `Hard feature's probing error: SGD ${percent(sgd.hard)}, ${this.second} ${percent(lsam.hard)}; ` +
          `label error: SGD ${percent(sgd.label)}, ${this.second} ${percent(lsam.label)}. ` +
          (this.values.term
            ? `Ratio of hard to easy in v: SGD ${now("sgd")}, ${this.second} ${now("lsam")}.`
            : `Ratio of hard to easy: SGD ${now("sgd")}, LSAM ${now("lsam")}, LSAM's phantom ${now("phantom")}. ` +
              `Gini of the importance weights: SGD ${even("sgd")}, LSAM ${even("lsam")}, LSAM's phantom ${even("phantom")}.`);
    }
  }

  for (const box of document.querySelectorAll(".browser-toy:not([data-ready])")) {
    box.dataset.ready = "";
    box.panel = new Panel(box);
  }
})();
