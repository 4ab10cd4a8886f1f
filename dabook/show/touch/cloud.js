// A scene as a cloud of points with a wrong shift (dabook/show/touch/cloud.py).
dalibTouch.wake("cloud", (figure) => {
  const { decode, number } = dalibTouch;
  const { eye, point, turning, views, ends, steps, digits } = figure.payload;
  const disparity = decode(figure.payload.disparity), colours = decode(figure.payload.colours), rays = decode(figure.payload.rays);
  const count = disparity.length, truth = Float64Array.from(disparity, (d) => 1 / d);
  const [shift, what, grey] = ["shift", "what", "truth"].map(figure.control);
  const inks = Array.from({ length: count }, (_, k) => `rgb(${colours.slice(3 * k, 3 * k + 3).join()})`);
  const GREY = "#8a8f92"; // seen on light and on dark
  const view = dalibTurning(figure, turning, views);
  let depth = truth;

  const draw = () => {
    const clouds = [{ count, rays, ...eye, depths: depth, ink: (k) => inks[k], side: () => point }];
    if (grey.checked && depth !== truth) clouds.push({ count, rays, ...eye, depths: truth, ink: () => GREY, side: () => 0.35 * point });
    view.show(...clouds);
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

  for (const control of [shift, what]) control.addEventListener("input", update);
  grey.addEventListener("input", draw);
  update();
});
