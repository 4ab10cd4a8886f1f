// A scene as a cloud of points with a wrong shift (dabook/show/touch/cloud.py).
dalibTouch.wake("cloud", (figure) => {
  const { decode, number, clamp, drag } = dalibTouch;
  const { middle, radius, away, zoom, point, ratio, views, ends, steps, digits } = figure.payload;
  const disparity = decode(figure.payload.disparity), colours = decode(figure.payload.colours), rays = decode(figure.payload.rays);
  const count = disparity.length, truth = Float64Array.from(disparity, (d) => 1 / d);
  const canvas = figure.canvas("cloud"), context = canvas.getContext("2d");
  const [shift, what, grey] = ["shift", "what", "truth"].map(figure.control);
  const inks = Array.from({ length: count }, (_, k) => `rgb(${colours.slice(3 * k, 3 * k + 3).join()})`);
  const TURN = 5, GREY = "#8a8f92"; // degrees of a key; seen on light and on dark
  let [side, up] = views.first, depth = truth;

  // right and down in units of the picture's width, and the distance (_Eye.project of cloud.py)
  const projected = (depths) => {
    const [a, b] = [side, up].map((angle) => angle * Math.PI / 180);
    const [cosA, sinA, cosB, sinB] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    return Array.from(depths, (z, k) => {
      const x = (rays[k] * z - middle[0]) / radius, y = (rays[count + k] * z - middle[1]) / radius, w = (rays[2 * count + k] * z - middle[2]) / radius;
      const x1 = cosA * x + sinA * w, w1 = cosA * w - sinA * x;
      const far = cosB * w1 + sinB * y + away;
      return [zoom * x1 / far, zoom * (cosB * y - sinB * w1) / far, far];
    });
  };
  const draw = () => {
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    const dots = [...projected(depth).map((at, k) => [...at, inks[k], 1])];
    if (grey.checked && depth !== truth) dots.push(...projected(truth).map((at) => [...at, GREY, 0.35]));
    dots.sort((a, b) => b[2] - a[2]);
    for (const [right, down, far, ink, size] of dots) {
      if (far < 0.2) continue; // behind the eye, or in it
      const edge = Math.max(size * point * width * away / far, 1);
      context.fillStyle = ink;
      context.fillRect((0.5 + right) * width - edge / 2, height / 2 + down * width - edge / 2, edge, edge);
    }
  };
  const update = () => {
    const [low, high] = ends[what.value], share = shift.value / steps;
    const by = share < 0 ? -share * low : share * high;
    const moved = what.value === "disparity" ? Float64Array.from(disparity, (d) => 1 / (d + by)) : truth.map((z) => z + by);
    // the best scale by least squares, and AbsRel
    let product = 0, square = 0, error = 0;
    for (let k = 0; k < count; k += 1) { product += moved[k] * truth[k]; square += moved[k] * moved[k]; }
    const scale = product / square;
    for (let k = 0; k < count; k += 1) error += Math.abs(scale * moved[k] - truth[k]) / truth[k];
    depth = by === 0 ? truth : moved.map((z) => scale * z);
    const unit = what.value === "disparity" ? "1/m" : "m", text = `${number(by, digits)} ${unit}`, absRel = number(error / count, digits);
    figure.value("shift", text);
    figure.say({ error: absRel, shift: text }, `Shift of ${what.value} ${text}: AbsRel ${absRel}.`);
    draw();
  };

  const turn = (right, down) => {
    side = (side + right + 540) % 360 - 180;
    up = clamp(up + down, -90, 90);
    draw();
  };
  let last = null;
  drag(canvas, (event) => { last = event; }, (event) => {
    turn((event.clientX - last.clientX) / 2, (event.clientY - last.clientY) / 2);
    last = event;
  });
  const KEYS = { ArrowUp: [0, TURN], ArrowDown: [0, -TURN], ArrowLeft: [-TURN, 0], ArrowRight: [TURN, 0] };
  canvas.addEventListener("keydown", (event) => {
    const step = KEYS[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    turn(...step);
  });
  for (const name of ["front", "side", "above"]) {
    figure.control(name).addEventListener("click", () => { [side, up] = views[name]; draw(); });
  }
  for (const control of [shift, what]) control.addEventListener("input", update);
  grey.addEventListener("input", draw);

  new ResizeObserver(() => {
    const width = Math.round(canvas.clientWidth * Math.min(devicePixelRatio, 2));
    if (!width || width === canvas.width) return;
    [canvas.width, canvas.height] = [width, Math.round(ratio * width)];
    draw();
  }).observe(canvas);
  update();
});
