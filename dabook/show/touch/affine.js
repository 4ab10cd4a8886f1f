// Scale and shift of a prediction (dabook/show/touch/affine.py).
dalibTouch.wake("affine", (figure) => {
  const { decode, number, paint, normalised, meanDifference, place } = dalibTouch;
  const { row, range, most, steps, digits, charts, mirrored } = figure.payload;
  const label = decode(figure.payload.label), prediction = decode(figure.payload.prediction), table = decode(figure.payload.table);
  const width = label.shape[1], target = normalised(label);
  const holder = document.createElement("div");
  holder.innerHTML = mirrored.drawing;
  // the chart of the values: one for positive scales, and one for negative ones, whose axis reaches below zero
  const [first, after] = figure.live.querySelectorAll(".charts > svg");
  const values = { false: { drawing: first, axes: charts[0] }, true: { drawing: holder.firstElementChild, axes: mirrored.axes } };
  const line = (drawing) => drawing.querySelector("polyline.warm-line");
  const [scale, shift, negative] = ["scale", "shift", "negative"].map(figure.control);

  const draw = (polyline, axes, all) => {
    const points = [...all.slice(row * width, (row + 1) * width)].map((value, x) => place(axes, x, value));
    polyline.setAttribute("points", points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
  };
  const update = () => {
    const a = (negative.checked ? -1 : 1) * most ** (scale.value / steps), b = Number(shift.value);
    const moved = Float64Array.from(prediction, (value) => a * value + b), normal = normalised(moved);
    const { drawing, axes } = values[negative.checked], other = values[!negative.checked].drawing;
    if (other.isConnected) other.replaceWith(drawing);
    const [low, high] = negative.checked ? [moved.reduce((x, y) => Math.min(x, y)), moved.reduce((x, y) => Math.max(x, y))] : range;
    paint(figure.canvas("moved"), moved, low, high > low ? high : low + 1, table);
    draw(line(drawing), axes, moved);
    draw(line(after), charts[1], normal);
    const loss = number(meanDifference(normal, target), digits), error = number(meanDifference(moved, label), digits);
    figure.value("scale", number(a, 2));
    figure.value("shift", number(b, 2));
    figure.say({ loss, error }, `Scale ${number(a, 2)}, shift ${number(b, 2)}: affine-invariant loss ${loss}, mean absolute error ${error}.`);
  };
  for (const control of [scale, shift, negative]) control.addEventListener("input", update);
  update();
});
