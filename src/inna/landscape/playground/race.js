// Run optimizers on a landscape in slices of time: iterates, loss and energy of every iteration.
"use strict";
const Race = (() => {
  // One run: `length` iterates in arrays. It stops when its loss is not finite.
  class Runner {
    constructor(optimizer, objective, start, steps, q) {
      this.optimizer = optimizer;
      this.objective = objective;
      this.q = q;
      this.points = new Float64Array(2 * (steps + 1));
      this.loss = new Float64Array(steps + 1);
      this.energy = new Float64Array(steps + 1);
      this.diverged = null;
      this.cuts = new Uint32Array(steps + 1); // steps that the guard cut before each iterate
      this.length = 0;
      this.theta = [...start];
      this.first = [0, 0];
      this.second = [0, 0];
      if (optimizer.kind !== "adam") {
        const now = optimizer.at(1);
        this.gamma = now.lr;
        this.now = now;
        const grad = objective.gradient(...start);
        const speed = optimizer.speed ?? null;
        this.momentum = grad.map((g) => inna.initialMomentum(g, now.beta, speed));
        this.bound = optimizer.bound ?? null;
        if (this.bound !== null) this.memory = inna.initialMemory(objective.value(...start), now.beta, speed);
      }
      this.record();
    }

    record() {
      const [x, y] = this.theta;
      const k = this.length;
      const value = this.objective.value(x, y);
      if (!(Number.isFinite(x) && Number.isFinite(y) && Number.isFinite(value))) {
        this.diverged = k;
        return;
      }
      this.points[2 * k] = x;
      this.points[2 * k + 1] = y;
      this.loss[k] = value;
      if (this.momentum) {
        const { alpha, beta } = this.optimizer.at(1);
        this.energy[k] = inna.energy(value, ...this.momentum, alpha, beta) / (2 * (1 + alpha * beta));
      }
      this.length = k + 1;
    }

    advance() {
      if (this.diverged !== null) return;
      const k = this.length - 1;
      const grad = this.objective.gradient(...this.theta);
      const decay = this.q > 0 ? inna.powerDecay(this.q, k) : 1;
      if (this.optimizer.kind === "adam") {
        const { lr, beta1, beta2, eps } = this.optimizer;
        for (const i of [0, 1]) {
          [this.theta[i], this.first[i], this.second[i]] = inna.adamStep(
            this.theta[i], this.first[i], this.second[i], grad[i], k + 1, lr * decay, beta1, beta2, eps,
          );
        }
      } else {
        if (this.q > 0) {
          this.now = this.optimizer.at(decay);
          // A schedule of SGD scales the step, not the buffer.
          if (this.optimizer.kind !== "inna") {
            for (const i of [0, 1]) this.momentum[i] *= this.now.lr / this.gamma;
          }
          this.gamma = this.now.lr;
        }
        const { lr, alpha, beta } = this.now;
        const factor = this.memory ? this.guard(grad) : 1;
        const before = [...this.theta];
        for (const i of [0, 1]) {
          [this.theta[i], this.momentum[i]] = inna.step(
            this.theta[i], this.momentum[i], grad[i], lr * factor, alpha, beta, lr,
          );
        }
        if (this.memory) {
          const moved = [0, 1].reduce((sum, i) => sum + this.momentum[i] * (this.theta[i] - before[i]), 0);
          this.memory = inna.moveMemory(inna.updateMemory(this.memory, this.loss[k], 0, lr, alpha, beta), moved);
        }
        this.cuts[k + 1] = this.cuts[k] + (factor < 1 ? 1 : 0);
      }
      this.record();
    }

    // The factor of the next step.
    guard(grad) {
      const { lr, beta } = this.now;
      const square = [0, 1].reduce((sum, i) => sum + (this.momentum[i] + beta * grad[i]) ** 2, 0);
      const terms = inna.guardTerms(this.memory, this.loss[this.length - 1], 0, square, lr, beta);
      return inna.guardFactor(terms, this.bound);
    }
  }

  return class {
    constructor(optimizers, objective, start, steps, q) {
      this.steps = steps;
      this.done = 0;
      this.runners = optimizers.map((each) => new Runner(each, objective, start, steps, q));
    }

    get finished() {
      return this.done >= this.steps;
    }

    // Run for at most `milliseconds`.
    run(milliseconds) {
      const end = performance.now() + milliseconds;
      while (this.done < this.steps && performance.now() < end) {
        const stop = Math.min(this.done + 200, this.steps);
        for (const runner of this.runners) for (let k = this.done; k < stop; k++) runner.advance();
        this.done = stop;
      }
    }
  };
})();
