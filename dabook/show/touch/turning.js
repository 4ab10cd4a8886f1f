// A cloud of points that turns, by pointer and by arrow keys (dabook/show/touch/turning.py): each point is a square.
window.dalibTurning ??= (figure, { ratio, away, zoom }, views) => {
  const TURN = 5, LEAST = 0.2; // degrees of a key; distance at which a point is behind the eye, or in it
  const canvas = figure.canvas("cloud"), context = canvas.getContext("2d");
  let [side, up] = views.first, shown = [];

  // right and down in units of the picture's width, and the distance (Eye.project)
  const projected = ({ count, depths, rays, middle, radius }) => {
    const [a, b] = [side, up].map((angle) => angle * Math.PI / 180);
    const [cosA, sinA, cosB, sinB] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    const right = new Float32Array(count), down = new Float32Array(count), far = new Float32Array(count);
    for (let k = 0; k < count; k += 1) {
      const z = depths[k];
      const x = (rays[k] * z - middle[0]) / radius, y = (rays[count + k] * z - middle[1]) / radius, w = (rays[2 * count + k] * z - middle[2]) / radius;
      const x1 = cosA * x + sinA * w, w1 = cosA * w - sinA * x;
      far[k] = cosB * w1 + sinB * y + away;
      right[k] = zoom * x1 / far[k];
      down[k] = zoom * (cosB * y - sinB * w1) / far[k];
    }
    return { right, down, far };
  };

  const draw = () => {
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    const dots = [];
    for (const cloud of shown) {
      const { right, down, far } = projected(cloud);
      for (let k = 0; k < cloud.count; k += 1) {
        if (far[k] > LEAST) dots.push({ far: far[k], right: right[k], down: down[k], ink: cloud.ink(k), side: cloud.side(k) });
      }
    }
    dots.sort((a, b) => b.far - a.far);
    for (const { far, right, down, ink, side: share } of dots) {
      const edge = Math.max(share * width * away / far, 1);
      context.fillStyle = ink;
      context.fillRect((0.5 + right) * width - edge / 2, height / 2 + down * width - edge / 2, edge, edge);
    }
  };

  const turn = (right, down) => {
    side = (side + right + 540) % 360 - 180;
    up = dalibTouch.clamp(up + down, -90, 90);
    draw();
  };
  let last = null;
  dalibTouch.drag(canvas, (event) => { last = event; }, (event) => {
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
  new ResizeObserver(() => {
    const width = Math.round(canvas.clientWidth * Math.min(devicePixelRatio, 2));
    if (!width || width === canvas.width) return;
    [canvas.width, canvas.height] = [width, Math.round(ratio * width)];
    draw();
  }).observe(canvas);

  return {
    // clouds: {count, depths, rays: all right, then down, then ahead; middle, radius; ink(k), side(k)}
    show(...clouds) { shown = clouds; draw(); },
  };
};
