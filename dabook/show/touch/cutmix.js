// A CutMix box to drag (dabook/show/touch/cutmix.py).
dalibTouch.wake("cutmix", (figure) => {
  const { decode, number, paint, normalised, meanDifference, clamp, drag } = dalibTouch;
  const { least, digits, shown } = figure.payload;
  const teacher = decode(figure.payload.teacher), student = decode(figure.payload.student);
  const [near, wrong] = figure.payload.tables.map(decode);
  const [, height, width] = teacher.shape, size = height * width;
  const hand = figure.find(".hand"), place = figure.find(".cutmix"), how = figure.control("how");
  let [top, left, bottom, right] = figure.payload.box;

  const parts = () => { // the pixels inside the box, and the others
    const found = [[], []];
    for (let k = 0; k < size; k += 1) {
      const y = Math.floor(k / width), x = k % width;
      found[y >= top && y < bottom && x >= left && x < right ? 0 : 1].push(k);
    }
    return found;
  };
  const pick = (maps, [inside, outside]) => [inside.map((k) => maps[k]), outside.map((k) => maps[size + k])];
  const whole = (values, [inside, outside]) => { // two regions as one map
    const map = new Float64Array(size);
    inside.forEach((k, i) => { map[k] = values[0][i]; });
    outside.forEach((k, i) => { map[k] = values[1][i]; });
    return map;
  };

  const update = () => {
    const where = parts(), label = pick(teacher, where), pred = pick(student, where);
    const apart = [label, pred].map((regions) => regions.map(normalised));
    const one = [label, pred].map((regions) => normalised(whole(regions, where)));
    const [inside, outside] = [0, 1].map((region) => meanDifference(apart[1][region], apart[0][region]));
    const weight = where[0].length / size;
    const loss = weight * inside + (1 - weight) * outside, together = meanDifference(...one);

    const maps = how.value === "together" ? one : apart.map((regions) => whole(regions, where));
    paint(figure.canvas("label"), maps[0], ...shown[0], near);
    paint(figure.canvas("student"), maps[1], ...shown[0], near);
    paint(figure.canvas("error"), maps[0].map((value, k) => Math.abs(value - maps[1][k])), ...shown[1], wrong);
    const edges = { top: top / height, left: left / width, bottom: 1 - bottom / height, right: 1 - right / width };
    for (const [side, share] of Object.entries(edges)) place.style.setProperty(`--${side}`, `${100 * share}%`);
    figure.say(
      {
        apart: number(loss, digits), together: number(together, digits), inside: number(inside, digits), outside: number(outside, digits),
        weight: number(weight), rest: number(1 - weight),
      },
      `Box of ${right - left} by ${bottom - top} pixels at column ${left}, row ${top}: loss ${number(loss, digits)} with the regions apart, ${number(together, digits)} together.`,
    );
  };

  // the box as a whole, and one of its corners, by so many pixels from where they were
  const move = (from, down, across) => {
    const y = clamp(down, -from.top, height - from.bottom), x = clamp(across, -from.left, width - from.right);
    [top, left, bottom, right] = [from.top + y, from.left + x, from.bottom + y, from.right + x];
    update();
  };
  const resize = (from, corner, down, across) => {
    if (corner.includes("n")) top = clamp(from.top + down, 0, bottom - least);
    if (corner.includes("s")) bottom = clamp(from.bottom + down, top + least, height);
    if (corner.includes("w")) left = clamp(from.left + across, 0, right - least);
    if (corner.includes("e")) right = clamp(from.right + across, left + least, width);
    update();
  };
  const now = () => ({ top, left, bottom, right });

  let from = null;
  drag(hand, (event) => {
    from = { ...now(), x: event.clientX, y: event.clientY, corner: event.target.closest("i")?.className };
  }, (event) => {
    const stage = hand.parentElement.getBoundingClientRect();
    const across = Math.round((event.clientX - from.x) / stage.width * width), down = Math.round((event.clientY - from.y) / stage.height * height);
    if (from.corner) resize(from, from.corner, down, across);
    else move(from, down, across);
  });
  const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  hand.addEventListener("keydown", (event) => {
    const step = KEYS[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (event.shiftKey) resize(now(), "se", ...step);
    else move(now(), ...step);
  });
  how.addEventListener("input", update);
  update();
});
