// A photograph and its relative disparity as a cloud, under a guess of scale and shift (dabook/show/touch/relative.py).
dalibTouch.wake("relative", (figure) => {
  const { decode, number } = dalibTouch;
  const { camera, ratios, eyes, middle, pixel, turning, views, steps, digits } = figure.payload;
  const near = decode(figure.payload.near), ink = decode(figure.payload.ink), table = decode(figure.payload.table);
  const count = near.length, guess = figure.control("guess");
  const inks = Array.from({ length: table.length / 3 }, (_, k) => `rgb(${table.slice(3 * k, 3 * k + 3).join()})`);
  const rays = new Float32Array(3 * count), columns = camera.size[1]; // all right, all down, all ahead
  for (let k = 0; k < count; k += 1) {
    rays[k] = (k % columns - camera.cx) / camera.f;
    rays[count + k] = (Math.floor(k / columns) - camera.cy) / camera.f;
    rays[2 * count + k] = 1;
  }
  const view = dalibTurning(figure, turning, views);

  const update = () => {
    const ratio = ratios[guess.value], eye = eyes[guess.value];
    const depths = Float64Array.from(near, (share) => 1 / (1 / ratio + (1 - 1 / ratio) * share / steps));
    const side = turning.zoom * pixel / (eye.radius * turning.away); // of a pixel at depth 1
    view.show({ count, depths, rays, ...eye, ink: (k) => inks[ink[k]], side: (k) => side * depths[k] });
    const here = number(depths[middle], digits);
    figure.value("guess", String(ratio));
    figure.say({ middle: here }, `The farthest is ${ratio} times as far as the nearest: the middle of the picture lies at ${here}.`);
  };
  guess.addEventListener("input", update);
  update();
});
