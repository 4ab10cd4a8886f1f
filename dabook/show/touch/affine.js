// Scale and shift of a prediction (dabook/show/touch/affine.py).
dalibTouch.wake("affine", (figure) => {
  const { decode, number, paint, normalised, meanDifference, place } = dalibTouch;
  const { row, range, most, steps, digits, charts } = figure.payload;
  const label = decode(figure.payload.label), prediction = decode(figure.payload.prediction), table = decode(figure.payload.table);
  const width = label.shape[1], target = normalised(label);
  const lines = [...figure.live.querySelectorAll(".charts polyline.warm-line")];
  const [scale, shift, negative] = ["scale", "shift", "negative"].map(figure.control);

  const draw = (line, axes, values) => {
    const points = [...values.slice(row * width, (row + 1) * width)].map((value, x) => place(axes, x, value));
    line.setAttribute("points", points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
  };
  const update = () => {
    const a = (negative.checked ? -1 : 1) * most ** (scale.value / steps), b = Number(shift.value);
    const moved = Float64Array.from(prediction, (value) => a * value + b), normal = normalised(moved);
    paint(figure.canvas("moved"), moved, ...range, table);
    draw(lines[0], charts[0], moved);
    draw(lines[1], charts[1], normal);
    const loss = number(meanDifference(normal, target), digits), error = number(meanDifference(moved, label), digits);
    figure.value("scale", number(a, 2));
    figure.value("shift", number(b, 2));
    figure.say({ loss, error }, `Scale ${number(a, 2)}, shift ${number(b, 2)}: affine-invariant loss ${loss}, mean absolute error ${error}.`);
  };
  for (const control of [scale, shift, negative]) control.addEventListener("input", update);
  update();
});
