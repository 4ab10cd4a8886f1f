// Strength of perturbation, step by step (dabook/show/touch/strength.py).
dalibTouch.wake("strength", (figure) => {
  const { strengths, losses, places } = figure.payload;
  const slider = figure.control("strength"), dot = figure.find(".charts .dot");
  const shown = ["frame", "map"].map((key) => [key, figure.stage(key).querySelector("img")]);

  const update = () => {
    const step = Number(slider.value);
    for (const [key, picture] of shown) {
      const { src, alt } = figure.still(`[data-picture="${key}${step}"]`);
      Object.assign(picture, { src, alt });
    }
    dot.setAttribute("cx", places[step][0]);
    dot.setAttribute("cy", places[step][1]);
    figure.value("strength", strengths[step]);
    figure.say({ loss: losses[step] }, `Strength ${strengths[step]}: loss ${losses[step]}.`);
  };
  slider.addEventListener("input", update);
  update();
});
