// The tolerance margin over real cosines (dabook/show/touch/margin.py).
dalibTouch.wake("margin", (figure) => {
  const { decode, number, place } = dalibTouch;
  const { names, edges, axes, digits } = figure.payload;
  const cosines = figure.payload.cosines.map(decode), slider = figure.control("margin");
  const charts = [...figure.live.querySelectorAll(".charts > svg")];

  const update = () => {
    // as float32, in which the cosines are and the library compares
    const margin = Math.fround(slider.value), [x] = place(axes, Number(slider.value), 0);
    const values = {}, said = [];
    for (const chart of charts) {
      chart.querySelector(".mark").setAttribute("d", `M${x} ${axes.box[1]}V${axes.box[3]}`);
      chart.querySelectorAll(".bar").forEach((bar, k) => bar.classList.toggle("beyond", edges[k] >= slider.value - 1e-6));
    }
    cosines.forEach((tokens, k) => {
      let sum = 0, count = 0;
      for (const cosine of tokens) if (cosine < margin) { sum += 1 - cosine; count += 1; }
      values[`loss${k}`] = number(sum / tokens.length, digits);
      values[`share${k}`] = `${number(100 * count / tokens.length, 1)} %`;
      said.push(`${names[k]}: loss ${values[`loss${k}`]}, ${values[`share${k}`]} of the tokens contribute.`);
    });
    figure.value("margin", number(Number(slider.value), 2));
    figure.say(values, `Margin ${number(Number(slider.value), 2)}. ${said.join(" ")}`);
  };
  slider.addEventListener("input", update);
  update();
});
