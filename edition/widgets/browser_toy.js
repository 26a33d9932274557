// The toy of chapter 2 without a framework: data, network, LSAM step, importance weights, and two methods side by side.
// What each part must equal is named beside it; the tests compare them on the same numbers. Weights have the layout of
// samlib.toy.network.Weights without the member axis: flat row-major arrays whose first axis is (easy, hard).
// Random numbers come from the same distributions as torch's, but are other numbers: a seed here is not a seed there.
globalThis.samlibToy = (() => {
  "use strict";
  const LAYERS = ["w1", "b1", "w2", "b2", "w3", "b3"];
  const WINDOW = 50; // steps of which a ratio is the mean
  const TRACE = 60; // steps that are remembered one by one: an epoch

  // One stream per (seed, purpose), as in samlib.streams: FNV-1a of the name starts Mulberry32.
  function stream(seed, purpose) {
    let state = 0x811c9dc5;
    for (const character of `${seed}/${purpose}`) state = Math.imul(state ^ character.charCodeAt(0), 0x01000193);
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  // samlib.toy.data.sample: a line beside a spiral (Eqs 39-42); inputs have columns (easy, easy, hard, hard).
  function sample(settings, complexity, seed, split) {
    const random = stream(seed, `${split} data`), n = split === "train" ? settings.nTrain : settings.nTest;
    const inputs = new Float64Array(4 * n), labels = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      const [coin, easy, position, first, second] = Array.from({length: 5}, random);
      const label = coin < 0.5 ? -1 : 1, angle = complexity * Math.PI / 180 * position;
      const [low, high] = settings.easyRange, inner = settings.innerRadius;
      const radius = label * settings.hardScale * (inner + (1 - inner) * position);
      labels[i] = label;
      inputs[4 * i] = settings.easyScale * label * (low + (high - low) * easy);
      inputs[4 * i + 2] = radius * Math.cos(angle) + settings.uniformNoise * (2 * first - 1);
      inputs[4 * i + 3] = radius * Math.sin(angle) + settings.uniformNoise * (2 * second - 1);
    }
    return {inputs, labels};
  }

  // samlib.toy.network.DisentangledNetwork: every layer uniform within fan-in ** -0.5, v constant.
  function initialWeights(settings, seed) {
    const random = stream(seed, "initialization"), n = settings.hidden;
    const uniform = (length, fanIn) => Float64Array.from({length}, () => (2 * random() - 1) / Math.sqrt(fanIn));
    return {
      w1: uniform(4 * n, 2), b1: uniform(2 * n, 2), w2: uniform(2 * n * n, n), b2: uniform(2 * n, n),
      w3: uniform(2 * n, n), b3: uniform(2, n), v: new Float64Array(2).fill(settings.lastLayerInit),
    };
  }

  function permutation(n, random) {
    const order = Uint32Array.from({length: n}, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  // phi(x0, x1) of one feature; leaves the hidden layers after the ReLU in h1 and h2.
  function forward(layers, x0, x1, h1, h2) {
    const {w1, b1, w2, b2, w3, b3} = layers, n = b1.length;
    h2.set(b2);
    for (let i = 0; i < n; i++) {
      const value = b1[i] + x0 * w1[i] + x1 * w1[n + i];
      h1[i] = value > 0 ? value : 0;
      // About half of the units are silent: skipping them halves the time.
      if (value > 0) for (let j = 0, row = i * n; j < n; j++) h2[j] += value * w2[row + j];
    }
    let phi = b3[0];
    for (let j = 0; j < n; j++) {
      if (h2[j] > 0) phi += h2[j] * w3[j];
      else h2[j] = 0;
    }
    return phi;
  }

  // One descent step on one feature in place; slope[b] = dL/dphi of example b, d2 is scratch space.
  function descend(layers, {inputs, column, h1, h2, d2}, slope, rate) {
    const {w1, b1, w2, b2, w3, b3} = layers, n = b1.length, size = slope.length;
    for (let b = 0; b < size; b++) {
      for (let j = 0; j < n; j++) d2[b][j] = h2[b][j] > 0 ? slope[b] * w3[j] : 0;
    }
    for (let b = 0; b < size; b++) {
      b3[0] -= rate * slope[b];
      for (let j = 0; j < n; j++) {
        w3[j] -= rate * slope[b] * h2[b][j];
        b2[j] -= rate * d2[b][j];
      }
    }
    const d1 = new Float64Array(size);
    for (let i = 0; i < n; i++) {
      const row = i * n;
      // All of the row's d1 first: they need the weights before the step.
      for (let b = 0; b < size; b++) {
        let sum = 0;
        if (h1[b][i] > 0) for (let j = 0; j < n; j++) sum += w2[row + j] * d2[b][j];
        d1[b] = rate * sum;
      }
      for (let b = 0; b < size; b++) {
        if (!(h1[b][i] > 0)) continue;
        const scaled = rate * h1[b][i];
        for (let j = 0; j < n; j++) w2[row + j] -= scaled * d2[b][j];
        b1[i] -= d1[b];
        w1[i] -= d1[b] * inputs[b][column];
        w1[n + i] -= d1[b] * inputs[b][column + 1];
      }
    }
  }

  const importanceWeight = margin => 1 / (1 + Math.exp(margin)); // lambda = sigma(-y f(x)), Eq 6

  // v~ = v + rho g / ||g|| (Eq 5) from signed[b] = y (phi_easy, phi_hard); a zero gradient moves nothing.
  function phantom(v, signed, rho) {
    let easy = 0, hard = 0;
    for (const [first, second] of signed) {
      const weight = importanceWeight(v[0] * first + v[1] * second);
      easy -= weight * first / signed.length;
      hard -= weight * second / signed.length;
    }
    const norm = Math.hypot(easy, hard);
    return norm > 0 ? [v[0] + rho * easy / norm, v[1] + rho * hard / norm] : [v[0], v[1]];
  }

  // v-hat of Eq 7: a fixed ratio of hard over easy weight, and a fixed length.
  function fixedVector({ratio, length}) {
    return [length / Math.hypot(1, ratio), length * ratio / Math.hypot(1, ratio)];
  }

  class Network {
    // Keeps the arrays it is given: training changes them in place.
    constructor(weights, batchSize) {
      this.weights = weights;
      this.v = weights.v;
      this.features = [0, 1].map(k => {
        const half = array => array.subarray(k * array.length / 2, (k + 1) * array.length / 2);
        return Object.fromEntries(LAYERS.map(name => [name, half(weights[name])]));
      });
      const n = weights.b1.length / 2, rows = () => Array.from({length: batchSize}, () => new Float64Array(n));
      this.scratch = [0, 2].map(column => ({column, inputs: [], h1: rows(), h2: rows(), d2: rows()}));
      this.slope = new Float64Array(batchSize);
    }

    phi(k, x0, x1) {
      return forward(this.features[k], x0, x1, this.scratch[k].h1[0], this.scratch[k].h2[0]);
    }

    // One LSAM step (samlib.toy.reference.lsam_step); rho = 0 is SGD. Returns v and v~ as they were before the descent.
    // One forward pass is enough: the ascent step moves v, and the features do not depend on v.
    // With an intervention ({vector, ratio, length, term}) it is a step with terms of Eqs 8-10 instead;
    // a lender is another batch whose phantom is taken ("permuted").
    step(data, batch, rho, rate, intervention, lender) {
      const {v, slope, scratch, features} = this, size = batch.length;
      const lent = lender && Array.from(lender, i => this.signed(data, i)); // uses the scratch, so first
      const rows = Array.from(batch, i => data.inputs.subarray(4 * i, 4 * i + 4));
      const signed = rows.map((row, b) => scratch.map(({column, h1, h2}, k) =>
        data.labels[batch[b]] * forward(features[k], row[column], row[column + 1], h1[b], h2[b])));
      const fixed = intervention?.vector === "fixed", before = [v[0], v[1]];
      const moved = fixed ? fixedVector(intervention) : phantom(v, lent ?? signed, rho);
      const [forWeights, forRates] = ["learning rates", "importance weights"].map(other =>
        intervention?.term === other ? before : moved);
      const weigh = at => signed.map(([easy, hard]) => importanceWeight(at[0] * easy + at[1] * hard));
      const weights = weigh(forWeights), own = fixed ? weigh(before) : weights;
      for (let k = 0; k < 2; k++) {
        for (let b = 0; b < size; b++) {
          slope[b] = -weights[b] * data.labels[batch[b]] * forRates[k] / size;
          v[k] += rate * own[b] * signed[b][k] / size;
        }
        scratch[k].inputs = rows;
        descend(features[k], scratch[k], slope, rate);
      }
      return {v: before, phantom: moved};
    }

    // y (phi_easy, phi_hard) of example i.
    signed({inputs, labels}, i) {
      return [0, 1].map(k => labels[i] * this.phi(k, inputs[4 * i + 2 * k], inputs[4 * i + 2 * k + 1]));
    }
  }

  // samlib.measures.importance.importance_weights of one network, in the order of the examples.
  function importance(network, data, order, rho, batchSize) {
    const real = new Float64Array(order.length), moved = new Float64Array(order.length);
    for (let start = 0; start < order.length; start += batchSize) {
      const batch = order.slice(start, start + batchSize), signed = Array.from(batch, i => network.signed(data, i));
      const at = phantom(network.v, signed, rho);
      signed.forEach(([easy, hard], b) => {
        real[batch[b]] = importanceWeight(network.v[0] * easy + network.v[1] * hard);
        moved[batch[b]] = importanceWeight(at[0] * easy + at[1] * hard);
      });
    }
    return {real, phantom: moved};
  }

  // samlib.measures.importance.lorenz and gini: the share held by the smallest k values; null where the values have no sum.
  function lorenz(values) {
    const sorted = Float64Array.from(values).sort(), curve = new Float64Array(sorted.length + 1);
    sorted.forEach((value, i) => { curve[i + 1] = curve[i] + value; });
    const total = curve[sorted.length];
    return total > 0 && Number.isFinite(total) ? curve.map(value => value / total) : null;
  }

  function gini(curve) {
    const inner = curve.reduce((sum, value) => sum + value, 0) - 0.5;
    return 1 - 2 * inner / (curve.length - 1);
  }

  // SGD beside LSAM, or beside an intervention where values name one, from equal weights on equal batches; the ratios along
  // the way, and the last steps of the second network in the plane of v.
  class Pair {
    constructor(settings, values) {
      Object.assign(this, {settings, values, step: 0, trace: [], curves: {sgd: [], lsam: [], phantom: []}});
      this.train = sample(settings, values.complexity, values.seed, "train");
      this.test = sample(settings, values.complexity, values.seed, "test");
      this.random = stream(values.seed, "batch order");
      this.order = permutation(settings.nTrain, this.random);
      const network = () => new Network(initialWeights(settings, values.seed), settings.batchSize);
      this.networks = {sgd: network(), lsam: network()};
      const length = Math.SQRT2 * settings.lastLayerInit;
      this.intervention = values.term && {...values, length};
      this.sums = {sgd: [0, 0], lsam: [0, 0], phantom: [0, 0]};
    }

    get finite() {
      return Object.values(this.networks).every(({v}) => Number.isFinite(v[0] + v[1]));
    }

    advance() {
      const {nTrain, batchSize} = this.settings, start = this.step * batchSize % nTrain;
      if (this.step && !start) this.order = permutation(nTrain, this.random);
      const half = Math.floor(nTrain / batchSize / 2) * batchSize, {learningRate: rate, rho, vector} = this.values;
      const from = place => this.order.subarray(place, place + batchSize), batch = from(start);
      const lender = vector === "permuted" ? from((start - half + nTrain) % nTrain) : undefined;
      const sgd = this.networks.sgd.step(this.train, batch, 0, rate);
      const lsam = this.networks.lsam.step(this.train, batch, rho, rate, this.intervention, lender);
      this.trace.push(lsam);
      if (this.trace.length > TRACE) this.trace.shift();
      this.step++;
      this.count("sgd", sgd.v);
      this.count("lsam", lsam.v);
      this.count("phantom", lsam.phantom);
      if (this.step % WINDOW === 0) this.close();
    }

    // A mean of logarithms, which a near flip cannot dominate; steps with a flipped weight have no ratio.
    count(name, [easy, hard]) {
      if (!(easy > 0 && hard > 0)) return;
      this.sums[name][0] += Math.log(hard / easy);
      this.sums[name][1]++;
    }

    close() {
      for (const [name, [sum, n]] of Object.entries(this.sums)) {
        this.curves[name].push(n ? Math.exp(sum / n) : NaN);
        this.sums[name] = [0, 0];
      }
    }
  }

  // For the tests: steps on given numbers. weights: arrays by name; data: {inputs: flat, labels}; batches, lenders: indices.
  function steps(weights, data, batches, rho, rate, intervention, lenders = []) {
    const typed = source => Object.fromEntries(Object.entries(source).map(([name, x]) => [name, Float64Array.from(x)]));
    const network = new Network(typed(weights), batches[0].length), numbers = typed(data);
    const trace = batches.map((batch, k) => network.step(numbers, batch, rho, rate, intervention, lenders[k]));
    return {weights: network.weights, v: trace.map(row => row.v), phantom: trace.map(row => row.phantom), network};
  }

  return {Network, Pair, WINDOW, importance, lorenz, gini, steps};
})();
