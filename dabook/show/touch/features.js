// Features of an encoder over an image (dabook/show/touch/features.py).
dalibTouch.wake("features", (figure) => {
  const { decode, number, paint, clamp, drag } = dalibTouch;
  const { units } = figure.payload, [height, width] = figure.payload.size, count = height * width;
  const cosines = decode(figure.payload.cosines), means = decode(figure.payload.means), table = decode(figure.payload.table);
  const stages = [...figure.live.querySelectorAll(".tokens")];
  let { chosen, other } = figure.payload;

  const named = (token) => `row ${Math.floor(token / width) + 1}, column ${(token % width) + 1}`;
  const update = () => {
    paint(figure.canvas("cosines"), cosines.slice(chosen * count, (chosen + 1) * count), 0, units, table);
    for (const [kind, token] of [["chosen", chosen], ["other", other]]) {
      for (const mark of figure.live.querySelectorAll(`.token.${kind}`)) {
        mark.style.top = `${100 * Math.floor(token / width) / height}%`;
        mark.style.left = `${100 * (token % width) / width}%`;
      }
    }
    const cosine = number(cosines[chosen * count + other] / units, 2), mean = number(means[chosen] / units, 2);
    figure.say({ cosine, mean }, `Token in ${named(chosen)}, compared with ${named(other)}: cosine ${cosine}; mean over all tokens ${mean}.`);
  };

  const under = (event, stage) => {
    const edge = stage.getBoundingClientRect();
    const row = Math.floor(height * (event.clientY - edge.top) / edge.height), column = Math.floor(width * (event.clientX - edge.left) / edge.width);
    return clamp(row, 0, height - 1) * width + clamp(column, 0, width - 1);
  };
  for (const stage of stages) {
    const compare = (event) => { other = under(event, stage); update(); };
    drag(stage, (event) => { chosen = under(event, stage); other = chosen; update(); }, compare);
    stage.addEventListener("pointermove", (event) => { if (!event.buttons) compare(event); });
  }
  const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  stages[0].addEventListener("keydown", (event) => {
    const step = KEYS[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const from = event.shiftKey ? other : chosen;
    const to = clamp(Math.floor(from / width) + step[0], 0, height - 1) * width + clamp((from % width) + step[1], 0, width - 1);
    if (event.shiftKey) other = to;
    else chosen = to;
    update();
  });
  update();
});
