// The update rule, as in inna.dynamics, inna.theory.stability and inna.theory.objectives. A test compares every
// function with the Python function of the same name.
"use strict";
const inna = (() => {
  // a' = (1 - alpha h) a + h (1 - alpha beta) x
  const updateAverage = (average, value, timeStep, alpha, beta) =>
    (1 - alpha * timeStep) * average + timeStep * (1 - alpha * beta) * value;

  // One coordinate: theta' = theta - lr (m + beta g), m' = (1 - alpha h) m + h (1 - alpha beta) g, h = lr by default.
  function step(theta, momentum, grad, lr, alpha, beta, timeStep = lr) {
    return [theta - lr * (momentum + beta * grad), updateAverage(momentum, grad, timeStep, alpha, beta)];
  }

  // m_0 = (s - beta) g_0; a speed of null is s = beta.
  const initialMomentum = (grad, beta, speed) => ((speed === null ? beta : speed) - beta) * grad;

  // The guard's memory is [weight, loss, offset], with theta measured from where it is.
  const initialMemory = (loss, beta, speed) => [1, loss, 0].map((value) => initialMomentum(value, beta, speed));

  // [decrease, loss, slope] of the averaged model.
  function guardTerms([weight, losses, offset], loss, momentumTheta, normSquared, lr, beta) {
    const total = weight + beta === 0 ? 1 : weight + beta;
    return [(lr * normSquared) / total, (losses + beta * loss) / total, (offset + momentumTheta) / total];
  }

  // The factor in [0, 1] of a step that ends where the averaged model reaches the bound.
  function guardFactor([decrease, loss, slope], bound) {
    const gap = loss + slope - bound;
    return decrease > 0 && gap < decrease ? Math.max(gap, 0) / decrease : 1;
  }

  const updateMemory = (memory, loss, gradTheta, timeStep, alpha, beta) =>
    [1, loss, -gradTheta].map((value, i) => updateAverage(memory[i], value, timeStep, alpha, beta));

  const moveMemory = ([weight, loss, offset], momentumMoved) => [weight, loss, offset + momentumMoved];

  function fromSgd(lr, momentum, nesterov) {
    const gamma = Math.sqrt(lr);
    return { lr: gamma, alpha: (1 - momentum) / gamma, beta: nesterov ? (1 + momentum) * gamma : gamma };
  }

  function adamStep(theta, first, second, grad, count, lr, beta1, beta2, eps) {
    first = beta1 * first + (1 - beta1) * grad;
    second = beta2 * second + (1 - beta2) * grad * grad;
    const size = Math.sqrt(second / (1 - beta2 ** count)) + eps;
    return [theta - (lr * (first / (1 - beta1 ** count))) / size, first, second];
  }

  const powerDecay = (q, k) => (k + 1) ** -q;

  const energy = (value, m1, m2, alpha, beta) => 2 * (1 + alpha * beta) * value + m1 * m1 + m2 * m2;

  // The learning rate below which this curvature is stable; 0 if there is none.
  function maxLr(alpha, beta, curvature) {
    if (!(curvature > 0)) return 0;
    const a = alpha + beta * curvature;
    const discriminant = a * a - 4 * curvature;
    return discriminant >= 0 ? 4 / (a + Math.sqrt(discriminant)) : a / curvature;
  }

  function isStable(lr, alpha, beta, curvature) {
    const a = alpha + beta * curvature;
    return curvature > 0 && lr > 0 && lr * curvature < a && 4 - 2 * lr * a + lr * lr * curvature > 0;
  }

  // The larger modulus of the two eigenvalues 1 + lr mu, mu² + (alpha + beta lambda) mu + lambda = 0.
  function factor(lr, alpha, beta, curvature) {
    const a = alpha + beta * curvature;
    const discriminant = a * a - 4 * curvature;
    if (discriminant < 0) return Math.hypot(1 - (lr * a) / 2, (lr * Math.sqrt(-discriminant)) / 2);
    const root = Math.sqrt(discriminant);
    return Math.max(Math.abs(1 - (lr * (a + root)) / 2), Math.abs(1 - (lr * (a - root)) / 2));
  }

  const sign = (t) => (t > 0 ? 1 : t < 0 ? -1 : 0);
  const step01 = (t) => (t > 0 ? 1 : 0); // relu'(t), 0 at 0

  // Each objective: value(x, y) and gradient(x, y) -> [gx, gy].
  const objectives = {
    "rosenbrock-v": {
      value: (x, y) => 100 * (y - Math.abs(x)) ** 2 + Math.abs(1 - x),
      gradient(x, y) {
        const across = 200 * (y - Math.abs(x));
        return [-across * sign(x) - sign(1 - x), across];
      },
    },
    rosenbrock: {
      value: (x, y) => 100 * (y - x ** 2) ** 2 + (1 - x) ** 2,
      gradient(x, y) {
        const across = 200 * (y - x ** 2);
        return [-2 * x * across - 2 * (1 - x), across];
      },
    },
    beale: {
      value: (x, y) =>
        (1.5 - x * (1 - y)) ** 2 + (2.25 - x * (1 - y ** 2)) ** 2 + (2.625 - x * (1 - y ** 3)) ** 2,
      gradient(x, y) {
        const r1 = 1.5 - x * (1 - y);
        const r2 = 2.25 - x * (1 - y ** 2);
        const r3 = 2.625 - x * (1 - y ** 3);
        return [
          -2 * r1 * (1 - y) - 2 * r2 * (1 - y ** 2) - 2 * r3 * (1 - y ** 3),
          2 * r1 * x + 4 * r2 * x * y + 6 * r3 * x * y ** 2,
        ];
      },
    },
    "double-well": {
      value: (x, y) => x ** 4 - 4 * x ** 2 + y ** 2,
      gradient: (x, y) => [4 * x ** 3 - 8 * x, 2 * y],
    },
    "monkey-saddle": {
      value: (x, y) => x ** 3 - 3 * x * y ** 2,
      gradient: (x, y) => [3 * x ** 2 - 3 * y ** 2, -6 * x * y],
    },
    "spurious-corner": {
      value(x, y) {
        const s = x + y;
        return Math.max(0, s) - Math.max(0, -s) + 2 * Math.max(0, -1 - s) + Math.abs(x - y);
      },
      gradient(x, y) {
        const s = x + y;
        const along = step01(s) + step01(-s) - 2 * step01(-1 - s);
        return [along + sign(x - y), along - sign(x - y)];
      },
    },
  };

  const quadratic = (first, second) => ({
    value: (x, y) => 0.5 * (first * x * x + second * y * y),
    gradient: (x, y) => [first * x, second * y],
  });

  // Eigenvalues of the Hessian at a point, the larger first, from differences of the gradient.
  function curvatures(gradient, x, y, width) {
    const [xx1, xy1] = gradient(x + width, y);
    const [xx0, xy0] = gradient(x - width, y);
    const [yx1, yy1] = gradient(x, y + width);
    const [yx0, yy0] = gradient(x, y - width);
    const a = (xx1 - xx0) / (2 * width);
    const d = (yy1 - yy0) / (2 * width);
    const b = (xy1 - xy0 + yx1 - yx0) / (4 * width);
    const middle = (a + d) / 2;
    const spread = Math.hypot((a - d) / 2, b);
    return [middle + spread, middle - spread];
  }

  return {
    updateAverage, step, initialMomentum, initialMemory, guardTerms, guardFactor, updateMemory, moveMemory, fromSgd,
    adamStep, powerDecay, energy, maxLr, isStable, factor, objectives, quadratic,
    curvatures,
  };
})();
