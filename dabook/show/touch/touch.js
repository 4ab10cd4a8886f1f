// What the figures of a page share (dabook/show/touch/shell.py). Each figure brings it; the first one that is read stays.
window.dalibTouch ??= (() => {
  const ARRAYS = { f4: Float32Array, u2: Uint16Array, u1: Uint8Array, i1: Int8Array };
  const GROUND = [201, 208, 210]; // where a map has no value
  const PAUSE = 500; // milliseconds without a change before a reader of the screen is told

  // an array of the payload: its values, row by row, with its shape
  const decode = (stored) => {
    const raw = Uint8Array.from(atob(stored.data), (letter) => letter.charCodeAt(0));
    return Object.assign(new ARRAYS[stored.type](raw.buffer), { shape: stored.shape });
  };

  // a number as the book prints it: halves away from zero, a true minus
  const number = (value, digits = 3) => {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "–" : value > 0 ? "∞" : "−∞";
    const units = Math.round(Number(`${Math.abs(value).toFixed(9)}e${digits}`));
    return (value < 0 && units ? "−" : "") + (units / 10 ** digits).toFixed(digits);
  };

  // a map in fixed colours
  const paint = (canvas, values, low, high, table) => {
    const context = canvas.getContext("2d"), picture = context.createImageData(canvas.width, canvas.height);
    for (let k = 0; k < values.length; k += 1) {
      const share = (values[k] - low) / (high - low);
      const at = 3 * Math.floor(Math.min(1, Math.max(0, share)) * 255 + 0.5);
      for (let c = 0; c < 3; c += 1) picture.data[4 * k + c] = Number.isNaN(share) ? GROUND[c] : table[at + c];
      picture.data[4 * k + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  };

  // median (the lower of two in the middle) and mean absolute deviation from it, as dalib.losses.median_scale has them
  const medianScale = (values) => {
    if (!values.length) return [0, 1e-5];
    const sorted = Float64Array.from(values).sort(), median = sorted[(sorted.length - 1) >> 1];
    let sum = 0;
    for (const value of values) sum += Math.abs(value - median);
    return [median, Math.max(sum / values.length, 1e-5)];
  };
  const normalised = (values) => {
    const [median, scale] = medianScale(values);
    return Float64Array.from(values, (value) => (value - median) / scale);
  };
  const meanDifference = (a, b) => {
    let sum = 0;
    for (let k = 0; k < a.length; k += 1) sum += Math.abs(a[k] - b[k]);
    return a.length ? sum / a.length : 0;
  };

  // where a point of a chart lies (Axes.place of shell.py)
  const place = (axes, x, y) => {
    const [left, top, right, bottom] = axes.box, at = axes.log ? Math.log : (value) => value;
    const across = (at(x) - at(axes.x[0])) / (at(axes.x[1]) - at(axes.x[0]));
    const up = (y - axes.y[0]) / (axes.y[1] - axes.y[0]);
    return [left + across * (right - left), bottom - up * (bottom - top)];
  };

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // follows a pointer that is pressed on an element; `begin` may return false to leave it alone
  const drag = (element, begin, move) => {
    element.addEventListener("pointerdown", (event) => {
      if (event.button || begin(event) === false) return;
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => { if (element.hasPointerCapture(event.pointerId)) move(event); });
  };

  // what a script needs of one figure
  const open = (box) => {
    const live = box.querySelector(".live"), said = box.querySelector(".said");
    const find = (selector) => live.querySelector(selector);
    let pending = 0;
    for (const gap of live.querySelectorAll("[data-copy]")) { // pictures that the still has
      const picture = box.querySelector(`.still [data-picture="${gap.dataset.copy}"]`).cloneNode();
      picture.draggable = false;
      gap.replaceWith(picture);
    }
    for (const gap of live.querySelectorAll(".charts:empty")) { // and its charts, which the script then moves
      gap.append(...[...box.querySelector(".still .charts").children].map((chart) => chart.cloneNode(true)));
    }
    return {
      box,
      live,
      find,
      payload: JSON.parse(box.querySelector('script[type="application/json"]').textContent),
      still: (selector) => box.querySelector(".still").querySelector(selector),
      control: (key) => find(`[data-key="${key}"]`),
      stage: (key) => find(`[data-stage="${key}"]`),
      canvas: (key) => find(`[data-canvas="${key}"]`),
      // the numbers at once, and the sentence when nothing has changed for a while
      say(values, sentence) {
        for (const [key, text] of Object.entries(values)) find(`[data-number="${key}"]`).textContent = text;
        clearTimeout(pending);
        pending = setTimeout(() => { if (said.textContent !== sentence) said.textContent = sentence; }, PAUSE);
      },
      value(key, text) {
        find(`[data-value="${key}"]`).textContent = text;
        find(`[data-key="${key}"]`).setAttribute("aria-valuetext", text);
      },
    };
  };

  // wakes the figures of one kind that are not awake; one that cannot be woken keeps its still
  const wake = (kind, make) => {
    for (const box of document.querySelectorAll(`.dalib-touch[data-kind="${kind}"]:not([data-awake])`)) {
      try {
        const figure = open(box);
        make(figure);
        figure.live.hidden = false;
        box.dataset.awake = "";
      } catch (error) {
        console.error(`dalib-touch ${kind}:`, error);
      }
    }
  };

  return { decode, number, paint, medianScale, normalised, meanDifference, place, clamp, drag, wake };
})();
